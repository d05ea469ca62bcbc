package handoff

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/shunt-sdn/shunt/internal/handoffproto"
)

// receive returns the next connection, from either source. The caller has the turn.
//
// A connection of Direct, or Close, interrupts it by a deadline on the agent's
// connection that has passed (wake). Each is announced first and then wakes, and
// receive looks for both after it has taken the deadline away: so none is missed.
func (l *Listener) receive() (net.Conn, error) {
	resets := 0
	for {
		select {
		case a := <-l.direct:
			return a.conn, a.err
		default:
		}
		agent := l.current()
		if agent == nil {
			if l.isClosing() {
				return l.last()
			}
			if a, ok := l.reconnect(); ok {
				return a.conn, a.err
			}
			continue
		}
		f, fd, err := l.receiver.Receive(agent)
		switch {
		case err == nil:
			if c, err := l.take(f, fd); c != nil || err != nil {
				return c, err
			}
		case errors.Is(err, os.ErrDeadlineExceeded):
			agent.SetReadDeadline(time.Time{})
		case errors.Is(err, handoffproto.ErrDescriptorLost):
			return nil, &lostError{fmt.Errorf("handoff: %w", err)}
		case errors.Is(err, syscall.ECONNRESET) && resets == 0:
			// The kernel says this once, before what is still in the queue.
			resets++
		default:
			l.lost(err)
		}
	}
}

// take makes a connection of a session. Any other frame disconnects.
func (l *Listener) take(f handoffproto.Frame, fd int) (net.Conn, error) {
	switch f := f.(type) {
	case handoffproto.Session:
		c, err := l.newConn(f, fd)
		if err != nil {
			return nil, &lostError{err}
		}
		l.backoff = 0
		return c, nil
	case handoffproto.PerRequest:
		l.questions.mu.Lock()
		l.questions.perRequest[f.Service] = f.On
		l.questions.mu.Unlock()
		return nil, closeUnwanted(fd)
	case handoffproto.Vacate:
		l.vacancies.set(f.Service, f.On)
		return nil, closeUnwanted(fd)
	case handoffproto.Answer:
		l.answered(f)
		return nil, closeUnwanted(fd)
	case handoffproto.Heed:
		l.answers.heeded.Store(!l.isClosing())
		return nil, closeUnwanted(fd)
	case handoffproto.Refusal:
		l.log.Error("the agent refuses to work with this program", "reason", f.Reason)
	default:
		l.log.Error("the agent broke the protocol", "frame", fmt.Sprintf("%T", f))
	}
	closeUnwanted(fd)
	l.lost(errors.New("refused"))
	return nil, nil
}

// closeUnwanted closes a descriptor that came with a frame that has none.
func closeUnwanted(fd int) error {
	if fd >= 0 {
		syscall.Close(fd)
	}
	return nil
}
