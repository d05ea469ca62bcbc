package handoff

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shunt-sdn/shunt/internal/handoffproto"
)

func TestAcceptReturnsTheConnectionThatWasHandedOver(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "::1"} {
		t.Run(host, func(t *testing.T) {
			a := newAgent(t, socketPath(t))
			l := listen(t, Options{Socket: a.path, Name: "webapp"})
			app := a.accept()
			if app.hello.Name != "webapp" || int(app.hello.PID) != os.Getpid() {
				t.Errorf("hello %+v", app.hello)
			}
			p := newPair(t, host)
			p.client.Write([]byte("sent before the hand-over,"))
			app.hand(p)
			p.client.Write([]byte("and after it"))
			p.client.CloseWrite()

			c := accept(t, l)
			if got := c.(*Conn).Session(); got != Session(p.session) {
				t.Errorf("Session %+v, want %+v", got, p.session)
			}
			if c.LocalAddr().String() != p.session.Local.String() || c.RemoteAddr().String() != p.session.Client.String() {
				t.Errorf("addresses %v %v, want %v %v", c.LocalAddr(), c.RemoteAddr(), p.session.Local, p.session.Client)
			}
			b, err := io.ReadAll(c)
			if string(b) != "sent before the hand-over,and after it" || err != nil {
				t.Errorf("read %q, %v", b, err)
			}
			io.WriteString(c, "reply")
			c.Close()
			if b, err := io.ReadAll(p.client); string(b) != "reply" || err != nil {
				t.Errorf("the client read %q, %v", b, err)
			}
		})
	}
}

func TestListenSaysWhatIsWrongWithThePath(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	stream := filepath.Join(dir, "stream")
	sl, err := net.Listen("unix", stream)
	if err != nil {
		t.Fatal(err)
	}
	defer sl.Close()
	for name, path := range map[string]string{
		"empty":           "",
		"below a file":    filepath.Join(file, "web.sock"),
		"too long":        "/" + strings.Repeat("x", 200),
		"a stream socket": stream,
	} {
		if l, err := Listen(context.Background(), Options{Socket: path}); err == nil {
			t.Errorf("%s: no error", name)
			l.Close()
		} else if path != "" && !strings.Contains(err.Error(), path) {
			t.Errorf("%s: the error does not name the path: %v", name, err)
		}
	}
}

func TestAgentMayStartLater(t *testing.T) {
	path := socketPath(t)
	l := listen(t, Options{Socket: path})
	got := accepting(t, l)
	a := newAgent(t, path)
	p := newPair(t, "127.0.0.1")
	a.accept().hand(p)
	wait(t, got).must(t)
}

func TestListenerConnectsAgainAfterTheAgentsEnd(t *testing.T) {
	path := socketPath(t)
	a := newAgent(t, path)
	l := listen(t, Options{Socket: path})
	app := a.accept()
	for i := range 5 {
		p := newPair(t, "127.0.0.1")
		app.hand(p)
		app.conn.Close() // with a session in the queue, as when the agent is killed
		a.l.Close()
		c := accept(t, l) // it is still there
		if c.RemoteAddr().String() != p.session.Client.String() {
			t.Errorf("round %d: got %v, want %v", i, c.RemoteAddr(), p.session.Client)
		}
		got := accepting(t, l)
		a = newAgent(t, path)
		app = a.accept()
		app.hand(newPair(t, "127.0.0.1"))
		wait(t, got).must(t)
	}
}

func direct(t testing.TB) net.Listener {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return l
}

