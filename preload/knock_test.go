package preload

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shunt-sdn/shunt/internal/handoffproto"
)

var knockPort atomic.Uint32

// from connects to the server's listener from an address and a port.
func (s *server) from(ap netip.AddrPort) *net.TCPConn {
	s.t.Helper()
	d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(ap), Control: func(_, _ string, c syscall.RawConn) error {
		return c.Control(func(fd uintptr) { unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) })
	}}
	c, err := d.Dial("tcp", s.address.String())
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	c.(*net.TCPConn).SetDeadline(deadline())
	return c.(*net.TCPConn)
}

// knock is what the agent's connections look like.
func (s *server) knock() *net.TCPConn {
	host := "127.83.72.84"
	if s.address.Addr().Is6() {
		host = "::1"
	}
	return s.from(netip.AddrPortFrom(netip.MustParseAddr(host), uint16(600+knockPort.Add(1)%400)))
}

const magic = "shunt\x00k1"

func TestAServerDoesNotSeeKnocksWithoutASession(t *testing.T) {
	for _, spec := range []string{"blocking 127.0.0.1", "epoll-edge 127.0.0.1 nonblock", "select ::1"} {
		t.Run(spec, func(t *testing.T) {
			s := newServer(t, spec)
			idle := s.idle()
			for i := range 100 {
				k := s.knock()
				switch i % 4 {
				case 0: // withdrawn
					k.SetLinger(0)
				case 1: // the agent died
				case 2: // the agent died before it had passed the session
					io.WriteString(k, magic)
				case 3: // it waits to hear what came of it
					io.WriteString(k, magic)
					if _, err := k.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
						t.Errorf("a knock for nothing ends with %v, want a RST", err)
					}
				}
				k.Close()
			}
			if n := ask(t, s.direct())["count"]; n != "2" {
				t.Errorf("the server has accepted %s connections, want 2", n)
			}
			if n := ask(t, s.attached(s.address.Addr().String()))["count"]; n != "3" {
				t.Errorf("the server has accepted %s connections, want 3", n)
			}
			until(t, "the server has closed the knocks", func() bool { return descriptors(t, s.cmd.Process.Pid) <= idle+2 })
		})
	}
}

// An agent that stops between its steps keeps the server for a second, and its
// session for itself.
func TestAnAgentThatStallsHoldsTheServerForASecond(t *testing.T) {
	for _, step := range []string{"before it passed the session", "before it said so"} {
		t.Run(step, func(t *testing.T) {
			s := newServer(t, "epoll 127.0.0.1 nonblock")
			u, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: s.socket, Net: "unixpacket"})
			if err != nil {
				t.Fatal(err)
			}
			defer u.Close()
			k := s.knock()
			if step == "before it passed the session" {
				io.WriteString(k, magic)
			}
			begun := time.Now()
			ask(t, s.direct())
			if took := time.Since(begun); took > 5*time.Second {
				t.Errorf("a direct client waited for %v", took)
			}
			if _, err := k.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
				t.Errorf("the knock ends with %v, want a RST", err)
			}
			c := s.attached("127.0.0.1")
			accepted(t, "session", ask(t, c), c, "nonblock")
			if _, err := u.Write([]byte("late")); err == nil {
				t.Error("the place in the queue was kept")
			}
		})
	}
}

// Only a privileged process that says the word knocks.
func TestConnectionsThatLookLikeKnocksAreOrdinary(t *testing.T) {
	for _, tc := range []struct{ spec, from string }{
		{"epoll 127.0.0.1 nonblock", "127.83.72.84:0"},
		{"epoll 127.0.0.1 nonblock", "127.83.72.84:901"},
		{"epoll 127.0.0.1 nonblock", "127.83.72.85:902"},
		{"blocking ::1", "[::1]:0"},
		{"blocking ::1", "[::1]:903"},
	} {
		t.Run(tc.from, func(t *testing.T) {
			s := newServer(t, tc.spec)
			c := s.from(netip.MustParseAddrPort(tc.from))
			accepted(t, "direct", ask(t, c), c, tc.spec)
		})
	}
}

