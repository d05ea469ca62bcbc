package pipeline

import (
	"bytes"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/shunt-sdn/shunt/controller/openflow"
)

// The example network: clients on ports 1 and 2, a dispatcher on 11, two
// servers on 21 and 22; also the network of docs/flow-tables.md.
const (
	gwClients  = "02:00:00:00:01:01"
	gwNodes    = "02:00:00:00:02:01"
	client1    = "02:00:00:00:01:11"
	client2    = "02:00:00:00:01:12"
	dispatcher = "02:00:00:00:02:11"
	server1    = "02:00:00:00:02:21"
	server2    = "02:00:00:00:02:22"
	gwOther    = "02:00:00:00:02:02" // another switch's, on the nodes' link
	broadcast  = "ff:ff:ff:ff:ff:ff"
)

func example(f Features) Input {
	a, p := netip.MustParseAddr, netip.MustParsePrefix
	return Input{
		Features: f,
		Zone:     0x5348,
		Interfaces: []Interface{
			{Name: "clients", MAC: mac(gwClients), Addresses: []netip.Prefix{p("10.10.1.1/24"), p("fd10:1::1/64")}, Ports: []uint32{1, 2}},
			{Name: "nodes", MAC: mac(gwNodes), Addresses: []netip.Prefix{p("10.10.2.1/24"), p("fd10:2::1/64")}, Ports: []uint32{11, 21, 22}, Others: []net.HardwareAddr{mac(gwOther)}},
		},
		Routes: []Route{{To: p("0.0.0.0/0"), Via: a("10.10.1.12")}, {To: p("::/0"), Via: a("fd10:1::99")}},
		Pools:  []netip.Prefix{p("172.31.0.0/24"), p("fd31::/120")},
		Services: []Service{
			{Name: "web", Port: 80, VIPs: []netip.Addr{a("10.10.0.80"), a("fd10::80")}, Homes: []Home{
				{Node: "dispatcher1", VIP: a("10.10.0.80"), Session: a("172.31.0.1"), Up: true},
				{Node: "dispatcher1", VIP: a("fd10::80"), Session: a("fd31::1"), Up: true},
			}},
			{Name: "onlink", Port: 443, VIPs: []netip.Addr{a("10.10.1.80"), a("fd10:1::80")}, Homes: []Home{
				{Node: "dispatcher1", VIP: a("10.10.1.80"), Session: a("172.31.0.2"), Up: true},
				{Node: "dispatcher1", VIP: a("fd10:1::80"), Session: a("fd31::2"), Up: true},
			}},
		},
		Nodes: []Node{
			{Name: "dispatcher1", MAC: mac(dispatcher), Interface: 1, Port: 11, Mark: 1},
			{Name: "server1", MAC: mac(server1), Interface: 1, Port: 21, Mark: 2},
			{Name: "server2", MAC: mac(server2), Interface: 1, Port: 22, Mark: 3},
		},
		Leases: []Lease{{a("172.31.0.1"), 1}, {a("fd31::1"), 2}, {a("172.31.0.2"), 3}, {a("fd31::2"), 4}},
		Neighbours: []Neighbour{
			{Addr: a("10.10.1.11"), MAC: mac(client1), Interface: 0, Port: 1},
			{Addr: a("fd10:1::11"), MAC: mac(client1), Interface: 0, Port: 1},
			{Addr: a("10.10.1.12"), MAC: mac(client2), Interface: 0, Port: 2},
			{Addr: a("10.10.2.11"), MAC: mac(dispatcher), Interface: 1, Port: 11},
			{Addr: a("10.10.2.21"), MAC: mac(server1), Interface: 1, Port: 21},
			{Addr: a("fd10:2::21"), MAC: mac(server1), Interface: 1, Port: 21},
		},
	}
}

var (
	ovsFlows     = Features{TCPFlags: true, Move: true, Advertise: true}
	ovsConntrack = Features{TCPFlags: true, Move: true, Advertise: true, Conntrack: true}
	plain        = Features{}
)

func flowsOf(t *testing.T, in Input) Set {
	t.Helper()
	set, err := Flows(in)
	if err != nil {
		t.Fatal(err)
	}
	return set
}

func got(out []outcome) string {
	var s []string
	for _, o := range out {
		s = append(s, o.String())
	}
	slices.Sort(s)
	return strings.Join(s, "; ")
}

