package attach

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/shunt-sdn/shunt/internal/handoffproto"
)

// ListenerConfig says where applications connect.
type ListenerConfig struct {
	// Socket is the path of the Unix-domain socket. Its directory is made if it
	// is missing.
	Socket string
	// QueueBytes is the room for sessions that an application has not accepted
	// yet, in octets of kernel memory, about 800 for each; 0 means the
	// kernel's default, about 270 sessions.
	QueueBytes int
	// HelloTimeout is how long a process may take to introduce itself; 0 means
	// five seconds.
	HelloTimeout time.Duration
	// OnReady, if set, is called each time Ready changes, starting from false,
	// one call at a time, from a goroutine of the listener.
	OnReady func(ready bool)
	// Router, if set, is asked about each request but the first of a connection,
	// by applications that let connections go.
	Router Router
	// Answers, if set, hears how applications answer that tell it.
	Answers func(Answers)
	Log     *slog.Logger // nil means none
}

// Listener is the attachment that passes sockets to processes which use the
// package handoff. They come and go as they like; the sessions are theirs.
type Listener struct {
	cfg    ListenerConfig
	log    *slog.Logger
	socket *socketFile

	apps atomic.Pointer[[]*app] // those that said hello, in the order in which they came; written with mu held
	next atomic.Uint64          // whose turn it is

	done      chan struct{}   // closed, with mu held, by Close
	ctx       context.Context // of connections that move; ends with done
	cancel    context.CancelFunc
	moves     sync.WaitGroup // grows with mu held and done open only
	mu        sync.Mutex
	conns     map[*app]struct{} // all connections, also before hello; guarded by mu
	notifying sync.Mutex        // held while OnReady runs
	told      bool              // what OnReady was told last; guarded by notifying
	workers   sync.WaitGroup
}

// app is one connected process.
type app struct {
	conn *net.UnixConn
	raw  syscall.RawConn

	mu      sync.Mutex
	willing bool            // to let connections go; guarded by mu
	heeded  bool            // it was told to say how it answers; guarded by mu
	told    map[string]bool // by service, what it was told of it last; guarded by mu
	vacates map[string]bool // the same of idle connections; guarded by mu
}

var (
	_ Attachment = (*Listener)(nil)
	_ Vacater    = (*Listener)(nil)
)

// NewListener starts to listen for applications. The context bounds that only.
func NewListener(ctx context.Context, cfg ListenerConfig) (*Listener, error) {
	if cfg.Socket == "" {
		return nil, errors.New("listen for applications: no path for the socket is configured")
	}
	if cfg.HelloTimeout <= 0 {
		cfg.HelloTimeout = 5 * time.Second
	}
	s, err := bindSocket(ctx, cfg.Socket)
	if err != nil {
		return nil, err
	}
	l := &Listener{
		cfg:    cfg,
		log:    orDiscard(cfg.Log).With("socket", cfg.Socket),
		socket: s,
		done:   make(chan struct{}),
		conns:  make(map[*app]struct{}),
	}
	l.ctx, l.cancel = context.WithCancel(context.Background())
	l.apps.Store(&[]*app{})
	l.workers.Go(l.accept)
	return l, nil
}

// Ready implements Attachment: an application is connected.
func (l *Listener) Ready() bool { return len(*l.apps.Load()) > 0 }

// Attach implements Attachment. Applications have their turns; one whose queue
// is full is passed over. It does not wait for anything.
func (l *Listener) Attach(_ context.Context, fd int, m Meta) error {
	frame, err := handoffproto.Session(m).Append(make([]byte, 0, 256))
	if err != nil {
		return fmt.Errorf("attach session %s of %v: %w", m.ID, m.Client, err)
	}
	apps := *l.apps.Load()
	outcome := ErrNotReady
	turn := l.next.Add(1)
	for i := range uint64(len(apps)) {
		a := apps[(turn+i)%uint64(len(apps))]
		l.tell(a, m.Service)
		err := handoffproto.Send(a.raw, frame, fd)
		switch {
		case err == nil:
			// The application has a duplicate by now, also if the agent dies here.
			syscall.Close(fd)
			return nil
		case errors.Is(err, syscall.EAGAIN), errors.Is(err, syscall.ENOBUFS), errors.Is(err, syscall.ETOOMANYREFS):
			outcome = ErrBusy
		case errors.Is(err, syscall.EBADF) || errors.Is(err, syscall.EINVAL):
			return fmt.Errorf("attach session %s of %v: pass descriptor %d: %w", m.ID, m.Client, fd, err)
		default:
			// It is gone or takes no more; its goroutine notices as well.
			l.remove(a)
		}
	}
	if l.isClosed() {
		outcome = ErrClosed
	}
	return fmt.Errorf("attach session %s of %v by %s: %w", m.ID, m.Client, l.cfg.Socket, outcome)
}

