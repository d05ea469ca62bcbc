package guard

import (
	"io"
	"net"
	"testing"
	"time"
)

func TestFramesThatAreNotOursAreNotLookedAt(t *testing.T) {
	for _, c := range []struct {
		name  string
		frame func(*lan, *segment)
	}{
		{"UDP to a session address", func(_ *lan, s *segment) { s.udp = true }},
		{"a VLAN tag", func(_ *lan, s *segment) { s.vlan = true }},
		{"another's MAC", func(_ *lan, s *segment) { s.dstMAC = net.HardwareAddr{2, 0, 0, 0, 0, 99} }}, // flooded
		{"broadcast", func(_ *lan, s *segment) { s.dstMAC = net.HardwareAddr{255, 255, 255, 255, 255, 255} }},
	} {
		for _, f := range families {
			t.Run(f.name+": "+c.name, func(t *testing.T) {
				t.Parallel()
				n := newLAN(t, Options{MaxDivert: 1024})
				s := segment{from: n.client, to: n.b, src: stray(f), dst: f.session, flags: "A"}
				c.frame(n, &s)
				came := n.b.capture()
				frame := s.bytes(t)
				n.client.send(frame)
				dst := n.b.mac
				if s.dstMAC != nil {
					dst = s.dstMAC
				}
				came(dst, n.client.mac, func([]byte) bool { return true })
				n.settle(f)
				for _, x := range []*node{n.a, n.b, n.c} {
					x.wantCounters(Counters{DeliveredFragment: 1}) // settle's own
				}
			})
		}
	}
}

func TestTooManyIPv6ExtensionHeadersAreDropped(t *testing.T) {
	n := newLAN(t, Options{MaxDivert: 1024})
	f := families[1]
	s := segment{from: n.client, to: n.a, src: stray(f), dst: f.session, flags: "A", extensions: 8}
	n.client.send(s.bytes(t))
	n.a.wantCounters(Counters{DeliveredHome: 1})
	s.extensions = 9
	n.client.send(s.bytes(t))
	n.a.wantCounters(Counters{DeliveredHome: 1, DroppedMalformed: 1})
}

func TestTheNodesOwnTrafficIsUntouched(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			n := newLAN(t, Options{MaxDivert: 1024})
			// TCP to the node's own address, and UDP to a session address.
			l := listen(t, n.b, net.JoinHostPort(f.b.String(), "8080"))
			c := dial(t, n.client, net.JoinHostPort(f.b.String(), "8080"))
			s, err := l.AcceptTCP()
			if err != nil {
				t.Fatal(err)
			}
			defer s.Close()
			if err := c.Close(); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadAll(s); err != nil {
				t.Fatal(err)
			}

			var udp net.PacketConn
			n.b.Do(func() (err error) { udp, err = net.ListenPacket("udp", ":5000"); return })
			defer udp.Close()
			n.steer(n.b)
			n.client.Do(func() error {
				c, err := net.Dial("udp", net.JoinHostPort(f.session.Addr().String(), "5000"))
				if err != nil {
					return err
				}
				defer c.Close()
				_, err = c.Write([]byte("datagram"))
				return err
			})
			udp.SetReadDeadline(time.Now().Add(patience))
			buf := make([]byte, 100)
			if k, _, err := udp.ReadFrom(buf); err != nil || string(buf[:k]) != "datagram" {
				t.Errorf("read %q, %v", buf[:k], err)
			}
			n.b.wantCounters(Counters{})
		})
	}
}
