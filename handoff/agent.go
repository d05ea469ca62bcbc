package handoff

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/shunt-sdn/shunt/internal/handoffproto"
)

// connect makes one attempt to reach the agent and says hello.
func (l *Listener) connect(ctx context.Context) error {
	c, err := (&net.Dialer{}).DialContext(ctx, handoffproto.Network, l.opt.Socket)
	if err != nil {
		return fmt.Errorf("handoff: connect to the agent: %w; is it running, with this application and this socket in its configuration?", err)
	}
	agent := c.(*net.UnixConn)
	for _, f := range []handoffproto.Frame{handoffproto.Hello{PID: uint32(os.Getpid()), Name: l.opt.Name}, handoffproto.Willing{}, handoffproto.Willing{}} {
		var frame []byte
		if frame, err = f.Append(nil); err == nil {
			_, err = agent.Write(frame) // the first frames fit into the buffer: it does not wait
		}
		if err != nil {
			break
		}
	}
	if err != nil {
		agent.Close()
		return fmt.Errorf("handoff: introduce this program to the agent at %s: %w", l.opt.Socket, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.isClosing() {
		agent.Close()
		return l.errClosed()
	}
	l.agent, l.since = agent, time.Now()
	return nil
}

// permanent reports whether an error will not go away when the agent starts.
func permanent(err error) bool {
	return errors.Is(err, syscall.EACCES) || errors.Is(err, syscall.EPERM) ||
		errors.Is(err, syscall.EPROTOTYPE) || errors.Is(err, syscall.ENOTSOCK) ||
		errors.Is(err, syscall.EINVAL) || errors.Is(err, syscall.ENAMETOOLONG) || errors.Is(err, syscall.ENOTDIR)
}

// connectFirst is connect with patience for an agent that is just starting: its
// socket may not have its final permissions yet.
func (l *Listener) connectFirst(ctx context.Context) error {
	for attempt := 1; ; attempt++ {
		err := l.connect(ctx)
		if !errors.Is(err, syscall.EACCES) || attempt == 5 {
			return err
		}
		select {
		case <-time.After(minDelay << attempt):
		case <-ctx.Done():
			return err
		}
	}
}

// current returns the connection to the agent, nil while there is none.
func (l *Listener) current() *net.UnixConn {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.agent
}

// disconnect closes the connection to the agent. The kernel closes the
// sockets of sessions that are still in its queue.
func (l *Listener) disconnect() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.agent != nil {
		l.agent.Close()
		l.agent = nil
	}
}

// wake interrupts whoever waits in receive.
func (l *Listener) wake() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.agent != nil {
		l.agent.SetReadDeadline(time.Unix(1, 0))
	}
}

// reconnect waits for its time and tries once. It returns early when the
// listener is closed, or with a connection of Direct. The caller has the turn.
func (l *Listener) reconnect() (a accepted, ok bool) {
	t := time.NewTimer(l.backoff.next())
	defer t.Stop()
	select {
	case a = <-l.direct:
		return a, true
	case <-l.closing:
		return a, false
	case <-t.C:
	}
	// Connecting to a Unix-domain socket succeeds or fails at once.
	err := l.connect(context.Background())
	switch {
	case err == nil:
		l.log.Info("connected to the agent")
	case permanent(err):
		l.log.Warn("the agent cannot be reached; trying again", "err", err)
	case !l.isClosing():
		l.log.Debug("no agent yet", "err", err)
	}
	return a, false
}

// lost takes note that the connection to the agent is gone. The caller has the turn.
func (l *Listener) lost(err error) {
	if !l.isClosing() {
		l.log.Warn("the connection to the agent ended; connecting again", "err", err)
	}
	// A connection that served for a while was a success; the next attempt
	// comes soon. An agent that hangs up at once is left in peace for longer.
	if time.Since(l.since) > maxDelay {
		l.backoff = 0
	}
	l.disconnect()
	l.unanswered()
}

// backoff counts attempts to connect since the last success.
type backoff int

const (
	minDelay = 10 * time.Millisecond
	maxDelay = time.Second
)

// next returns how long to wait before the next attempt: between half and all of
// a time that doubles from minDelay to maxDelay, so that the processes of a
// node do not come all at once.
func (b *backoff) next() time.Duration {
	d := min(minDelay<<min(int(*b), 10), maxDelay)
	*b++
	return d/2 + rand.N(d/2+1)
}
