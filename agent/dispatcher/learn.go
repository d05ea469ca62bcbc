package dispatcher

import (
	"runtime"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shunt-sdn/shunt/policy"
)

// A route in mode auto finds out whether moving a connection pays. What either
// way costs is what this node adds to the answer and what it spends on it:
//
//   - of a connection that moves, the time from the complete request until it is
//     on its server, whatever it then carries;
//   - of one that is copied, the time until the server is connected, and the time
//     of a processor that copying its answers takes.
//
// How long answers take otherwise, and how long clients keep connections, is the
// same for both, and no part of it. How big the answers of a moved connection
// were is told by its server, through the controller, after its end.

// maxLearning bounds the moved sessions whose end is waited for.
const maxLearning = 4096

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
		l.rule.Learn(l.choice, octets, l.spent)
	}
}

// processorTime calls f, which copies answers on the calling goroutine, and
// returns what time of a processor that took, if it is to be measured.
func processorTime(measure bool, f func()) time.Duration {
	if !measure {
		f()
		return 0
	}
	runtime.LockOSThread() // costs some microseconds for each wait of f
	defer runtime.UnlockOSThread()
	before := threadTime()
	f()
	return threadTime() - before
}

// threadTime is the time that the calling thread has had. Source: clock_gettime(2).
func threadTime() time.Duration {
	var t unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_THREAD_CPUTIME_ID, &t); err != nil {
		return 0 // no kernel without it runs Shunt
	}
	return time.Duration(t.Nano())
}
