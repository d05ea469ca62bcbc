package handoff

import (
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"sync/atomic"
	"time"

	"github.com/shunt-sdn/shunt/internal/handoffproto"
)

// Session is what the agent knows about a connection.
type Session struct {
	ID      string         // of the hand-off, as in "shunt handoffs"
	Service string         // its name
	Client  netip.AddrPort // the client: RemoteAddr
	Local   netip.AddrPort // the session address: LocalAddr
	VIP     netip.AddrPort // what the client connected to; the zero value if unknown
	Idle    bool           // it came between two requests: the next one may take its time
}

// Conn is a connection that was handed over: a *net.TCPConn with all of its
// methods. Writing from a file or a TCP connection copies nothing (ReadFrom), and
// SyscallConn gives the socket for options.
//
// If a server reports its states by ConnState, Read keeps to the bounds of requests: octets
// of the next one are returned when the answer before is written, and the
// connection may move between the two; Read then returns io.EOF. Octets that
// are read by SyscallConn escape it. A hijacked connection, and one that
// speaks something else than HTTP/1.x, is read as any other.
type Conn struct {
	*net.TCPConn
	session  Session
	listener *Listener
	waiting  atomic.Bool // for its first answer, or its end
	requests *requests   // nil unless a server reports its states
}

// Read reads from the connection.
func (c *Conn) Read(b []byte) (int, error) {
	if c.requests == nil {
		return c.TCPConn.Read(b)
	}
	return c.requests.read(b)
}

// WriteTo reads until the client's FIN, without copying if w is a TCP connection.
func (c *Conn) WriteTo(w io.Writer) (int64, error) {
	if c.requests == nil || c.requests.transparent.Load() {
		return c.TCPConn.WriteTo(w)
	}
	return io.Copy(w, struct{ io.Reader }{c})
}

// SetReadDeadline is that of net.Conn.
func (c *Conn) SetReadDeadline(t time.Time) error {
	if c.requests == nil {
		return c.TCPConn.SetReadDeadline(t)
	}
	return c.requests.setDeadline(t)
}

// SetDeadline is that of net.Conn.
func (c *Conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// Write writes to the connection.
func (c *Conn) Write(b []byte) (int, error) {
	c.answered()
	if r := c.requests; r != nil && r.fresh.Load() {
		r.fresh.Store(!c.listener.began(b))
	}
	return c.TCPConn.Write(b)
}

// ReadFrom writes what r has, without copying if r is a file or a TCP connection.
func (c *Conn) ReadFrom(r io.Reader) (int64, error) {
	c.answered()
	return c.TCPConn.ReadFrom(r)
}

// CloseWrite sends the client a FIN; reading goes on.
func (c *Conn) CloseWrite() error {
	c.answered()
	return c.TCPConn.CloseWrite()
}

// Close closes the connection.
func (c *Conn) Close() error {
	c.answered()
	err := c.TCPConn.Close()
	if c.requests != nil && c.requests.gone.Load() {
		return nil // a copy of it was closed; this is no mistake of the caller
	}
	return err
}

// answered tells Drain that it need not wait for this connection any longer.
func (c *Conn) answered() {
	if c.waiting.Load() && c.waiting.CompareAndSwap(true, false) {
		c.listener.countWaiting(-1)
	}
}

// Session returns what the agent said about the connection.
func (c *Conn) Session() Session { return c.session }

// newConn makes a connection of a descriptor and takes ownership of it.
func (l *Listener) newConn(s handoffproto.Session, fd int) (*Conn, error) {
	f := os.NewFile(uintptr(fd), "session")
	defer f.Close()
	c, err := net.FileConn(f) // makes a duplicate
	if err != nil {
		return nil, fmt.Errorf("handoff: take over session %s of %v: %w", s.ID, s.Client, err)
	}
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		c.Close()
		return nil, fmt.Errorf("handoff: take over session %s of %v: the agent sent a %T, not a TCP connection", s.ID, s.Client, c)
	}
	conn := &Conn{TCPConn: tcp, session: Session(s), listener: l}
	if !s.Idle { // else nobody waits for an answer
		conn.waiting.Store(true)
		l.countWaiting(1)
	}
	return conn, nil
}

// lostError says that a session was lost here. The next one may do better.
type lostError struct{ err error }

var _ net.Error = (*lostError)(nil)

func (e *lostError) Error() string   { return e.err.Error() }
func (e *lostError) Unwrap() error   { return e.err }
func (e *lostError) Timeout() bool   { return false }
func (e *lostError) Temporary() bool { return true }
