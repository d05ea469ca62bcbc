package dispatcher

import (
	"time"

	"github.com/shunt-sdn/shunt/policy"
)

// A route in mode auto finds out whether moving a connection pays. What a proxied
// request has cost is known here when it ends; what a moved one has cost is told
// by its server, through the controller, after its session's end. The cost is the
// time from the complete request to the end of the session.

// maxLearning bounds the moved sessions whose end is waited for.
const maxLearning = 4096

// A sample with a long life and little to show for it is one of a connection that
// was kept open, and says nothing of the request.
const (
	idleLife   = 2 * time.Second
	idleOctets = 1 << 20
)

type learning struct {
	rule   *policy.Rule
	choice policy.Choice
	spent  time.Duration // from the request to its server
}

// learnLater notes a hand-off by a route in mode auto.
func (d *Dispatcher) learnLater(id string, l learning) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if len(d.learning) >= maxLearning {
		for old := range d.learning { // any
			delete(d.learning, old)
			break
		}
	}
	d.learning[id] = l
}

// Ended takes in what the controller says of the end of a session that left home
// by the hand-off id: octets that its client got, and how long its server had it.
// Both are 0 if that is not known.
func (d *Dispatcher) Ended(id string, octets uint64, lived time.Duration) {
	d.mu.Lock()
	l, ok := d.learning[id]
	delete(d.learning, id)
	d.mu.Unlock()
	if ok && lived > 0 {
		learn(l.rule, l.choice, octets, l.spent+lived)
	}
}

func learn(r *policy.Rule, c policy.Choice, octets uint64, cost time.Duration) {
	if cost < idleLife || octets >= idleOctets {
		r.Learn(c, octets, cost)
	}
}
