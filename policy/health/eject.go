package health

import (
	"fmt"
	"time"
)

// EjectionRule says when a server is ejected and for how long.
type EjectionRule struct {
	// Failures in a row.
	Failures int
	// Base is the time of the first ejection; each further one doubles it, up to
	// Max. Every Base that a server is in again takes one doubling back.
	Base, Max time.Duration
}

// Ejection is the passive health of a server. The zero value is a server that is
// in. It is not safe for concurrent use.
type Ejection struct {
	failures int
	times    int // ejections, less those forgiven
	until    time.Time
	since    time.Time
	reason   string
}

// Observe takes in how something went that was sent to the server; what says
// what failed, or is "" on success. If the server is to be ejected, allowed is
// asked whether another may be; it tells whether the server was ejected.
func (e *Ejection) Observe(r EjectionRule, what string, now time.Time, allowed func() bool) bool {
	if what == "" {
		e.failures = 0
		return false
	}
	if e.Out(now) {
		return false // sent before the ejection, or in a panic
	}
	if e.failures++; e.failures < r.Failures || !allowed() {
		return false
	}
	if !e.until.IsZero() {
		e.times = max(e.times-int(now.Sub(e.until)/r.Base), 0)
	}
	d := r.Max
	if e.times < 30 {
		d = min(r.Base<<e.times, r.Max)
	}
	e.times++
	e.since, e.until = now, now.Add(d)
	e.reason = fmt.Sprintf("%d failures in a row: %s; ejected for %v", e.failures, what, d)
	e.failures = 0
	return true
}

// Out tells whether the server is ejected.
func (e *Ejection) Out(now time.Time) bool { return now.Before(e.until) }

// Until is when the latest ejection ends or ended; zero: there was none.
func (e *Ejection) Until() time.Time { return e.until }

// Reason says why the server was last ejected, and when.
func (e *Ejection) Reason() (string, time.Time) { return e.reason, e.since }
