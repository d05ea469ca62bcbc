package tcprepair

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"testing"

	"github.com/shunt-sdn/shunt/internal/testnet"
	"golang.org/x/sys/unix"
)

// rawSocket opens a socket in the namespace; it is closed with the test.
func rawSocket(t *testing.T, ns *testnet.NS, family, kind, proto int) int {
	t.Helper()
	fd := -1
	ns.Do(func() (err error) {
		fd, err = unix.Socket(family, kind|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, proto)
		return err
	})
	t.Cleanup(func() { unix.Close(fd) })
	return fd
}

func TestWhatCannotBeFrozenOrDumpedIsRefusedByName(t *testing.T) {
	b := newBed(t)
	for _, test := range []struct {
		name string
		fd   func(*testing.T) int
		want error
		text string
	}{
		{"a listener", func(t *testing.T) int {
			fd := rawSocket(t, b.hosts[0], unix.AF_INET, unix.SOCK_STREAM, 0)
			b.must(unix.Listen(fd, 1))
			return fd
		}, ErrUnsupportedState, "LISTEN"},
		{"an MPTCP socket", func(t *testing.T) int {
			return rawSocket(t, b.hosts[0], unix.AF_INET, unix.SOCK_STREAM, unix.IPPROTO_MPTCP)
		}, ErrUnsupportedState, "MPTCP"},
		{"an unconnected socket", func(t *testing.T) int {
			return rawSocket(t, b.hosts[0], unix.AF_INET, unix.SOCK_STREAM, 0)
		}, ErrUnsupportedState, "CLOSE"},
		{"a connection in SYN_SENT", func(t *testing.T) int {
			fd := rawSocket(t, b.hosts[0], unix.AF_INET, unix.SOCK_STREAM, 0)
			// Nobody has this address, and neighbour discovery takes its time.
			if err := unix.Connect(fd, &unix.SockaddrInet4{Addr: [4]byte{10, 0, 0, 99}, Port: 80}); !errors.Is(err, unix.EINPROGRESS) {
				t.Fatal(err)
			}
			return fd
		}, ErrUnsupportedState, "SYN_SENT"},
		{"a connection in FIN_WAIT", func(t *testing.T) int {
			_, fd := b.open("IPv4")
			t.Cleanup(func() { CloseSilently(fd) })
			b.must(unix.Shutdown(fd, unix.SHUT_WR))
			return fd
		}, ErrUnsupportedState, "FIN_WAIT"},
		{"a connection in LAST_ACK", func(t *testing.T) int {
			c, fd := b.open("IPv6")
			t.Cleanup(func() { CloseSilently(fd) })
			b.must(c.(*net.TCPConn).CloseWrite())
			b.await("the client's FIN", func() bool { return tcpInfo(t, fd).State == StateCloseWait })
			b.must(deafen(fd))
			b.must(unix.Shutdown(fd, unix.SHUT_WR))
			return fd
		}, ErrUnsupportedState, "LAST_ACK"},
		{"urgent data", func(t *testing.T) int {
			c, fd := b.open("IPv4")
			t.Cleanup(func() { CloseSilently(fd) })
			raw, err := c.(*net.TCPConn).SyscallConn()
			b.must(err)
			b.must(raw.Control(func(p uintptr) { err = unix.Sendto(int(p), []byte("abc"), unix.MSG_OOB, nil) }))
			b.must(err)
			b.awaitUnread(fd, 2)
			return fd
		}, ErrUnsupportedState, "urgent"},
		{"a UDP socket", func(t *testing.T) int {
			return rawSocket(t, b.hosts[0], unix.AF_INET, unix.SOCK_DGRAM, 0)
		}, ErrUnsupportedState, "protocol 17"},
		{"a UNIX socket", func(t *testing.T) int {
			return rawSocket(t, b.hosts[0], unix.AF_UNIX, unix.SOCK_STREAM, 0)
		}, ErrUnsupportedState, "protocol 0"},
		{"a file", func(t *testing.T) int {
			f, err := os.Open("/dev/null")
			b.must(err)
			t.Cleanup(func() { f.Close() })
			return int(f.Fd())
		}, unix.ENOTSOCK, ""},
		{"a closed descriptor", func(t *testing.T) int { return 1 << 20 }, unix.EBADF, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			fd := test.fd(t)
			err := Freeze(fd)
			if err == nil {
				_, err = Dump(fd)
			}
			if !errors.Is(err, test.want) || !strings.Contains(err.Error(), test.text) {
				t.Errorf("got %v, want %v with %q", err, test.want, test.text)
			}
		})
	}
}

