package handoff

import (
	"errors"
	"io"
	"net"
	"os"
	"sync"
	"syscall"
	"time"
)

// read is Conn.Read.
func (r *requests) read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	for !r.transparent.Load() {
		switch r.place {
		case inside:
			if plain := r.message.Plain(); plain > 0 {
				n, err := r.conn.TCPConn.Read(b[:min(int64(len(b)), plain)])
				r.message.Skip(int64(n))
				r.ended()
				return n, err
			}
			n, err := r.look(b, false)
			if err != nil {
				return 0, err
			}
			if took, err := r.message.Feed(b[:n]); err != nil {
				r.transparent.Store(true) // nothing is taken: the server sees it all
			} else {
				r.ended()
				return took, r.take(b[:took])
			}
		case awaiting:
			// Octets of the next request wait; the client's end is reported.
			_, err := r.look(b[:1], true)
			return 0, err
		case boundary:
			n, err := r.next(b)
			if err != nil {
				return 0, err
			}
			if (r.served || r.conn.session.Idle) && r.conn.listener.asks(r.conn.session.Service) {
				if err := r.route(b[:n]); err != nil {
					return 0, err
				}
			}
			r.message.Request()
			r.place = inside
		}
	}
	return r.conn.TCPConn.Read(b)
}

// ended looks whether the request is complete.
func (r *requests) ended() {
	if r.message.Done() {
		r.place = awaiting
	}
}

// peek is one wait for octets in the queue.
type peek struct {
	b    []byte
	past bool // wait for the end of the connection, past the octets
	n    int
	err  error
}

// look waits for octets and copies them; they stay in the queue. past: it
// waits on if there are any. The error is io.EOF at the client's FIN.
func (r *requests) look(b []byte, past bool) (int, error) {
	r.peek = peek{b: b, past: past}
	err := r.raw.Read(r.try)
	p := r.peek
	r.peek.b = nil
	switch {
	case err != nil:
		return 0, err
	case p.err != nil:
		return 0, r.readError(p.err)
	case p.n == 0:
		return 0, io.EOF
	}
	return p.n, nil
}

func (r *requests) attempt(fd uintptr) bool {
	p := &r.peek
	for {
		p.n, _, p.err = syscall.Recvfrom(int(fd), p.b, syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
		switch {
		case p.err == syscall.EINTR:
		case p.err == syscall.EAGAIN, p.err == nil && p.n > 0 && p.past:
			return false
		default:
			return true
		}
	}
}

// take takes octets off the queue that were looked at. It does not wait, and no
// deadline stops it.
func (r *requests) take(b []byte) error {
	var err error
	cerr := r.raw.Control(func(fd uintptr) {
		for len(b) > 0 {
			var n int
			n, _, err = syscall.Recvfrom(int(fd), b, syscall.MSG_DONTWAIT)
			if err == syscall.EINTR {
				continue
			}
			if err == nil && n == 0 {
				err = io.ErrUnexpectedEOF
			}
			if err != nil {
				err = r.readError(err)
				return
			}
			b = b[n:]
		}
	})
	return errors.Join(err, cerr)
}

func (r *requests) readError(err error) error {
	return &net.OpError{Op: "read", Net: "tcp", Source: r.conn.LocalAddr(), Addr: r.conn.RemoteAddr(), Err: err}
}

// limit is a deadline of this package's, beside the user's.
type limit struct {
	mu   sync.Mutex
	user time.Time // guarded by mu
	own  time.Time // guarded by mu
	idle bool      // wake may set own; guarded by mu
}

// setDeadline is Conn.SetReadDeadline.
func (r *requests) setDeadline(t time.Time) error {
	r.limit.mu.Lock()
	defer r.limit.mu.Unlock()
	r.limit.user = t
	return r.applyDeadline()
}

// setOwnDeadline sets a deadline that the user's does not replace.
func (r *requests) setOwnDeadline(t time.Time) error {
	r.limit.mu.Lock()
	defer r.limit.mu.Unlock()
	r.limit.own = t
	return r.applyDeadline()
}

// applyDeadline is called with limit.mu held.
func (r *requests) applyDeadline() error {
	t := r.limit.user
	if own := r.limit.own; !own.IsZero() && (t.IsZero() || own.Before(t)) {
		t = own
	}
	return r.conn.TCPConn.SetReadDeadline(t)
}

// ownDeadline reports whether a wait that failed did so at this package's deadline.
func (r *requests) ownDeadline(err error) bool {
	r.limit.mu.Lock()
	defer r.limit.mu.Unlock()
	user := r.limit.user
	return errors.Is(err, os.ErrDeadlineExceeded) && (user.IsZero() || user.After(time.Now()))
}
