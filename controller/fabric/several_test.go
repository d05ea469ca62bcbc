package fabric

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shunt-sdn/shunt/controller/openflow"
	"github.com/shunt-sdn/shunt/controller/steering"
)

func TestClientsOfBothSwitchesReachTheHomeThroughTheirOwn(t *testing.T) {
	onPairs(t, func(t *testing.T, p *pair) {
		for _, f := range families {
			p.hosts["dispatcher1"].serve(t, f.session)
		}
		for _, e := range p.edges() {
			for _, f := range e.families() {
				c, err := e.client.dial(f.vip)
				if err != nil {
					t.Fatalf("%s to %s: %v", e.client.name, f.vip, err)
				}
				defer c.Close()
				fmt.Fprintf(c, "hello\n")
				rd := bufio.NewReader(c)
				first, _ := rd.ReadString('\n')
				second, _ := rd.ReadString('\n')
				if want := fmt.Sprintf("dispatcher1 %v\nhello\n", c.LocalAddr()); first+second != want || c.RemoteAddr().String() != f.vip {
					t.Errorf("%v says %q, want %q of %s", c.RemoteAddr(), first+second, want, f.vip)
				}
				// A reply that a server sends to the session's gateway reaches the
				// client, routed once: by no other switch.
				at, vip := e.client.tap(t), netip.MustParseAddrPort(f.vip)
				client := netip.AddrPortFrom(netip.MustParseAddr(f.client), 4000)
				from := p.hosts["server1"]
				from.tap(t).send(ack(from.mac, mustMAC(e.nodes), netip.MustParseAddrPort(f.session), client, openflow.TCPAck))
				want := segment{dstMAC: e.client.mac.String(), srcMAC: e.clients, src: vip, dst: client, ttl: 63, flags: openflow.TCPAck}
				if s := at.next(80, 5*time.Second); s == nil || *s != want {
					t.Errorf("the reply is %+v, want %+v", s, want)
				}
			}
		}
	})
}

// A bridge that does not know a hardware address yet, or has forgotten it, floods.
func TestFramesThatTheSegmentFloodsAreForwardedOnce(t *testing.T) {
	onPairs(t, func(t *testing.T, p *pair) {
		p.segment.Run("ip", "link", "set", bridge, "type", "bridge", "ageing_time", "0")
		taps := p.taps()
		for _, tap := range taps {
			tap.mine = true
		}
		for _, e := range p.edges() {
			for i, f := range e.families() {
				s := session(f, uint16(4000+100*e.n+i), "server1")
				p.steer(s)
				if got := p.at(taps, e, s, openflow.TCPAck); got != "server1 "+f.session {
					t.Errorf("at %s", got)
				}
				at := e.client.tap(t)
				send := p.hosts["server1"].tap(t)
				mac := p.hosts["server1"].mac
				send.send(ack(mac, mustMAC(e.nodes), netip.MustParseAddrPort(f.session), s.Client, openflow.TCPAck))
				send.send(ack(mac, mustMAC(e.nodes), netip.MustParseAddrPort(f.session), s.Client, openflow.TCPFin))
				var got []string
				for s := at.next(80, 5*time.Second); s != nil; s = at.next(80, 200*time.Millisecond) {
					if s.flags&openflow.TCPRst != 0 {
						continue // the kernel of server1 resets what it does not know, above
					}
					got = append(got, fmt.Sprintf("%v→%v ttl %d", s.src, s.dst, s.ttl))
				}
				want := fmt.Sprintf("%s→%v ttl 63", f.vip, s.Client)
				if strings.Join(got, ", ") != want+", "+want {
					t.Errorf("%s got %v, want %s twice", e.client.name, got, want)
				}
				for name, tap := range taps {
					// The client's kernel resets what it does not know.
					if s := tap.next(s.Client.Port(), 0); s != nil && s.flags&openflow.TCPRst == 0 {
						t.Errorf("%s got a segment of the client's, too: %+v", name, s)
					}
				}
			}
		}
	})
}

func TestASwitchAnswersForNoGatewayButItsOwn(t *testing.T) {
	onPairs(t, func(t *testing.T, p *pair) {
		h := p.hosts["dispatcher1"]
		for _, e := range p.edges() {
			for i, gateway := range []string{fmt.Sprintf("10.10.2.%d", e.n), fmt.Sprintf("fd10:2::%d", e.n)} {
				h.Run("ip", "neigh", "flush", "dev", "eth0")
				at := h.tap(t)
				network := []string{"udp4", "udp6"}[i]
				h.Do(func() error {
					c, err := net.Dial(network, net.JoinHostPort(gateway, "9"))
					if err != nil {
						return err
					}
					defer c.Close()
					_, err = c.Write([]byte("anybody there?"))
					return err
				})
				for answers, patience := 0, 5*time.Second; ; answers++ {
					from := at.answer(netip.MustParseAddr(gateway), patience)
					if from == "" && answers == 0 {
						t.Errorf("nobody answers for %s", gateway)
					}
					if from == "" {
						break
					}
					if from != e.nodes {
						t.Errorf("%s answers for %s", from, gateway)
					}
					patience = 300 * time.Millisecond
				}
			}
		}
	})
}

