package health

import (
	"fmt"
	"sync"
	"time"
)

// BreakerRule says when a program is not asked any more, and when again.
type BreakerRule struct {
	// Failures in a row that open the breaker; at least 1.
	Failures int
	// Open is how long it stays open at first; each trial that fails doubles it,
	// up to Max.
	Open, Max time.Duration
	// Trials is how many must succeed in a row to close it; at least 1.
	Trials int
}

// Breaker is a circuit breaker: closed, it lets every question through; open,
// none; and after a time single trials. The zero value is closed. It is safe for
// concurrent use.
type Breaker struct {
	mu       sync.Mutex // guards what follows
	failures int        // in a row, while closed
	open     bool
	until    time.Time     // open: no trial before
	wait     time.Duration // the latest
	trial    bool          // one is under way
	trials   int           // that succeeded in a row
	reason   string
}

// Allow tells whether the program may be asked now. Who is allowed must call
// Observe once.
func (b *Breaker) Allow(now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if !b.open {
		return true
	}
	if b.trial || now.Before(b.until) {
		return false
	}
	b.trial = true
	return true
}

// Observe takes in how a question went; what says what failed, or is "" on
// success. It tells whether the breaker has opened or closed.
func (b *Breaker) Observe(r BreakerRule, what string, now time.Time) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case b.open && !b.trial:
		return false // asked before it opened
	case b.open:
		b.trial = false
		if what != "" {
			b.trials, b.reason = 0, what
			b.wait = min(2*b.wait, max(r.Max, r.Open))
			b.until = now.Add(b.wait)
			return false
		}
		if b.trials++; b.trials < r.Trials {
			return false
		}
		b.open, b.trials, b.failures, b.reason = false, 0, 0, ""
		return true
	case what == "":
		b.failures = 0
		return false
	}
	if b.failures++; b.failures < r.Failures {
		return false
	}
	b.open, b.wait, b.trials = true, r.Open, 0
	b.until = now.Add(b.wait)
	b.reason = fmt.Sprintf("%d failures in a row: %s", b.failures, what)
	return true
}

// Open tells whether the breaker is open, and why.
func (b *Breaker) Open() (bool, string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.open, b.reason
}
