package switchsim

import (
	"context"
	"sync"
	"time"
)

// A delayLine runs functions in the order given, each a fixed time after it was
// handed over: a switch that acknowledges before it installs.
type delayLine struct {
	delay time.Duration
	more  chan struct{}
	mu    sync.Mutex
	queue []delayedFunc
}

type delayedFunc struct {
	due time.Time
	f   func()
}

func newDelayLine(d time.Duration) *delayLine {
	return &delayLine{delay: d, more: make(chan struct{}, 1)}
}

func (l *delayLine) add(f func()) {
	l.mu.Lock()
	l.queue = append(l.queue, delayedFunc{time.Now().Add(l.delay), f})
	l.mu.Unlock()
	select {
	case l.more <- struct{}{}:
	default:
	}
}

func (l *delayLine) run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		l.mu.Lock()
		var next *delayedFunc
		if len(l.queue) > 0 {
			next = &l.queue[0]
			if wait := time.Until(next.due); wait > 0 {
				timer.Reset(wait)
				next = nil
			} else {
				l.queue = l.queue[1:]
			}
		}
		l.mu.Unlock()
		if next != nil {
			next.f()
			continue
		}
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-l.more:
		}
	}
}
