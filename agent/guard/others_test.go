package guard

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/shunt-sdn/shunt/internal/testnet"
)

// atB is the session address that dispatcher b has for the same service.
func (f family) atB() netip.AddrPort {
	if f.session.Addr().Is4() {
		return netip.MustParseAddrPort("10.9.77.3:80")
	}
	return netip.MustParseAddrPort("[fd09:0:0:ffee::b]:80")
}

func slotOf(client netip.AddrPort) uint8 { return uint8(client.Port() >> 1 & 63) }

// dispatchers makes a and b dispatchers, each home of its own session addresses.
func (n *lan) dispatchers() {
	n.t.Helper()
	for _, x := range []*node{n.a, n.b, n.c} {
		homes := make(map[netip.Addr]Home)
		for _, f := range families {
			homes[f.session.Addr()] = Home{MAC: n.a.mac, Self: x == n.a}
			homes[f.atB().Addr()] = Home{MAC: n.b.mac, Self: x == n.b}
		}
		if err := x.g.SetHomes(homes); err != nil {
			n.t.Fatal(err)
		}
	}
}

// askA makes b ask a for what it does not know of these slots.
func (n *lan) askA(slots ...uint8) {
	n.t.Helper()
	others := make(map[Share]Another)
	for _, f := range families {
		for _, s := range slots {
			others[Share{f.atB().Addr(), s}] = Another{f.session.Addr(), n.a.mac, 0}
		}
	}
	if err := n.b.g.SetOthers(others); err != nil {
		n.t.Fatal(err)
	}
}

func allSlots() (all []uint8) {
	for s := range uint8(slots) {
		all = append(all, s)
	}
	return all
}

// switchToB does to the client's packets what the switch does when b has taken
// over a share: they are sent to b, at its session address. What comes back is
// from a's, as the client expects it.
func (n *lan) switchToB(f family) {
	n.t.Helper()
	ip := "ip"
	if f.session.Addr().Is6() {
		ip = "ip6"
	}
	n.steer(n.b)
	n.client.Run("nft", fmt.Sprintf(`add table %[1]s sw; add chain %[1]s sw out { type filter hook postrouting priority 0; };
		add rule %[1]s sw out %[1]s daddr %[2]s %[1]s daddr set %[3]s`, ip, f.session.Addr(), f.atB().Addr()))
}

func TestAConnectionGoesOnAtTheDispatcherThatHasIt(t *testing.T) {
	testnet.NeedProgram(t, "nft", "ethtool")
	for _, f := range families {
		for _, force := range both {
			for _, offload := range []string{"everywhere", "not at the client", "not at b"} {
				for _, diverted := range both {
					t.Run(fmt.Sprintf("%s clsact %v offload %s diverted %v", f.name, force, offload, diverted), func(t *testing.T) {
						n := newLAN(t, Options{MaxDivert: 1024, ForceClsact: force})
						// A checksum that is left to the hardware is looked at only once it
						// has been made, which b does if it has no such hardware.
						switch offload {
						case "not at the client":
							n.client.Run("ethtool", "-K", "eth0", "tx", "off")
						case "not at b":
							n.b.Run("ethtool", "-K", "eth0", "tx", "off")
						}
						holder := n.a
						if diverted {
							holder = n.c
						}
						s := n.sessionAt(holder, f)
						n.dispatchers()
						if diverted {
							if err := n.a.g.Divert(s.peer, f.session, n.c.mac, 0); err != nil {
								t.Fatal(err)
							}
						}
						listen(t, n.b, ":80") // a dispatcher serves
						n.askA(slotOf(s.peer))
						n.switchToB(f)
						s.mustEcho(t)
						if err := bulk(s.client, s.server, 8<<20); err != nil {
							t.Fatal(err)
						}
						if err := bulk(s.server, s.client, 8<<20); err != nil {
							t.Fatal(err)
						}
						a, b := n.a.counters(), n.b.counters()
						if b.PassedOn == 0 || b.DeliveredHome+b.DeliveredSocket > 0 || a.PassedOn+a.DeliveredHome > 0 {
							t.Errorf("a counts %+v, b counts %+v", a, b)
						}
						if diverted != (a.Diverted > 0) {
							t.Errorf("diverted %v, a counts %+v", diverted, a)
						}
						s.client.CloseWrite()
						s.server.SetReadDeadline(time.Now().Add(patience))
						if _, err := s.server.Read(make([]byte, 1)); err != io.EOF {
							t.Errorf("the server read %v, want the end", err)
						}
						for _, x := range []*node{n.a, n.b, n.c, n.client} {
							if got := x.resets(); got != 0 {
								t.Errorf("%s sent %d RSTs", x.name, got)
							}
						}
					})
				}
			}
		}
	}
}