func TestTCPOfServices(t *testing.T) {
	const syn, ack, synAck = openflow.TCPSyn, openflow.TCPAck, openflow.TCPSyn | openflow.TCPAck
	tests := []struct {
		name, src, dst string
		in             uint32
		from, to       string // hardware addresses
		flags          uint16
		want           string
	}{
		{"SYN to home", "10.10.1.11:4000", "10.10.0.80:80", 1, client1, gwClients, syn, "port 11 " + gwNodes + "→" + dispatcher + " 10.10.1.11→172.31.0.1"},
		{"SYN to home, IPv6", "[fd10:1::11]:4000", "[fd10::80]:80", 1, client1, gwClients, syn, "port 11 " + gwNodes + "→" + dispatcher + " fd10:1::11→fd31::1"},
		{"SYN to an on-link VIP", "10.10.1.11:4000", "10.10.1.80:443", 1, client1, gwClients, syn, "port 11 " + gwNodes + "→" + dispatcher + " 10.10.1.11→172.31.0.2"},
		{"SYN to an on-link VIP, IPv6", "[fd10:1::11]:4000", "[fd10:1::80]:443", 1, client1, gwClients, syn, "port 11 " + gwNodes + "→" + dispatcher + " fd10:1::11→fd31::2"},
		{"unsteered packet to home", "10.10.1.11:4000", "10.10.0.80:80", 1, client1, gwClients, ack, "port 11 " + gwNodes + "→" + dispatcher + " 10.10.1.11→172.31.0.1"},
		{"unsteered packet to home, IPv6", "[fd10:1::11]:4000", "[fd10::80]:80", 1, client1, gwClients, ack, "port 11 " + gwNodes + "→" + dispatcher + " fd10:1::11→fd31::1"},
		{"another port of a VIP", "10.10.1.11:4000", "10.10.0.80:81", 1, client1, gwClients, syn, ""},
		{"another port of a VIP, IPv6", "[fd10:1::11]:4000", "[fd10::80]:81", 1, client1, gwClients, syn, ""},
		{"reply from home", "172.31.0.1:80", "10.10.1.11:4000", 11, dispatcher, gwNodes, synAck, "port 1 " + gwClients + "→" + client1 + " 10.10.0.80→10.10.1.11"},
		{"reply from a server", "172.31.0.1:80", "10.10.1.11:4000", 21, server1, gwNodes, ack, "port 1 " + gwClients + "→" + client1 + " 10.10.0.80→10.10.1.11"},
		{"reply from a server, IPv6", "[fd31::2]:443", "[fd10:1::11]:4000", 22, server2, gwNodes, ack, "port 1 " + gwClients + "→" + client1 + " fd10:1::80→fd10:1::11"},
		{"reply to a client behind a router", "172.31.0.1:80", "192.0.2.7:4000", 21, server1, gwNodes, ack, "port 2 " + gwClients + "→" + client2 + " 10.10.0.80→192.0.2.7"},
		{"reply to a client behind an unresolved router", "[fd31::1]:80", "[2001:db8::7]:4000", 21, server1, gwNodes, ack, "controller"},
		{"reply to a client on the link of nodes", "172.31.0.1:80", "10.10.2.11:4000", 21, server1, dispatcher, ack, "port 11 " + gwNodes + "→" + dispatcher + " 10.10.0.80→10.10.2.11"},
		{"reply that is another switch's", "172.31.0.1:80", "10.10.1.11:4000", 21, server1, gwOther, ack, ""},
		{"reply that is another switch's, IPv6", "[fd31::1]:80", "[fd10:1::11]:4000", 21, server1, gwOther, ack, ""},
		{"session address from the wrong port", "172.31.0.1:8080", "10.10.1.11:4000", 11, dispatcher, gwNodes, ack, ""},
		{"session address forged by a client", "172.31.0.1:80", "10.10.1.12:4000", 1, client1, gwClients, ack, ""},
		{"session address forged by a client, IPv6", "[fd31::1]:80", "[fd10:1::12]:4000", 1, client1, client2, ack, ""},
		{"session address addressed by a client", "10.10.1.11:4000", "172.31.0.1:80", 1, client1, gwClients, ack, ""},
		{"session address addressed by a client, IPv6", "[fd10:1::11]:4000", "[fd31::1]:80", 1, client1, server1, ack, ""},
		{"diverted to a server", "10.10.1.11:4000", "172.31.0.1:80", 11, dispatcher, server1, ack, "port 21 " + dispatcher + "→" + server1 + " 10.10.1.11→172.31.0.1"},
		{"diverted to home, IPv6", "[fd10:1::11]:4000", "[fd31::1]:80", 21, server1, dispatcher, ack, "port 11 " + server1 + "→" + dispatcher + " fd10:1::11→fd31::1"},
		{"diverted to the switch", "10.10.1.11:4000", "172.31.0.1:80", 11, dispatcher, gwNodes, ack, ""},
		{"routed between interfaces", "10.10.1.11:4000", "10.10.2.21:22", 1, client1, gwClients, syn, "port 21 " + gwNodes + "→" + server1 + " 10.10.1.11→10.10.2.21"},
		{"routed between interfaces, IPv6", "[fd10:1::11]:4000", "[fd10:2::21]:22", 1, client1, gwClients, syn, "port 21 " + gwNodes + "→" + server1 + " fd10:1::11→fd10:2::21"},
		{"routed back out of the port it came by", "10.10.1.11:4000", "10.10.1.11:22", 1, client1, gwClients, syn, "port 1 " + gwClients + "→" + client1 + " 10.10.1.11→10.10.1.11"},
		{"to an unresolved host", "10.10.1.11:4000", "10.10.2.77:22", 1, client1, gwClients, syn, "controller"},
		{"to the switch itself", "10.10.1.11:4000", "10.10.1.1:22", 1, client1, gwClients, syn, ""},
		{"switched within an interface", "10.10.2.11:4000", "10.10.2.21:22", 11, dispatcher, server1, syn, "port 21 " + dispatcher + "→" + server1 + " 10.10.2.11→10.10.2.21"},
		{"unknown host of an interface is flooded", "10.10.2.11:4000", "10.10.2.44:22", 11, dispatcher, "02:00:00:00:02:44", syn,
			"port 21 " + dispatcher + "→02:00:00:00:02:44 10.10.2.11→10.10.2.44; port 22 " + dispatcher + "→02:00:00:00:02:44 10.10.2.11→10.10.2.44"},
		{"hardware address of another interface does not cross", "10.10.1.11:4000", "10.10.2.21:22", 1, client1, server1, syn, "port 2 " + client1 + "→" + server1 + " 10.10.1.11→10.10.2.21"},
		{"from a port of no interface", "10.10.1.11:4000", "10.10.0.80:80", 9, client1, gwClients, syn, ""},
	}
	for _, mode := range []struct {
		name string
		f    Features
	}{{"flows", ovsFlows}, {"conntrack", ovsConntrack}, {"plain", plain}} {
		set := flowsOf(t, example(mode.f))
		for _, tt := range tests {
			t.Run(mode.name+"/"+tt.name, func(t *testing.T) {
				out := walk(t, set, segment(tt.in, tt.from, tt.to, tt.src, tt.dst, tt.flags))
				if diff := cmp.Diff(tt.want, got(out)); diff != "" {
					t.Error(diff)
				}
			})
		}
	}
}

