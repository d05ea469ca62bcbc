package tcprepair

import (
	"bytes"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"golang.org/x/sys/unix"
)

func TestAnIdleConnectionMovesWithItsUnreadRequest(t *testing.T) {
	for family := range sessionAddrs {
		t.Run(family, func(t *testing.T) {
			b := newBed(t)
			c, fd := b.open(family)
			request := pattern(300, 1)
			c.Write(request)
			b.awaitUnread(fd, len(request))
			s, to := b.move(fd)
			if s.Local.Addr() != sessionAddrs[family] || s.Remote.String() != c.LocalAddr().String() {
				t.Errorf("moved %s, want %v", s.name(), c.LocalAddr())
			}
			server := b.conn(to)
			expect(t, server, request, false)
			talk(b, c, server)
			b.noResets()
		})
	}
}

// What a dump of the source says, a dump of the target says too.
func TestARestoredConnectionIsDumpedAsItWas(t *testing.T) {
	for _, test := range []struct {
		name    string
		sysctls map[string]string // of the client
		prepare func(*bed, net.Conn, int)
	}{
		{"idle", nil, func(*bed, net.Conn, int) {}},
		{"unread", nil, func(b *bed, c net.Conn, fd int) {
			c.Write(pattern(30000, 1))
			b.awaitUnread(fd, 30000)
		}},
		{"unacknowledged and unsent", map[string]string{"ipv4/tcp_rmem": "4096 16384 16384"}, func(b *bed, c net.Conn, fd int) {
			b.must(deafen(fd))
			for range 20 {
				if _, err := unix.Write(fd, pattern(5000, 2)); err != nil {
					break
				}
			}
			b.must(undeafen(fd))
		}},
		{"without options", map[string]string{"ipv4/tcp_sack": "0", "ipv4/tcp_timestamps": "0", "ipv4/tcp_window_scaling": "0"},
			func(*bed, net.Conn, int) {}},
		{"with socket options", nil, func(b *bed, c net.Conn, fd int) {
			b.must(unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 0))
			b.must((&KeepAlive{On: true, Idle: 77, Interval: 8, Count: 5}).restore(fd))
		}},
		{"half-closed", nil, func(b *bed, c net.Conn, fd int) {
			c.Write(pattern(1000, 3))
			b.must(c.(*net.TCPConn).CloseWrite())
			b.await("the FIN", func() bool { return tcpInfo(b, fd).State == StateCloseWait })
		}},
	} {
		for family := range sessionAddrs {
			t.Run(test.name+" "+family, func(t *testing.T) {
				b := newBed(t)
				for path, value := range test.sysctls {
					b.sysctl(b.client, path, value)
				}
				c, fd := b.open(family)
				test.prepare(b, c, fd)
				before := b.dump(fd)
				if test.name == "unacknowledged and unsent" && (len(before.Unacked) == 0 || len(before.Unsent) == 0) {
					t.Fatalf("%d bytes unacknowledged, %d unsent: not what is to be tested", len(before.Unacked), len(before.Unsent))
				}
				to := b.restore(1, before)
				defer func() { b.must(CloseSilently(to)) }()
				after, err := Dump(to)
				b.must(err)
				// The unsent bytes come with Activate, and the clock has gone on.
				after.Unsent, after.SndSeq = before.Unsent, after.SndSeq+uint32(len(before.Unsent))
				after.Timestamp, after.TCPState = before.Timestamp, before.TCPState
				if d := cmp.Diff(before, after, cmpopts.IgnoreUnexported(State{}), cmp.Comparer(bytes.Equal), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); d != "" {
					t.Errorf("source and target differ (-source +target):\n%s", d)
				}
				// A new socket reckons with timestamps until it sends its first segment.
				const timestamps = 12
				if want, got := tcpInfo(t, fd).Snd_mss, tcpInfo(t, to).Snd_mss; got != want && (before.Timestamps || got+timestamps != want) {
					t.Errorf("segments of %d bytes, were of %d", got, want)
				}
				b.must(CloseSilently(fd))
			})
		}
	}
}

