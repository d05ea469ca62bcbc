package attach

import (
	"errors"
	"os"
	"sync"
	"time"
)

// conversations are those that may be sent away. The zero value is ready.
type conversations struct {
	mu   sync.Mutex
	open map[*conversation]struct{} // guarded by mu
}

// add takes one in until remove is called. Nothing is done for a nil receiver.
func (s *conversations) add(c *conversation) (remove func()) {
	if s == nil {
		return func() {}
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.open = make(map[*conversation]struct{})
	}
	s.open[c] = struct{}{}
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.open, c)
	}
}

// Vacate implements Vacater.
func (r *Relayer) Vacate(service string) {
	r.open.mu.Lock()
	defer r.open.mu.Unlock()
	for c := range r.open.open {
		if c.meta.Service == service {
			c.vacate()
		}
	}
}

// vacancy wakes the goroutine that waits for a client's next request.
type vacancy struct {
	mu    sync.Mutex
	waits bool // the client's read deadline is vacate's to set; guarded by mu
	woken bool // it was set; guarded by mu
}

// vacate has the connection leave if it waits for a request and is idle. What
// becomes idle just now looks for itself.
func (c *conversation) vacate() {
	v := &c.vacancy
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.waits && !v.woken {
		v.woken = true
		c.client.SetReadDeadline(time.Unix(1, 0))
	}
}

// leaves reports whether the connection shall leave when it is idle.
func (c *conversation) leaves() bool {
	l := leaver(c.cfg.Router)
	return l != nil && l.Leaves(c.meta.Service)
}

// next waits for the first octets of a request, which stay in the queue. The
// error is errMoved if the connection left meanwhile.
func (c *conversation) next(first bool) ([]byte, error) {
	c.waits(true)
	defer c.waits(false)
	// One that has just come is not sent on at once: servers that are all to be
	// vacated would pass it round.
	for leave := !first && !c.justCame(); ; {
		if leave && c.leave() {
			return nil, errMoved
		}
		b, err := c.fromClient.receive(firstLook, true)
		if err == nil {
			c.touch()
			return b, nil
		}
		leave = errors.Is(err, os.ErrDeadlineExceeded) && c.waits(true)
		if !leave {
			if err = c.again(c.client, err); err != nil {
				return nil, err
			}
		}
	}
}

// justCame reports that no request was passed on yet.
func (c *conversation) justCame() bool { return c.stats.ToBackend == 0 }

// waits says whether vacate may interrupt the wait for a request. Nothing is
// left of an interruption afterwards; waits reports whether there was one.
func (c *conversation) waits(on bool) (woken bool) {
	v := &c.vacancy
	v.mu.Lock()
	defer v.mu.Unlock()
	woken, v.woken, v.waits = v.woken, false, on
	if woken {
		c.rearm()
	}
	return woken
}

// leave hands the connection over, if it is idle and shall leave.
func (c *conversation) leave() bool {
	if !c.leaves() || c.currentPhase() != idle || !c.fromClient.quiet() {
		return false
	}
	return c.handOver("any server", func(fd int) error { return leaver(c.cfg.Router).Leave(c.ctx, fd, c.meta) })
}