func TestSteeringSendsOtherPacketsOfASessionToItsNodeAndItsSYNHome(t *testing.T) {
	for _, tt := range []struct{ name, client, vip, session string }{
		{"IPv4", "10.10.1.11:4000", "10.10.0.80:80", "172.31.0.1"},
		{"IPv6", "[fd10:1::11]:4000", "[fd10::80]:80", "fd31::1"},
	} {
		client, vip, session := netip.MustParseAddrPort(tt.client), netip.MustParseAddrPort(tt.vip), netip.MustParseAddr(tt.session)
		ack := segment(1, client1, gwClients, tt.client, tt.vip, openflow.TCPAck)
		syn := segment(1, client1, gwClients, tt.client, tt.vip, openflow.TCPSyn)
		other := segment(1, client1, gwClients, netip.AddrPortFrom(client.Addr(), 4002).String(), tt.vip, openflow.TCPAck)
		home := fmt.Sprintf("port 11 %s→%s %v→%v", gwNodes, dispatcher, client.Addr(), session)
		away := fmt.Sprintf("port 22 %s→%s %v→%v", gwNodes, server2, client.Addr(), session)

		t.Run("flows/"+tt.name, func(t *testing.T) {
			in := example(ovsFlows)
			set := flowsOf(t, in)
			f := SessionFlow(client, vip, session, in.Nodes[2])
			set[KeyOf(f)] = f
			for _, c := range []struct {
				p    packet
				want string
			}{{ack, away}, {syn, home}, {other, home}} {
				if diff := cmp.Diff(c.want, got(walk(t, set, c.p))); diff != "" {
					t.Error(diff)
				}
			}
		})
		t.Run("conntrack/"+tt.name, func(t *testing.T) {
			in := example(ovsConntrack)
			set := flowsOf(t, in)
			lease := uint16(1)
			if session.Is6() {
				lease = 2
			}
			mark := openflow.CTMark(Mark(lease, 3)).Value
			for _, p := range []packet{ack, syn} {
				p[openflow.FieldCTMark] = mark
			}
			for _, c := range []struct {
				p    packet
				want string
			}{{ack, away}, {syn, home}, {other, home}} {
				if diff := cmp.Diff(c.want, got(walk(t, set, c.p))); diff != "" {
					t.Error(diff)
				}
			}
		})
	}
}

