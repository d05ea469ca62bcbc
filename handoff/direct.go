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
