package attach

import (
	"fmt"
	"io"
	"net"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/shunt-sdn/shunt/agent/tcprepair"
)

// bufferSize is what is read at once where octets have to be looked at. Longer
// runs that need not be are moved by splice(2).
const bufferSize = 32 << 10

var buffers = sync.Pool{New: func() any { return new([bufferSize]byte) }}

// socket reads a connection without holding a buffer while it waits: sessions
// are idle most of the time. It is not safe for concurrent use.
type socket struct {
	*net.TCPConn
	raw   syscall.RawConn
	flags int
	limit int
	buf   *[bufferSize]byte
	n     int
	err   error
	try   func(fd uintptr) bool // is attempt; made once
}

func newSocket(c *net.TCPConn) (*socket, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return nil, err
	}
	s := &socket{TCPConn: c, raw: raw}
	s.try = s.attempt
	return s, nil
}

// receive waits for octets and returns up to limit of them, which is at most
// bufferSize, in a buffer that the caller gives to release. They stay in the
// socket's queue if peek is set. The error is io.EOF at the peer's FIN.
func (s *socket) receive(limit int, peek bool) (b []byte, err error) {
	s.limit, s.flags = limit, unix.MSG_DONTWAIT
	if peek {
		s.flags |= unix.MSG_PEEK
	}
	if err := s.raw.Read(s.try); err != nil {
		return nil, err
	}
	if s.err != nil {
		return nil, &net.OpError{Op: "read", Net: "tcp", Source: s.LocalAddr(), Addr: s.RemoteAddr(), Err: s.err}
	}
	if s.n == 0 {
		s.release()
		return nil, io.EOF
	}
	return s.buf[:s.n], nil
}

func (s *socket) attempt(fd uintptr) bool {
	if s.buf == nil {
		s.buf = buffers.Get().(*[bufferSize]byte)
	}
	for {
		n, _, err := unix.Recvfrom(int(fd), s.buf[:s.limit], s.flags)
		switch err {
		case nil:
			s.n, s.err = n, nil
			return true
		case unix.EINTR:
			continue
		case unix.EAGAIN:
			s.release()
			return false
		}
		s.release()
		s.err = err
		return true
	}
}

// release gives back the buffer of the last receive.
func (s *socket) release() {
	if s.buf != nil {
		buffers.Put(s.buf)
		s.buf = nil
	}
}

// discard takes n octets off the queue that were peeked at.
func (s *socket) discard(n int) error {
	var err error
	if e := s.raw.Control(func(fd uintptr) {
		for n > 0 {
			// TCP copies nothing with MSG_TRUNC; only the buffer's length counts.
			var took int
			took, err = truncate(int(fd), n)
			if err == unix.EINTR {
				continue
			}
			if err != nil || took == 0 {
				err = fmt.Errorf("take %d octets off the queue that were there: %d, %w", n, took, err)
				return
			}
			n -= took
		}
	}); e != nil {
		return e
	}
	return err
}

func truncate(fd, n int) (int, error) {
	buf := buffers.Get().(*[bufferSize]byte)
	defer buffers.Put(buf)
	took, _, err := unix.Recvfrom(fd, buf[:min(n, bufferSize)], unix.MSG_TRUNC|unix.MSG_DONTWAIT)
	return took, err
}

// quiet reports that nothing has come that was not read, no FIN either.
func (s *socket) quiet() bool {
	var b [1]byte
	var err error
	cerr := s.raw.Control(func(fd uintptr) {
		_, _, err = unix.Recvfrom(int(fd), b[:], unix.MSG_PEEK|unix.MSG_DONTWAIT)
	})
	return cerr == nil && err == unix.EAGAIN
}

// state returns the connection's TCP state.
func (s *socket) state() (state uint8) {
	state = tcprepair.StateClose
	s.raw.Control(func(fd uintptr) {
		if v, err := tcprepair.TCPState(int(fd)); err == nil {
			state = v
		}
	})
	return state
}
