package conformance

import (
	"bytes"

	"github.com/shunt-sdn/shunt/controller/openflow"
)

// tell is the action that sends whole packets to the controller.
var tell = openflow.Controller{MaxLen: 0xffff}

// wantPacketIn fails unless the only packet-in is this one.
func (o observed) wantPacketIn(e *env, want openflow.PacketIn) {
	e.Helper()
	if len(o.packetIns) != 1 {
		e.Errorf("%d packet-ins, want 1", len(o.packetIns))
		return
	}
	got := o.packetIns[0]
	if got.InPort != want.InPort || got.Table != want.Table || got.Cookie != want.Cookie || got.Reason != want.Reason || got.TotalLen != want.TotalLen {
		e.Errorf("packet-in %+v, want %+v", got, want)
	}
	if !sameFrame(got.Data, want.Data) {
		e.Errorf("packet-in carries\n     %s, want\n     %s", describe(got.Data), describe(want.Data))
	}
}

// packetOut sends a packet-out and waits until the switch has run it.
func (e *env) packetOut(p openflow.PacketOut) {
	e.Helper()
	e.must(e.conn.PacketOut(p))
	e.must(e.conn.Barrier(e.ctx()))
}

var controllerCases = []behaviour{
	{"a packet-in says where from, which flow, and why", func(e *env) {
		for _, f := range families {
			e.apply(
				add(openflow.Flow{Priority: 5, Match: tcpMatch(f), Goto: 2}),
				add(openflow.Flow{Table: 2, Priority: 5, Cookie: 0xabcdef0123, Match: tcpMatch(f), Apply: []openflow.Action{tell}}))
			p := f.toVIP(1, openflow.TCPSyn).bytes()
			e.send(port2, p).wantPacketIn(e, openflow.PacketIn{InPort: port2, Table: 2, Cookie: 0xabcdef0123, Reason: openflow.ReasonAction, TotalLen: len(p), Data: p})
		}
	}},
	{"the table-miss flow's packet-ins have their own reason", func(e *env) {
		e.apply(add(openflow.Flow{Priority: 0, Cookie: 6, Apply: []openflow.Action{tell}}))
		p := families[0].toVIP(2, openflow.TCPAck).bytes()
		e.send(port3, p).wantPacketIn(e, openflow.PacketIn{InPort: port3, Cookie: 6, Reason: openflow.ReasonNoMatch, TotalLen: len(p), Data: p})
	}},
	{"a packet-in is whole if it is not buffered, whatever length was asked for", func(e *env) {
		f := families[0]
		e.apply(add(openflow.Flow{Priority: 5, Cookie: 7, Match: tcpMatch(f), Apply: []openflow.Action{openflow.Controller{MaxLen: 64}}}))
		s := f.toVIP(3, openflow.TCPAck)
		s.payload = string(make([]byte, 1000))
		p := s.bytes()
		e.send(port1, p).wantPacketIn(e, openflow.PacketIn{InPort: port1, Cookie: 7, Reason: openflow.ReasonAction, TotalLen: len(p), Data: p})
	}},
	{"a packet-in shows the packet as it was rewritten, and the rest goes on", func(e *env) {
		f := families[1]
		s := f.toVIP(4, openflow.TCPAck)
		e.apply(add(openflow.Flow{Priority: 5, Cookie: 8, Match: tcpMatch(f), Apply: []openflow.Action{
			set(openflow.IPDst(f.session)), tell, set(openflow.EthDst(macNode)), out(port2)}}))
		seen, sent := s, s.to(macClient, macNode)
		seen.dst, sent.dst = f.session, f.session
		o := e.send(port1, s.bytes())
		o.only(e, port2, sent.bytes())
		o.wantPacketIn(e, openflow.PacketIn{InPort: port1, Cookie: 8, Reason: openflow.ReasonAction, TotalLen: len(seen.bytes()), Data: seen.bytes()})
	}},
	{"a packet-out leaves by the port named", func(e *env) {
		for _, f := range families {
			p := f.toVIP(5, openflow.TCPAck).bytes()
			e.packetOut(openflow.PacketOut{InPort: openflow.PortController, Apply: []openflow.Action{out(port3)}, Data: p})
			e.collect(port1).only(e, port3, p)
		}
	}},
	{"a packet-out is rewritten on its way", func(e *env) {
		for _, f := range families {
			s := f.toVIP(6, openflow.TCPAck)
			want := s.to(macGateway, macNode)
			want.dst = f.session
			e.packetOut(openflow.PacketOut{InPort: openflow.PortController, Data: s.bytes(), Apply: []openflow.Action{
				set(openflow.IPDst(f.session)), set(openflow.EthSrc(macGateway)), set(openflow.EthDst(macNode)), out(port2)}})
			e.collect(port1).only(e, port2, want.bytes())
		}
	}},
	{"a packet-out to the table runs the flows, as if it came in by its port", func(e *env) {
		f := families[0]
		p := f.toVIP(7, openflow.TCPAck).bytes()
		e.apply(
			add(openflow.Flow{Priority: 5, Match: tcpMatch(f, openflow.InPort(port1)), Apply: []openflow.Action{out(port2)}}),
			add(openflow.Flow{Priority: 5, Match: tcpMatch(f, openflow.InPort(port3)), Apply: []openflow.Action{out(openflow.PortInPort)}}))
		e.packetOut(openflow.PacketOut{InPort: port1, Apply: []openflow.Action{out(openflow.PortTable)}, Data: p})
		e.collect(port1).only(e, port2, p)
		e.packetOut(openflow.PacketOut{InPort: port3, Apply: []openflow.Action{out(openflow.PortTable)}, Data: p})
		e.collect(port1).only(e, port3, p)
	}},
	{"a flooded packet-out reaches all ports but its own", func(e *env) {
		p := arp(macGateway, broadcast, 1, macGateway, families[0].vip, make([]byte, 6), families[0].client)
		e.packetOut(openflow.PacketOut{InPort: openflow.PortController, Apply: []openflow.Action{out(openflow.PortFlood)}, Data: p})
		o := e.collect(port1)
		for _, port := range []uint32{port1, port2, port3} {
			o.want(e, port, p)
		}
		e.packetOut(openflow.PacketOut{InPort: port2, Apply: []openflow.Action{out(openflow.PortAll)}, Data: p})
		o = e.collect(port1)
		o.want(e, port1, p)
		o.want(e, port2)
		o.want(e, port3, p)
	}},
	{"many packet-outs leave in order", func(e *env) {
		f := families[0]
		var want [][]byte
		for i := range 100 {
			p := f.toVIP(uint16(1000+i), openflow.TCPAck).bytes()
			e.must(e.conn.PacketOut(openflow.PacketOut{InPort: openflow.PortController, Apply: []openflow.Action{out(port2)}, Data: p}))
			want = append(want, p)
		}
		e.must(e.conn.Barrier(e.ctx()))
		e.collect(port1).wantInOrder(e, port2, want...)
	}},
	{"packet-ins stop when they are not wanted any more", func(e *env) {
		f := families[0]
		e.apply(add(openflow.Flow{Priority: 5, Cookie: 9, Match: tcpMatch(f), Apply: []openflow.Action{tell}}))
		e.must(e.conn.SetAsync(e.ctx(), openflow.AsyncConfig{PacketIn: [2]uint32{1 << openflow.ReasonNoMatch, 0}}))
		e.inject(port1, f.toVIP(1, openflow.TCPAck).bytes())
		e.apply(add(openflow.Flow{Priority: 0, Cookie: 10, Apply: []openflow.Action{tell}}))
		last := families[1].toVIP(2, openflow.TCPAck).bytes()
		e.inject(port1, last)
		in := event(e, "the packet-in of the table-miss flow", func(openflow.PacketIn) bool { return true })
		if in.Cookie != 10 || !bytes.Equal(in.Data, last) {
			e.Errorf("packet-in of the flow %d, want 10 only", in.Cookie)
		}
	}},
}
