package dispatcher

import (
	"context"
	"fmt"
	"net"
	"os"
	"syscall"

	"github.com/shunt-sdn/shunt/agent/attach"
)

// Returned is the attachment of sessions that come home: a server gives one back
// whose next request the dispatcher has to decide on. They are dispatched as if
// they had just been accepted.
func (d *Dispatcher) Returned() attach.Attachment { return returned{d} }

type returned struct{ d *Dispatcher }

// Ready implements attach.Attachment.
func (r returned) Ready() bool { return r.d.ctx.Err() == nil }

// Attach implements attach.Attachment.
func (r returned) Attach(_ context.Context, fd int, m attach.Meta) error {
	d := r.d
	d.mu.Lock()
	l := d.listeners[m.Local]
	d.mu.Unlock()
	if l == nil {
		return fmt.Errorf("%w: %v is not dispatched here any more", attach.ErrNotReady, m.Local)
	}
	copied, err := syscall.Dup(fd)
	if err != nil {
		return fmt.Errorf("duplicate the session's socket: %w", err)
	}
	syscall.CloseOnExec(copied)
	f := os.NewFile(uintptr(copied), "session")
	c, err := net.FileConn(f) // makes another copy
	f.Close()
	if err != nil {
		return fmt.Errorf("take over the session's socket: %w", err)
	}
	s := newSession(d, l.service.Load(), c.(*net.TCPConn))
	if !d.enter(s) {
		c.Close() // a copy
		return attach.ErrClosed
	}
	syscall.Close(fd)
	d.workers.Go(func() {
		defer d.leave(s)
		s.run()
	})
	return nil
}

// Shutdown implements attach.Attachment: the sessions are the dispatcher's.
func (r returned) Shutdown(context.Context) error { return nil }

// Close implements attach.Attachment.
func (r returned) Close() error { return nil }