func TestWithoutTheRightsNothingIsTouched(t *testing.T) {
	b := newBed(t)
	c, fd := b.open("IPv4")
	err := withoutNetAdmin(func() error { return Freeze(fd) })
	if !errors.Is(err, ErrLacks) {
		t.Errorf("Freeze is %v, want ErrLacks", err)
	}
	var s State
	err = withoutNetAdmin(func() error { _, err := Restore(validState("IPv4")); return err })
	if !errors.Is(err, ErrLacks) {
		t.Errorf("Restore is %v, want ErrLacks", err)
	}
	if _, err := Dump(fd); err == nil {
		t.Errorf("a socket that is not frozen was dumped: %+v", s)
	}
	talk(b, c, b.conn(fd))
}

// withoutNetAdmin runs f on a thread that lacks CAP_NET_ADMIN.
func withoutNetAdmin(f func() error) error {
	errc := make(chan error)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread dies with the goroutine
		hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var data [2]unix.CapUserData
		err := unix.Capget(&hdr, &data[0])
		if err == nil {
			data[0].Effective &^= 1 << unix.CAP_NET_ADMIN
			err = unix.Capset(&hdr, &data[0])
		}
		if err == nil {
			err = f()
		}
		errc <- err
	}()
	return <-errc
}

// talk sends something both ways and ends the connection in an orderly way.
func talk(b *bed, client, server net.Conn) {
	b.Helper()
	up, down := pattern(200_000, 11), pattern(300_000, 12)
	go client.Write(up)
	expect(b, server, up, false)
	go server.Write(down)
	expect(b, client, down, false)
	b.must(server.Close())
	expect(b, client, nil, true)
	b.must(client.Close())
}

func tcpInfo(t testing.TB, fd int) *unix.TCPInfo {
	t.Helper()
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		t.Fatal(err)
	}
	return info
}

func TestAThawedConnectionGoesOnAsIfNothingHadHappened(t *testing.T) {
	for family := range sessionAddrs {
		for _, probe := range []bool{false, true} {
			b := newBed(t)
			c, fd := b.open(family)
			request := pattern(300, 1)
			c.Write(request)
			b.awaitUnread(fd, len(request))
			for range 3 {
				s := b.dump(fd)
				if same, err := s.Unchanged(fd); err != nil || !same {
					t.Fatalf("Unchanged is %t, %v", same, err)
				}
				b.must(Thaw(fd, probe))
			}
			server := b.conn(fd)
			expect(t, server, request, false)
			talk(b, c, server)
			b.noResets()
		}
	}
}

func TestAThawedConnectionStillHasItsUnsentBytes(t *testing.T) {
	b := newBed(t)
	b.sysctl(b.client, "ipv4/tcp_rmem", "4096 65536 65536")
	c, fd := b.open("IPv4")
	all := pattern(1<<20, 1)
	n, err := unix.Write(fd, all)
	b.must(err)
	b.await("a full window", func() bool {
		inFlight, unsent, err := outQueue(fd)
		b.must(err)
		return inFlight == 0 && unsent > 0
	})
	s := b.dump(fd)
	if len(s.Unsent) == 0 {
		t.Fatal("nothing is unsent")
	}
	b.must(Thaw(fd, false))
	expect(t, c, all[:n], false)
	talk(b, c, b.conn(fd))
	b.noResets()
}

func TestAFrozenConnectionIsDeaf(t *testing.T) {
	b := newBed(t)
	c, fd := b.open("IPv6")
	s := b.dump(fd)
	late := pattern(5000, 1)
	c.Write(late)
	raw, err := c.(*net.TCPConn).SyscallConn()
	b.must(err)
	b.await("retransmissions by the client", func() (again bool) {
		b.must(raw.Control(func(p uintptr) { again = tcpInfo(t, int(p)).Total_retrans > 1 }))
		return again
	})
	if same, err := s.Unchanged(fd); err != nil || !same {
		t.Errorf("after packets have come in, Unchanged is %t, %v", same, err)
	}
	if rcv, una, err := Progress(fd); err != nil || rcv != s.RcvSeq || una != s.SndSeq {
		t.Errorf("Progress is %d, %d, %v; want %d, %d", rcv, una, err, s.RcvSeq, s.SndSeq)
	}
	b.must(Thaw(fd, false))
	server := b.conn(fd)
	expect(t, server, late, false)
	talk(b, c, server)
	b.noResets()
}

