package attach

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/shunt-sdn/shunt/handoff"
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
