package preload

import (
	"fmt"
	"net"
	"strings"
	"testing"
)

// accepted says how a server's accept() is to show a connection.
func accepted(t testing.TB, kind string, said map[string]string, c net.Conn, spec string) {
	t.Helper()
	want := c.LocalAddr().(*net.TCPAddr)
	peer := fmt.Sprintf("[%v]:%d", want.IP, want.Port)
	if ip4 := want.IP.To4(); ip4 != nil && strings.Contains(spec, ":") {
		peer = fmt.Sprintf("[::ffff:%v]:%d", ip4, want.Port) // as an IPv6 socket reports IPv4
	}
	if strings.Contains(spec, "noaddress") {
		peer = "-"
	}
	if said["peer"] != peer {
		t.Errorf("%s: accept says the client is %s, want %s", kind, said["peer"], peer)
	}
	for _, flag := range []string{"nonblock", "cloexec", "nodelay"} {
		want := "0"
		if strings.Contains(" "+spec+" ", " "+flag+" ") {
			want = "1"
		}
		if said[flag] != want {
			t.Errorf("%s: %s is %s, want %s", kind, flag, said[flag], want)
		}
	}
	if strings.Contains(spec, "rcvbuf") != (said["rcvbuf"] == "100000") {
		t.Errorf("%s: SO_RCVBUF is %s", kind, said["rcvbuf"])
	}
}

func TestSessionsComeOutOfAcceptHoweverAServerWaits(t *testing.T) {
	for _, spec := range []string{
		"blocking 127.0.0.1",
		"blocking 127.0.0.1 noaddress",
		"select 127.0.0.1",
		"poll 127.0.0.1 accept4",
		"epoll 127.0.0.1 nonblock",
		"epoll 127.0.0.1 nonblock cloexec nodelay rcvbuf",
		"epoll 127.0.0.1 noaddress accept4",
		"epoll 127.0.0.1 defer nonblock",
		"epoll-edge 127.0.0.1 nonblock cloexec",
		"epoll-edge 127.0.0.1 defer",
		"epoll-nested 127.0.0.1 cloexec",
		"epoll-exclusive 127.0.0.1 nonblock",
		"prefork 127.0.0.1 cloexec",
		"threads 127.0.0.1",
		"threads 0.0.0.0 accept4",
		"blocking ::1",
		"select ::1 v6only",
		"epoll-edge ::1 nonblock",
		"prefork ::",
		"epoll-exclusive :: nonblock",
	} {
		t.Run(spec, func(t *testing.T) {
			s := newServer(t, spec)
			hosts := []string{"127.0.0.1"}
			if strings.Contains(spec, "::1") {
				hosts = []string{"::1"}
			} else if strings.Contains(spec, "::") {
				hosts = append(hosts, "::1")
			}
			for range 10 {
				for _, h := range hosts {
					c := s.attached(h)
					accepted(t, "session", ask(t, c), c, spec)
					ask(t, c) // and again: it stays
				}
				d := s.direct()
				accepted(t, "direct", ask(t, d), d, spec)
			}
		})
	}
}

// A session gets the descriptor's number that its connection would have had.
func TestTheLowestDescriptorIsUsed(t *testing.T) {
	s := newServer(t, "epoll 127.0.0.1 nonblock")
	number := func(c net.Conn) string {
		fd := ask(t, c)["fd"]
		during := descriptors(t, s.cmd.Process.Pid)
		c.Close()
		until(t, "the server has closed it", func() bool { return descriptors(t, s.cmd.Process.Pid) < during })
		return fd
	}
	want := number(s.direct())
	for range 5 {
		if got := number(s.attached("127.0.0.1")); got != want {
			t.Errorf("accept returned %s, want %s", got, want)
		}
	}
}
