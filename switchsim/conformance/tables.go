package conformance

import (
	"net/netip"

	"github.com/shunt-sdn/shunt/controller/openflow"
)

// tcpMatch matches TCP packets of a family and whatever more.
func tcpMatch(f family, more ...openflow.FieldValue) openflow.Match {
	return append(openflow.Match{openflow.EthType(f.etherType), openflow.IPProto(openflow.ProtoTCP)}, more...)
}

var tableCases = []behaviour{
	{"a packet without a matching flow is dropped", func(e *env) {
		for _, f := range families {
			e.send(port1, f.toVIP(1, openflow.TCPAck).bytes()).nothing(e)
		}
	}},
	{"the highest priority wins whatever the order of adding", func(e *env) {
		f := families[0]
		high := add(openflow.Flow{Priority: 20, Match: tcpMatch(f, openflow.TCPDst(80)), Apply: []openflow.Action{out(port3)}})
		low := add(openflow.Flow{Priority: 10, Match: tcpMatch(f), Apply: []openflow.Action{out(port2)}})
		p, other := f.toVIP(2, openflow.TCPAck), f.toVIP(2, openflow.TCPAck)
		other.dport = 81
		for _, order := range [][]openflow.FlowMod{{high, low}, {low, high}} {
			e.clear()
			e.apply(order...)
			e.send(port1, p.bytes()).only(e, port3, p.bytes())
			e.send(port1, other.bytes()).only(e, port2, other.bytes())
		}
	}},
	{"prefixes match both families", func(e *env) {
		in := []netip.Prefix{netip.MustParsePrefix("10.10.0.0/24"), netip.MustParsePrefix("fd10::/64")}
		for i, f := range families {
			e.apply(add(openflow.Flow{Priority: 5, Match: openflow.Match{openflow.EthType(f.etherType), openflow.IPDstIn(in[i])}, Apply: []openflow.Action{out(port2)}}))
			inside, outside := f.toVIP(3, openflow.TCPAck), f.toVIP(3, openflow.TCPAck)
			outside.dst = f.session
			e.send(port1, inside.bytes(), outside.bytes()).only(e, port2, inside.bytes())
		}
	}},
	{"masked ports match", func(e *env) {
		f := families[0]
		e.apply(add(openflow.Flow{Priority: 5, Match: tcpMatch(f, openflow.U16Masked(openflow.FieldTCPSrc, 0x42, 0x7e)), Apply: []openflow.Action{out(port2)}}))
		var in, want [][]byte
		for port := uint16(0x8000); port < 0x8080; port++ {
			p := f.toVIP(port, openflow.TCPAck).bytes()
			if in = append(in, p); port&0x7e == 0x42 {
				want = append(want, p)
			}
		}
		e.send(port1, in...).only(e, port2, want...)
	}},
	{"the port that a packet came in by matches", func(e *env) {
		p := families[0].toVIP(4, openflow.TCPAck).bytes()
		e.apply(add(openflow.Flow{Priority: 5, Match: openflow.Match{openflow.InPort(port1)}, Apply: []openflow.Action{out(port3)}}))
		e.send(port1, p).only(e, port3, p)
		e.send(port2, p).nothing(e)
	}},
	{"Ethernet addresses match", func(e *env) {
		p := families[0].toVIP(4, openflow.TCPAck)
		e.apply(add(openflow.Flow{Priority: 5, Match: openflow.Match{openflow.EthDst(macGateway), openflow.EthSrc(macClient)}, Apply: []openflow.Action{out(port3)}}))
		e.send(port1, p.bytes(), p.to(macClient, macNode).bytes(), p.to(macNode, macGateway).bytes()).only(e, port3, p.bytes())
	}},
	{"fragments have no ports, so that all of a packet go one way", func(e *env) {
		f := families[0]
		e.apply(
			add(openflow.Flow{Priority: 5, Match: tcpMatch(f, openflow.TCPDst(80)), Apply: []openflow.Action{out(port2)}}),
			add(openflow.Flow{Priority: 4, Match: tcpMatch(f), Apply: []openflow.Action{out(port3)}}))
		first, later := f.toVIP(5, openflow.TCPAck), f.toVIP(5, openflow.TCPAck)
		first.moreFragments, later.fragOffset = true, 5
		later.payload = "\x00\x50\x00\x50 looks like ports, but is the middle of a packet"
		e.send(port1, first.bytes(), later.bytes()).only(e, port3, first.bytes(), later.bytes())
	}},
	{"goto continues in a later table and actions before it apply", func(e *env) {
		f := families[1]
		p := f.toVIP(6, openflow.TCPAck)
		e.apply(
			add(openflow.Flow{Table: 0, Priority: 1, Match: tcpMatch(f), Apply: []openflow.Action{set(openflow.EthDst(macNode))}, Goto: 3}),
			add(openflow.Flow{Table: 3, Priority: 1, Match: tcpMatch(f, openflow.EthDst(macNode)), Goto: 7}),
			add(openflow.Flow{Table: 7, Priority: 1, Apply: []openflow.Action{out(port2)}}))
		e.send(port1, p.bytes()).only(e, port2, p.to(macClient, macNode).bytes())
	}},
	{"a miss in a later table drops", func(e *env) {
		e.apply(add(openflow.Flow{Priority: 1, Goto: 1}))
		e.send(port1, families[0].toVIP(7, openflow.TCPAck).bytes()).nothing(e)
	}},
	{"a flow without actions drops", func(e *env) {
		f := families[0]
		e.apply(
			add(openflow.Flow{Priority: 9, Match: tcpMatch(f, openflow.TCPSrc(8))}),
			add(openflow.Flow{Priority: 1, Apply: []openflow.Action{out(port2)}}))
		dropped, passed := f.toVIP(8, openflow.TCPAck).bytes(), f.toVIP(9, openflow.TCPAck).bytes()
		e.send(port1, dropped, passed).only(e, port2, passed)
	}},
	{"thousands of exact flows each match their own connection", func(e *env) {
		const n = 3000
		f := families[0]
		var mods []openflow.FlowMod
		for i := range n {
			mods = append(mods, add(openflow.Flow{Priority: 9, Cookie: uint64(i), Match: tcpMatch(f, openflow.IPSrc(f.client), openflow.TCPSrc(uint16(i+1))),
				Apply: []openflow.Action{out(port2 + uint32(i%2))}}))
		}
		e.apply(mods...)
		for _, i := range []int{0, 1, 1234, 2997, n - 1} {
			p := f.toVIP(uint16(i+1), openflow.TCPAck).bytes()
			e.send(port1, p).only(e, port2+uint32(i%2), p)
		}
		e.send(port1, f.toVIP(n+1, openflow.TCPAck).bytes()).nothing(e)
	}},
}
