package conformance

import (
	"net/netip"

	"github.com/shunt-sdn/shunt/controller/openflow"
)

const (
	zone     = 0x5348
	trackedT = 5 // the table after the tracker
)

// mark commits a connection with a mark, by a packet-out of one of its packets.
func (e *env) mark(p segment, mark uint32) {
	e.Helper()
	e.packetOut(openflow.PacketOut{InPort: openflow.PortController, Data: p.bytes(), Apply: []openflow.Action{
		openflow.CT{Zone: zone, Commit: true, Table: openflow.NoTable, Exec: []openflow.Action{set(openflow.CTMark(mark))}}}})
}

// steering installs marks' paths: mark 1 to port 2, mark 2 to port 3, none back
// to the controller; SYNs go to the controller before anything else.
func (e *env) steering(f family) {
	e.Helper()
	e.apply(
		add(openflow.Flow{Priority: 30, Cookie: 100, Match: tcpMatch(f, openflow.IPDst(f.vip), openflow.TCPFlags(openflow.TCPSyn, openflow.TCPSyn|openflow.TCPAck)), Apply: []openflow.Action{tell}}),
		add(openflow.Flow{Priority: 20, Match: tcpMatch(f, openflow.IPDst(f.vip)), Apply: []openflow.Action{openflow.CT{Zone: zone, Table: trackedT}}}),
		add(openflow.Flow{Table: trackedT, Priority: 10, Match: tcpMatch(f, openflow.CTMark(1)), Apply: []openflow.Action{set(openflow.IPDst(f.session)), out(port2)}}),
		add(openflow.Flow{Table: trackedT, Priority: 10, Match: tcpMatch(f, openflow.CTMark(2)), Apply: []openflow.Action{set(openflow.IPDst(f.session)), out(port3)}}),
		add(openflow.Flow{Table: trackedT, Priority: 1, Cookie: 101, Match: tcpMatch(f), Apply: []openflow.Action{tell}}))
}

// extension is a case that needs Open vSwitch's extensions.
func extension(name string, run func(*env)) behaviour {
	return behaviour{name, func(e *env) {
		if !e.target.NoExtensions {
			run(e)
		}
	}}
}

