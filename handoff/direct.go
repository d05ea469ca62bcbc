package handoff

import "net"

// accepted is what Direct's Accept returned.
type accepted struct {
	conn net.Conn
	err  error
}

// acceptDirect passes on what Direct accepts, until it fails for good.
func (l *Listener) acceptDirect() {
	defer close(l.directDone)
	for {
		c, err := l.opt.Direct.Accept()
		if err != nil && l.isClosing() {
			return
		}
		select {
		case l.direct <- accepted{c, err}:
			l.wake()
		case <-l.abandoned:
			if c != nil {
				c.Close()
			}
			return
		}
		if t, ok := err.(interface{ Temporary() bool }); err != nil && (!ok || !t.Temporary()) {
			return
		}
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
	l.abandon.Stop()
	l.mu.Unlock()
	return nil, l.errClosed()
}

// giveUp resets what nobody accepted after Close.
func (l *Listener) giveUp() {
	close(l.abandoned)
	l.disconnect()
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
