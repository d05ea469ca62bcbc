package handoff

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/shunt-sdn/shunt/internal/handoffproto"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 10 * time.Second

// until waits for a condition.
func until(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !cond(); {
		if time.Now().After(deadline) {
			t.Fatalf("still not: %s", what)
		}
		<-time.After(time.Millisecond)
	}
}

// agent is the other side of the protocol.
type agent struct {
	t    testing.TB
	path string
	l    *net.UnixListener
}

func newAgent(t testing.TB, path string) *agent {
	t.Helper()
	os.Remove(path)
	l, err := net.ListenUnix(handoffproto.Network, &net.UnixAddr{Name: path, Net: handoffproto.Network})
	if err != nil {
		t.Fatal(err)
	}
	a := &agent{t: t, path: path, l: l}
	t.Cleanup(func() { l.Close() })
	return a
}

func socketPath(t testing.TB) string { return filepath.Join(t.TempDir(), "web.sock") }

// app is a connected application, seen from the agent.
type app struct {
	t     testing.TB
	conn  *net.UnixConn
	hello handoffproto.Hello
}

func (a *agent) accept() *app {
	a.t.Helper()
	a.l.SetDeadline(time.Now().Add(patience))
	c, err := a.l.AcceptUnix()
	if err != nil {
		a.t.Fatalf("no application connects: %v", err)
	}
	a.t.Cleanup(func() { c.Close() })
	var r handoffproto.Receiver
	c.SetReadDeadline(time.Now().Add(patience))
	f, _, err := r.Receive(c)
	hello, ok := f.(handoffproto.Hello)
	if !ok {
		a.t.Fatalf("the first frame is %T, error %v", f, err)
	}
	for range 2 {
		if f, _, err := r.Receive(c); f != (handoffproto.Willing{}) {
			a.t.Fatalf("the next frame is %T, error %v", f, err)
		}
	}
	c.SetReadDeadline(time.Time{})
	return &app{t: a.t, conn: c, hello: hello}
}

func (a *app) send(f handoffproto.Frame, fd int) error {
	b, err := f.Append(nil)
	if err != nil {
		a.t.Fatal(err)
	}
	raw, err := a.conn.SyscallConn()
	if err != nil {
		return err
	}
	return handoffproto.Send(raw, b, fd)
}

// pair is a client and the descriptor of the connection's other end.
type pair struct {
	client  *net.TCPConn
	session handoffproto.Session
	file    *os.File
}

func newPair(t testing.TB, host string) pair {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	f, err := s.(*net.TCPConn).File()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { f.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return pair{c.(*net.TCPConn), handoffproto.Session{
		ID:      "h1",
		Service: "web",
		Client:  netip.MustParseAddrPort(c.LocalAddr().String()),
		Local:   netip.MustParseAddrPort(c.RemoteAddr().String()),
		VIP:     netip.MustParseAddrPort("10.10.0.80:80"),
	}, f}
}

// hand gives the connection to the application; the test keeps no copy.
func (a *app) hand(p pair) {
	a.t.Helper()
	if err := a.send(p.session, int(p.file.Fd())); err != nil {
		a.t.Fatalf("hand over: %v", err)
	}
	p.file.Close()
}

func listen(t testing.TB, opt Options) *Listener {
	t.Helper()
	l, err := Listen(context.Background(), opt)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		l.Close()
		for {
			c, err := l.Accept()
			if errors.Is(err, net.ErrClosed) {
				return
			}
			if c != nil {
				c.Close()
			}
		}
	})
	return l
}

// arrival is what an Accept that runs on its own returned.
type arrival struct {
	conn net.Conn
	err  error
}

func accepting(t testing.TB, l net.Listener) <-chan arrival {
	ch := make(chan arrival, 1)
	var wg sync.WaitGroup
	wg.Go(func() {
		c, err := l.Accept()
		ch <- arrival{c, err}
	})
	return ch
}

func (a arrival) must(t testing.TB) net.Conn {
	t.Helper()
	if a.err != nil {
		t.Fatalf("Accept: %v", a.err)
	}
	t.Cleanup(func() { a.conn.Close() })
	return a.conn
}

func accept(t testing.TB, l net.Listener) net.Conn {
	t.Helper()
	return wait(t, accepting(t, l)).must(t)
}

func wait[T any](t testing.TB, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(patience):
		t.Fatal("nothing happens")
		panic("unreachable")
	}
}

func descriptors(t testing.TB) int {
	t.Helper()
	d, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(d)
}

func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}