func TestDirectConnectionsAreReturnedToo(t *testing.T) {
	a := newAgent(t, socketPath(t))
	d := direct(t)
	l := listen(t, Options{Socket: a.path, Direct: d})
	if l.Addr() != d.Addr() {
		t.Errorf("Addr %v, want Direct's %v", l.Addr(), d.Addr())
	}
	app := a.accept()
	for i := range 50 {
		got := accepting(t, l) // most times already waiting for the agent
		if i%3 == 0 {
			p := newPair(t, "127.0.0.1")
			app.hand(p)
			if _, ok := wait(t, got).must(t).(*Conn); !ok {
				t.Fatalf("%d: want a handed-over connection", i)
			}
			continue
		}
		c, err := net.Dial("tcp", d.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		if _, ok := wait(t, got).must(t).(*net.TCPConn); !ok {
			t.Fatalf("%d: want Direct's connection as it is", i)
		}
		c.Close()
	}
}

func TestDirectWorksWithoutAnAgent(t *testing.T) {
	d := direct(t)
	l := listen(t, Options{Socket: socketPath(t), Direct: d})
	for range 5 {
		got := accepting(t, l)
		c, err := net.Dial("tcp", d.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		wait(t, got).must(t)
		c.Close()
	}
}

type failing struct {
	net.Listener
	err error
}

func (f failing) Accept() (net.Conn, error) { return nil, f.err }

func TestDirectsErrorsArePassedOn(t *testing.T) {
	broken := errors.New("broken")
	l := listen(t, Options{Socket: socketPath(t), Direct: failing{direct(t), broken}})
	if _, err := l.Accept(); err != broken {
		t.Errorf("Accept: %v, want %v", err, broken)
	}
	temporary := &lostError{errors.New("for now")}
	l = listen(t, Options{Socket: socketPath(t), Direct: failing{direct(t), temporary}})
	for range 10 {
		if _, err := l.Accept(); err != temporary {
			t.Errorf("Accept: %v, want %v", err, temporary)
		}
	}
}

func TestMisbehavingAgentsAreLeftAndTriedAgain(t *testing.T) {
	long := make([]byte, handoffproto.MaxFrame+100)
	version := append([]byte("shnt"), 9, 2)
	for name, act := range map[string]func(a *app){
		"refusal":       func(a *app) { a.send(handoffproto.Refusal{Reason: "not today"}, -1) },
		"hello":         func(a *app) { a.send(handoffproto.Hello{}, -1) },
		"garbage":       func(a *app) { a.conn.Write([]byte("garbage")) },
		"long frame":    func(a *app) { a.conn.Write(long) },
		"other version": func(a *app) { a.conn.Write(version) },
		"closes":        func(a *app) { a.conn.Close() },
		"hello with descriptor": func(a *app) {
			a.send(handoffproto.Hello{}, int(os.Stdin.Fd()))
		},
	} {
		t.Run(name, func(t *testing.T) {
			a := newAgent(t, socketPath(t))
			l := listen(t, Options{Socket: a.path})
			before := 0
			got := accepting(t, l)
			for i := range 4 {
				act(a.accept())
				if i == 1 {
					before = descriptors(t)
				}
			}
			p := newPair(t, "127.0.0.1")
			a.accept().hand(p)
			wait(t, got).must(t)
			if after := descriptors(t); after > before+8 {
				t.Errorf("descriptors grew from %d to %d", before, after)
			}
		})
	}
}

func TestASessionWithoutItsDescriptorIsATemporaryError(t *testing.T) {
	a := newAgent(t, socketPath(t))
	l := listen(t, Options{Socket: a.path})
	app := a.accept()
	p := newPair(t, "127.0.0.1")
	check := func(what string) {
		t.Helper()
		_, err := l.Accept()
		var ne net.Error
		//lint:ignore SA1019 what net/http.Server goes by when Accept fails
		if !errors.As(err, &ne) || !ne.Temporary() || ne.Timeout() {
			t.Errorf("%s: %v, want a temporary error", what, err)
		}
	}
	app.send(p.session, -1)
	check("no descriptor")
	f, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	app.send(p.session, int(f.Fd()))
	check("not a socket")
	app.send(p.session, int(p.file.Fd()))
	accept(t, l) // and goes on
}

func TestNothingLeaks(t *testing.T) {
	a := newAgent(t, socketPath(t))
	before := descriptors(t)
	for range 3 {
		l, err := Listen(context.Background(), Options{Socket: a.path, Direct: direct(t)})
		if err != nil {
			t.Fatal(err)
		}
		app := a.accept()
		for range 20 {
			p := newPair(t, "127.0.0.1")
			app.hand(p)
			accept(t, l).Close()
			p.client.Close()
		}
		l.Close()
		if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("Accept: %v", err)
		}
		app.conn.Close()
	}
	until(t, fmt.Sprintf("%d descriptors as before", before), func() bool { return descriptors(t) <= before })
}

func TestDelaysGrowToTheirLimit(t *testing.T) {
	var b backoff
	for want := minDelay; want < 4*maxDelay; want *= 2 {
		w := min(want, maxDelay)
		if d := b.next(); d < w/2 || d > w {
			t.Errorf("delay %v, want between %v and %v", d, w/2, w)
		}
	}
	b = 1 << 40
	if d := b.next(); d < maxDelay/2 || d > maxDelay {
		t.Errorf("after many attempts: %v", d)
	}
}

// From the agent's sendmsg to Accept's return, with the round trip of a wake-up.
func BenchmarkAccept(b *testing.B) {
	a := newAgent(b, socketPath(b))
	l := listen(b, Options{Socket: a.path})
	app := a.accept()
	p := newPair(b, "127.0.0.1")
	b.ReportAllocs()
	for b.Loop() {
		if err := app.send(p.session, int(p.file.Fd())); err != nil {
			b.Fatal(err)
		}
		c, err := l.Accept()
		if err != nil {
			b.Fatal(err)
		}
		c.Close()
	}
}
