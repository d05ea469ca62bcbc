package attach

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/shunt-sdn/shunt/handoff"
	"github.com/shunt-sdn/shunt/internal/handoffproto"
)

func newListener(t testing.TB, cfg ListenerConfig) *Listener {
	t.Helper()
	if cfg.Socket == "" {
		cfg.Socket = socketPath(t)
	}
	l, err := NewListener(background(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	closed(t, l)
	return l
}

// application connects with the real package; the test accepts for it.
func application(t testing.TB, path string) *handoff.Listener {
	t.Helper()
	h, err := handoff.Listen(background(), handoff.Options{Socket: path})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { stop(h) })
	return h
}

// stop closes an application's listener and what is left in its queue.
func stop(h *handoff.Listener) {
	h.Close()
	for {
		c, err := h.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err == nil {
			c.Close()
		}
	}
}

func connected(t testing.TB, l *Listener, n int) {
	t.Helper()
	until(t, fmt.Sprint(n, " applications are connected"), func() bool { return len(*l.apps.Load()) == n })
}

func TestASessionGoesToTheApplication(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "::1"} {
		t.Run(host, func(t *testing.T) {
			l := newListener(t, ListenerConfig{})
			if l.Ready() {
				t.Error("ready without an application")
			}
			h := application(t, l.cfg.Socket)
			connected(t, l, 1)
			if !l.Ready() {
				t.Error("not ready with an application")
			}
			client, fd, m := session(t, host)
			if err := l.Attach(background(), fd, m); err != nil {
				t.Fatal(err)
			}
			if open(fd) {
				t.Error("the agent's descriptor is still open")
			}
			c, err := h.Accept()
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			if got := c.(*handoff.Conn).Session(); got != handoff.Session(m) {
				t.Errorf("the application hears %+v, want %+v", got, m)
			}
			go io.Copy(c, c)
			exchange(t, client)
			// The session does not need the agent.
			l.Close()
			exchange(t, client)
			client.CloseWrite()
		})
	}
}

func TestAttachWithoutAnApplicationLeavesTheDescriptorAlone(t *testing.T) {
	l := newListener(t, ListenerConfig{})
	_, fd, m := session(t, "127.0.0.1")
	defer syscall.Close(fd)
	if err := l.Attach(background(), fd, m); !errors.Is(err, ErrNotReady) || !strings.Contains(err.Error(), l.cfg.Socket) {
		t.Errorf("nobody there: %v", err)
	}
	h := application(t, l.cfg.Socket)
	connected(t, l, 1)
	m.Service = strings.Repeat("x", 300)
	if err := l.Attach(background(), fd, m); err == nil {
		t.Error("a service's name of 300 octets: no error")
	}
	m.Service = "web"
	if err := l.Attach(background(), 1<<20, m); err == nil || !l.Ready() {
		t.Errorf("a descriptor that is none: error %v, ready %v", err, l.Ready())
	}
	h.Close()
	connected(t, l, 0)
	if err := l.Attach(background(), fd, m); !errors.Is(err, ErrNotReady) {
		t.Errorf("the application left: %v", err)
	}
	l.Close()
	if err := l.Attach(background(), fd, m); !errors.Is(err, ErrClosed) {
		t.Errorf("closed: %v", err)
	}
	if !open(fd) {
		t.Error("the descriptor was closed")
	}
}

func TestApplicationsHaveTheirTurns(t *testing.T) {
	l := newListener(t, ListenerConfig{})
	const apps, rounds = 3, 10
	var got [apps]atomic.Int64
	var wg sync.WaitGroup
	var hs []*handoff.Listener
	for i := range apps {
		h := application(t, l.cfg.Socket)
		hs = append(hs, h)
		wg.Go(func() {
			for {
				c, err := h.Accept()
				if err != nil {
					return
				}
				got[i].Add(1)
				c.Close()
			}
		})
	}
	connected(t, l, apps)
	for range apps * rounds {
		_, fd, m := session(t, "127.0.0.1")
		if err := l.Attach(background(), fd, m); err != nil {
			t.Fatal(err)
		}
	}
	for i := range got {
		until(t, fmt.Sprint("application ", i, " has its share"), func() bool { return got[i].Load() == rounds })
	}
	for _, h := range hs {
		h.Close()
	}
	wg.Wait()
}

