package conformance

import (
	"net/netip"

	"github.com/shunt-sdn/shunt/controller/openflow"
)

var rewriteCases = []behaviour{
	{"NAT to a session address keeps checksums right", func(e *env) {
		for _, f := range families {
			e.apply(add(openflow.Flow{Priority: 5, Match: tcpMatch(f, openflow.IPDst(f.vip)), Apply: []openflow.Action{
				set(openflow.IPDst(f.session)), set(openflow.EthSrc(macGateway)), set(openflow.EthDst(macNode)), openflow.DecTTL{}, out(port2)}}))
			for _, payload := range []string{"", "x", "GET / HTTP/1.1\r\n\r\n"} {
				p := f.toVIP(40000, openflow.TCPAck)
				p.payload = payload
				want := p.to(macGateway, macNode)
				want.dst, want.ttl = f.session, 63
				e.send(port1, p.bytes()).only(e, port2, want.bytes())
			}
		}
	}},
	{"NAT from a session address keeps checksums right", func(e *env) {
		for _, f := range families {
			e.apply(
				add(openflow.Flow{Priority: 5, Match: tcpMatch(f, openflow.IPSrc(f.session)), Apply: []openflow.Action{set(openflow.IPSrc(f.vip))}, Goto: 1}),
				add(openflow.Flow{Table: 1, Priority: 5, Match: tcpMatch(f, openflow.IPDst(f.client)), Apply: []openflow.Action{
					set(openflow.EthSrc(macGateway)), set(openflow.EthDst(macClient)), openflow.DecTTL{}, out(port1)}}))
			p := f.toClient(40000, openflow.TCPAck|openflow.TCPPsh)
			want := p.to(macGateway, macClient)
			want.src, want.ttl = f.vip, 63
			e.send(port2, p.bytes()).only(e, port1, want.bytes())
		}
	}},
	{"TCP ports are rewritten", func(e *env) {
		for _, f := range families {
			e.apply(add(openflow.Flow{Priority: 5, Match: tcpMatch(f, openflow.TCPDst(80)), Apply: []openflow.Action{
				set(openflow.TCPSrc(0xfffe)), set(openflow.TCPDst(8080)), out(port2)}}))
			p := f.toVIP(41000, openflow.TCPAck)
			want := p
			want.sport, want.dport = 0xfffe, 8080
			e.send(port1, p.bytes()).only(e, port2, want.bytes())
		}
	}},
	{"UDP is rewritten, and a UDP packet without checksum gets none", func(e *env) {
		f := families[0]
		e.apply(add(openflow.Flow{Priority: 5, Match: openflow.Match{openflow.EthType(f.etherType), openflow.IPProto(17)}, Apply: []openflow.Action{
			set(openflow.IPDst(f.session)), out(port2)}}))
		p := f.toVIP(42000, 0)
		p.udp = true
		want := p
		want.dst = f.session
		bare, wantBare := p.bytes(), want.bytes()
		bare[40], bare[41], wantBare[40], wantBare[41] = 0, 0, 0, 0
		e.send(port1, p.bytes(), bare).only(e, port2, want.bytes(), wantBare)
	}},
	{"fragments are rewritten as far as they have headers", func(e *env) {
		f := families[0]
		e.apply(add(openflow.Flow{Priority: 5, Match: openflow.Match{openflow.EthType(f.etherType), openflow.IPDst(f.vip)}, Apply: []openflow.Action{
			set(openflow.IPDst(f.session)), openflow.DecTTL{}, out(port2)}}))
		p := f.toVIP(43000, openflow.TCPAck)
		// Open vSwitch 3.1 takes 20 octets or more for a TCP header and "corrects" the
		// checksum in them.
		p.fragOffset, p.payload = 185, "its last 19 octets."
		want := p
		want.dst, want.ttl = f.session, 63
		e.send(port1, p.bytes()).only(e, port2, want.bytes())
	}},
	{"a packet at the end of its TTL is not forwarded, and the controller hears of it", func(e *env) {
		for i, f := range families {
			e.apply(add(openflow.Flow{Priority: 5, Cookie: 99, Match: tcpMatch(f), Apply: []openflow.Action{openflow.DecTTL{}, out(port2)}}))
			p := f.toVIP(44000+uint16(i), openflow.TCPAck)
			p.ttl = 1
			two, want := p, p
			two.ttl, want.ttl = 2, 1
			o := e.send(port1, p.bytes(), two.bytes())
			o.only(e, port2, want.bytes())
			if len(o.packetIns) != 1 || o.packetIns[0].Reason != openflow.ReasonInvalidTTL || !sameFrame(o.packetIns[0].Data, p.bytes()) {
				e.Errorf("%s: packet-ins %+v, want the packet with reason %d", f.name, o.packetIns, openflow.ReasonInvalidTTL)
			}
		}
	}},
	{"what was sent before a rewrite stays as it was", func(e *env) {
		for _, f := range families {
			p := f.toVIP(45000, openflow.TCPAck)
			e.apply(add(openflow.Flow{Priority: 5, Match: tcpMatch(f), Apply: []openflow.Action{
				out(port2), set(openflow.IPDst(f.session)), out(port3)}}))
			want := p
			want.dst = f.session
			o := e.send(port1, p.bytes())
			o.want(e, port2, p.bytes())
			o.want(e, port3, want.bytes())
		}
	}},
	{"ICMP echo is answered", func(e *env) {
		request := icmpEcho(8)
		want := icmpEcho(0)
		e.apply(add(openflow.Flow{Priority: 5, Match: openflow.Match{openflow.EthType(openflow.EthTypeIPv4), openflow.IPProto(openflow.ProtoICMP), openflow.U8(openflow.FieldICMPv4Type, 8)},
			Apply: []openflow.Action{set(openflow.U8(openflow.FieldICMPv4Type, 0)), out(openflow.PortInPort)}}))
		e.send(port1, request).only(e, port1, want)
	}},
	{"ARP fields are set", func(e *env) {
		gw, client := netip.MustParseAddr("10.10.1.1"), families[0].client
		e.apply(add(openflow.Flow{Priority: 5, Match: openflow.Match{openflow.EthType(openflow.EthTypeARP), openflow.U16(openflow.FieldARPOp, 1),
			{Field: openflow.FieldARPTPA, Value: gw.AsSlice()}},
			Apply: []openflow.Action{
				set(openflow.U16(openflow.FieldARPOp, 2)), set(openflow.MAC(openflow.FieldARPSHA, macGateway)), set(openflow.MAC(openflow.FieldARPTHA, macClient)),
				set(openflow.FieldValue{Field: openflow.FieldARPSPA, Value: gw.AsSlice()}), set(openflow.FieldValue{Field: openflow.FieldARPTPA, Value: client.AsSlice()}),
				set(openflow.EthSrc(macGateway)), set(openflow.EthDst(macClient)), out(openflow.PortInPort)}}))
		request := arp(macClient, broadcast, 1, macClient, client, make([]byte, 6), gw)
		e.send(port1, request).only(e, port1, arp(macGateway, macClient, 2, macGateway, gw, macClient, client))
	}},
}
