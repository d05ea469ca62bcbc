package pipeline

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/shunt-sdn/shunt/controller/openflow"
)

func arpPacket(in uint32, src, dst string, op uint16, sender, target string) packet {
	s, d := netip.MustParseAddr(sender), netip.MustParseAddr(target)
	return newPacket(in, src, dst, openflow.EthType(openflow.EthTypeARP), openflow.U16(openflow.FieldARPOp, op),
		openflow.MAC(openflow.FieldARPSHA, mac(src)), openflow.MAC(openflow.FieldARPTHA, mac("00:00:00:00:00:00")),
		openflow.FieldValue{Field: openflow.FieldARPSPA, Value: s.AsSlice()}, openflow.FieldValue{Field: openflow.FieldARPTPA, Value: d.AsSlice()})
}

func ndPacket(in uint32, src, dst string, kind uint8, sender, target, option string) packet {
	s := netip.MustParseAddr(sender)
	return newPacket(in, src, dst, append(nd(kind), openflow.IPSrc(s), openflow.IPDst(netip.MustParseAddr("ff02::1")),
		openflow.FieldValue{Field: openflow.FieldNDTarget, Value: netip.MustParseAddr(target).AsSlice()}, openflow.MAC(openflow.FieldNDSLL, mac(option)))...)
}

func TestNeighbourDiscovery(t *testing.T) {
	const solicited = "33:33:ff:00:00:01"
	const none = "00:00:00:00:00:00"
	tests := []struct {
		name   string
		p      packet
		inFlow string // answered in the switch
		else_  string // by the controller; "" the same
	}{
		{"gateway", arpPacket(1, client1, broadcast, 1, "10.10.1.11", "10.10.1.1"), "controller; port 1 " + gwClients + "→" + client1, "controller"},
		{"gateway, unicast", arpPacket(1, client1, gwClients, 1, "10.10.1.11", "10.10.1.1"), "controller; port 1 " + gwClients + "→" + client1, "controller"},
		{"gateway, IPv6", ndPacket(1, client1, solicited, 135, "fd10:1::11", "fd10:1::1", client1), "controller; port 1 " + gwClients + "→" + client1 + " fd10:1::1→fd10:1::11", "controller"},
		{"on-link VIP", arpPacket(2, client2, broadcast, 1, "10.10.1.12", "10.10.1.80"), "controller; port 2 " + gwClients + "→" + client2, "controller"},
		{"on-link VIP, IPv6", ndPacket(1, client1, gwClients, 135, "fd10:1::11", "fd10:1::80", client1), "controller; port 1 " + gwClients + "→" + client1 + " fd10:1::80→fd10:1::11", "controller"},
		{"gateway without an option, IPv6", ndPacket(1, client1, gwClients, 135, "fd10:1::11", "fd10:1::1", none), "controller", ""},
		{"gateway of another interface", arpPacket(1, client1, broadcast, 1, "10.10.1.11", "10.10.2.1"), "controller; port 2 " + client1 + "→" + broadcast, ""},
		{"off-link VIP", arpPacket(1, client1, broadcast, 1, "10.10.1.11", "10.10.0.80"), "controller; port 2 " + client1 + "→" + broadcast, ""},
		{"another host", arpPacket(11, dispatcher, broadcast, 1, "10.10.2.11", "10.10.2.21"), "controller; port 21 " + dispatcher + "→" + broadcast + "; port 22 " + dispatcher + "→" + broadcast, ""},
		{"another host, IPv6", ndPacket(11, dispatcher, solicited, 135, "fd10:2::11", "fd10:2::21", dispatcher), "controller; port 21 " + dispatcher + "→" + solicited + " fd10:2::11→ff02::1; port 22 " + dispatcher + "→" + solicited + " fd10:2::11→ff02::1", ""},
		{"answer to us", arpPacket(21, server1, gwNodes, 2, "10.10.2.21", "10.10.2.1"), "controller", ""},
		{"answer to us, IPv6", ndPacket(21, server1, gwNodes, 136, "fd10:2::21", "fd10:2::21", none), "controller", ""},
		{"answer to a known host", arpPacket(21, server1, dispatcher, 2, "10.10.2.21", "10.10.2.11"), "port 11 " + server1 + "→" + dispatcher, ""},
		{"answer to an unknown host", arpPacket(21, server1, "02:00:00:00:02:44", 2, "10.10.2.21", "10.10.2.44"), "controller; port 11 " + server1 + "→02:00:00:00:02:44; port 22 " + server1 + "→02:00:00:00:02:44", ""},
	}
	for _, mode := range []struct {
		name string
		f    Features
	}{{"flows", ovsFlows}, {"conntrack", ovsConntrack}, {"plain", plain}} {
		set := flowsOf(t, example(mode.f))
		for _, tt := range tests {
			t.Run(mode.name+"/"+tt.name, func(t *testing.T) {
				want := tt.inFlow
				if !mode.f.Move && tt.else_ != "" {
					want = tt.else_
				}
				var out []outcome
				for _, o := range walk(t, set, tt.p) { // an address per packet says enough
					if _, arp := o.pkt[openflow.FieldARPSPA]; arp {
						delete(o.pkt, openflow.FieldIPv4Src)
					}
					out = append(out, o)
				}
				if diff := cmp.Diff(want, got(out)); diff != "" {
					t.Error(diff)
				}
			})
		}
	}
}