func TestAFullQueueIsPassedOverThenBusy(t *testing.T) {
	l := newListener(t, ListenerConfig{QueueBytes: 1})
	first := application(t, l.cfg.Socket)
	connected(t, l, 1)
	client, fd, m := session(t, "127.0.0.1")
	fill := func() (n int) {
		for ; n < 1000; n++ {
			// The same socket again and again: each frame carries a duplicate.
			dup, err := syscall.Dup(fd)
			if err != nil {
				t.Fatal(err)
			}
			if err := l.Attach(background(), dup, m); err != nil {
				if !errors.Is(err, ErrBusy) || !open(dup) {
					t.Fatalf("after %d: error %v, descriptor open %v", n, err, open(dup))
				}
				syscall.Close(dup)
				return n
			}
		}
		t.Fatal("the queue is never full")
		return 0
	}
	one := fill()
	second := application(t, l.cfg.Socket)
	connected(t, l, 2)
	if n := fill(); n != one {
		t.Errorf("a second application takes %d, the first took %d", n, one)
	}
	if !l.Ready() {
		t.Error("busy applications are still connected")
	}
	for _, h := range []*handoff.Listener{first, second} {
		for range one {
			c, err := h.Accept()
			if err != nil {
				t.Fatal(err)
			}
			c.Close()
		}
	}
	// With room again it goes on; then the last owner's close reaches the client.
	if err := l.Attach(background(), fd, m); err != nil {
		t.Errorf("with room again: %v", err)
	}
	go stop(first)
	go stop(second)
	if _, err := client.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the client reads %v, want EOF: descriptors are left over", err)
	}
}

func TestReadinessIsTold(t *testing.T) {
	told := make(chan bool, 10)
	l := newListener(t, ListenerConfig{OnReady: func(ready bool) { told <- ready }})
	h := application(t, l.cfg.Socket)
	if !wait(t, told) {
		t.Error("the first news is not ready")
	}
	h2 := application(t, l.cfg.Socket)
	connected(t, l, 2)
	h.Close()
	connected(t, l, 1)
	h2.Close()
	if wait(t, told) {
		t.Error("no news that the last one left")
	}
	application(t, l.cfg.Socket)
	if !wait(t, told) {
		t.Error("no news that another came")
	}
	l.Close()
	if wait(t, told) || len(told) != 0 {
		t.Error("wrong news of the end")
	}
}

func TestProcessesThatAreNoApplicationsAreRefused(t *testing.T) {
	l := newListener(t, ListenerConfig{HelloTimeout: 50 * time.Millisecond})
	null, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	hello, _ := handoffproto.Hello{Name: "x"}.Append(nil)
	refusal, _ := handoffproto.Refusal{}.Append(nil)
	send := func(c *net.UnixConn, b []byte, fd int) {
		raw, _ := c.SyscallConn()
		handoffproto.Send(raw, b, fd)
	}
	for name, act := range map[string]func(c *net.UnixConn){
		"silence":               func(*net.UnixConn) {},
		"garbage":               func(c *net.UnixConn) { c.Write([]byte("GET / HTTP/1.1\r\n\r\n")) },
		"long frame":            func(c *net.UnixConn) { c.Write(make([]byte, 5000)) },
		"other version":         func(c *net.UnixConn) { c.Write([]byte("shnt\x09\x01")) },
		"wrong frame":           func(c *net.UnixConn) { c.Write(refusal) },
		"descriptor":            func(c *net.UnixConn) { send(c, refusal, int(null.Fd())) },
		"hello, then more":      func(c *net.UnixConn) { c.Write(hello); c.Write(hello) },
		"hello, descriptor":     func(c *net.UnixConn) { c.Write(hello); send(c, hello, int(null.Fd())) },
		"closes before hello":   func(c *net.UnixConn) { c.Close() },
		"shuts its reading end": func(c *net.UnixConn) { c.Write(hello); c.CloseRead(); c.CloseWrite() },
	} {
		t.Run(name, func(t *testing.T) {
			before := descriptors(t)
			c, err := net.DialUnix(handoffproto.Network, nil, &net.UnixAddr{Name: l.cfg.Socket, Net: handoffproto.Network})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			act(c)
			c.SetReadDeadline(time.Now().Add(patience))
			var r handoffproto.Receiver
			f, _, err := r.Receive(c)
			for err == nil {
				if _, ok := f.(handoffproto.Refusal); !ok {
					t.Errorf("got %T %+v", f, f)
				}
				f, _, err = r.Receive(c)
			}
			if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error("still connected")
			}
			c.Close()
			connected(t, l, 0)
			until(t, "all descriptors are closed", func() bool { return descriptors(t) <= before })
		})
	}
	application(t, l.cfg.Socket) // and still works
	connected(t, l, 1)
}

func TestAnotherVersionIsToldSo(t *testing.T) {
	l := newListener(t, ListenerConfig{})
	c, err := net.DialUnix(handoffproto.Network, nil, &net.UnixAddr{Name: l.cfg.Socket, Net: handoffproto.Network})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.Write([]byte("shnt\x09\x01"))
	var r handoffproto.Receiver
	f, _, err := r.Receive(c)
	if got, ok := f.(handoffproto.Refusal); !ok || !strings.Contains(got.Reason, "version 9") {
		t.Errorf("got %+v, %v", f, err)
	}
}

func TestAnApplicationFindsTheNextAgent(t *testing.T) {
	path := socketPath(t)
	h := application(t, path) // started first
	accepted := make(chan net.Conn, 10)
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			c, err := h.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	})
	for range 3 {
		l := newListener(t, ListenerConfig{Socket: path})
		connected(t, l, 1)
		client, fd, m := session(t, "127.0.0.1")
		if err := l.Attach(background(), fd, m); err != nil {
			t.Fatal(err)
		}
		l.Close()
		if l.Ready() {
			t.Error("ready after Close")
		}
		c := wait(t, accepted)
		go func() { io.Copy(c, c); c.Close() }()
		exchange(t, client)
		client.CloseWrite()
		io.Copy(io.Discard, client)
	}
	h.Close()
	wg.Wait()
}

