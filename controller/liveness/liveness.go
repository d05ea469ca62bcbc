// Package liveness tells how a TCP connection ended: because the program at its
// other end closed it or died, or because the other host fell silent.
//
// The kernel of a host outlives its programs: it closes what a killed one leaves
// (a FIN or RST comes), and acknowledges what is sent to one that hangs. A host
// that is dead, or cut off, acknowledges nothing. What was sent is repeated in
// vain, until the connection is given up: by the kernel, with ETIMEDOUT or the
// error that routers report, or earlier by whoever waits for an answer. In the
// second case the state of the socket says which of the two it was.
package liveness

import (
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Listen returns a listener whose TCP connections are given up by the kernel
// when what was sent stays unacknowledged for silence (TCP_USER_TIMEOUT, RFC
// 5482; at least 1 ms), and whose remote addresses Silent understands.
// Connections of l that are not TCP are passed on as they are.
func Listen(l net.Listener, silence time.Duration) net.Listener {
	return listener{l, silence}
}

// Silent tells whether the connection that has this remote address ended, or is
// about to end, because the other host is silent. It is false for one that the
// other end closed or reset, that ended while the other host acknowledged what
// it was sent, or that did not come from a listener of this package.
func Silent(remote net.Addr) bool {
	a, ok := remote.(address)
	return ok && a.conn.silent()
}

type listener struct {
	net.Listener
	silence time.Duration
}

func (l listener) Accept() (net.Conn, error) {
	nc, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	tcp, ok := nc.(*net.TCPConn)
	if !ok {
		return nc, nil
	}
	c := &conn{Conn: tcp, tcp: tcp}
	if raw, err := tcp.SyscallConn(); err == nil {
		// It cannot fail on a socket that was just accepted; if it does, the
		// connection is as good as any, and given up later.
		_ = raw.Control(func(fd uintptr) {
			_ = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(max(l.silence.Milliseconds(), 1)))
		})
	}
	return c, nil
}

// address is a remote address that knows its connection.
type address struct {
	net.Addr
	conn *conn
}

// How a connection ended. The first thing that is seen of its end counts.
const (
	open int32 = iota
	closed
	silent
)

// conn watches for its end. It hides what of a TCP connection would read and
// write past it.
type conn struct {
	net.Conn
	tcp *net.TCPConn // the same
	end atomic.Int32
}

func (c *conn) RemoteAddr() net.Addr { return address{c.Conn.RemoteAddr(), c} }

// SyscallConn implements syscall.Conn.
func (c *conn) SyscallConn() (syscall.RawConn, error) { return c.tcp.SyscallConn() }

func (c *conn) Read(b []byte) (int, error) {
	n, err := c.Conn.Read(b)
	c.failed(err)
	return n, err
}

func (c *conn) Write(b []byte) (int, error) {
	n, err := c.Conn.Write(b)
	c.failed(err)
	return n, err
}

// Close looks at the socket first: what has been sent and is repeated, because
// nobody acknowledges it, is why this end gives up.
func (c *conn) Close() error {
	c.end.CompareAndSwap(open, c.look())
	return c.Conn.Close()
}

// failed notes an error that ends the connection. Others, such as a deadline,
// do not.
func (c *conn) failed(err error) {
	switch {
	case err == nil:
	case errors.Is(err, unix.ETIMEDOUT), errors.Is(err, unix.EHOSTUNREACH), errors.Is(err, unix.ENETUNREACH), errors.Is(err, unix.EHOSTDOWN):
		c.end.CompareAndSwap(open, silent)
	case errors.Is(err, io.EOF), errors.Is(err, unix.ECONNRESET), errors.Is(err, unix.EPIPE):
		c.end.CompareAndSwap(open, closed)
	}
}

func (c *conn) silent() bool {
	end := c.end.Load()
	if end == open {
		end = c.look()
	}
	return end == silent
}

// look judges a connection that has not ended by what the kernel waits for.
func (c *conn) look() int32 {
	raw, err := c.SyscallConn()
	if err != nil {
		return closed
	}
	var info *unix.TCPInfo
	if e := raw.Control(func(fd uintptr) {
		if info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO); err != nil {
			err = fmt.Errorf("read TCP_INFO: %w", err)
		}
	}); e != nil || err != nil {
		return closed
	}
	// Repeated without progress, or, into a closed window, asked for more room
	// without an answer.
	if info.Unacked > 0 && info.Retransmits > 0 || info.Probes > 1 {
		return silent
	}
	return closed
}
