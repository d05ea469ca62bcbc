package guard

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"os"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func listen(t testing.TB, x *node, addr string) *net.TCPListener {
	t.Helper()
	var l net.Listener
	x.Do(func() (err error) {
		var lc net.ListenConfig
		lc.SetMultipathTCP(false)
		l, err = lc.Listen(t.Context(), "tcp", addr)
		return
	})
	t.Cleanup(func() { l.Close() })
	l.(*net.TCPListener).SetDeadline(time.Now().Add(patience))
	return l.(*net.TCPListener)
}

func dial(t testing.TB, x *node, addr string) *net.TCPConn {
	t.Helper()
	var c net.Conn
	x.Do(func() (err error) { c, err = net.DialTimeout("tcp", addr, patience); return })
	t.Cleanup(func() { c.Close() })
	return c.(*net.TCPConn)
}

// session is a live connection from the client to the session address.
type session struct {
	client, server *net.TCPConn
	peer           netip.AddrPort // the client's end
}

// sessionAt makes a session whose socket is on x, as if it had been moved
// there: home is a afterwards, for all nodes.
func (n *lan) sessionAt(x *node, f family) session {
	n.t.Helper()
	n.setHome(x, x)
	n.steer(x)
	l := listen(n.t, x, ":80")
	s := session{client: dial(n.t, n.client, f.session.String())}
	var err error
	if s.server, err = l.AcceptTCP(); err != nil {
		n.t.Fatal(err)
	}
	n.t.Cleanup(func() { s.server.Close() })
	p := s.client.LocalAddr().(*net.TCPAddr).AddrPort()
	s.peer = netip.AddrPortFrom(p.Addr().Unmap(), p.Port())
	s.mustEcho(n.t)
	n.setHome(x, n.a)
	return s
}

func (s session) mustEcho(t testing.TB) {
	t.Helper()
	if err := s.echo(); err != nil {
		t.Fatal(err)
	}
}

// echo sends a few bytes each way.
func (s session) echo() error {
	for _, d := range [][2]*net.TCPConn{{s.client, s.server}, {s.server, s.client}} {
		d[1].SetReadDeadline(time.Now().Add(patience))
		if _, err := d[0].Write([]byte("hello")); err != nil {
			return err
		}
		b := make([]byte, 5)
		if _, err := io.ReadFull(d[1], b); err != nil {
			return err
		}
	}
	return nil
}

// bulk sends random bytes from one end to the other, and says if others came.
func bulk(from, to *net.TCPConn, size int) error {
	data := make([]byte, size)
	seed := [32]byte{byte(size)}
	rand.NewChaCha8(seed).Read(data)
	sent := make(chan error, 1)
	go func() {
		_, err := io.Copy(from, bytes.NewReader(data))
		sent <- err
	}()
	to.SetReadDeadline(time.Now().Add(6 * patience))
	h := sha256.New()
	if _, err := io.CopyN(h, to, int64(size)); err != nil {
		return err
	}
	if [32]byte(h.Sum(nil)) != sha256.Sum256(data) {
		return fmt.Errorf("the %d bytes that came are not those that were sent", size)
	}
	return <-sent
}

func TestALiveSocketGetsItsPacketsWhereverItIs(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			n := newLAN(t, Options{MaxDivert: 1024})
			s := n.sessionAt(n.b, f)
			before := n.b.counters()
			s.mustEcho(t)
			if err := bulk(s.client, s.server, 8<<20); err != nil {
				t.Fatal(err)
			}
			after := n.b.counters()
			if after.DeliveredSocket <= before.DeliveredSocket || after.ReturnedHome != 0 || after.DeliveredHome != before.DeliveredHome {
				t.Errorf("before %+v, after %+v", before, after)
			}
		})
	}
}

func TestADivertedTransferArrivesWhole(t *testing.T) {
	for _, f := range families {
		for _, force := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s clsact %v", f.name, force), func(t *testing.T) {
				n := newLAN(t, Options{MaxDivert: 1024, ForceClsact: force})
				s := n.sessionAt(n.b, f)
				err := errors.Join(n.a.g.Divert(s.peer, f.session, n.b.mac, 0), n.a.g.Settle(s.peer, f.session, 0))
				if err != nil {
					t.Fatal(err)
				}
				n.steer(n.a)
				const size = 64 << 20
				if err := bulk(s.client, s.server, size); err != nil {
					t.Fatal(err)
				}
				if err := bulk(s.server, s.client, size/4); err != nil {
					t.Fatal(err)
				}
				c := n.a.counters()
				if c.Diverted == 0 || c.DeliveredHome+c.DeliveredSocket+c.DroppedBounced > 0 {
					t.Errorf("node a counts %+v", c)
				}
				if c.Diverted > size/1460 {
					t.Logf("%d packets were diverted: the transfer did not use segmentation offload", c.Diverted)
				}
				if r := n.a.resets() + n.b.resets(); r != 0 {
					t.Errorf("%d RSTs were sent", r)
				}
			})
		}
	}
}

func TestPacketsSteeredToTheWrongNodeFindTheSessionThroughHome(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			n := newLAN(t, Options{MaxDivert: 1024})
			s := n.sessionAt(n.b, f)
			if err := n.a.g.Divert(s.peer, f.session, n.b.mac, 0); err != nil {
				t.Fatal(err)
			}
			n.steer(n.c) // c to a to b
			if err := bulk(s.client, s.server, 8<<20); err != nil {
				t.Fatal(err)
			}
			if a, c := n.a.counters(), n.c.counters(); a.Diverted == 0 || c.ReturnedHome == 0 {
				t.Errorf("a counts %+v, c counts %+v", a, c)
			}
		})
	}
}