func TestSocketFile(t *testing.T) {
	t.Run("has the owner's and group's permissions whatever the umask", func(t *testing.T) {
		for _, umask := range []int{0, 0o077} {
			old := syscall.Umask(umask)
			l := newListener(t, ListenerConfig{})
			syscall.Umask(old)
			info, err := os.Stat(l.cfg.Socket)
			if err != nil || info.Mode() != os.ModeSocket|0o660 {
				t.Errorf("umask %o: mode %v, error %v", umask, info.Mode(), err)
			}
		}
	})
	t.Run("goes away with its listener, and its directory is made", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "new", "web.sock")
		l := newListener(t, ListenerConfig{Socket: path})
		l.Close()
		if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("after Close: %v", err)
		}
		l.Close()
	})
	t.Run("of a crashed agent is replaced", func(t *testing.T) {
		path := socketPath(t)
		old, err := net.ListenUnix(handoffproto.Network, &net.UnixAddr{Name: path, Net: handoffproto.Network})
		if err != nil {
			t.Fatal(err)
		}
		old.SetUnlinkOnClose(false)
		old.Close()
		l := newListener(t, ListenerConfig{Socket: path})
		application(t, path)
		connected(t, l, 1)
	})
	t.Run("of a live agent is left alone", func(t *testing.T) {
		l := newListener(t, ListenerConfig{})
		_, err := NewListener(background(), ListenerConfig{Socket: l.cfg.Socket})
		if err == nil || !strings.Contains(err.Error(), "another process listens there") {
			t.Errorf("a second agent: %v", err)
		}
		application(t, l.cfg.Socket)
		connected(t, l, 1)
	})
	t.Run("of another kind is left alone", func(t *testing.T) {
		path := socketPath(t)
		if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := NewListener(background(), ListenerConfig{Socket: path}); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("over a file: %v", err)
		}
		if b, _ := os.ReadFile(path); string(b) != "precious" {
			t.Error("the file was replaced")
		}
		stream, err := net.Listen("unix", path+"2")
		if err != nil {
			t.Fatal(err)
		}
		defer stream.Close()
		if _, err := NewListener(background(), ListenerConfig{Socket: path + "2"}); err == nil {
			t.Error("over a stream socket: no error")
		}
	})
	t.Run("of a successor is left alone", func(t *testing.T) {
		path := socketPath(t)
		l := newListener(t, ListenerConfig{Socket: path})
		os.Remove(path)
		newListener(t, ListenerConfig{Socket: path})
		l.Close()
		if _, err := os.Lstat(path); err != nil {
			t.Errorf("the successor's socket is gone: %v", err)
		}
	})
	t.Run("without a path or a place", func(t *testing.T) {
		for _, path := range []string{"", "/dev/null/web.sock", "/" + strings.Repeat("x", 200)} {
			if l, err := NewListener(background(), ListenerConfig{Socket: path}); err == nil {
				t.Errorf("%q: no error", path)
				l.Close()
			}
		}
	})
}

func TestManySessionsConcurrently(t *testing.T) {
	before := descriptors(t)
	l := newListener(t, ListenerConfig{})
	var served sync.WaitGroup
	for range 2 {
		h := application(t, l.cfg.Socket)
		served.Go(func() {
			for {
				c, err := h.Accept()
				if err != nil {
					return
				}
				served.Go(func() { io.Copy(c, c); c.Close() })
			}
		})
		t.Cleanup(func() { h.Close() })
	}
	connected(t, l, 2)
	var clients sync.WaitGroup
	for range 8 {
		clients.Go(func() {
			for range 40 {
				client, fd, m := session(t, "127.0.0.1")
				if err := l.Attach(background(), fd, m); err != nil {
					t.Error(err)
					return
				}
				exchange(t, client)
				client.Close()
			}
		})
	}
	clients.Wait()
	until(t, "descriptors are closed", func() bool { return descriptors(t) < before+20 })
}

// One session: the agent's sendmsg, the application's wake-up, Accept.
func BenchmarkListenerAttach(b *testing.B) {
	l := newListener(b, ListenerConfig{})
	h := application(b, l.cfg.Socket)
	connected(b, l, 1)
	got := make(chan struct{})
	go func() {
		defer close(got)
		for {
			c, err := h.Accept()
			if err != nil {
				return
			}
			c.Close()
			got <- struct{}{}
		}
	}()
	_, fd, m := session(b, "127.0.0.1")
	defer syscall.Close(fd)
	ctx := context.Background()
	for b.Loop() {
		dup, _ := syscall.Dup(fd)
		if err := l.Attach(ctx, dup, m); err != nil {
			b.Fatal(err)
		}
		<-got
	}
	h.Close()
	for range got {
	}
}
