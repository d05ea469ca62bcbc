package attach

import (
	"bytes"
	"context"
	"encoding/hex"
	"errors"
	"io"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// echo is an application: it sends back what it gets.
type echo struct {
	l  net.Listener
	wg sync.WaitGroup
}

func startEcho(t testing.TB, addr string) *echo {
	t.Helper()
	l, err := net.Listen("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	e := &echo{l: l}
	e.wg.Go(func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			e.wg.Go(func() {
				io.Copy(c, c)
				c.Close()
			})
		}
	})
	t.Cleanup(e.stop)
	return e
}

func (e *echo) addr() string { return e.l.Addr().String() }
func (e *echo) stop() {
	e.l.Close()
	e.wg.Wait()
}

func newRelay(t testing.TB, cfg RelayConfig) *Relayer {
	t.Helper()
	r, err := NewRelay(cfg)
	if err != nil {
		t.Fatal(err)
	}
	closed(t, r)
	return r
}

// freePort is an address at which nothing listens.
func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func TestASessionIsRelayedToTheApplication(t *testing.T) {
	for _, host := range []string{"127.0.0.1", "::1"} {
		t.Run(host, func(t *testing.T) {
			app := startEcho(t, "127.0.0.1:0")
			r := newRelay(t, RelayConfig{Connect: app.addr()})
			until(t, "the relay is ready", r.Ready)
			before := descriptors(t)
			client, fd, m := session(t, host)
			io.WriteString(client, "sent before, ")
			if err := r.Attach(background(), fd, m); err != nil {
				t.Fatal(err)
			}
			io.WriteString(client, "and after")
			client.CloseWrite()
			if b, err := io.ReadAll(client); string(b) != "sent before, and after" || err != nil {
				t.Errorf("read %q, %v", b, err)
			}
			client.Close()
			if err := r.Shutdown(background()); err != nil {
				t.Errorf("Shutdown: %v", err)
			}
			until(t, "descriptors are closed, but for the splice's pipes", func() bool { return descriptors(t) <= before+8 })
		})
	}
}

func TestAttachFailsCleanlyWhenTheApplicationIsDown(t *testing.T) {
	told := make(chan bool, 10)
	addr := freePort(t)
	r := newRelay(t, RelayConfig{Connect: addr, Probe: 5 * time.Millisecond, OnReady: func(b bool) { told <- b }})
	client, fd, m := session(t, "127.0.0.1")
	err := r.Attach(background(), fd, m)
	if !errors.Is(err, ErrNotReady) || !errors.Is(err, syscall.ECONNREFUSED) || !strings.Contains(err.Error(), addr) {
		t.Errorf("error %v", err)
	}
	if r.Ready() {
		t.Error("ready")
	}
	app := startEcho(t, addr)
	if !wait(t, told) || !r.Ready() {
		t.Error("not ready once the application runs")
	}
	// The same descriptor, untouched.
	if err := r.Attach(background(), fd, m); err != nil {
		t.Fatal(err)
	}
	exchange(t, client)
	client.CloseWrite()
	app.stop()
	_, fd2, m := session(t, "127.0.0.1")
	defer syscall.Close(fd2)
	if err := r.Attach(background(), fd2, m); !errors.Is(err, ErrNotReady) {
		t.Errorf("error %v", err)
	}
	if wait(t, told) {
		t.Error("no news that the application is gone")
	}
	if !open(fd2) {
		t.Error("the descriptor was closed")
	}
}

func TestAttachRefusesWhatIsNoTCPSocket(t *testing.T) {
	app := startEcho(t, "127.0.0.1:0")
	r := newRelay(t, RelayConfig{Connect: app.addr()})
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(pair[0])
	defer syscall.Close(pair[1])
	for _, fd := range []int{pair[0], 1 << 20} {
		if err := r.Attach(background(), fd, Meta{ID: "h1"}); err == nil {
			t.Errorf("descriptor %d: no error", fd)
		}
	}
	if !open(pair[0]) {
		t.Error("the descriptor was closed")
	}
}

func TestAttachDoesNotWaitLongForAFullBacklog(t *testing.T) {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	if err := errors.Join(
		syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}),
		syscall.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	addr := netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(name.(*syscall.SockaddrInet4).Port)).String()
	r := newRelay(t, RelayConfig{Connect: addr, DialTimeout: 100 * time.Millisecond})
	for i := range 3 { // the backlog takes one, or two with the prober's
		_, fd, m := session(t, "127.0.0.1")
		err := r.Attach(background(), fd, m)
		if err == nil {
			continue
		}
		syscall.Close(fd)
		if !errors.Is(err, ErrBusy) {
			t.Errorf("attempt %d: %v, want ErrBusy", i, err)
		}
		return
	}
	t.Error("the backlog is never full")
}