func TestAHalfClosedConnectionMoves(t *testing.T) {
	for family := range sessionAddrs {
		for name, unread := range map[string]int{"with unread bytes": 5000, "with nothing unread": 0} {
			t.Run(name+" "+family, func(t *testing.T) {
				b := newBed(t)
				c, fd := b.open(family)
				request, reply := pattern(unread, 1), pattern(200_000, 2)
				c.Write(request)
				b.must(c.(*net.TCPConn).CloseWrite())
				b.await("the FIN", func() bool { return tcpInfo(t, fd).State == StateCloseWait })
				s, to := b.move(fd)
				if s.TCPState != StateCloseWait || !s.FinReceived {
					t.Errorf("state %s, FIN received: %t", stateName(s.TCPState), s.FinReceived)
				}
				// And once more, from what is ESTABLISHED to the kernel now.
				s = b.dump(to)
				if !s.FinReceived {
					t.Error("the second dump knows of no FIN")
				}
				back := b.restore(0, s)
				b.steer(0)
				b.must(Activate(back, s))
				b.must(CloseSilently(to))

				server := b.conn(back)
				expect(t, server, request, true)
				go func() {
					server.Write(reply)
					server.Close()
				}()
				expect(t, c, reply, true)
				b.must(c.Close())
				b.noResets()
			})
		}
	}
}

// An older connection of the same client port has ended on the target, which
// waits for its stragglers.
func TestATimeWaitEntryMakesWay(t *testing.T) {
	for _, timestamps := range []string{"0", "1"} { // with them, Linux may recycle the entry by itself
		for family := range sessionAddrs {
			t.Run(family+" timestamps="+timestamps, func(t *testing.T) {
				b := newBed(t)
				b.sysctl(b.client, "ipv4/tcp_timestamps", timestamps)
				c, fd := b.open(family)
				s, to := b.move(fd)
				server := b.conn(to)
				b.must(server.Close())
				expect(t, c, nil, true)
				b.must(c.Close())
				b.await("TIME_WAIT", func() bool { return strings.Contains(b.sockets(1), " 06 ") })

				b.steer(0)
				c, fd = b.openFrom(family, s.Remote.Port())
				s2, to := b.move(fd)
				if s2.Remote != s.Remote {
					t.Fatalf("the second connection is %s, the first was %s", s2.name(), s.name())
				}
				if timestamps == "0" && strings.Contains(b.sockets(1), " 06 ") {
					t.Error("the TIME_WAIT entry is still there")
				}
				talk(b, c, b.conn(to))
				b.noResets()
			})
		}
	}
}

// sockets returns the host's connections, one per line, the state being the
// fourth field in hexadecimal.
func (b *bed) sockets(host int) string {
	var all []byte
	b.hosts[host].Do(func() error {
		for _, name := range []string{"tcp", "tcp6"} {
			text, err := os.ReadFile("/proc/thread-self/net/" + name)
			if err != nil {
				return err
			}
			all = append(all, text...)
		}
		return nil
	})
	return string(all)
}

func TestALiveConnectionIsNotReplaced(t *testing.T) {
	for family := range sessionAddrs {
		b := newBed(t)
		c, fd := b.open(family)
		s := b.dump(fd)
		b.must(Thaw(fd, false))
		err := b.hosts[0].Try(func() error { _, err := Restore(s); return err })
		if !errors.Is(err, ErrInUse) || !strings.Contains(err.Error(), "ESTABLISHED") {
			t.Errorf("%s: Restore is %v, want ErrInUse in ESTABLISHED", family, err)
		}
		talk(b, c, b.conn(fd))
		b.noResets()
	}
}

func TestRestoreWithoutRoutesSaysSo(t *testing.T) {
	b := newBed(t)
	for _, test := range []struct {
		name   string
		break_ func(*State)
		text   string
	}{
		{"no local route", func(s *State) { s.Local = netip.MustParseAddrPort("10.8.0.1:80") }, "local route"},
		{"no route to the client", func(s *State) { s.Remote = netip.MustParseAddrPort("192.0.2.1:80") }, "unreachable"},
	} {
		s := validState("IPv4")
		test.break_(s)
		err := b.hosts[0].Try(func() error { _, err := Restore(s); return err })
		if err == nil || !strings.Contains(err.Error(), test.text) || errors.Is(err, ErrInUse) {
			t.Errorf("%s: Restore is %v, want %q", test.name, err, test.text)
		}
	}
}

func TestMegabytesInEveryQueueMove(t *testing.T) {
	b := newBed(t)
	for _, h := range b.hosts {
		b.sysctl(h, "ipv4/tcp_wmem", "4096 16384 8388608")
		b.sysctl(h, "ipv4/tcp_rmem", "4096 131072 8388608")
	}
	c, fd := b.open("IPv4")
	up, down := pattern(4<<20, 1), pattern(4<<20, 2)
	b.must(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 8<<20))
	b.must(unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, 8<<20))
	go c.Write(up)
	b.awaitUnread(fd, 1<<20)
	b.must(deafen(fd)) // no acknowledgement
	n, err := unix.Write(fd, down)
	b.must(err)
	s, to := b.move(fd)
	t.Logf("moved %d unread, %d unacknowledged, %d unsent bytes", len(s.Received), len(s.Unacked), len(s.Unsent))
	if len(s.Received) < 1<<20 || len(s.Unacked) == 0 || len(s.Unacked)+len(s.Unsent) != n {
		t.Error("not what is to be tested")
	}
	server := b.conn(to)
	got := make(chan error, 1)
	go func() {
		in := make([]byte, n)
		_, err := io.ReadFull(c, in)
		if err == nil && !bytes.Equal(in, down[:n]) {
			err = errors.New("the client read other bytes than the server wrote")
		}
		got <- err
	}()
	expect(t, server, up, false)
	b.must(<-got)
	talk(b, c, server)
	b.noResets()
}

