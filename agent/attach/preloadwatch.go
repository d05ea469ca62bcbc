package attach

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/shunt-sdn/shunt/agent/sockdiag"
)

const (
	knockAgainAfter  = 2 * time.Millisecond // doubled each time, up to:
	knockAgainAtMost = 200 * time.Millisecond
	knockAgainFor    = 10 * time.Second
)

// watch waits in the background until the server has accepted a knock whose
// session is in the queue, and knocks again when a process accepted it that took
// no session: one that died over it, or whose listener shares the port but not
// the queue. Which session the server takes on which knock does not matter.
func (p *Preload) watch(w *way, k knocking, m Meta) {
	f := os.NewFile(uintptr(k), "knock")
	if !p.track(f, func() {
		if taken := p.answered(f, k); taken || p.ctx.Err() != nil {
			return
		}
		if err := p.again(w); err != nil {
			p.log.Warn("a session was passed to the server, which did not accept it; perhaps it has restarted", "session", m.ID, "client", m.Client, "err", err)
			p.look()
		}
	}) {
		f.Close()
	}
}

// track runs a knock's waiter, unless the attachment is closed.
func (p *Preload) track(f *os.File, wait func()) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ctx.Err() != nil {
		return false
	}
	p.pending[f] = struct{}{}
	p.workers.Go(wait)
	return true
}

// answered waits for the connection's end. A FIN says that a session was taken.
// When the attachment is closed the knock stays in the listener's backlog.
func (p *Preload) answered(f *os.File, k knocking) bool {
	var b [1]byte
	_, err := f.Read(b[:])
	p.mu.Lock()
	delete(p.pending, f)
	if p.ctx.Err() == nil {
		k.leaveNothing()
	}
	f.Close()
	p.mu.Unlock()
	return errors.Is(err, io.EOF)
}

// again knocks until a session is taken, or the server is gone and its queue
// with it.
func (p *Preload) again(w *way) error {
	ctx, cancel := context.WithTimeout(p.ctx, knockAgainFor)
	defer cancel()
	for pause := knockAgainAfter; ; pause = min(2*pause, knockAgainAtMost) {
		if !hasQueue(w.queue) {
			return nil // what was in it was reset with it, as in the backlog of any server that ends
		}
		k, err := knock(w.target)
		if err == nil {
			k.announce()
			f := os.NewFile(uintptr(k), "knock")
			taken := make(chan bool, 1)
			if !p.track(f, func() { taken <- p.answered(f, k) }) {
				f.Close()
				return nil
			}
			if <-taken {
				return nil
			}
			err = errors.New("a process that has no queue accepted the knock")
		}
		select {
		case <-time.After(pause):
		case <-ctx.Done():
			if p.ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("knocked for %v: %w", knockAgainFor, err)
		}
	}
}

// probe keeps Ready true to what is there.
func (p *Preload) probe() {
	tick := time.NewTicker(p.cfg.Probe)
	defer tick.Stop()
	failed := false
	for {
		any := false
		for _, w := range p.ways {
			w.ready = hasQueue(w.queue) && (w.ready && !failed || p.listens(w))
			any = any || w.ready
		}
		p.setReady(any)
		failed = false
		select {
		case <-tick.C:
		case <-p.failed:
			failed = true
		case <-p.ctx.Done():
			p.setReady(false)
			return
		}
	}
}

// listens tells whether there is a listener to knock at. It does not try: a knock
// for nothing would wake the server, and one that waits with select for a
// listener that blocks would then wait in accept.
func (p *Preload) listens(w *way) bool {
	ok, err := sockdiag.Listening(p.ctx, w.target)
	if err != nil {
		if p.ctx.Err() == nil {
			p.log.Warn("cannot find out whether the server listens; it is assumed", "err", err)
		}
		return true
	}
	return ok
}

// setReady is called by the prober only.
func (p *Preload) setReady(ready bool) {
	if p.ready.Swap(ready) == ready {
		return
	}
	p.log.Info("the preloaded server's state changed", "accepts", ready)
	if p.cfg.OnReady != nil {
		p.cfg.OnReady(ready)
	}
}
