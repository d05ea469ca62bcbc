// Package attach gets sockets of handed-off sessions to the applications of a
// server node. A Listener passes the descriptor itself to a Go program that
// uses the package handoff, a Preload to any program that has libshunt.so loaded,
// which gets it from its own accept; the session then outlives the agent. A Relay
// keeps the socket and passes requests and answers on to any HTTP server on the
// node; the session ends with the agent.
package attach

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// Meta says which session a socket is.
type Meta struct {
	ID      string         // of the hand-off
	Service string         // its name
	Client  netip.AddrPort // the remote end
	Local   netip.AddrPort // the session address: the local end
	VIP     netip.AddrPort // what the client connected to; the zero value if unknown
	Idle    bool           // it comes between two requests: none was there when it came
}

// Vacater is an Attachment that can let idle connections go.
type Vacater interface {
	// Vacate has every connection of the service that is idle between two requests
	// leave, if Leaver.Leaves still says so; while it does, the others leave as they
	// become idle. It returns at once. One that cannot leave stays until the next call.
	Vacate(service string)
}

// Attachment is one application of a service. Its methods are safe for
// concurrent use.
type Attachment interface {
	// Ready reports whether the application takes sessions at this moment.
	Ready() bool

	// Attach gives the application the socket fd: an established TCP socket,
	// non-blocking and not in repair mode. With a nil error it takes ownership
	// of fd, and the session goes on from there. With any error fd is still the
	// caller's and nothing was read from it or written to it. The error
	// is ErrNotReady, ErrBusy or ErrClosed (by errors.Is), or tells what failed.
	// It does not wait for an application whose queue is full; ctx bounds
	// what else it waits for, and does not end a session afterwards.
	Attach(ctx context.Context, fd int, m Meta) error

	// Shutdown takes no more sessions, waits for those that need the agent, and
	// then closes. When ctx ends first it closes at once and returns ctx's error.
	Shutdown(ctx context.Context) error

	// Close takes no more sessions, resets those that need the agent and waits
	// for all goroutines. Calls after the first one do nothing.
	Close() error
}

var (
	// ErrNotReady: no application is there. It has not been started, or ended.
	ErrNotReady = errors.New("no application is connected")
	// ErrBusy: every application's queue is full: they do not accept fast enough.
	ErrBusy = errors.New("the application's queue of new sessions is full")
	// ErrClosed: the attachment was shut down.
	ErrClosed = errors.New("the attachment is closed")
)

// duplicate makes a connection of a copy of fd, so that fd stays the caller's
// if anything fails.
func duplicate(fd int) (*net.TCPConn, error) {
	copied, err := syscall.Dup(fd)
	if err != nil {
		return nil, fmt.Errorf("duplicate the session's socket: %w", err)
	}
	syscall.CloseOnExec(copied)
	f := os.NewFile(uintptr(copied), "session")
	defer f.Close()
	c, err := net.FileConn(f) // makes another copy
	if err != nil {
		return nil, fmt.Errorf("take over the session's socket: %w", err)
	}
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		c.Close()
		return nil, fmt.Errorf("take over the session's socket: it is %T, not TCP", c)
	}
	return tcp, nil
}

// duplicateOf returns a bare descriptor of a connection.
func duplicateOf(c syscall.RawConn) (fd int, err error) {
	if e := c.Control(func(f uintptr) { fd, err = unix.FcntlInt(f, unix.F_DUPFD_CLOEXEC, 0) }); e != nil {
		return -1, e
	}
	if err != nil {
		return -1, fmt.Errorf("duplicate the session's socket: %w", err)
	}
	return fd, nil
}
