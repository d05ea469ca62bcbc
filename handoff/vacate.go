package handoff

import (
	"errors"
	"math/rand/v2"
	"net"
	"sync"
	"syscall"
	"time"

	"github.com/shunt-sdn/shunt/internal/handoffproto"
)

// A server that is taken out of service lets its idle connections go: their
// clients' next requests are answered elsewhere, and the server need not wait
// for them.

// vacancies are the connections that wait for another request, and which
// services' shall leave. The zero value is ready.
type vacancies struct {
	mu   sync.Mutex
	on   map[string]bool        // by service; guarded by mu
	idle map[*requests]struct{} // guarded by mu
}

// set takes in what the agent says, and wakes the service's idle connections.
func (v *vacancies) set(service string, on bool) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.on == nil {
		v.on = make(map[string]bool)
	}
	v.on[service] = on
	if !on {
		return
	}
	for r := range v.idle {
		if r.conn.session.Service == service {
			r.wake(time.Unix(1, 0))
		}
	}
}

// enter makes a connection an idle one, and reports whether it shall leave.
func (v *vacancies) enter(r *requests) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.idle == nil {
		v.idle = make(map[*requests]struct{})
	}
	v.idle[r] = struct{}{}
	return v.on[r.conn.session.Service]
}

func (v *vacancies) exit(r *requests) {
	v.mu.Lock()
	defer v.mu.Unlock()
	delete(v.idle, r)
}

func (v *vacancies) leaves(service string) bool {
	v.mu.Lock()
	defer v.mu.Unlock()
	return v.on[service]
}

// clear has all connections stay: the agent is gone.
func (v *vacancies) clear() {
	v.mu.Lock()
	defer v.mu.Unlock()
	clear(v.on)
}

// next waits for the first octets of a request, which stay in the queue. A
// connection that came idle, or was served and so became idle, may leave
// meanwhile: the error is then errMoved.
func (r *requests) next(b []byte) (int, error) {
	v := &r.conn.listener.vacancies
	r.waits(true)
	// One that has just come is not sent away at once: it may have come back
	// because there is nowhere to go.
	leave := v.enter(r) && r.served
	defer func() {
		v.exit(r)
		r.waits(false)
	}()
	for {
		if leave && r.leave() {
			return 0, errMoved
		}
		n, err := r.look(b, false)
		if leave = err != nil && r.woken(err); !leave {
			return n, err
		}
	}
}

// tryAgainIn is how long a connection waits, at least, that the agent's full
// queue kept from leaving.
const tryAgainIn = 5 * time.Millisecond

// leave gives the connection back to the agent, unless a request is there.
func (r *requests) leave() bool {
	l := r.conn.listener
	if !r.quiet() || l.isClosing() || !l.vacancies.leaves(r.conn.session.Service) {
		return false
	}
	frame, err := handoffproto.Give{Session: handoffproto.Session(r.conn.session)}.Append(nil)
	if err != nil {
		return false
	}
	err = net.ErrClosed
	if cerr := r.raw.Control(func(fd uintptr) { err = l.send(frame, int(fd)) }); cerr != nil {
		return false // closed meanwhile: the read that follows says so
	}
	switch {
	case err == nil:
		r.gone.Store(true)
		r.conn.TCPConn.Close() // a copy; the agent has the connection
		return true
	case errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.ENOBUFS), errors.Is(err, syscall.ETOOMANYREFS):
		r.wake(time.Now().Add(tryAgainIn + rand.N(4*tryAgainIn)))
	default:
		l.log.Debug("an idle connection does not leave", "session", r.conn.session.ID, "err", err)
	}
	return false
}

// quiet reports that nothing has come that was not read, no FIN either.
func (r *requests) quiet() bool {
	var b [1]byte
	var err error
	cerr := r.raw.Control(func(fd uintptr) {
		_, _, err = syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
	})
	return cerr == nil && err == syscall.EAGAIN
}

// waits says whether wake may interrupt the wait; afterwards nothing is left of it.
func (r *requests) waits(on bool) {
	r.limit.mu.Lock()
	defer r.limit.mu.Unlock()
	r.limit.idle = on
	if !on && !r.limit.own.IsZero() {
		r.limit.own = time.Time{}
		r.applyDeadline()
	}
}

// wake ends the wait for a next request at t, if there is one.
func (r *requests) wake(t time.Time) {
	r.limit.mu.Lock()
	defer r.limit.mu.Unlock()
	if r.limit.idle {
		r.limit.own = t
		r.applyDeadline()
	}
}

// woken reports whether a wait failed because of wake. The user's deadline, if
// it has passed as well, comes first.
func (r *requests) woken(err error) bool {
	if !r.ownDeadline(err) {
		return false
	}
	r.limit.mu.Lock()
	defer r.limit.mu.Unlock()
	if r.limit.own.IsZero() {
		return false
	}
	r.limit.own = time.Time{}
	r.applyDeadline()
	return true
}
