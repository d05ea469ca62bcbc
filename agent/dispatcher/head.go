package dispatcher

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shunt-sdn/shunt/agent/httphead"
)

// errNoRequest says that the client left without a request, or this dispatcher
// ends before there is one: there is nothing to answer.
var errNoRequest = errors.New("the client sent no complete request")

var heads = sync.Pool{New: func() any { b := make([]byte, 2048); return &b }}

// awaitHead peeks at the connection until its first request head is complete.
// Nothing is consumed: the bytes travel in the receive queue. The error is
// errNoRequest, an *httphead.Error to be answered, or the connection's own.
func (s *session) awaitHead() (httphead.Head, error) {
	buf := heads.Get().(*[]byte)
	defer heads.Put(buf)
	b := *buf
	parser := httphead.NewParser(s.service.MaxHead)
	var head httphead.Head
	var result error
	seen := 0
	peek := func(fd uintptr) bool {
		for {
			n, _, err := unix.Recvfrom(int(fd), b, unix.MSG_PEEK|unix.MSG_DONTWAIT)
			switch {
			case err == unix.EINTR:
				continue
			case err == unix.EAGAIN:
				return false
			case err != nil:
				result = fmt.Errorf("peek: %w", err)
				return true
			case n == 0:
				result = errNoRequest
				return true
			}
			if n == len(b) && n < s.service.MaxHead+1 {
				b = make([]byte, min(4*len(b), s.service.MaxHead+1))
				continue
			}
			var done bool
			head, done, result = parser.Parse(b[:n])
			if done || result != nil {
				return true
			}
			// Incomplete. New bytes wake this up again, and so does a FIN: then
			// what is here is all there will ever be.
			fin, dead := ended(int(fd))
			switch {
			case dead:
				result = errNoRequest
				return true
			case fin && n == seen:
				result = &httphead.Error{Status: 400, Reason: "the request ends within its head"}
				return true
			}
			if seen = n; !fin {
				return false
			}
		}
	}
	// Mostly the head is here already, and a deadline not worth its cost.
	var whole bool
	if err := s.raw.Control(func(fd uintptr) { whole = peek(fd) }); err != nil {
		return head, err
	}
	if whole {
		return head, result
	}
	if err := s.conn.SetReadDeadline(time.Now().Add(s.service.HeadTimeout)); err != nil {
		return head, err
	}
	if s.d.ctx.Err() != nil { // the deadline may have replaced that of interrupt
		return head, errNoRequest
	}
	err := s.raw.Read(peek)
	if errors.Is(err, os.ErrDeadlineExceeded) {
		if seen == 0 || s.d.ctx.Err() != nil {
			return head, errNoRequest // idle, as keep-alive clients are
		}
		return head, &httphead.Error{Status: 408, Reason: fmt.Sprintf("the request head was not complete within %v", s.service.HeadTimeout)}
	}
	if err != nil {
		return head, err
	}
	if result != nil {
		return head, result
	}
	return head, s.conn.SetReadDeadline(time.Time{})
}

// ended tells whether the client has sent its FIN, and whether the connection is
// dead. The TCP state would not tell: that of a session that came home after its
// FIN is ESTABLISHED still, see tcprepair.State.FinReceived.
func ended(fd int) (fin, dead bool) {
	p := [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
	if _, err := unix.Poll(p[:], 0); err != nil {
		return false, err != unix.EINTR
	}
	return p[0].Revents&unix.POLLRDHUP != 0, p[0].Revents&(unix.POLLHUP|unix.POLLERR) != 0
}

// refuse answers with an error and closes, so that the client reads the answer:
// closing with unread bytes would reset the connection under it.
func (s *session) refuse(e *httphead.Error) {
	s.d.refused.Add(1)
	s.tell(Refused, "", e.Status)
	s.d.o.Log.Info("refused a request", "client", s.client, "service", s.service.Name, "status", e.Status, "reason", e.Reason)
	s.answer(e.Response())
}

const (
	lingerFor   = 2 * time.Second
	lingerBytes = 256 << 10
)

func (s *session) answer(response []byte) {
	until := time.Now().Add(lingerFor)
	if err := s.conn.SetDeadline(until); err != nil {
		return
	}
	if _, err := s.conn.Write(response); err != nil {
		return
	}
	if err := s.conn.CloseWrite(); err != nil {
		return
	}
	discard(s.conn, lingerBytes)
}

// discard reads until the client closes, the deadline is over, or max octets.
func discard(c *net.TCPConn, max int) {
	b := make([]byte, 8<<10)
	for max > 0 {
		n, err := c.Read(b)
		if err != nil {
			return
		}
		max -= n
	}
}
