package handoff

import (
	"context"
	"fmt"
	"net"
	"time"
)

// linger is how long after Close sessions wait for Accept.
const linger = 5 * time.Second

// Close takes no more connections, closes Direct and returns its error. Accept
// returns what had been handed over before, then net.ErrClosed. Connections
// that were accepted are not touched.
func (l *Listener) Close() error {
	l.closeOnce.Do(func() {
		l.mu.Lock()
		close(l.closing)
		l.abandon = time.AfterFunc(linger, l.giveUp)
		if l.agent != nil {
			// From here on the agent cannot send, and knows it. Accept reads
			// what is in the queue and then finds its end.
			l.agent.CloseRead()
			l.agent.CloseWrite()
		}
		l.mu.Unlock()
		l.unheeded()
		if l.opt.Direct != nil {
			l.closeErr = l.opt.Direct.Close()
		}
		l.wake()
	})
	return l.closeErr
}

// Drain closes the listener and waits until every connection that was handed
// over was accepted and then answered, with the first octet, or closed. It
// returns the error of Close, or ctx's if that ends first.
//
// Call it before http.Server.Shutdown, which closes connections whose request
// it has not read yet. Serve then returns net.ErrClosed. Connections of Direct
// are Shutdown's alone.
func (l *Listener) Drain(ctx context.Context) error {
	err := l.Close()
	select {
	case <-l.drained:
		return err
	case <-ctx.Done():
		l.mu.Lock()
		defer l.mu.Unlock()
		return fmt.Errorf("handoff: drain %s: %d connections wait for an answer: %w", l.opt.Socket, l.waiting, ctx.Err())
	}
}

// countWaiting counts connections that Drain waits for.
func (l *Listener) countWaiting(change int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.waiting += change
	l.checkDrained()
}

// setEmpty takes note that Accept has nothing left. mu is held.
func (l *Listener) setEmpty() {
	l.empty = true
	l.checkDrained()
}

// checkDrained is called with mu held.
func (l *Listener) checkDrained() {
	if !l.empty || l.waiting > 0 {
		return
	}
	select {
	case <-l.drained: // a connection came while giveUp ran
	default:
		close(l.drained)
	}
}

// last returns what Direct accepted before Close, then net.ErrClosed. Nothing
// is left of the agent's.
func (l *Listener) last() (net.Conn, error) {
	if l.direct != nil {
		select {
		case a := <-l.direct:
			return a.conn, a.err
		case <-l.directDone:
		}
		select {
		case a := <-l.direct:
			return a.conn, a.err
		default:
		}
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.abandon.Stop()
	l.setEmpty()
	return nil, l.errClosed()
}

// giveUp resets what nobody accepted after Close.
func (l *Listener) giveUp() {
	close(l.abandoned)
	l.disconnect()
	l.mu.Lock()
	l.setEmpty()
	l.mu.Unlock()
	if l.direct == nil {
		return
	}
	<-l.directDone
	select {
	case a := <-l.direct:
		if a.conn != nil {
			a.conn.Close()
		}
	default:
	}
}