func TestWhatADispatcherPassesOn(t *testing.T) {
	slot := slotOf(stray(families[0]))
	var but []uint8
	for _, s := range allSlots() {
		if s != slot {
			but = append(but, s)
		}
	}
	for _, c := range []struct {
		name    string
		slots   []uint8 // that b asks a for
		from    func(*lan) *node
		prepare func(*lan, family)
		segment segment
		b, a    Counters
		resets  int
	}{
		{
			name:    "what nothing here knows is passed on",
			slots:   []uint8{slot},
			segment: segment{flags: "A", payload: "odd"},
			b:       Counters{PassedOn: 1}, a: Counters{DeliveredHome: 1}, resets: 1, // nothing there does either
		},
		{
			name:    "behind IPv4 options and IPv6 extension headers, too",
			slots:   []uint8{slot},
			segment: segment{flags: "FA", options: true, payload: "even"},
			b:       Counters{PassedOn: 1}, a: Counters{DeliveredHome: 1}, resets: 1,
		},
		{
			name:    "a RST is passed on",
			slots:   []uint8{slot},
			segment: segment{flags: "R"},
			b:       Counters{PassedOn: 1}, a: Counters{DeliveredHome: 1},
		},
		{
			name:    "with Ethernet's padding",
			slots:   []uint8{slot},
			segment: segment{flags: "A", pad: true},
			b:       Counters{PassedOn: 1}, a: Counters{DeliveredHome: 1}, resets: 1,
		},
		{
			name:    "a slot without another dispatcher is answered",
			slots:   but,
			segment: segment{flags: "A"},
			b:       Counters{DeliveredHome: 1}, resets: 1,
		},
		{
			name:    "not back to the sender",
			slots:   []uint8{slot},
			from:    func(n *lan) *node { return n.a },
			segment: segment{flags: "A"},
			b:       Counters{DeliveredHome: 1}, resets: 1,
		},
		{
			name:    "what another node sent home is passed on",
			slots:   []uint8{slot},
			from:    func(n *lan) *node { return n.c },
			segment: segment{flags: "A"},
			b:       Counters{PassedOn: 1}, a: Counters{DeliveredHome: 1}, resets: 1,
		},
		{
			name:    "a SYN that nobody listens for is passed on",
			slots:   []uint8{slot},
			segment: segment{flags: "S"},
			b:       Counters{PassedOn: 1}, a: Counters{SynDelivered: 1}, resets: 1, // nobody listens there
		},
		{
			name:    "a SYN is not if somebody does",
			slots:   []uint8{slot},
			prepare: func(n *lan, _ family) { listen(n.t, n.b, ":80") },
			segment: segment{flags: "S"},
			b:       Counters{SynDelivered: 1},
		},
		{
			name:    "nor if there is no other",
			slots:   but,
			segment: segment{flags: "S"},
			b:       Counters{SynDelivered: 1}, resets: 1,
		},
		{
			name:  "a diversion is known",
			slots: []uint8{slot},
			prepare: func(n *lan, f family) {
				if err := errors.Join(n.b.g.Divert(stray(f), f.atB(), n.c.mac, 0), n.b.g.Settle(stray(f), f.atB(), 0)); err != nil {
					n.t.Fatal(err)
				}
			},
			segment: segment{flags: "A"},
			b:       Counters{Diverted: 1}, // and c drops what comes from home
		},
		{
			name:    "a listener does not know it",
			slots:   []uint8{slot},
			prepare: func(n *lan, _ family) { listen(n.t, n.b, ":80") },
			segment: segment{flags: "A"},
			b:       Counters{PassedOn: 1}, a: Counters{DeliveredHome: 1}, resets: 1,
		},
		{
			name:    "what has been everywhere is answered",
			slots:   []uint8{slot},
			segment: segment{flags: "A", ttl: 16},
			b:       Counters{DeliveredHome: 1}, resets: 1,
		},
		{
			name:    "a later fragment is delivered",
			slots:   []uint8{slot},
			segment: segment{flags: "A", v4Fragment: 100, v6Fragment: 100},
			b:       Counters{DeliveredFragment: 1},
		},
		{
			name:    "a header cut off before its checksum is dropped",
			slots:   []uint8{slot},
			segment: segment{flags: "A", cut: 4},
			b:       Counters{DroppedMalformed: 1},
		},
	} {
		for _, f := range families {
			t.Run(f.name+": "+c.name, func(t *testing.T) {
				t.Parallel()
				n := newLAN(t, Options{MaxDivert: 1024})
				n.dispatchers()
				n.askA(c.slots...)
				if c.prepare != nil {
					c.prepare(n, f)
				}
				s := c.segment
				s.from, s.to, s.src, s.dst = n.client, n.b, stray(f), f.atB()
				if c.from != nil {
					s.from = c.from(n)
				}
				came := n.a.capture()
				frame := s.bytes(t)
				s.from.send(frame)
				n.b.wantCounters(c.b)
				if c.b.PassedOn > 0 {
					// As the client would have sent it to a, but for the hops.
					s.dst, s.ttl = f.session, 16
					want := s.bytes(t)[14:]
					came(n.a.mac, n.b.mac, func(b []byte) bool { return bytes.Equal(b[14:], want) })
				}
				n.a.wantCounters(c.a)
				if got := n.settle(f); got != c.resets {
					t.Errorf("the nodes sent %d RSTs, want %d", got, c.resets)
				}
			})
		}
	}
}

