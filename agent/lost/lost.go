// Package lost tells clients that their connections are lost: the node that
// held them is dead, and would leave them waiting for ever. Only their home can:
// it has their address, and no socket for what they say.
package lost

import (
	"context"
	"log/slog"
	"net/netip"
	"sync"
	"time"
)

// Options of a Herald. The functions are called from Run's goroutine only.
type Options struct {
	// Moving tells whether a hand-off of the session is under way: its outcome
	// decides about the session.
	Moving func(client, local netip.AddrPort) bool
	// Release ends the session's diversion if it is its owner's.
	Release func(client, local netip.AddrPort, owner uint64) error
	// Probe has the client say something, which is then answered with a RST.
	Probe func(client, local netip.AddrPort) error
	Log   *slog.Logger
}

const (
	// Probes and their answers may be lost like any packet, and the switch may
	// send the client's packets to the dead node for a while.
	probes = 4
	// Longer than the 500 ms in which Linux answers only one probe; doubled each
	// time.
	probeAgain = 600 * time.Millisecond
	lookAgain  = 200 * time.Millisecond // whether a hand-off is over
)

// A Herald knows the sessions whose clients are to be told.
type Herald struct {
	o    Options
	wake chan struct{}

	mu     sync.Mutex // guards what follows
	losses map[ends]*loss
}

type ends struct{ client, local netip.AddrPort }

// loss is a lost session.
type loss struct {
	owner  uint64 // of the diversion that is to be released first; 0: none is
	probed int
	next   time.Time
}

// New returns a herald that does nothing until Run.
func New(o Options) *Herald {
	return &Herald{o: o, wake: make(chan struct{}, 1), losses: make(map[ends]*loss)}
}

// Tell has the client told that its session is lost. If the session is being
// handed off, an earlier one is meant, and nothing is done.
func (h *Herald) Tell(client, local netip.AddrPort) { h.add(client, local, 0) }

// Diverted has the client told that its session, which the diversion of this
// owner, not 0, sends to a dead node, is lost. A hand-off that is still under
// way is waited for. One that has succeeded elsewhere meanwhile has another
// owner, or comes to no harm: a client whose connection lives repeats its last
// acknowledgement.
func (h *Herald) Diverted(client, local netip.AddrPort, owner uint64) { h.add(client, local, owner) }

func (h *Herald) add(client, local netip.AddrPort, owner uint64) {
	e := ends{client, local}
	h.mu.Lock()
	if l := h.losses[e]; l == nil {
		h.losses[e] = &loss{owner: owner}
	} else if owner != 0 && l.owner == 0 { // the diversion is to go, and then all begins anew
		*l = loss{owner: owner}
	}
	h.mu.Unlock()
	select {
	case h.wake <- struct{}{}:
	default:
	}
}

// Run tells clients until ctx ends.
func (h *Herald) Run(ctx context.Context) error {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-h.wake:
		case <-timer.C:
		}
		for e, l := range h.due(time.Now()) {
			if ctx.Err() != nil {
				return nil
			}
			before := l
			over := h.step(e, &l)
			h.mu.Lock()
			switch now := h.losses[e]; {
			case *now != before: // its diversion has come to be meant
			case over:
				delete(h.losses, e)
			default:
				*now = l
			}
			h.mu.Unlock()
		}
		if next, ok := h.next(); ok {
			timer.Reset(time.Until(next))
		}
	}
}

// due returns copies of those for which something is to be done now.
func (h *Herald) due(now time.Time) map[ends]loss {
	h.mu.Lock()
	defer h.mu.Unlock()
	due := make(map[ends]loss)
	for e, l := range h.losses {
		if !now.Before(l.next) {
			due[e] = *l
		}
	}
	return due
}

// next returns when something is to be done.
func (h *Herald) next() (at time.Time, ok bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for _, l := range h.losses {
		if !ok || l.next.Before(at) {
			at, ok = l.next, true
		}
	}
	return at, ok
}

// step does what is due for one session, and tells whether that was all.
func (h *Herald) step(e ends, l *loss) (over bool) {
	if h.o.Moving(e.client, e.local) {
		l.next = time.Now().Add(lookAgain)
		return l.owner == 0
	}
	var err error
	if l.owner != 0 {
		if err = h.o.Release(e.client, e.local, l.owner); err == nil {
			l.owner = 0
		}
	}
	if err == nil {
		err = h.o.Probe(e.client, e.local)
	}
	if err != nil {
		h.o.Log.Error("cannot tell a client that its session is lost", "client", e.client, "err", err)
	}
	l.next = time.Now().Add(probeAgain << l.probed)
	l.probed++
	return l.probed >= probes
}