func TestASYNErasesTheMarkOfAnEarlierConnection(t *testing.T) {
	set := flowsOf(t, example(ovsConntrack))
	for _, mark := range []uint32{0, Mark(1, 3)} {
		p := segment(1, client1, gwClients, "10.10.1.11:4000", "10.10.0.80:80", openflow.TCPSyn)
		w := walker{t: t, flows: set.Sorted(), mark: openflow.CTMark(mark).Value}
		w.table(TablePorts, p)
		if erased := w.committed != nil; erased != (mark != 0) {
			t.Errorf("mark %#x: erased is %v", mark, erased)
		}
	}
}

func TestWhatADivertedPacketTeaches(t *testing.T) {
	const ack, teaches = openflow.TCPAck, openflow.TCPAck | openflow.TCPTeaches
	for _, tt := range []struct {
		name, src, dst, from, to string
		in                       uint32
		flags                    uint16
		mark                     uint32 // 0: none
		want                     string
	}{
		{"where its connection is", "10.10.1.11:4000", "172.31.0.1:80", dispatcher, server1, 11, teaches, Mark(1, 2), "port 21 " + dispatcher + "→" + server1 + " 10.10.1.11→172.31.0.1"},
		{"IPv6", "[fd10:1::11]:4000", "[fd31::2]:443", dispatcher, server2, 11, teaches, Mark(4, 3), "port 22 " + dispatcher + "→" + server2 + " fd10:1::11→fd31::2"},
		{"that its connection is home", "10.10.1.11:4000", "172.31.0.2:443", server2, dispatcher, 22, teaches, Mark(3, 1), "port 11 " + server2 + "→" + dispatcher + " 10.10.1.11→172.31.0.2"},
		{"nothing without the bit", "10.10.1.11:4000", "172.31.0.1:80", dispatcher, server1, 11, ack, 0, "port 21 " + dispatcher + "→" + server1 + " 10.10.1.11→172.31.0.1"},
		{"nothing of another port", "10.10.1.11:4000", "172.31.0.1:443", dispatcher, server1, 11, teaches, 0, "port 21 " + dispatcher + "→" + server1 + " 10.10.1.11→172.31.0.1"},
		{"nothing of an address without a lease", "10.10.1.11:4000", "172.31.0.9:80", dispatcher, server1, 11, teaches, 0, "port 21 " + dispatcher + "→" + server1 + " 10.10.1.11→172.31.0.9"},
		{"nothing if a client sends it", "10.10.1.11:4000", "172.31.0.1:80", client1, server1, 1, teaches, 0, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, f := range []Features{ovsFlows, ovsConntrack, plain} {
				w := walker{t: t, flows: flowsOf(t, example(f)).Sorted(), ttl: 64}
				w.table(TablePorts, segment(tt.in, tt.from, tt.to, tt.src, tt.dst, tt.flags))
				if diff := cmp.Diff(tt.want, got(w.out)); diff != "" {
					t.Error(diff)
				}
				var want, connection []byte
				if tt.mark != 0 && f.Conntrack {
					want = openflow.CTMark(tt.mark).Value
					connection = netip.MustParseAddrPort(map[string]string{
						"172.31.0.1:80": "10.10.0.80:80", "[fd31::2]:443": "[fd10:1::80]:443", "172.31.0.2:443": "10.10.1.80:443",
					}[tt.dst]).Addr().AsSlice()
				}
				if !bytes.Equal(w.committed, want) || !bytes.Equal(w.marked, connection) {
					t.Errorf("the mark of the connection to %x is %x, want that to %x to be %x", w.marked, w.committed, connection, want)
				}
			}
		})
	}
}

