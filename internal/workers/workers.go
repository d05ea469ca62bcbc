// Package workers runs short tasks on goroutines that are used again. A new
// goroutine begins with a small stack, which grows, and is copied, several times
// on the way into a hand-off; one that has been there before has the room.
package workers

import "sync"

// Pool runs tasks. The zero value is ready.
type Pool struct {
	mu      sync.Mutex
	idle    []chan func() // of goroutines that wait, the latest last; guarded by mu
	closed  bool          // guarded by mu
	running sync.WaitGroup
}

// maxIdle bounds the goroutines that wait for a task.
const maxIdle = 64

// Go runs f on a goroutine that is idle or new. It never waits.
func (p *Pool) Go(f func()) {
	p.mu.Lock()
	if n := len(p.idle); n > 0 {
		c := p.idle[n-1]
		p.idle = p.idle[:n-1]
		p.mu.Unlock()
		c <- f
		return
	}
	p.running.Add(1)
	p.mu.Unlock()
	go p.work(f)
}

// work runs f, then other tasks as they come.
func (p *Pool) work(f func()) {
	defer p.running.Done()
	c := make(chan func(), 1)
	for f != nil {
		f()
		p.mu.Lock()
		if p.closed || len(p.idle) >= maxIdle {
			p.mu.Unlock()
			return
		}
		p.idle = append(p.idle, c)
		p.mu.Unlock()
		f = <-c
	}
}

// Close ends the goroutines that are idle, and the others when their tasks are
// done, and waits for all of them. Tasks that are given later still run.
func (p *Pool) Close() {
	p.mu.Lock()
	p.closed = true
	for _, c := range p.idle {
		c <- nil
	}
	p.idle = nil
	p.mu.Unlock()
	p.running.Wait()
}