func TestAnswersHaveTheRightContents(t *testing.T) {
	set := flowsOf(t, example(ovsFlows))
	out := walk(t, set, arpPacket(1, client1, broadcast, 1, "10.10.1.11", "10.10.1.80"))
	want := packet{
		openflow.FieldARPOp: {0, 2}, openflow.FieldARPSHA: mac(gwClients), openflow.FieldARPTHA: mac(client1),
		openflow.FieldARPSPA: {10, 10, 1, 80}, openflow.FieldARPTPA: {10, 10, 1, 11},
	}
	holds(t, out[len(out)-1].pkt, want)
	out = walk(t, set, ndPacket(1, client1, gwClients, 135, "fd10:1::11", "fd10:1::80", client1))
	holds(t, out[len(out)-1].pkt, packet{
		openflow.FieldICMPv6Type: {136}, openflow.FieldNDOptionType: {2}, openflow.FieldNDTLL: mac(gwClients), openflow.FieldNDReserved: {0xe0, 0, 0, 0},
		openflow.FieldNDTarget: netip.MustParseAddr("fd10:1::80").AsSlice(),
	})
}

func holds(t *testing.T, p, want packet) {
	t.Helper()
	for f, v := range want {
		if diff := cmp.Diff([]byte(v), []byte(p[f])); diff != "" {
			t.Errorf("field %#x: %s", f, diff)
		}
	}
}

func TestPingsOfTheSwitchAreAnswered(t *testing.T) {
	set := flowsOf(t, example(ovsFlows))
	for _, tt := range []struct {
		name, src, dst string
		fields         []openflow.FieldValue
		want           openflow.FieldValue
	}{
		{"IPv4", "10.10.1.11", "10.10.1.1", []openflow.FieldValue{openflow.IPProto(1), openflow.U8(openflow.FieldICMPv4Type, 8)}, openflow.U8(openflow.FieldICMPv4Type, 0)},
		{"IPv4, another interface", "10.10.1.11", "10.10.2.1", []openflow.FieldValue{openflow.IPProto(1), openflow.U8(openflow.FieldICMPv4Type, 8)}, openflow.U8(openflow.FieldICMPv4Type, 0)},
		{"IPv6", "fd10:1::11", "fd10:1::1", []openflow.FieldValue{openflow.IPProto(58), openflow.U8(openflow.FieldICMPv6Type, 128)}, openflow.U8(openflow.FieldICMPv6Type, 129)},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s, d := netip.MustParseAddr(tt.src), netip.MustParseAddr(tt.dst)
			out := walk(t, set, newPacket(1, client1, gwClients, append(tt.fields, openflow.EthType(openflow.EtherTypeOf(s)), openflow.IPSrc(s), openflow.IPDst(d))...))
			if diff := cmp.Diff("port 1 "+gwClients+"→"+client1+" "+tt.dst+"→"+tt.src, got(out)); diff != "" {
				t.Fatal(diff)
			}
			holds(t, out[0].pkt, packet{tt.want.Field: tt.want.Value})
		})
	}
}