func TestAFenceKeepsANodesRepliesFromClients(t *testing.T) {
	const ack = openflow.TCPAck
	for _, tt := range []struct {
		name, src, dst, from, to string
		in                       uint32
		want, fenced             string
	}{
		{"reply", "172.31.0.1:80", "10.10.1.11:4000", server1, gwNodes, 21, "port 1 " + gwClients + "→" + client1 + " 10.10.0.80→10.10.1.11", ""},
		{"reply, IPv6", "[fd31::2]:443", "[fd10:1::11]:4000", server1, gwNodes, 21, "port 1 " + gwClients + "→" + client1 + " fd10:1::80→fd10:1::11", ""},
		{"reply of another node", "172.31.0.1:80", "10.10.1.11:4000", server2, gwNodes, 22, "port 1 " + gwClients + "→" + client1 + " 10.10.0.80→10.10.1.11", "the same"},
		{"reply of a home of its own", "172.31.0.1:80", "10.10.1.11:4000", dispatcher, gwNodes, 11, "port 1 " + gwClients + "→" + client1 + " 10.10.0.80→10.10.1.11", "the same"},
		{"reply of a home of its own, IPv6", "[fd31::2]:443", "[fd10:1::11]:4000", dispatcher, gwNodes, 11, "port 1 " + gwClients + "→" + client1 + " fd10:1::80→fd10:1::11", "the same"},
		{"other traffic", "10.10.2.21:22", "10.10.1.11:4000", server1, gwNodes, 21, "port 1 " + gwClients + "→" + client1 + " 10.10.2.21→10.10.1.11", "the same"},
		{"diverted from it", "10.10.1.11:4000", "172.31.0.1:80", server1, dispatcher, 21, "port 11 " + server1 + "→" + dispatcher + " 10.10.1.11→172.31.0.1", "the same"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for _, f := range []Features{ovsFlows, ovsConntrack, plain} {
				in := example(f)
				p := segment(tt.in, tt.from, tt.to, tt.src, tt.dst, ack)
				if diff := cmp.Diff(tt.want, got(walk(t, flowsOf(t, in), p))); diff != "" {
					t.Error(diff)
				}
				in.Fences = []Fence{{"server1", mac(server1)}, {"dispatcher1", mac(dispatcher)}}
				want := strings.ReplaceAll(tt.fenced, "the same", tt.want)
				if diff := cmp.Diff(want, got(walk(t, flowsOf(t, in), segment(tt.in, tt.from, tt.to, tt.src, tt.dst, ack)))); diff != "" {
					t.Error("fenced:", diff)
				}
			}
		})
	}
}

func TestAMarkOfAnUnknownNodeLeadsHome(t *testing.T) {
	set := flowsOf(t, example(ovsConntrack))
	p := segment(1, client1, gwClients, "10.10.1.11:4000", "10.10.0.80:80", openflow.TCPAck)
	p[openflow.FieldCTMark] = openflow.CTMark(Mark(1, 77)).Value
	want := "port 11 " + gwNodes + "→" + dispatcher + " 10.10.1.11→172.31.0.1"
	if diff := cmp.Diff(want, got(walk(t, set, p))); diff != "" {
		t.Error(diff)
	}
}

func TestTTLIsDecrementedOnceWhereAPacketIsRouted(t *testing.T) {
	for _, f := range []Features{ovsFlows, ovsConntrack, plain} {
		set := flowsOf(t, example(f))
		for _, tt := range []struct {
			p    packet
			want int
		}{
			{segment(1, client1, gwClients, "10.10.1.11:4000", "10.10.0.80:80", openflow.TCPSyn), 63},
			{segment(1, client1, gwClients, "10.10.1.11:4000", "10.10.0.80:80", openflow.TCPAck), 63},
			{segment(21, server1, gwNodes, "[fd31::1]:80", "[fd10:1::11]:4000", openflow.TCPAck), 63},
			{segment(11, dispatcher, server1, "10.10.1.11:4000", "172.31.0.1:80", openflow.TCPAck), 64},
			{segment(11, dispatcher, server1, "10.10.2.11:4000", "10.10.2.21:80", openflow.TCPAck), 64},
		} {
			w := walker{t: t, flows: set.Sorted(), ttl: 64}
			w.table(TablePorts, tt.p)
			if w.ttl != tt.want {
				t.Errorf("TTL of %v is %d, want %d", w.out, w.ttl, tt.want)
			}
		}
	}
}

func TestTheSamePacketsHaveTheSameFlowsWhateverTheOrderOfTheInput(t *testing.T) {
	in := example(ovsConntrack)
	want := flowsOf(t, in)
	slices.Reverse(in.Nodes)
	slices.Reverse(in.Neighbours)
	slices.Reverse(in.Services)
	slices.Reverse(in.Leases)
	slices.Reverse(in.Pools)
	if mods := Diff(want, flowsOf(t, in)); len(mods) != 0 {
		t.Errorf("%d changes, want none: %+v", len(mods), mods)
	}
}

func TestTooManyInterfacesAreAnError(t *testing.T) {
	in := example(plain)
	for len(in.Interfaces) <= MaxInterfaces {
		in.Interfaces = append(in.Interfaces, in.Interfaces[0])
	}
	if _, err := Flows(in); err == nil {
		t.Error("no error")
	}
}