// Frames that no agent sends harm nobody.
func TestMalformedFramesAreDropped(t *testing.T) {
	s := newServer(t, "epoll 127.0.0.1 nonblock")
	idle := s.idle()
	good, err := handoffproto.Session{ID: "h1", Service: "web", Client: netip.MustParseAddrPort("192.0.2.1:1"), Local: s.address}.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	long := append(make([]byte, 4000), good...)
	null, err := os.Open(os.DevNull)
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	const client = 6 + 3 + 4 // octets before the client's address
	send := func(frame []byte, fds ...int) {
		t.Helper()
		u, err := net.DialUnix("unixpacket", nil, &net.UnixAddr{Name: s.socket, Net: "unixpacket"})
		if err != nil {
			t.Fatal(err)
		}
		defer u.Close()
		var rights []byte
		if len(fds) > 0 {
			rights = syscall.UnixRights(fds...)
		}
		if _, _, err := u.WriteMsgUnix(frame, rights, nil); err != nil {
			t.Fatal(err)
		}
	}
	fd := int(null.Fd())
	for n := 1; n < client+7; n++ {
		send(good[:n], fd)
	}
	for i := range client {
		bad := append([]byte(nil), good...)
		bad[i] ^= 0xff
		if i != 7 && i != 8 && i < 10 { // the texts' octets mean nothing to the library
			send(bad, fd)
		}
	}
	send(long, fd)
	send(good)
	send(good, fd, fd)
	c := s.attached("127.0.0.1")
	accepted(t, "session", ask(t, c), c, "nonblock")
	if n := ask(t, c)["count"]; n != "2" {
		t.Errorf("the server has accepted %s connections, want 2", n)
	}
	until(t, "the server has closed what came with them", func() bool { return descriptors(t, s.cmd.Process.Pid) <= idle+1 })
}

func TestAFileInTheQueuesPlaceIsLeftAlone(t *testing.T) {
	s := newServer(t, "epoll 127.0.0.1 nonblock")
	s.kill(s.cmd)
	s.untilReady(false)
	if err := os.Remove(s.socket); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(s.socket, []byte("mine"), 0o600); err != nil {
		t.Fatal(err)
	}
	s.start()
	ask(t, s.direct())
	if b, err := os.ReadFile(s.socket); string(b) != "mine" {
		t.Errorf("the file holds %q, %v", b, err)
	}
	if left, _ := filepath.Glob(s.socket + "*"); len(left) != 1 {
		t.Errorf("files: %v", left)
	}
	_, fd, m := session(t, "127.0.0.1")
	notReady(t, s.agent.Attach(context.Background(), fd, m), fd)
	syscall.Close(fd)
}

func TestAnIPv6ClientNeedsAnIPv6Listener(t *testing.T) {
	s := newServer(t, "blocking 127.0.0.1")
	_, fd, m := session(t, "::1")
	notReady(t, s.agent.Attach(context.Background(), fd, m), fd)
	syscall.Close(fd)
	if _, err := os.Stat(s.socket + "6"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("an IPv4 listener has a queue for IPv6: %v", err)
	}
}

func TestOnlyTheOwnerReachesTheQueue(t *testing.T) {
	s := newServer(t, "threads ::")
	for _, path := range []string{s.socket, s.socket + "6"} {
		st, err := os.Stat(path)
		if err != nil || st.Mode() != os.ModeSocket|0o600 {
			t.Errorf("%s: %v, %v", path, st.Mode(), err)
		}
	}
	if left, _ := filepath.Glob(s.socket + "*"); fmt.Sprint(left) != fmt.Sprint([]string{s.socket, s.socket + "6"}) {
		t.Errorf("files: %v", left)
	}
}