func TestUnchangedTellsWhenTheSocketWentOn(t *testing.T) {
	b := newBed(t)
	c, fd := b.open("IPv4")
	s := b.dump(fd)
	b.must(undeafen(fd)) // as a plain TCP_REPAIR would leave it
	c.Write([]byte("more"))
	b.await("a change", func() bool {
		same, err := s.Unchanged(fd)
		b.must(err)
		return !same
	})
	if rcv, _, err := Progress(fd); err != nil || rcv != s.RcvSeq+4 {
		t.Errorf("Progress is %d, %v; want %d", rcv, err, s.RcvSeq+4)
	}
	if same, err := b.dump(fd).Unchanged(fd); err != nil || !same {
		t.Errorf("after another dump, Unchanged is %t, %v", same, err)
	}
	b.must(CloseSilently(fd))
	if _, err := s.Unchanged(fd); !errors.Is(err, unix.EBADF) {
		t.Errorf("of a closed descriptor, Unchanged is %v, want EBADF", err)
	}
}

func TestSilentCloseSendsNothing(t *testing.T) {
	for family := range sessionAddrs {
		for _, how := range []string{"idle", "unread", "net.Conn"} {
			b := newBed(t)
			c, fd := b.open(family)
			local := netip.MustParseAddrPort(c.RemoteAddr().String())
			if how == "unread" {
				c.Write([]byte("request"))
				b.awaitUnread(fd, 7)
			}
			tap := newTap(b, local)
			if how == "net.Conn" {
				server := b.conn(fd)
				raw, err := server.(*net.TCPConn).SyscallConn()
				b.must(err)
				b.must(raw.Control(func(p uintptr) { err = Freeze(int(p)) }))
				b.must(err)
				b.must(server.Close())
			} else {
				b.must(CloseSilently(fd))
			}
			if n := tap.count(); n != 0 {
				t.Errorf("%s, %s: a silent close sent %d packets", family, how, n)
			}
		}
	}
}

// tap counts packets from a session that reach the client.
type tap struct {
	b  *bed
	fd int
	of netip.AddrPort
}

func newTap(b *bed, of netip.AddrPort) *tap {
	tp := &tap{b: b, of: of}
	b.client.Do(func() (err error) {
		tp.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_DGRAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, int(htons(unix.ETH_P_ALL)))
		return err
	})
	b.Cleanup(func() { unix.Close(tp.fd) })
	return tp
}

func htons(v uint16) uint16 { return v<<8 | v>>8 }

// count returns the number of packets since the start. A datagram over the same
// path marks the end: packets do not overtake each other.
func (tp *tap) count() (n int) {
	tp.b.Helper()
	tp.b.hosts[0].Do(func() error {
		c, err := net.Dial("udp", "10.0.0.1:9")
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Write([]byte("the end"))
		return err
	})
	buf, end := make([]byte, 2000), false
	tp.b.await("the marker", func() bool {
		for {
			m, from, err := unix.Recvfrom(tp.fd, buf, 0)
			if errors.Is(err, unix.EAGAIN) {
				return end
			}
			tp.b.must(err)
			if ll, ok := from.(*unix.SockaddrLinklayer); ok && ll.Pkttype == unix.PACKET_OUTGOING {
				continue
			}
			src := tp.of.Addr().AsSlice()
			if strings.Contains(string(buf[:m]), "the end") {
				end = true
			} else if strings.Contains(string(buf[:min(m, 40)]), string(src)) {
				n++
			}
		}
	})
	return n
}

func TestAListenerCanBeRestartedBesideRestoredAndThawedConnections(t *testing.T) {
	b := newBed(t)
	_, fd := b.open("IPv4")
	_, to := b.move(fd)
	defer CloseSilently(to)
	b.steer(0)
	_, kept := b.open("IPv4")
	b.dump(kept)
	b.must(Thaw(kept, false))
	defer CloseSilently(kept)
	for i, h := range b.hosts {
		h.Do(func() error {
			lc := net.ListenConfig{}
			lc.SetMultipathTCP(false)
			l, err := lc.Listen(context.Background(), "tcp", ":80")
			if err != nil {
				t.Errorf("host %d: %v", i, err)
				return nil
			}
			return l.Close()
		})
	}
}
