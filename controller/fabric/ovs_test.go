package fabric

import (
	"bufio"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"

	"github.com/shunt-sdn/shunt/controller/openflow"
)

// A family is the addresses of the rig in IPv4 or IPv6.
type family struct{ name, client, vip, onlink, session, session2 string }

var families = []family{
	{"IPv4", "10.10.1.11", "10.10.0.80:80", "10.10.1.80:80", "172.31.0.1:80", "172.31.0.2:80"},
	{"IPv6", "fd10:1::11", "[fd10::80]:80", "[fd10:1::80]:80", "[fd31::1]:80", "[fd31::2]:80"},
}

func TestClientsReachTheHomeOfAServiceAndSeeTheVIP(t *testing.T) {
	onEach(t, func(t *testing.T, r *rig, m Mode) {
		r.start(m)
		for _, f := range families {
			for i, vip := range []string{f.vip, f.onlink} {
				r.hosts["dispatcher1"].serve(t, []string{f.session, f.session2}[i])
				c, err := r.hosts["client1"].dial(vip)
				if err != nil {
					t.Fatalf("%s: %v", vip, err)
				}
				defer c.Close()
				if c.RemoteAddr().String() != vip {
					t.Errorf("the peer is %v, want %s", c.RemoteAddr(), vip)
				}
				fmt.Fprintf(c, "hello\n")
				rd := bufio.NewReader(c)
				first, _ := rd.ReadString('\n')
				second, _ := rd.ReadString('\n')
				if want := fmt.Sprintf("dispatcher1 %v\nhello\n", c.LocalAddr()); first+second != want {
					t.Errorf("read %q, want %q", first+second, want)
				}
			}
		}
	})
}

// at says where a segment that a client sends to a VIP arrives: the node's name,
// and what it is like there.
func (r *rig) at(taps map[string]*tap, client, vip netip.AddrPort, flags uint8) string {
	r.t.Helper()
	return arrives(r.t, taps, r.hosts, gwNodes, client.Port(), flags, func() {
		r.hosts["client1"].tap(r.t).send(ack(r.hosts["client1"].mac, mustMAC(gwClients), client, vip, flags))
	})
}

// arrives sends a client's segment and says where it arrives. It must have been
// routed by the interface with the hardware address from.
func arrives(t *testing.T, taps map[string]*tap, hosts map[string]*host, from string, port uint16, flags uint8, send func()) string {
	t.Helper()
	send()
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); {
		for name, p := range taps {
			if s := p.next(port, 5*time.Millisecond); s != nil {
				if s.dstMAC != hosts[name].mac.String() || s.srcMAC != from || s.ttl != 63 || s.flags != flags {
					t.Errorf("at %s: %+v", name, s)
				}
				return fmt.Sprintf("%s %v", name, s.dst)
			}
		}
	}
	return "nowhere"
}

func (r *rig) taps() map[string]*tap {
	taps := map[string]*tap{}
	for _, name := range allHosts[1:] {
		taps[name] = r.hosts[name].tap(r.t)
	}
	return taps
}

// steered counts what the switch holds of steering: session flows, and tracked
// connections, with a mark or not.
func (r *rig) steered() (flows, tracked int) {
	for line := range strings.Lines(r.sw.Ofctl("dump-flows", "br0", "cookie=0x5348100000000000/0xfffff00000000000")) {
		if strings.Contains(line, "cookie=0x") {
			flows++
		}
	}
	if r.ovs == nil {
		return flows, 0
	}
	for line := range strings.Lines(r.ovs.Appctl("dpctl/dump-conntrack")) {
		if strings.Contains(line, "zone=21320") {
			tracked++
		}
	}
	return flows, tracked
}

func session(f family, port uint16, node string) Session {
	return Session{
		ID: fmt.Sprintf("%s-%d", node, port), Client: netip.AddrPortFrom(netip.MustParseAddr(f.client), port), VIP: netip.MustParseAddrPort(f.vip),
		Local: netip.MustParseAddrPort(f.session), Node: node, ClientSeq: 1000, ClientAck: 5000,
	}
}