func TestUndivertEndsADiversion(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			n := newLAN(t, Options{MaxDivert: 1024})
			s := n.sessionAt(n.a, f) // the copy that stays when a hand-off is rolled back
			n.setHome(n.a, n.a)
			if err := n.a.g.Divert(s.peer, f.session, n.b.mac, 0); err != nil {
				t.Fatal(err)
			}
			if _, err := s.client.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			for n.a.counters().Diverted == 0 {
				if t.Context().Err() != nil {
					t.Fatal("nothing was diverted")
				}
			}
			if err := n.a.g.Undivert(s.peer, f.session); err != nil {
				t.Fatal(err)
			}
			s.server.SetReadDeadline(time.Now().Add(patience))
			if _, err := io.ReadFull(s.server, make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			s.mustEcho(t)
		})
	}
}

func TestARequestInSynReceivedIsASocket(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			n := newLAN(t, Options{MaxDivert: 1024})
			n.setHome(n.b, n.b)
			listen(t, n.b, ":80")
			seg := segment{from: n.client, to: n.b, src: stray(f), dst: f.session, flags: "S"}
			n.client.send(seg.bytes(t))
			n.b.wantCounters(Counters{SynDelivered: 1})
			n.settle(f)
			n.setHome(n.b, n.a)
			seg.flags = "A"
			n.client.send(seg.bytes(t))
			n.b.wantCounters(Counters{SynDelivered: 1, DeliveredFragment: 1, DeliveredSocket: 1})
		})
	}
}

func TestAListenerIsNotASocketOfTheConnection(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			n := newLAN(t, Options{MaxDivert: 1024})
			listen(t, n.b, ":80")
			seg := segment{from: n.client, to: n.b, src: stray(f), dst: f.session, flags: "A"}
			n.client.send(seg.bytes(t))
			n.b.wantCounters(Counters{ReturnedHome: 1})
			n.a.wantCounters(Counters{DeliveredHome: 1})
			if r := n.b.resets(); r != 0 {
				t.Errorf("node b sent %d RSTs", r)
			}
		})
	}
}

func TestConnectionsBySynCookieAreAcceptedAtHome(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			n := newLAN(t, Options{MaxDivert: 1024})
			n.a.Do(func() error { return os.WriteFile("/proc/sys/net/ipv4/tcp_syncookies", []byte("2"), 0) })
			l := listen(t, n.a, ":80")
			s := session{client: dial(t, n.client, f.session.String())}
			var err error
			if s.server, err = l.AcceptTCP(); err != nil {
				t.Fatal(err)
			}
			defer s.server.Close()
			s.mustEcho(t)
			if c := n.a.counters(); c.DeliveredHome == 0 {
				t.Errorf("node a counts %+v", c)
			}
		})
	}
}

func TestWithoutAListenerHomeRefusesConnections(t *testing.T) {
	for _, f := range families {
		for _, via := range []string{"a", "b"} {
			t.Run(f.name+" via "+via, func(t *testing.T) {
				n := newLAN(t, Options{MaxDivert: 1024})
				if via == "b" {
					n.steer(n.b)
				}
				err := n.client.Try(func() error {
					_, err := net.DialTimeout("tcp", f.session.String(), patience)
					return err
				})
				if !errors.Is(err, syscall.ECONNREFUSED) {
					t.Errorf("connecting: %v, want a refusal", err)
				}
			})
		}
	}
}

func TestAClientThatReusesAPortReachesHomeAgain(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			n := newLAN(t, Options{MaxDivert: 1024})
			peer := netip.AddrPortFrom(f.client, 5555)
			if err := n.a.g.Divert(peer, f.session, n.b.mac, 0); err != nil {
				t.Fatal(err)
			}
			l := listen(t, n.a, ":80")
			var s session
			n.client.Do(func() error {
				d := net.Dialer{LocalAddr: net.TCPAddrFromAddrPort(peer), Timeout: patience}
				d.Control = func(_, _ string, raw syscall.RawConn) (err error) {
					raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_REUSEADDR, 1) })
					return err
				}
				c, err := d.Dial("tcp", f.session.String())
				if err != nil {
					return err
				}
				s.client = c.(*net.TCPConn)
				return nil
			})
			defer s.client.Close()
			var err error
			if s.server, err = l.AcceptTCP(); err != nil {
				t.Fatal(err)
			}
			defer s.server.Close()
			s.mustEcho(t)
			if c := n.a.counters(); c.Diverted != 0 {
				t.Errorf("node a counts %+v", c)
			}
		})
	}
}

func TestACircleOfDiversionsEnds(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			n := newLAN(t, Options{MaxDivert: 1024})
			for from, to := range map[*node]*node{n.a: n.b, n.b: n.c, n.c: n.a} {
				if err := from.g.Divert(stray(f), f.session, to.mac, 0); err != nil {
					t.Fatal(err)
				}
			}
			seg := segment{from: n.client, to: n.a, src: stray(f), dst: f.session, flags: "A", ttl: 7}
			n.client.send(seg.bytes(t))
			n.a.wantCounters(Counters{Diverted: 2, DroppedHopLimit: 1})
			n.b.wantCounters(Counters{Diverted: 2})
			n.c.wantCounters(Counters{Diverted: 2})
		})
	}
}
