package guard

import (
	"errors"
	"net"
	"net/netip"
	"testing"
)

// stray is where crafted packets say that they come from: the client's subnet,
// but nobody's, so that no kernel answers the kernel's answers.
func stray(f family) netip.AddrPort {
	if f.session.Addr().Is4() {
		return netip.MustParseAddrPort("10.1.0.99:4000")
	}
	return netip.MustParseAddrPort("[fd01::99]:4000")
}

func TestEachPacketMeetsItsDecision(t *testing.T) {
	type nodes struct{ at, from, forwardedTo *node }
	for _, c := range []struct {
		name     string
		where    func(*lan) nodes
		divertTo func(*lan) *node // at the node that gets the packet
		segment  segment
		orphan   bool
		want     Counters
		then     Counters // at the node that it is forwarded to
		resets   int      // by all nodes together
	}{
		{
			name:    "a SYN at home is delivered",
			where:   func(n *lan) nodes { return nodes{n.a, n.client, nil} },
			segment: segment{flags: "S"},
			want:    Counters{SynDelivered: 1}, resets: 1, // nobody listens
		},
		{
			name:    "a SYN elsewhere is sent home",
			where:   func(n *lan) nodes { return nodes{n.b, n.client, n.a} },
			segment: segment{flags: "S"},
			want:    Counters{SynReturned: 1}, then: Counters{SynDelivered: 1}, resets: 1,
		},
		{
			name:    "a SYN from home is not sent back",
			where:   func(n *lan) nodes { return nodes{n.b, n.a, nil} },
			segment: segment{flags: "S"},
			want:    Counters{SynDropped: 1},
		},
		{
			name:     "a SYN erases the diversion at home",
			where:    func(n *lan) nodes { return nodes{n.a, n.client, nil} },
			divertTo: func(n *lan) *node { return n.b },
			segment:  segment{flags: "S"},
			want:     Counters{SynDelivered: 1}, resets: 1,
		},
		{
			name:     "a SYN erases the diversion elsewhere",
			where:    func(n *lan) nodes { return nodes{n.b, n.client, n.a} },
			divertTo: func(n *lan) *node { return n.c },
			segment:  segment{flags: "S"},
			want:     Counters{SynReturned: 1}, then: Counters{SynDelivered: 1}, resets: 1,
		},
		{
			name:    "a SYN to an address without a home is dropped",
			where:   func(n *lan) nodes { return nodes{n.b, n.client, nil} },
			segment: segment{flags: "S"}, orphan: true,
			want: Counters{DroppedUnknownHome: 1},
		},
		{
			name:     "a diverted packet goes to the node that has the session",
			where:    func(n *lan) nodes { return nodes{n.a, n.client, n.b} },
			divertTo: func(n *lan) *node { return n.b },
			segment:  segment{flags: "A"},
			want:     Counters{Diverted: 1}, then: Counters{DroppedFromHome: 1},
		},
		{
			name:     "a FIN and a RST are diverted, too",
			where:    func(n *lan) nodes { return nodes{n.a, n.client, n.b} },
			divertTo: func(n *lan) *node { return n.b },
			segment:  segment{flags: "FR"},
			want:     Counters{Diverted: 1}, then: Counters{DroppedFromHome: 1},
		},
		{
			name:     "a SYN with ACK does not erase the diversion",
			where:    func(n *lan) nodes { return nodes{n.a, n.client, n.b} },
			divertTo: func(n *lan) *node { return n.b },
			segment:  segment{flags: "SA"},
			want:     Counters{Diverted: 1}, then: Counters{DroppedFromHome: 1},
		},
		{
			name:     "a node that is not home diverts, too",
			where:    func(n *lan) nodes { return nodes{n.b, n.a, n.c} },
			divertTo: func(n *lan) *node { return n.c },
			segment:  segment{flags: "A"},
			want:     Counters{Diverted: 1}, then: Counters{ReturnedHome: 1}, resets: 1, // which comes home from c
		},
		{
			name:     "a packet from the node that it is diverted to is dropped",
			where:    func(n *lan) nodes { return nodes{n.a, n.b, nil} },
			divertTo: func(n *lan) *node { return n.b },
			segment:  segment{flags: "A"},
			want:     Counters{DroppedBounced: 1},
		},
		{
			name:    "at home the kernel answers what it does not know with a RST",
			where:   func(n *lan) nodes { return nodes{n.a, n.client, nil} },
			segment: segment{flags: "A"},
			want:    Counters{DeliveredHome: 1}, resets: 1,
		},
		{
			name:    "a stray packet elsewhere is sent home, and only home answers",
			where:   func(n *lan) nodes { return nodes{n.b, n.client, n.a} },
			segment: segment{flags: "A"},
			want:    Counters{ReturnedHome: 1}, then: Counters{DeliveredHome: 1}, resets: 1,
		},
		{
			name:    "a stray packet from home is dropped without an answer",
			where:   func(n *lan) nodes { return nodes{n.b, n.a, nil} },
			segment: segment{flags: "A"},
			want:    Counters{DroppedFromHome: 1},
		},
		{
			name:    "a packet to an address without a home is dropped without an answer",
			where:   func(n *lan) nodes { return nodes{n.b, n.client, nil} },
			segment: segment{flags: "A"}, orphan: true,
			want: Counters{DroppedUnknownHome: 1},
		},
		{
			name:    "a packet that has used up its hops is not forwarded",
			where:   func(n *lan) nodes { return nodes{n.b, n.client, nil} },
			segment: segment{flags: "A", ttl: 1},
			want:    Counters{DroppedHopLimit: 1},
		},
		{
			name:    "a packet with its last hop is delivered at home",
			where:   func(n *lan) nodes { return nodes{n.a, n.client, nil} },
			segment: segment{flags: "A", ttl: 1},
			want:    Counters{DeliveredHome: 1}, resets: 1,
		},
		{
			name:    "IPv4 options and IPv6 extension headers are read over",
			where:   func(n *lan) nodes { return nodes{n.b, n.a, nil} },
			segment: segment{flags: "A", options: true},
			want:    Counters{DroppedFromHome: 1},
		},
		{
			name:    "a forwarded packet keeps its options",
			where:   func(n *lan) nodes { return nodes{n.b, n.c, n.a} },
			segment: segment{flags: "S", options: true},
			want:    Counters{SynReturned: 1}, then: Counters{SynDelivered: 1}, resets: 1,
		},
		{
			name:    "a packet without all of a TCP header is dropped",
			where:   func(n *lan) nodes { return nodes{n.a, n.client, nil} },
			segment: segment{flags: "A", cut: 8},
			want:    Counters{DroppedMalformed: 1},
		},
		{
			name:    "the first fragment is judged like a whole packet",
			where:   func(n *lan) nodes { return nodes{n.b, n.a, nil} },
			segment: segment{flags: "A", more: true},
			want:    Counters{DroppedFromHome: 1},
		},
		{
			name:    "a later fragment is delivered, and nobody answers it",
			where:   func(n *lan) nodes { return nodes{n.b, n.client, nil} },
			segment: segment{flags: "A", v4Fragment: 100, v6Fragment: 100},
			want:    Counters{DeliveredFragment: 1},
		},
	} {
		for _, f := range families {
			t.Run(f.name+": "+c.name, func(t *testing.T) {
				t.Parallel()
				n := newLAN(t, Options{MaxDivert: 1024})
				w := c.where(n)
				s := c.segment
				s.from, s.to, s.src, s.dst = w.from, w.at, stray(f), f.session
				if c.orphan {
					s.dst = f.orphan
				}
				if c.divertTo != nil {
					if err := errors.Join(w.at.g.Divert(s.src, s.dst, c.divertTo(n).mac, 0), w.at.g.Settle(s.src, s.dst, 0)); err != nil {
						t.Fatal(err)
					}
				}
				var next func(dst, src net.HardwareAddr, match func([]byte) bool) []byte
				if w.forwardedTo != nil {
					next = w.forwardedTo.capture()
				}
				frame := s.bytes(t)
				w.from.send(frame)
				w.at.wantCounters(c.want)
				if w.forwardedTo != nil {
					got := next(w.forwardedTo.mac, w.at.mac, func(b []byte) bool { return len(b) == len(frame) })
					if hopLimit(got) != hopLimit(frame)-1 || !checksumOK(got) {
						t.Errorf("forwarded with %d hops left of %d, checksum right: %v", hopLimit(got), hopLimit(frame), checksumOK(got))
					}
					w.forwardedTo.wantCounters(c.then)
				}
				if got := n.settle(f); got != c.resets {
					t.Errorf("the nodes sent %d RSTs, want %d", got, c.resets)
				}
				if c.divertTo != nil && (c.want.SynDelivered > 0 || c.want.SynReturned > 0) {
					if _, ok, err := w.at.g.Diverted(s.src, s.dst); ok || err != nil {
						t.Errorf("after the SYN: diverted %v, error %v", ok, err)
					}
				}
			})
		}
	}
}

// settle waits until every node has dealt with the packets on their way, and
// returns how many RSTs the nodes sent.
func (n *lan) settle(f family) (resets int) {
	n.t.Helper()
	for _, x := range []*node{n.b, n.c, n.a} {
		// A packet that can only follow those before it, through each node.
		before := x.counters()
		later := segment{from: n.client, to: x, src: stray(f), dst: f.session, flags: "A", v4Fragment: 200, v6Fragment: 200}
		n.client.send(later.bytes(n.t))
		for x.counters().DeliveredFragment == before.DeliveredFragment {
			if n.t.Context().Err() != nil {
				n.t.Fatal("the test ended")
			}
		}
	}
	for _, x := range []*node{n.a, n.b, n.c} {
		resets += x.resets()
	}
	return resets
}