func TestSteeringMovesAConnectionBetweenNodes(t *testing.T) {
	onEach(t, func(t *testing.T, r *rig, m Mode) {
		r.start(m)
		r.fabric.Replace(nil)
		taps := r.taps()
		for i, f := range families {
			port := uint16(4000 + i*100)
			s := session(f, port, "server1")
			go_ := func(step string, flags uint8, want string) {
				t.Helper()
				if diff := cmp.Diff(want, r.at(taps, s.Client, s.VIP, flags)); diff != "" {
					t.Errorf("%s, %s: %s", f.name, step, diff)
				}
			}
			go_("new", openflow.TCPSyn, "dispatcher1 "+f.session)
			go_("at home", openflow.TCPAck, "dispatcher1 "+f.session)
			r.steer(s)
			go_("steered", openflow.TCPAck, "server1 "+f.session)
			s2 := s
			s2.Node = "server2"
			r.steer(s2)
			go_("steered elsewhere", openflow.TCPAck, "server2 "+f.session)
			if m == ExactFlow && !r.plain { // a mark is erased by a SYN, a flow is passed over
				go_("SYN", openflow.TCPSyn, "dispatcher1 "+f.session)
			}
			if err := wait(func(done func(error)) { r.fabric.Unsteer(s.Client, s.VIP, "", done) }); err != nil {
				t.Error(err)
			}
			eventually(t, "unsteered packets go home", func() error {
				if got := r.at(taps, s.Client, s.VIP, openflow.TCPAck); got != "dispatcher1 "+f.session {
					return fmt.Errorf("at %s", got)
				}
				return nil
			})
			r.steer(s)
			eventually(t, "steered again", func() error {
				if got := r.at(taps, s.Client, s.VIP, openflow.TCPAck); got != "server1 "+f.session {
					return fmt.Errorf("at %s", got)
				}
				return nil
			})
			if m == Conntrack {
				go_("the port is used again", openflow.TCPSyn, "dispatcher1 "+f.session)
				go_("the port is used again", openflow.TCPAck, "dispatcher1 "+f.session)
				r.steer(s)
				go_("and steered", openflow.TCPAck, "server1 "+f.session)
			}
			r.fabric.End(s.Client, s.VIP)
			eventually(t, "nothing is left of the session", func() error {
				if flows, tracked := r.steered(); flows+tracked != 0 {
					return fmt.Errorf("%d flows, %d tracked connections", flows, tracked)
				}
				if n := r.fabric.devices[0].sessions.Len(); n != 0 {
					return fmt.Errorf("%d sessions are remembered", n)
				}
				return nil
			})
		}
	})
}

func TestMarksOutliveASilentServer(t *testing.T) {
	r := newRig(t)
	r.start(Conntrack)
	for i, f := range families {
		r.steer(session(f, uint16(4000+i), "server1"))
	}
	n := 0
	for line := range strings.Lines(r.ovs.Appctl("dpctl/dump-conntrack", "-s")) {
		if strings.Contains(line, "mark=") && strings.Contains(line, "state=ESTABLISHED") {
			n++
		}
	}
	if n != len(families) {
		t.Errorf("%d connections are established for the tracker, want %d:\n%s", n, len(families), r.ovs.Appctl("dpctl/dump-conntrack", "-s"))
	}
}

func TestPacketsThatTheTrackerFindsInvalidAreSteeredToo(t *testing.T) {
	r := newRig(t)
	r.start(Conntrack)
	for i, f := range families {
		s := session(f, uint16(4000+i), "server1")
		s.ClientSeq, s.ClientAck = 3_000_000_000, 2_000_000_000 // far from what the client sends
		r.steer(s)
		if got := r.at(r.taps(), s.Client, s.VIP, openflow.TCPAck); got != "server1 "+f.session {
			t.Errorf("%s: at %s", f.name, got)
		}
	}
}

