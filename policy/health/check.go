package health

import (
	"fmt"
	"time"
)

// State is what is known of a server.
type State uint8

const (
	// Unknown: no check has decided yet. Is used.
	Unknown State = iota
	Healthy
	// Unhealthy by active checks.
	Unhealthy
	// Ejected for failures of what was sent to it.
	Ejected
)

func (s State) String() string {
	return [...]string{"unknown", "healthy", "unhealthy", "ejected"}[min(s, Ejected)]
}

// Usable tells whether requests are sent to a server in that state.
func (s State) Usable() bool { return s <= Healthy }

// Check is the state of an active check. The first success decides at once; from
// then on Rise successes or Fall failures in a row do. It is not safe for
// concurrent use. Rise and Fall are at least 1.
type Check struct {
	Rise, Fall int

	state  State
	run    int // results in a row that speak against the state
	reason string
	since  time.Time
}

// Observe takes in a result; what says what failed, or is "" on success. It
// tells whether the state has changed.
func (c *Check) Observe(what string, now time.Time) bool {
	ok := what == ""
	switch {
	case ok && c.state == Healthy:
		c.run = 0
		return false
	case !ok && c.state == Unhealthy:
		c.run, c.reason = 0, what
		return false
	}
	c.run++
	switch {
	case ok && (c.state == Unknown || c.run >= c.Rise):
		c.become(Healthy, fmt.Sprintf("%d checks in a row succeeded", c.run), now)
	case !ok && c.run >= c.Fall:
		c.become(Unhealthy, fmt.Sprintf("%d checks in a row failed: %s", c.run, what), now)
	default:
		return false
	}
	return true
}

func (c *Check) become(s State, reason string, now time.Time) {
	c.state, c.reason, c.since, c.run = s, reason, now, 0
}

// State returns the state, why it is so, and since when: zero if it is Unknown.
func (c *Check) State() (State, string, time.Time) { return c.state, c.reason, c.since }
