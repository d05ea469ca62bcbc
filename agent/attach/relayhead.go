package attach

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shunt-sdn/shunt/agent/httphead"
	"github.com/shunt-sdn/shunt/agent/tcprepair"
)

// head is a request's head that is complete and still in the socket's queue.
type head struct {
	httphead.Head
	octets []byte
	buf    *[]byte // what they are in; nil: another's
}

var heads = sync.Pool{New: func() any { b := make([]byte, 2*firstLook); return &b }}

// release gives back the buffer; octets must not be used afterwards.
func (h *head) release() {
	if h.buf != nil {
		heads.Put(h.buf)
		h.buf = nil
	}
}

// head waits until the head that begins with b is complete. One that never will
// be, or is not valid, is answered; the error is then that of refuse.
func (c *conversation) head(b []byte) (h head, err error) {
	c.parser.Reset()
	var done bool
	if h.Head, done, err = c.parser.Parse(b); done {
		h.octets = b[:h.Length]
		return h, nil
	}
	p := headPeeker{max: c.maxHead, parser: c.parser, head: head{buf: heads.Get().(*[]byte)}}
	if err == nil {
		if err = c.peek(&p); err == nil {
			p.octets = (*p.buf)[:p.Length]
			return p.head, nil
		}
	}
	p.release()
	var refusal *httphead.Error
	if errors.As(err, &refusal) {
		err = c.refuse(refusal)
	}
	return head{}, err
}

func (c *conversation) peek(p *headPeeker) error {
	// Mostly it is here already, and a deadline not worth its cost.
	var whole bool
	if err := c.fromClient.raw.Control(func(fd uintptr) { whole = p.attempt(fd) }); err != nil {
		return err
	}
	if !whole {
		c.client.SetReadDeadline(time.Now().Add(c.headTimeout))
		if c.failed.Load() { // the deadline may have replaced that of interrupt
			return os.ErrDeadlineExceeded
		}
		err := c.fromClient.raw.Read(p.attempt)
		if c.failed.Load() {
			return os.ErrDeadlineExceeded
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			return &httphead.Error{Status: 408, Reason: fmt.Sprintf("the request head was not complete within %v", c.headTimeout)}
		}
		if err != nil {
			return err
		}
		c.rearm()
	}
	return p.err
}

// headPeeker looks at a socket's queue until a head is complete.
type headPeeker struct {
	head
	max    int
	parser *httphead.Parser
	seen   int
	err    error
}

// attempt is for RawConn.Read: it reports false to wait for more.
func (p *headPeeker) attempt(fd uintptr) bool {
	for {
		b := *p.buf
		n, _, err := unix.Recvfrom(int(fd), b, unix.MSG_PEEK|unix.MSG_DONTWAIT)
		switch {
		case err == unix.EINTR:
			continue
		case err == unix.EAGAIN:
			return false
		case err != nil:
			p.err = fmt.Errorf("peek: %w", err)
			return true
		case n == 0:
			p.err = io.EOF
			return true
		}
		if n == len(b) && n <= p.max {
			*p.buf = make([]byte, min(4*len(b), p.max+1))
			continue
		}
		var done bool
		p.Head, done, p.err = p.parser.Parse(b[:n])
		if done || p.err != nil {
			return true
		}
		// New octets wake this up again, and so does a FIN: then what is here is
		// all there will ever be.
		ended := readEnded(int(fd))
		if ended && n == p.seen {
			p.err = &httphead.Error{Status: http.StatusBadRequest, Reason: "the connection ends within the request's head"}
			if state, err := tcprepair.TCPState(int(fd)); err != nil || state == tcprepair.StateClose {
				p.err = fmt.Errorf("peek: %w", unix.ECONNRESET)
			}
			return true
		}
		p.seen = n
		if !ended {
			return false
		}
	}
}

// readEnded reports whether the client will send no more than what is in the
// queue. The connection's TCP state does not tell: one that was moved after the
// client's FIN is in another.
func readEnded(fd int) bool {
	p := [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLRDHUP}}
	for {
		_, err := unix.Poll(p[:], 0)
		if err != unix.EINTR {
			return err != nil || p[0].Revents != 0
		}
	}
}