func (l *Listener) accept() {
	for {
		c, err := l.socket.AcceptUnix()
		if err == nil {
			l.welcome(c)
			continue
		}
		if l.isClosed() {
			return
		}
		// Only a lack of descriptors or memory gets here.
		l.log.Error("an application cannot be accepted; raise the agent's limit of open files", "err", err)
		select {
		case <-time.After(100 * time.Millisecond):
		case <-l.done:
			return
		}
	}
}

func (l *Listener) isClosed() bool {
	select {
	case <-l.done:
		return true
	default:
		return false
	}
}

// welcome starts the goroutine of a new connection.
func (l *Listener) welcome(c *net.UnixConn) {
	raw, err := c.SyscallConn()
	if err == nil && l.cfg.QueueBytes > 0 {
		err = c.SetWriteBuffer(l.cfg.QueueBytes)
	}
	if err != nil {
		l.log.Error("an application cannot be served", "err", err)
		c.Close()
		return
	}
	a := &app{conn: c, raw: raw}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.isClosed() {
		c.Close()
		return
	}
	l.conns[a] = struct{}{}
	l.workers.Go(func() {
		l.serve(a)
		l.remove(a)
		l.notify()
	})
}

// serve waits for hello, then for the connection's end.
func (l *Listener) serve(a *app) {
	a.conn.SetReadDeadline(time.Now().Add(l.cfg.HelloTimeout))
	r := handoffproto.NewAgentReceiver()
	hello, err := receiveHello(r, a.conn)
	if err != nil {
		l.refuse(a, err)
		return
	}
	a.conn.SetReadDeadline(time.Time{})
	log := l.log.With("name", hello.Name, "pid", hello.PID)
	if !l.add(a) {
		return
	}
	log.Info("an application takes sessions")
	l.notify()
	if err := l.converse(a, r); !gone(err) {
		log.Warn("an application broke the protocol and is disconnected", "err", err)
		return
	}
	log.Info("an application takes no more sessions")
}

func receiveHello(r *handoffproto.Receiver, c *net.UnixConn) (handoffproto.Hello, error) {
	f, fd, err := r.Receive(c)
	if fd >= 0 {
		syscall.Close(fd)
	}
	if err != nil {
		return handoffproto.Hello{}, err
	}
	h, ok := f.(handoffproto.Hello)
	if !ok {
		return handoffproto.Hello{}, fmt.Errorf("its first frame is a %T", f)
	}
	return h, nil
}

// gone reports whether a connection ended, as opposed to being misused.
func gone(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, net.ErrClosed) || errors.Is(err, syscall.ECONNRESET)
}

func (l *Listener) refuse(a *app, err error) {
	if gone(err) {
		return // such as another agent that looks whether this one lives
	}
	l.log.Warn("a process connected but is no application of this agent", "err", err)
	if frame, ferr := (handoffproto.Refusal{Reason: err.Error()}).Append(nil); ferr == nil {
		handoffproto.Send(a.raw, frame, -1) // it may be gone; that is fine
	}
}

// add makes an application take part, unless the listener is closed.
func (l *Listener) add(a *app) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.isClosed() {
		return false
	}
	apps := append(slices.Clone(*l.apps.Load()), a)
	l.apps.Store(&apps)
	return true
}

// remove forgets and disconnects an application. What is in its queue stays
// there for it to read.
func (l *Listener) remove(a *app) {
	l.mu.Lock()
	apps := slices.DeleteFunc(slices.Clone(*l.apps.Load()), func(x *app) bool { return x == a })
	l.apps.Store(&apps)
	delete(l.conns, a)
	l.mu.Unlock()
	a.conn.Close()
}

func (l *Listener) notify() {
	if l.cfg.OnReady == nil {
		return
	}
	l.notifying.Lock()
	defer l.notifying.Unlock()
	if ready := l.Ready(); ready != l.told {
		l.told = ready
		l.cfg.OnReady(ready)
	}
}

// Shutdown implements Attachment. No session needs the agent, so it is Close.
func (l *Listener) Shutdown(context.Context) error { return l.Close() }

// Close implements Attachment: it removes the socket and disconnects the
// applications. They keep their sessions, also those that they have not
// accepted yet, and connect again when the next agent comes.
func (l *Listener) Close() error {
	l.mu.Lock()
	if l.isClosed() {
		l.mu.Unlock()
		l.workers.Wait()
		return nil
	}
	close(l.done)
	l.mu.Unlock()
	// Connections that cannot move any more still go back to their applications.
	l.cancel()
	l.moves.Wait()
	l.mu.Lock()
	err := l.socket.Close()
	for a := range l.conns {
		a.conn.Close()
	}
	l.mu.Unlock()
	l.workers.Wait()
	return err
}
