package attach

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"
	"time"
)

// Stats counts the octets that a relay copied.
type Stats struct {
	ToBackend int64
	ToClient  int64
}

// Timeouts limit how long a relayed session may do nothing.
type Timeouts struct {
	// Idle resets a session in which no octet moved in either direction for so
	// long, or up to one and a half times as long; 0 means never. Dead
	// peers are found by TCP keep-alive all the same.
	Idle time.Duration
	// HalfClosed is the same once the backend has sent its FIN and the client
	// has not: a backend that closed for good answers nothing any more, and
	// the kernel does not tell. 0 means DefaultHalfClosed.
	HalfClosed time.Duration
}

// DefaultHalfClosed is what Linux grants orphaned sockets: tcp_fin_timeout.
const DefaultHalfClosed = time.Minute

// Relay copies octets both ways between a client and a backend until both
// directions have ended, and closes both connections. It keeps what either end
// means: a FIN is passed on as a FIN when all before it was, the other
// direction goes on; a reset, or any failure, resets the other end. When ctx
// ends, both are reset. Deadlines that were set on them are taken away.
//
// The error is nil if both ends closed in good order, and else says which
// direction failed; it wraps ctx's cause if that ended the session.
func Relay(ctx context.Context, client, backend *net.TCPConn) (Stats, error) {
	return RelayWith(ctx, client, backend, Timeouts{})
}

// RelayWith is Relay with limits.
func RelayWith(ctx context.Context, client, backend *net.TCPConn, t Timeouts) (Stats, error) {
	r := newRelayOf(client, backend, t)
	// Deadlines end the copying; both connections stay open until both
	// directions are done.
	stop := context.AfterFunc(ctx, r.interrupt)
	defer stop()

	up := make(chan error, 1)
	go func() { up <- r.copy(backend, client, &r.stats.ToBackend, "the client to the application") }()
	down := r.copy(client, backend, &r.stats.ToClient, "the application to the client")
	if down == nil {
		r.backendEnded()
	}
	err := errors.Join(down, <-up)
	if ctx.Err() != nil && err != nil {
		err = fmt.Errorf("relay ended: %w", context.Cause(ctx))
	}
	r.end(err != nil)
	return r.stats, err
}

func newRelayOf(client, backend *net.TCPConn, t Timeouts) *relay {
	if t.HalfClosed <= 0 {
		t.HalfClosed = DefaultHalfClosed
	}
	r := &relay{client: client, backend: backend, timeouts: t}
	r.touch()
	client.SetDeadline(time.Time{}) // the caller's have served their purpose
	backend.SetDeadline(time.Time{})
	if t.Idle > 0 {
		backend.SetReadDeadline(time.Now().Add(t.Idle / 2))
	}
	r.rearm()
	return r
}

// rearm gives the client's side the deadline at which to look at the clock.
func (r *relay) rearm() {
	var tick time.Time
	switch {
	case r.halfClosed.Load():
		tick = time.Now().Add(r.halfClosedLimit() / 2)
	case r.timeouts.Idle > 0:
		tick = time.Now().Add(r.timeouts.Idle / 2)
	}
	r.client.SetReadDeadline(tick)
	if r.failed.Load() {
		r.interrupt()
	}
}

// end closes both connections. One that failed discards what is unsent and
// sends RST, as an end that failed would have.
func (r *relay) end(failed bool) {
	if failed {
		r.client.SetLinger(0)
		r.backend.SetLinger(0)
	}
	r.client.Close()
	r.backend.Close()
}

// relay is one session being copied by two goroutines.
type relay struct {
	client, backend *net.TCPConn
	timeouts        Timeouts
	stats           Stats
	failed          atomic.Bool  // one direction failed: the other must end
	halfClosed      atomic.Bool  // the backend sent its FIN
	moved           atomic.Int64 // when octets last moved, Unix nanoseconds
}

var errIdle = errors.New("nothing moved for too long")

func (r *relay) touch() { r.moved.Store(time.Now().UnixNano()) }

// chunk is how much is copied between looks at the clock where there is an idle
// limit. A client so slow that it takes less in that time counts as idle.
const chunk = 64 << 10

// copy moves octets from src to dst until src's FIN, and passes that on.
func (r *relay) copy(dst, src *net.TCPConn, count *int64, what string) error {
	for {
		n, end, err := r.some(dst, src)
		*count += n
		if n > 0 {
			r.touch()
		}
		if end {
			// An error would say that dst is gone, which its own direction sees too.
			dst.CloseWrite()
			return nil
		}
		if errors.Is(err, os.ErrDeadlineExceeded) && !r.failed.Load() {
			err = r.extend(src)
		}
		if err != nil {
			r.interrupt()
			return fmt.Errorf("copy from %s: %w", what, err)
		}
	}
}

// some copies until src's FIN, an error or, with an idle limit, a chunk is
// full. The kernel moves the octets from socket to socket (splice).
func (r *relay) some(dst, src *net.TCPConn) (n int64, end bool, err error) {
	if r.timeouts.Idle <= 0 {
		n, err = io.Copy(dst, src)
		return n, err == nil, err
	}
	l := io.LimitedReader{R: src, N: chunk}
	n, err = io.Copy(dst, &l)
	return n, err == nil && n < chunk, err
}

// extend sets a new deadline if octets moved lately, in either direction. Both
// directions report at least every half of the limit what they moved.
func (r *relay) extend(src *net.TCPConn) error {
	limit := r.timeouts.Idle
	if r.halfClosed.Load() {
		limit = r.halfClosedLimit()
	}
	now := time.Now()
	if now.Sub(time.Unix(0, r.moved.Load())) >= limit {
		return errIdle
	}
	src.SetReadDeadline(now.Add(limit / 2))
	if r.failed.Load() { // interrupt may have come before the new deadline
		return os.ErrDeadlineExceeded
	}
	return nil
}

func (r *relay) halfClosedLimit() time.Duration {
	if r.timeouts.Idle > 0 {
		return min(r.timeouts.Idle, r.timeouts.HalfClosed)
	}
	return r.timeouts.HalfClosed
}

// backendEnded puts the limit for half-closed sessions on what the client sends.
func (r *relay) backendEnded() {
	r.touch()
	r.halfClosed.Store(true)
	r.rearm()
}

// interrupt ends both directions.
func (r *relay) interrupt() {
	r.failed.Store(true)
	past := time.Unix(1, 0)
	r.client.SetDeadline(past)
	r.backend.SetDeadline(past)
}
