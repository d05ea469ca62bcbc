package conformance

import (
	"encoding/binary"

	"github.com/shunt-sdn/shunt/controller/openflow"
)

// statistics asks for multipart statistics and returns the bodies' entries.
func (r *raw) statistics(typ uint16, body ...byte) (out []byte) {
	r.e.Helper()
	msg := message(multipartReq, append(binary.BigEndian.AppendUint16(nil, typ), append([]byte{0, 0, 0, 0, 0, 0}, body...)...)...)
	for _, m := range r.exchange(msg) {
		if m.Type() != openflow.TypeMultipartReply || m.Xid() != r.xid || binary.BigEndian.Uint16(m.Body()) != typ {
			r.e.Fatalf("answer %v % x to a request for statistics %d", m.Type(), []byte(m), typ)
		}
		out = append(out, m.Body()[8:]...)
	}
	return out
}

var statisticsCases = []behaviour{
	{"flow statistics count packets and octets and filter by cookie", func(e *env) {
		f := families[0]
		e.ladder(f)
		p9, p10 := f.toVIP(9, openflow.TCPAck).bytes(), f.toVIP(10, openflow.TCPAck).bytes()
		e.send(port1, p9, p9, p9, p10)
		e.eventually("counters 0, 1, 3", func() bool {
			stats, err := e.conn.FlowStats(e.ctx(), 0, 0)
			e.must(err)
			n := map[uint64][2]uint64{}
			for _, s := range stats {
				n[s.Cookie] = [2]uint64{s.Packets, s.Bytes}
			}
			return n[1] == [2]uint64{} && n[2] == [2]uint64{1, uint64(len(p10))} && n[3] == [2]uint64{3, uint64(3 * len(p9))}
		})
		stats, err := e.conn.FlowStats(e.ctx(), 2, ^uint64(0))
		e.must(err)
		if len(stats) != 1 || stats[0].Priority != 20 || len(stats[0].Match) != 3 {
			e.Errorf("flows with cookie 2: %+v", stats)
		}
	}},
	{"a flow is shown as it was given", func(e *env) {
		for _, f := range families {
			flow := openflow.Flow{Table: 4, Priority: 321, Cookie: 0xfeed, Goto: 9,
				Match: tcpMatch(f, openflow.InPort(port1), openflow.EthDst(macGateway), openflow.IPSrc(f.client), openflow.IPDst(f.vip), openflow.TCPSrc(1), openflow.TCPDst(80)),
				Apply: []openflow.Action{set(openflow.IPDst(f.session)), openflow.DecTTL{}, out(port2), tell}}
			e.apply(add(flow))
			got, err := e.conn.FlowEntries(e.ctx(), 0xfeed, ^uint64(0))
			e.must(err)
			if len(got) != 1 || openflow.FormatFlow(got[0].Flow) != openflow.FormatFlow(flow) {
				e.Errorf("shown as %+v, want %s", got, openflow.FormatFlow(flow))
			}
			e.clear()
		}
	}},
	{"aggregate statistics add up", func(e *env) {
		f := families[0]
		e.ladder(f)
		p := f.toVIP(9, openflow.TCPAck).bytes()
		e.send(port1, p, p)
		r := e.raw()
		filter := append([]byte{0xff, 0, 0, 0, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0}, make([]byte, 16)...)
		match := append(append([]byte{0, 1, 0, byte(4 + len(ethIPv4) + len(protoTCP))}, ethIPv4...), protoTCP...)
		filter = append(filter, append(match, make([]byte, (8-len(match)%8)%8)...)...)
		e.eventually("2 packets in 3 flows", func() bool {
			b := r.statistics(2, filter...)
			return len(b) == 24 && binary.BigEndian.Uint64(b) == 2 && binary.BigEndian.Uint64(b[8:]) == uint64(2*len(p)) && binary.BigEndian.Uint32(b[16:]) == 3
		})
	}},
	{"thousands of flows come in several messages", func(e *env) {
		const n = 4000
		f := families[1]
		var mods []openflow.FlowMod
		for i := range n {
			mods = append(mods, add(openflow.Flow{Table: 2, Priority: 9, Cookie: uint64(i + 1), Match: tcpMatch(f, openflow.IPSrc(f.client), openflow.TCPSrc(uint16(i)))}))
		}
		e.apply(mods...)
		if got := e.cookies(); len(got) != n || got[0] != 1 || got[n-1] != n {
			e.Errorf("%d flows are shown, want %d", len(got), n)
		}
	}},
	{"table statistics count flows", func(e *env) {
		f := families[0]
		for _, table := range []uint8{0, 3, 3, 3} {
			e.apply(add(openflow.Flow{Table: table, Priority: uint16(10 + len(e.cookies())), Match: tcpMatch(f)}))
		}
		b := e.raw().statistics(3)
		active := map[uint8]uint32{}
		for ; len(b) >= 24; b = b[24:] {
			active[b[0]] = binary.BigEndian.Uint32(b[4:])
		}
		if active[0] != 2 || active[1] != 0 || active[3] != 3 { // the marker's flow is in table 0
			e.Errorf("active flows %v, want 2 in table 0 and 3 in table 3", active)
		}
	}},
	{"ports are described and counted", func(e *env) {
		names := map[uint32]string{}
		for _, p := range e.conn.Ports() {
			names[p.No] = p.Name
			if p.No <= port3 && (!p.LinkUp || p.MAC == [6]byte{}) {
				e.Errorf("port %+v, want its address and the link up", p)
			}
		}
		if names[port1] == "" || names[port2] == "" || names[port3] == "" {
			e.Errorf("ports %v, want 1 to 3", names)
		}
		counters := func(port uint32) (rx, tx uint64) {
			b := e.raw().statistics(4, append(binary.BigEndian.AppendUint32(nil, port), 0, 0, 0, 0)...)
			if len(b) != 112 || binary.BigEndian.Uint32(b) != port {
				e.Fatalf("statistics of port %d: % x", port, b)
			}
			return binary.BigEndian.Uint64(b[8:]), binary.BigEndian.Uint64(b[16:])
		}
		f := families[0]
		e.apply(add(openflow.Flow{Priority: 5, Match: tcpMatch(f), Apply: []openflow.Action{out(port2)}}))
		rx, _ := counters(port1)
		_, tx := counters(port2)
		for range 10 {
			e.send(port1, f.toVIP(1, openflow.TCPAck).bytes())
		}
		e.eventually("30 more packets in by port 1 and out of port 2", func() bool {
			rx2, _ := counters(port1)
			_, tx2 := counters(port2)
			return rx2-rx == 30 && tx2-tx == 30 // each with two markers
		})
		// A port that does not exist has no statistics: an error here, an empty answer there.
		for _, m := range e.raw().exchange(message(multipartReq, 0, 4, 0, 0, 0, 0, 0, 0, 0, 0, 0x47, 0x11, 0, 0, 0, 0)) {
			if m.Type() == openflow.TypeMultipartReply && len(m.Body()) > 8 {
				e.Errorf("statistics of a port that does not exist: % x", []byte(m))
			}
		}
	}},
	{"the switch describes itself", func(e *env) {
		if d := e.conn.Description(); d.Manufacturer == "" || d.Hardware == "" {
			e.Errorf("description %+v", d)
		}
		if e.conn.DatapathID() == 0 || e.conn.Features().Tables < 10 {
			e.Errorf("datapath id %#x, features %+v", e.conn.DatapathID(), e.conn.Features())
		}
	}},
}