// A dispatcher's program can be gone, and the switch not know it yet.
func TestAConnectionBeginsAtTheDispatcherThatListens(t *testing.T) {
	testnet.NeedProgram(t, "nft")
	for _, f := range families {
		for _, force := range both {
			t.Run(fmt.Sprintf("%s clsact %v", f.name, force), func(t *testing.T) {
				n := newLAN(t, Options{MaxDivert: 1024, ForceClsact: force})
				n.dispatchers()
				l := listen(t, n.a, ":80")
				n.askA(allSlots()...)
				n.switchToB(f)
				s := session{client: dial(t, n.client, f.session.String())}
				var err error
				if s.server, err = l.AcceptTCP(); err != nil {
					t.Fatal(err)
				}
				defer s.server.Close()
				s.mustEcho(t)
				if err := bulk(s.client, s.server, 1<<20); err != nil {
					t.Fatal(err)
				}
				a, b := n.a.counters(), n.b.counters()
				if b.PassedOn == 0 || b.SynDelivered+b.DeliveredHome > 0 || a.SynDelivered == 0 || a.PassedOn > 0 {
					t.Errorf("a counts %+v, b counts %+v", a, b)
				}
				for _, x := range []*node{n.a, n.b, n.client} {
					if got := x.resets(); got != 0 {
						t.Errorf("%s sent %d RSTs", x.name, got)
					}
				}
			})
		}
	}
}

// Connections that begin here by a SYN cookie have no socket until the client
// answers: that answer is this node's.
func TestConnectionsBySynCookieAreNotPassedOn(t *testing.T) {
	for _, f := range families {
		for _, force := range both {
			t.Run(fmt.Sprintf("%s clsact %v", f.name, force), func(t *testing.T) {
				n := newLAN(t, Options{MaxDivert: 1024, ForceClsact: force})
				n.b.Do(func() error { return os.WriteFile("/proc/sys/net/ipv4/tcp_syncookies", []byte("2"), 0) })
				n.dispatchers()
				n.askA(allSlots()...)
				n.steer(n.b)
				l := listen(t, n.b, ":80")
				s := session{client: dial(t, n.client, f.atB().String())}
				var err error
				if s.server, err = l.AcceptTCP(); err != nil {
					t.Fatal(err)
				}
				defer s.server.Close()
				s.mustEcho(t)
				if c := n.b.counters(); c.DeliveredHome == 0 || c.PassedOn > 0 {
					t.Errorf("node b counts %+v", c)
				}

				// What does not follow the SYN of the same connection is not.
				before := n.b.counters()
				seg := segment{from: n.client, to: n.b, src: stray(f), dst: f.atB(), flags: "S"}
				n.client.send(seg.bytes(t))
				seg.flags = "A" // with the SYN's own sequence number: of an older connection
				n.client.send(seg.bytes(t))
				n.a.wantCounters(Counters{DeliveredHome: 1})
				if c := n.b.counters(); c.PassedOn != 1 || c.DeliveredHome != before.DeliveredHome {
					t.Errorf("node b counts %+v before, %+v after", before, c)
				}
			})
		}
	}
}

func TestEachDispatcherIsAskedOnce(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			n := newLAN(t, Options{MaxDivert: 1024})
			// Each has the same session address, and asks the next one.
			next := map[*node]*node{n.a: n.b, n.b: n.c, n.c: n.a}
			for x, other := range next {
				n.setHome(x, x)
				err := x.g.SetOthers(map[Share]Another{{f.session.Addr(), slotOf(stray(f))}: {f.session.Addr(), other.mac, 1}})
				if err != nil {
					t.Fatal(err)
				}
			}
			seg := segment{from: n.client, to: n.a, src: stray(f), dst: f.session, flags: "A"}
			n.client.send(seg.bytes(t))
			n.a.wantCounters(Counters{PassedOn: 1})
			n.b.wantCounters(Counters{PassedOn: 1})
			n.c.wantCounters(Counters{DeliveredHome: 1})
		})
	}
}

func TestTheNextProcessAdoptsTheOthers(t *testing.T) {
	for _, force := range both {
		t.Run(fmt.Sprintf("clsact %v", force), func(t *testing.T) {
			f := families[0]
			n := newLAN(t, Options{MaxDivert: 1024, ForceClsact: force})
			n.dispatchers()
			n.askA(allSlots()...)
			seg := segment{from: n.client, to: n.b, src: stray(f), dst: f.atB(), flags: "A"}
			n.client.send(seg.bytes(t))
			n.b.wantCounters(Counters{PassedOn: 1})
			n.b.g.Close()
			n.client.send(seg.bytes(t)) // with no process
			n.b.open(Options{MaxDivert: 1024, ForceClsact: force})
			n.b.wantCounters(Counters{PassedOn: 2})
			n.client.send(seg.bytes(t))
			n.b.wantCounters(Counters{PassedOn: 3})
			n.a.wantCounters(Counters{DeliveredHome: 3})
		})
	}
}