var extensionCases = []behaviour{
	{"a switch without the extensions says so", func(e *env) {
		f := families[0]
		mods := []struct {
			mod  openflow.FlowMod
			want openflow.Code
		}{
			{add(openflow.Flow{Priority: 1, Match: tcpMatch(f, openflow.TCPFlags(openflow.TCPSyn, openflow.TCPSyn))}), openflow.BadMatchBadField},
			{add(openflow.Flow{Priority: 2, Match: tcpMatch(f, openflow.CTMark(1))}), openflow.BadMatchBadField},
			{add(openflow.Flow{Priority: 3, Match: tcpMatch(f), Apply: []openflow.Action{openflow.CT{Zone: 1, Table: 2}}}), openflow.BadActionBadExp},
			{add(openflow.Flow{Priority: 4, Match: tcpMatch(f), Apply: []openflow.Action{openflow.Move{Src: openflow.FieldEthSrc, Dst: openflow.FieldEthDst}}}), openflow.BadActionBadExp},
		}
		for _, m := range mods {
			if e.target.NoExtensions {
				e.refused(m.want, m.mod)
			} else {
				e.apply(m.mod)
			}
		}
	}},
	extension("TCP flags match with a mask", func(e *env) {
		for _, f := range families {
			e.apply(
				add(openflow.Flow{Priority: 5, Match: tcpMatch(f, openflow.TCPFlags(openflow.TCPSyn, openflow.TCPSyn|openflow.TCPAck)), Apply: []openflow.Action{out(port2)}}),
				add(openflow.Flow{Priority: 4, Match: tcpMatch(f), Apply: []openflow.Action{out(port3)}}))
			syn, synAck, ack, finAck := f.toVIP(1, openflow.TCPSyn).bytes(), f.toVIP(1, openflow.TCPSyn|openflow.TCPAck).bytes(),
				f.toVIP(1, openflow.TCPAck).bytes(), f.toVIP(1, openflow.TCPFin|openflow.TCPAck).bytes()
			o := e.send(port1, syn, synAck, ack, finAck)
			o.want(e, port2, syn)
			o.want(e, port3, synAck, ack, finAck)
		}
	}),
	extension("ARP requests are answered by moving fields", func(e *env) {
		gw, client := netip.MustParseAddr("10.10.1.1"), families[0].client
		e.apply(add(openflow.Flow{Priority: 5, Match: openflow.Match{openflow.EthType(openflow.EthTypeARP), openflow.U16(openflow.FieldARPOp, 1), {Field: openflow.FieldARPTPA, Value: gw.AsSlice()}},
			Apply: []openflow.Action{
				openflow.Move{Src: openflow.FieldEthSrc, Dst: openflow.FieldEthDst}, set(openflow.EthSrc(macGateway)),
				set(openflow.U16(openflow.FieldARPOp, 2)),
				openflow.Move{Src: openflow.FieldARPSHA, Dst: openflow.FieldARPTHA}, openflow.Move{Src: openflow.FieldARPSPA, Dst: openflow.FieldARPTPA},
				set(openflow.MAC(openflow.FieldARPSHA, macGateway)), set(openflow.FieldValue{Field: openflow.FieldARPSPA, Value: gw.AsSlice()}),
				out(openflow.PortInPort)}}))
		for _, who := range []struct {
			port uint32
			mac  []byte
		}{{port1, macClient}, {port2, macNode}} {
			request := arp(who.mac, broadcast, 1, who.mac, client, make([]byte, 6), gw)
			e.send(who.port, request).only(e, who.port, arp(macGateway, who.mac, 2, macGateway, gw, who.mac, client))
		}
	}),
	extension("moved addresses keep checksums right", func(e *env) {
		f := families[0]
		e.apply(add(openflow.Flow{Priority: 5, Match: tcpMatch(f), Apply: []openflow.Action{
			openflow.Move{Src: openflow.FieldIPv4Src, Dst: openflow.FieldIPv4Dst}, openflow.Move{Src: openflow.FieldTCPSrc, Dst: openflow.FieldTCPDst}, out(port2)}}))
		p := f.toVIP(0x1234, openflow.TCPAck)
		want := p
		want.dst, want.dport = p.src, p.sport
		e.send(port1, p.bytes()).only(e, port2, want.bytes())
	}),
	extension("a connection without a mark takes the default path, a marked one its own, at once", func(e *env) {
		for i, f := range families {
			e.steering(f)
			for n := range 20 {
				p := f.toVIP(uint16(20000+1000*i+n), openflow.TCPAck)
				want := p
				want.dst = f.session
				if o := e.send(port1, p.bytes()); len(o.packetIns) != 1 || o.packetIns[0].Cookie != 101 {
					e.Fatalf("%s: an unmarked packet: %+v", f.name, o)
				}
				// No settling: packets that come after the barrier take the new path.
				e.mark(p, 1)
				e.send(port1, p.bytes()).only(e, port2, want.bytes())
				e.mark(p, 2)
				e.send(port1, p.bytes()).only(e, port3, want.bytes())
			}
		}
	}),
	extension("a packet that a node sends on marks its connection by a bit in it, and leaves as it came", func(e *env) {
		for i, f := range families {
			e.steering(f)
			toSession := []openflow.FieldValue{openflow.IPDst(f.session), openflow.EthDst(macOther)}
			e.apply(
				add(openflow.Flow{Priority: 40, Match: tcpMatch(f, append(toSession, openflow.TCPFlags(openflow.TCPTeaches, openflow.TCPTeaches))...), Apply: []openflow.Action{
					set(openflow.IPDst(f.vip)),
					openflow.CT{Zone: zone, Commit: true, Table: openflow.NoTable, Exec: []openflow.Action{set(openflow.CTMark(1))}},
					set(openflow.IPDst(f.session)), out(port3),
				}}),
				add(openflow.Flow{Priority: 35, Match: tcpMatch(f, toSession...), Apply: []openflow.Action{out(port3)}}))
			for n := range 20 {
				p := f.toVIP(uint16(40000+1000*i+n), openflow.TCPAck)
				onward := p.to(macNode, macOther)
				onward.dst = f.session
				e.send(port2, onward.bytes()).only(e, port3, onward.bytes())
				if o := e.send(port1, p.bytes()); len(o.packetIns) != 1 || o.packetIns[0].Cookie != 101 {
					e.Fatalf("%s: a packet without the bit has marked its connection: %+v", f.name, o)
				}
				onward.flags |= openflow.TCPTeaches
				e.send(port2, onward.bytes()).only(e, port3, onward.bytes())
				want := p
				want.dst = f.session
				e.send(port1, p.bytes()).only(e, port2, want.bytes())
			}
		}
	}),
	extension("a mark of 0 takes the connection back", func(e *env) {
		f := families[0]
		e.steering(f)
		p := f.toVIP(30000, openflow.TCPAck)
		e.mark(p, 1)
		e.mark(p, 0)
		o := e.send(port1, p.bytes())
		o.nothing(e)
		if len(o.packetIns) != 1 || o.packetIns[0].Cookie != 101 {
			e.Errorf("packet-ins %+v, want one of the default path", o.packetIns)
		}
	}),
	extension("a SYN is looked at before the marks", func(e *env) {
		f := families[1]
		e.steering(f)
		p := f.toVIP(31000, openflow.TCPAck)
		e.mark(p, 1)
		syn := f.toVIP(31000, openflow.TCPSyn)
		if o := e.send(port1, syn.bytes()); len(o.packetIns) != 1 || o.packetIns[0].Cookie != 100 {
			e.Errorf("packet-ins %+v, want one of the SYN's flow", o.packetIns)
		}
	}),
	extension("marks belong to a zone", func(e *env) {
		f := families[0]
		e.steering(f)
		p := f.toVIP(32000, openflow.TCPAck)
		e.packetOut(openflow.PacketOut{InPort: openflow.PortController, Data: p.bytes(), Apply: []openflow.Action{
			openflow.CT{Zone: zone + 1, Commit: true, Table: openflow.NoTable, Exec: []openflow.Action{set(openflow.CTMark(1))}}}})
		if o := e.send(port1, p.bytes()); len(o.packetIns) != 1 || o.packetIns[0].Cookie != 101 {
			e.Errorf("%+v, want the default path", o)
		}
	}),
	extension("without a commit nothing is remembered", func(e *env) {
		f := families[0]
		const newFlag, established, reply, tracked = 1, 2, 8, 0x20
		e.apply(
			add(openflow.Flow{Priority: 20, Match: tcpMatch(f), Apply: []openflow.Action{openflow.CT{Zone: zone, Table: trackedT}}}),
			add(openflow.Flow{Table: trackedT, Priority: 10, Match: tcpMatch(f, openflow.U32Masked(openflow.FieldCTState, tracked|newFlag, tracked|newFlag)), Apply: []openflow.Action{out(port2)}}),
			add(openflow.Flow{Table: trackedT, Priority: 10, Match: tcpMatch(f, openflow.U32Masked(openflow.FieldCTState, tracked|established, tracked|established|newFlag)), Apply: []openflow.Action{out(port3)}}))
		p := f.toVIP(33000, openflow.TCPAck)
		e.send(port1, p.bytes(), p.bytes()).only(e, port2, p.bytes(), p.bytes())
	}),
	extension("both directions of a NATed connection are one, with one mark", func(e *env) {
		for i, f := range families {
			const reply, tracked = 8, 0x20
			isReply := openflow.U32Masked(openflow.FieldCTState, tracked|reply, tracked|reply)
			e.steering(f)
			e.apply(
				add(openflow.Flow{Priority: 20, Match: tcpMatch(f, openflow.IPSrc(f.session)), Apply: []openflow.Action{set(openflow.IPSrc(f.vip)), openflow.CT{Zone: zone, Table: trackedT + 1}}}),
				add(openflow.Flow{Table: trackedT + 1, Priority: 10, Match: tcpMatch(f, openflow.CTMark(1), isReply), Apply: []openflow.Action{out(port1)}}),
				add(openflow.Flow{Table: trackedT + 1, Priority: 1, Match: tcpMatch(f), Apply: []openflow.Action{out(port3)}}))
			sport := uint16(34000 + i)
			p, back := f.toVIP(sport, openflow.TCPAck), f.toClient(sport, openflow.TCPAck)
			wantBack := back
			wantBack.src = f.vip
			e.mark(p, 1)
			wantIn := p
			wantIn.dst = f.session
			e.send(port1, p.bytes()).only(e, port2, wantIn.bytes())
			e.send(port2, back.bytes()).only(e, port1, wantBack.bytes())
			e.send(port1, p.bytes()).only(e, port2, wantIn.bytes())
			e.mark(p, 2)
			e.send(port1, p.bytes()).only(e, port3, wantIn.bytes())
		}
	}),
	extension("the actions after ct see the packet untracked", func(e *env) {
		f := families[0]
		p := f.toVIP(35000, openflow.TCPAck)
		e.apply(
			add(openflow.Flow{Priority: 20, Match: tcpMatch(f), Apply: []openflow.Action{openflow.CT{Zone: zone, Table: trackedT}, set(openflow.EthDst(macOther)), out(port3)}}),
			add(openflow.Flow{Table: trackedT, Priority: 1, Apply: []openflow.Action{out(port2)}}))
		o := e.send(port1, p.bytes())
		o.want(e, port2, p.bytes())
		o.want(e, port3, p.to(macClient, macOther).bytes())
	}),
	extension("ct takes IP packets only, and changes a mark only when it commits", func(e *env) {
		ct := openflow.CT{Zone: zone, Table: trackedT}
		e.refused(openflow.BadActionInconsistent, add(openflow.Flow{Priority: 1, Apply: []openflow.Action{ct}}))
		r := e.raw()
		// ct(zone=1,table=5,exec(set_field:1->ct_mark)) without commit.
		exec := append([]byte{0, 25, 0, 16, 0, 1, 107 << 1, 4, 0, 0, 0, 1}, 0, 0, 0, 0)
		action := append([]byte{0xff, 0xff, 0, 40, 0, 0, 0x23, 0x20, 0, 35, 0, 0, 0, 0, 0, 0, 0, 1, 5, 0, 0, 0, 0, 0}, exec...)
		r.wantError(flowMod(0, 0, ethIPv4, apply(action)), openflow.BadActionBadArgument, openflow.BadActionBadType, openflow.BadActionInconsistent)
	}),
}