func TestThePingsOfTheSwitchsAddressesAreAnswered(t *testing.T) {
	onEach(t, func(t *testing.T, r *rig, m Mode) {
		if r.plain {
			t.Log("a plain switch does not answer pings")
			return
		}
		r.start(m)
		for _, tt := range []struct {
			network, addr string
			kind          icmp.Type
			proto         int
		}{{"ip4:icmp", "10.10.1.1", ipv4.ICMPTypeEcho, 1}, {"ip4:icmp", "10.10.2.1", ipv4.ICMPTypeEcho, 1}, {"ip6:ipv6-icmp", "fd10:1::1", ipv6.ICMPTypeEchoRequest, 58}} {
			r.hosts["client1"].Do(func() error {
				c, err := icmp.ListenPacket(tt.network, "")
				if err != nil {
					return err
				}
				defer c.Close()
				m := icmp.Message{Type: tt.kind, Body: &icmp.Echo{ID: 77, Seq: 1, Data: []byte("anybody there?")}}
				b, err := m.Marshal(nil)
				if err != nil {
					return err
				}
				if _, err := c.WriteTo(b, &net.IPAddr{IP: net.ParseIP(tt.addr)}); err != nil {
					return err
				}
				c.SetDeadline(time.Now().Add(5 * time.Second))
				for b := make([]byte, 1500); ; {
					n, from, err := c.ReadFrom(b)
					if err != nil {
						return fmt.Errorf("ping %s: %w", tt.addr, err)
					}
					got, err := icmp.ParseMessage(tt.proto, b[:n])
					if err != nil {
						return err
					}
					if e, ok := got.Body.(*icmp.Echo); ok && got.Type != tt.kind && e.ID == 77 && from.String() == tt.addr {
						return nil
					}
				}
			})
		}
	})
}

func TestDivertedFramesReachTheNodeAsTheyAre(t *testing.T) {
	r := newRig(t)
	r.start(ExactFlow)
	for _, f := range families {
		client, session := netip.AddrPortFrom(netip.MustParseAddr(f.client), 4000), netip.MustParseAddrPort(f.session)
		from, to := r.hosts["dispatcher1"], r.hosts["server2"]
		at := to.tap(t)
		from.tap(t).send(ack(from.mac, to.mac, client, session, openflow.TCPAck))
		s := at.next(4000, 5*time.Second)
		if s == nil {
			t.Fatalf("%s: nothing arrived", f.name)
		}
		if s.src != client || s.dst != session || s.srcMAC != from.mac.String() || s.ttl != 64 {
			t.Errorf("%s: %+v", f.name, s)
		}
		// A client has no business with session addresses.
		r.hosts["client1"].tap(t).send(ack(r.hosts["client1"].mac, mustMAC(gwClients), netip.AddrPortFrom(client.Addr(), 4001), session, openflow.TCPAck))
		if s := at.next(4001, 100*time.Millisecond); s != nil {
			t.Errorf("%s: a client's packet for a session address arrived: %+v", f.name, s)
		}
	}
}

func TestHostsAreRoutedAndResolved(t *testing.T) {
	r := newRig(t)
	r.start(ExactFlow)
	server := r.hosts["server1"]
	for _, addr := range []string{server.v4, server.v6} {
		to := netip.AddrPortFrom(netip.MustParseAddr(addr), 8080).String()
		server.serve(t, to)
		for _, from := range []string{"client1", "dispatcher1"} { // routed, switched
			start := time.Now()
			c, err := r.hosts[from].dial(to)
			if err != nil {
				t.Fatalf("%s to %s: %v", from, to, err)
			}
			c.Close()
			if took := time.Since(start); took > 900*time.Millisecond {
				t.Errorf("%s to %s took %v: a packet was lost", from, to, took)
			}
		}
	}
	// The client was learned from its questions, and the switch forgets it;
	// then a server speaks to it first.
	client := r.hosts["client1"]
	client.serve(t, client.v4+":8080")
	if c, err := server.dial(client.v4 + ":8080"); err != nil {
		t.Error(err)
	} else {
		c.Close()
	}
}

func TestTheSwitchAnswersForItselfAlsoWithoutTheController(t *testing.T) {
	r := newRig(t)
	r.start(ExactFlow)
	for _, f := range families {
		r.hosts["dispatcher1"].serve(t, f.session)
		c, err := r.hosts["client1"].dial(f.vip) // the client becomes known
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	r.stop()
	for _, name := range []string{"client1", "dispatcher1"} {
		h := r.hosts[name]
		h.Run("ip", "neigh", "flush", "dev", "eth0")
	}
	for _, f := range families {
		c, err := r.hosts["client1"].dial(f.vip)
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
	}
	got := r.hosts["client1"].Run("ip", "neigh", "show", "dev", "eth0")
	for _, gw := range []string{"10.10.1.1 ", "fd10:1::1 "} {
		if !strings.Contains(got, gw+"lladdr "+gwClients) {
			t.Errorf("the client's neighbours:\n%s", got)
		}
	}
}