func TestManyUnsentBytesGoToAPeerWithTinySegments(t *testing.T) {
	b := newBed(t)
	c, fd := b.open("IPv4")
	s := b.dump(fd)
	b.must(CloseSilently(fd))
	s.MSSClamp, s.Unsent = 88, pattern(500_000, 1)
	s.SndSeq += uint32(len(s.Unsent))
	to := b.restore(1, s)
	b.steer(1)
	b.must(unix.SetsockoptInt(to, unix.SOL_SOCKET, unix.SO_SNDBUF, 16<<10)) // so that overhead exceeds all bounds
	b.must(Activate(to, s))
	expect(t, c, s.Unsent, false)
	if mss := tcpInfo(t, to).Snd_mss; mss > 88 {
		t.Errorf("segments of %d bytes, want at most 88", mss)
	}
	talk(b, c, b.conn(to))
	b.noResets()
}

// Buffers whose size was ever set do not grow with the connection; a restored one
// is to be as fast as any other.
func TestBuffersOfARestoredConnectionStillTuneThemselves(t *testing.T) {
	b := newBed(t)
	c, fd := b.open("IPv4")
	go c.Write(pattern(8<<20, 1))
	b.awaitUnread(fd, 60_000)
	var buf [64 << 10]byte
	read := 0
	drain := func(fd, until int) {
		b.await("an upload", func() bool {
			for {
				n, err := unix.Read(fd, buf[:])
				if errors.Is(err, unix.EAGAIN) {
					return read >= until
				}
				b.must(err)
				read += n
				if read >= until {
					return true
				}
			}
		})
	}
	drain(fd, 2<<20)
	s, to := b.move(fd)
	defer CloseSilently(to)
	lock, err := unix.GetsockoptInt(to, unix.SOL_SOCKET, unix.SO_BUF_LOCK)
	if err != nil || lock != 0 {
		t.Errorf("SO_BUF_LOCK is %d, %v; want 0", lock, err)
	}
	promised := s.Window.RcvWup + s.Window.RcvWnd - s.RcvSeq
	size, _ := unix.GetsockoptInt(to, unix.SOL_SOCKET, unix.SO_RCVBUF)
	if size < int(promised)+len(s.Received) {
		t.Errorf("a receive buffer of %d bytes for %d unread and %d promised", size, len(s.Received), promised)
	}
	drain(to, 8<<20)
	after, _ := unix.GetsockoptInt(to, unix.SOL_SOCKET, unix.SO_RCVBUF)
	t.Logf("promised window %d, receive buffer %d, then %d", promised, size, after)
	b.noResets()
}

func TestNoDescriptorIsLost(t *testing.T) {
	b := newBed(t)
	_, fd := b.open("IPv4")
	s := b.dump(fd)
	count := func() int {
		entries, err := os.ReadDir("/proc/self/fd")
		b.must(err)
		return len(entries)
	}
	b.hosts[1].Do(func() error { // what the first use opens for good
		to, err := Restore(s)
		if err != nil {
			return err
		}
		return CloseSilently(to)
	})
	before := count()
	for range 20 {
		b.hosts[1].Do(func() error {
			to, err := Restore(s)
			if err != nil {
				return err
			}
			return CloseSilently(to)
		})
		if err := b.hosts[0].Try(func() error { _, err := Restore(s); return err }); !errors.Is(err, ErrInUse) {
			t.Fatalf("Restore is %v, want ErrInUse", err)
		}
		bad := *s
		bad.Window.RcvWup = s.RcvSeq + 1 // fails in one of the last steps
		if err := b.hosts[1].Try(func() error { _, err := Restore(&bad); return err }); !errors.Is(err, unix.EINVAL) {
			t.Fatalf("Restore is %v, want EINVAL", err)
		}
	}
	if after := count(); after != before {
		t.Errorf("%d descriptors, were %d", after, before)
	}
	b.must(CloseSilently(fd))
}