// answer returns the hardware address of the next answer to a question for an
// address.
func (p *tap) answer(a netip.Addr, patience time.Duration) string {
	p.t.Helper()
	deadline := time.Now().Add(patience)
	buf := make([]byte, 2048)
	for {
		n, from, err := unix.Recvfrom(p.fd, buf, 0)
		if err == nil {
			ll, ok := from.(*unix.SockaddrLinklayer)
			b := buf[:n]
			switch {
			case !ok || ll.Pkttype == unix.PACKET_OUTGOING || n < 42:
			case b[12] == 8 && b[13] == 6 && b[21] == 2 && bytes.Equal(b[28:32], a.AsSlice()):
				return net.HardwareAddr(b[22:28]).String()
			case n >= 78 && b[12] == 0x86 && b[13] == 0xdd && b[20] == 58 && b[54] == 136 && bytes.Equal(b[62:78], a.AsSlice()):
				return net.HardwareAddr(b[6:12]).String()
			}
			continue
		}
		left := time.Until(deadline)
		if left <= 0 {
			return ""
		}
		unix.Poll([]unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}, int(left.Milliseconds())+1)
	}
}

func TestASessionIsSteeredOnBothSwitchesAndItsEndRemovesThatFromBoth(t *testing.T) {
	onPairs(t, func(t *testing.T, p *pair) {
		p.fabric.Replace(nil)
		taps := p.taps()
		for _, e := range p.edges() {
			other := p.edges()[2-e.n]
			for i, f := range e.families() {
				s := session(f, uint16(4000+100*e.n+10*i), "server1")
				go_ := func(step string, by *edge, flags uint8, want string) {
					t.Helper()
					if got := p.at(taps, by, s, flags); got != want+" "+f.session {
						t.Errorf("%s of %s, by switch %d: at %s, want %s", step, f.client, by.n, got, want)
					}
				}
				go_("the first packet", e, openflow.TCPSyn, "dispatcher1")
				go_("the next packet", e, openflow.TCPAck, "dispatcher1")
				p.steer(s)
				go_("a steered packet", e, openflow.TCPAck, "server1")
				s.Node = "server2"
				p.steer(s)
				go_("a packet that is steered elsewhere", e, openflow.TCPAck, "server2")
				if got := p.path(s); got != "switched to server2" {
					t.Errorf("the session is %s", got)
				}
				// The network may lead a client's packets another way.
				eventually(t, "the other switch steers it, too", func() error {
					if got := p.at(taps, other, s, openflow.TCPAck); got != "server2 "+f.session {
						return fmt.Errorf("at %s", got)
					}
					return nil
				})
				e.holds(1)
				other.holds(1)
				p.fabric.End(s.Client, s.VIP)
				e.holds(0)
				other.holds(0)
				eventually(t, "nothing is remembered", func() error {
					for _, d := range p.fabric.devices {
						if n := d.sessions.Len(); n != 0 {
							return fmt.Errorf("%d sessions", n)
						}
					}
					return nil
				})
				go_("a packet after the end", e, openflow.TCPAck, "dispatcher1")
			}
		}
	})
}

func TestASwitchForgetsASessionThatLeavesItsReach(t *testing.T) {
	p := newPair(t, simFlows, simConntrack)
	p.start()
	p.fabric.Replace(nil)
	topo := p.topology()
	near := p.hosts["client1"] // a node that only the first switch has on a link
	topo.Nodes = append(topo.Nodes, Node{Name: "near", MAC: near.mac, Addresses: []netip.Addr{netip.MustParseAddr(near.v4), netip.MustParseAddr(near.v6)}, Up: true})
	p.fabric.SetTopology(topo)
	for i, f := range p.a.families() {
		s := session(f, uint16(4000+i), "server1")
		p.steer(s)
		p.a.holds(i + 1)
	}
	for i, f := range p.a.families() {
		s := session(f, uint16(4000+i), "near")
		p.steer(s)
		if got := p.path(s); got != "switched to near" {
			t.Errorf("the session is %s", got)
		}
	}
	eventually(t, "the second switch forgets the sessions", func() error {
		if n := p.device(p.b).sessions.Len(); n != 0 {
			return fmt.Errorf("it has %d", n)
		}
		return nil
	})
	// A client of the second switch takes the way over home.
	s := session(p.b.families()[0], 4100, "near")
	if err := p.told(s); !errors.Is(err, steering.ErrUnresolved) {
		t.Errorf("steering to a node that the client's switch does not reach: %v", err)
	}
	if got := p.path(s); got != "diverted to near" {
		t.Errorf("the session is %s", got)
	}
}

func TestAnswersOfSeveralSwitchesMakeOne(t *testing.T) {
	refused := errors.New("table full")
	lost := fmt.Errorf("%w: gone", steering.ErrNoSwitch)
	for _, tt := range []struct {
		answers []error
		want    error
	}{
		{nil, steering.ErrUnresolved},
		{[]error{nil}, nil},
		{[]error{refused}, refused},
		{[]error{nil, nil}, nil},
		{[]error{nil, lost}, nil},
		{[]error{lost, nil}, nil},
		{[]error{lost, lost}, steering.ErrNoSwitch},
		{[]error{nil, refused}, refused},
		{[]error{refused, lost}, refused},
	} {
		var said []error
		answer := joint(len(tt.answers), func(err error) { said = append(said, err) })
		for i, err := range tt.answers {
			if len(said) != 0 {
				t.Errorf("%v: %v is said after %d answers", tt.answers, said, i)
			}
			answer(err)
		}
		if len(said) != 1 || !errors.Is(said[0], tt.want) {
			t.Errorf("%v: %v is said, want %v, once", tt.answers, said, tt.want)
		}
	}
}