func TestAttachObeysItsContextWhileItConnects(t *testing.T) {
	app := startEcho(t, "127.0.0.1:0")
	r := newRelay(t, RelayConfig{Connect: app.addr()})
	until(t, "the relay is ready", r.Ready)
	client, fd, m := session(t, "127.0.0.1")
	ctx, cancel := context.WithCancel(background())
	cancel()
	if err := r.Attach(ctx, fd, m); err == nil || errors.Is(err, ErrNotReady) || !open(fd) {
		t.Errorf("error %v, descriptor open %v", err, open(fd))
	}
	if !r.Ready() {
		t.Error("a caller's cancellation says nothing about the application")
	}
	ctx, cancel = context.WithCancel(background())
	if err := r.Attach(ctx, fd, m); err != nil {
		t.Fatal(err)
	}
	cancel() // no longer matters
	exchange(t, client)
}

func TestCloseResetsSessionsAndShutdownWaitsForThem(t *testing.T) {
	app := startEcho(t, "127.0.0.1:0")
	r := newRelay(t, RelayConfig{Connect: app.addr()})
	client, fd, m := session(t, "127.0.0.1")
	if err := r.Attach(background(), fd, m); err != nil {
		t.Fatal(err)
	}
	exchange(t, client)
	ended := make(chan error, 1)
	go func() { ended <- r.Shutdown(background()) }()
	until(t, "no more sessions are taken", func() bool {
		_, fd, m := session(t, "127.0.0.1")
		err := r.Attach(background(), fd, m)
		if err != nil {
			syscall.Close(fd)
		}
		return errors.Is(err, ErrClosed)
	})
	exchange(t, client) // goes on
	select {
	case <-ended:
		t.Error("Shutdown did not wait")
	default:
	}
	r.Close()
	if err := wait(t, ended); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	if _, err := client.Read(make([]byte, 1)); !isReset(err) {
		t.Errorf("the client reads %v, want a reset", err)
	}
}

func TestShutdownEndsWithItsContext(t *testing.T) {
	app := startEcho(t, "127.0.0.1:0")
	r := newRelay(t, RelayConfig{Connect: app.addr()})
	client, fd, m := session(t, "127.0.0.1")
	if err := r.Attach(background(), fd, m); err != nil {
		t.Fatal(err)
	}
	exchange(t, client)
	ctx, cancel := context.WithCancel(background())
	cancel()
	if err := r.Shutdown(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("Shutdown: %v", err)
	}
	if _, err := client.Read(make([]byte, 1)); !isReset(err) {
		t.Errorf("the client reads %v, want a reset", err)
	}
	if r.Ready() {
		t.Error("ready after Shutdown")
	}
}

func TestTheRelaysAddressIsChecked(t *testing.T) {
	for _, addr := range []string{"", "localhost", ":80", "127.0.0.1:", "::1:80"} {
		if r, err := NewRelay(RelayConfig{Connect: addr}); err == nil {
			t.Errorf("%q: no error", addr)
			r.Close()
		}
	}
}

func TestTheApplicationLearnsTheClientsAddress(t *testing.T) {
	for _, router := range []Router{nil, here} {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close()
		r := newRelay(t, RelayConfig{Connect: l.Addr().String(), ProxyProtocol: true, Router: router})
		probe, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		if b, err := io.ReadAll(probe); string(b) != localHeader || err != nil {
			t.Errorf("the probe reads %q, %v; want %q", b, err, localHeader)
		}
		probe.Close()
		client, fd, m := session(t, "127.0.0.1")
		io.WriteString(client, aGet)
		client.CloseWrite()
		if err := r.Attach(background(), fd, m); err != nil {
			t.Fatal(err)
		}
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(c)
		if want := string(proxyHeader(m.Client, m.VIP)) + aGet; string(b) != want || err != nil {
			t.Errorf("the application reads %q, %v; want %q", b, err, want)
		}
		c.Close()
		io.Copy(io.Discard, client)
	}
}

// The octets are those of the examples and figures of HAProxy's specification.
func TestProxyHeaders(t *testing.T) {
	const signature = "0d0a0d0a000d0a515549540a"
	for _, c := range []struct{ client, destination, want string }{
		{"192.0.2.1:1234", "10.10.0.80:80", "21 11 000c c0000201 0a0a0050 04d2 0050"},
		{"[2001:db8::1]:1234", "[fd10::80]:80", "21 21 0024 20010db8000000000000000000000001 fd100000000000000000000000000080 04d2 0050"},
		{"[::ffff:192.0.2.1]:1234", "10.10.0.80:80", "21 11 000c c0000201 0a0a0050 04d2 0050"},
		{"[2001:db8::1]:1", "10.10.0.80:80", "21 21 0024 20010db8000000000000000000000001 00000000000000000000ffff0a0a0050 0001 0050"},
	} {
		got := proxyHeader(netip.MustParseAddrPort(c.client), netip.MustParseAddrPort(c.destination))
		want, err := hex.DecodeString(signature + strings.ReplaceAll(c.want, " ", ""))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s to %s: %x, want %x", c.client, c.destination, got, want)
		}
	}
}

// A whole session: connect, one small exchange, close.
func BenchmarkRelaySession(b *testing.B) {
	app := startEcho(b, "127.0.0.1:0")
	r := newRelay(b, RelayConfig{Connect: app.addr()})
	for b.Loop() {
		client, fd, m := session(b, "127.0.0.1")
		if err := r.Attach(background(), fd, m); err != nil {
			b.Fatal(err)
		}
		exchange(b, client)
		client.Close()
	}
}
