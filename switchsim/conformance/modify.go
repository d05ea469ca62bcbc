package conformance

import (
	"context"
	"slices"
	"time"

	"github.com/shunt-sdn/shunt/controller/openflow"
)

// cookies returns the cookies in the switch, the marker's apart, in order.
func (e *env) cookies() (out []uint64) {
	e.Helper()
	stats, err := e.conn.FlowStats(e.ctx(), 0, 0)
	e.must(err)
	for _, s := range stats {
		if s.Cookie != 0x3a4ce4 {
			out = append(out, s.Cookie)
		}
	}
	slices.Sort(out)
	return out
}

func (e *env) wantCookies(want ...uint64) {
	e.Helper()
	if got := e.cookies(); !slices.Equal(got, want) {
		e.Errorf("flows with the cookies %x, want %x", got, want)
	}
}

// ladder installs flows with cookies 1, 2, 3: all TCP, to port 80, of one
// connection to port 80, priorities 10, 20, 30, all to port 2.
func (e *env) ladder(f family) {
	e.Helper()
	to2 := []openflow.Action{out(port2)}
	e.apply(
		add(openflow.Flow{Priority: 10, Cookie: 1, Match: tcpMatch(f), Apply: to2}),
		add(openflow.Flow{Priority: 20, Cookie: 2, Match: tcpMatch(f, openflow.TCPDst(80)), Apply: to2}),
		add(openflow.Flow{Priority: 30, Cookie: 3, Match: tcpMatch(f, openflow.TCPDst(80), openflow.TCPSrc(9)), Apply: to2}))
}

var modifyCases = []behaviour{
	{"adding a flow again replaces it", func(e *env) {
		f := families[0]
		p := f.toVIP(9, openflow.TCPAck).bytes()
		flow := openflow.Flow{Priority: 10, Cookie: 1, Match: tcpMatch(f), Apply: []openflow.Action{out(port2)}}
		e.apply(add(flow))
		e.send(port1, p).only(e, port2, p)
		flow.Cookie, flow.Apply = 2, []openflow.Action{out(port3)}
		e.apply(add(flow))
		e.wantCookies(2)
		e.send(port1, p).only(e, port3, p)
	}},
	{"the same match with another priority is another flow", func(e *env) {
		f := families[1]
		for prio := uint16(1); prio <= 3; prio++ {
			e.apply(add(openflow.Flow{Priority: prio, Cookie: uint64(prio), Match: tcpMatch(f), Apply: []openflow.Action{out(port2)}}))
		}
		e.wantCookies(1, 2, 3)
	}},
	{"modify changes the flows that the match covers and keeps their cookies", func(e *env) {
		f := families[0]
		e.ladder(f)
		p := f.toVIP(9, openflow.TCPAck).bytes()
		e.send(port1, p).only(e, port2, p)
		e.apply(openflow.FlowMod{Command: openflow.Modify, Flow: openflow.Flow{Match: tcpMatch(f, openflow.TCPDst(80)), Apply: []openflow.Action{out(port3)}}})
		e.wantCookies(1, 2, 3)
		e.send(port1, p).only(e, port3, p)
		other := f.toVIP(10, openflow.TCPAck)
		other.dport = 81
		e.send(port1, other.bytes()).only(e, port2, other.bytes())
	}},
	{"strict modify changes one flow", func(e *env) {
		f := families[0]
		e.ladder(f)
		e.apply(openflow.FlowMod{Command: openflow.ModifyStrict, Flow: openflow.Flow{Priority: 20, Match: tcpMatch(f, openflow.TCPDst(80)), Apply: []openflow.Action{out(port3)}}})
		p9, p10 := f.toVIP(9, openflow.TCPAck).bytes(), f.toVIP(10, openflow.TCPAck).bytes()
		o := e.send(port1, p9, p10)
		o.want(e, port2, p9)
		o.want(e, port3, p10)
	}},
	{"modify adds nothing", func(e *env) {
		f := families[0]
		for _, c := range []openflow.Command{openflow.Modify, openflow.ModifyStrict} {
			e.apply(openflow.FlowMod{Command: c, Flow: openflow.Flow{Priority: 20, Match: tcpMatch(f), Apply: []openflow.Action{out(port3)}}})
		}
		e.wantCookies()
	}},
	{"modify keeps to the cookies that it names", func(e *env) {
		f := families[0]
		e.ladder(f)
		e.apply(openflow.FlowMod{Command: openflow.Modify, CookieMask: ^uint64(0), Flow: openflow.Flow{Cookie: 3, Match: tcpMatch(f), Apply: []openflow.Action{out(port3)}}})
		p9, p10 := f.toVIP(9, openflow.TCPAck).bytes(), f.toVIP(10, openflow.TCPAck).bytes()
		o := e.send(port1, p9, p10)
		o.want(e, port3, p9)
		o.want(e, port2, p10)
	}},
	{"delete removes the flows that the match covers", func(e *env) {
		f := families[0]
		e.ladder(f)
		e.apply(openflow.FlowMod{Command: openflow.Delete, Flow: openflow.Flow{Match: tcpMatch(f, openflow.TCPDst(80))}})
		e.wantCookies(1)
		e.apply(openflow.FlowMod{Command: openflow.Delete, Flow: openflow.Flow{Match: tcpMatch(families[1])}})
		e.wantCookies(1)
	}},
	{"strict delete removes one flow, of this priority", func(e *env) {
		f := families[0]
		e.ladder(f)
		e.apply(openflow.FlowMod{Command: openflow.DeleteStrict, Flow: openflow.Flow{Priority: 11, Match: tcpMatch(f)}})
		e.wantCookies(1, 2, 3)
		e.apply(openflow.FlowMod{Command: openflow.DeleteStrict, Flow: openflow.Flow{Priority: 20, Match: tcpMatch(f, openflow.TCPDst(80))}})
		e.wantCookies(1, 3)
	}},
	{"a deleted flow forwards no more", func(e *env) {
		f := families[1]
		e.ladder(f)
		p := f.toVIP(9, openflow.TCPAck).bytes()
		e.send(port1, p).only(e, port2, p)
		e.apply(openflow.FlowMod{Command: openflow.Delete, Flow: openflow.Flow{Match: tcpMatch(f)}})
		e.send(port1, p).nothing(e)
	}},
	{"delete by cookie and mask", func(e *env) {
		f := families[0]
		for i, c := range []uint64{0x5348_0000_0000_0001, 0x5348_1000_0000_0002, 0x1111_0000_0000_0001} {
			e.apply(add(openflow.Flow{Table: uint8(i), Priority: 1, Cookie: c, Match: tcpMatch(f)}))
		}
		e.apply(openflow.FlowMod{Command: openflow.Delete, CookieMask: 0xfff << 44, Flow: openflow.Flow{Table: openflow.NoTable, Cookie: 0x5348_1000_0000_0000}})
		e.wantCookies(0x1111_0000_0000_0001, 0x5348_0000_0000_0001)
		e.apply(openflow.FlowMod{Command: openflow.Delete, CookieMask: 0xffff << 48, Flow: openflow.Flow{Table: openflow.NoTable, Cookie: 0x5348 << 48}})
		e.wantCookies(0x1111_0000_0000_0001)
	}},
	{"delete by exact cookie in one table", func(e *env) {
		f := families[0]
		for table := range uint8(3) {
			e.apply(add(openflow.Flow{Table: table, Priority: 1, Cookie: 7 + uint64(table)/2, Match: tcpMatch(f)}))
		}
		e.apply(openflow.FlowMod{Command: openflow.Delete, CookieMask: ^uint64(0), Flow: openflow.Flow{Table: 1, Cookie: 7}})
		e.wantCookies(7, 8)
	}},
	{"delete by output port", func(e *env) {
		f := families[0]
		e.ladder(f)
		e.apply(add(openflow.Flow{Priority: 40, Cookie: 4, Match: tcpMatch(f), Apply: []openflow.Action{out(port3)}}))
		e.apply(openflow.FlowMod{Command: openflow.Delete, OutPort: port2, Flow: openflow.Flow{Match: tcpMatch(f)}})
		e.wantCookies(4)
	}},
	{"the overlap check refuses flows of equal priority that overlap", func(e *env) {
		f := families[0]
		e.ladder(f)
		mod := add(openflow.Flow{Priority: 20, Match: tcpMatch(f, openflow.TCPSrc(9))})
		mod.Flags = openflow.CheckOverlap
		e.refused(openflow.FlowModOverlap, mod)
		mod.Flow.Match = tcpMatch(f, openflow.TCPDst(81))
		e.apply(mod)
		mod.Flow.Priority, mod.Flow.Match = 21, tcpMatch(f, openflow.TCPSrc(9))
		e.apply(mod)
	}},
	{"an idle flow times out and says so", func(e *env) {
		e.timeout(openflow.RemovedIdle, func(f *openflow.Flow) { f.IdleTimeout = time.Second })
	}},
	{"a flow's hard timeout ends it", func(e *env) {
		e.timeout(openflow.RemovedHard, func(f *openflow.Flow) { f.HardTimeout = time.Second })
	}},
	{"a deleted flow that asked for it says so, with its counters", func(e *env) {
		f := families[0]
		m := add(openflow.Flow{Priority: 5, Cookie: 77, Match: tcpMatch(f), Apply: []openflow.Action{out(port2)}})
		m.Flags = openflow.SendFlowRem
		e.apply(m)
		p := f.toVIP(9, openflow.TCPAck).bytes()
		e.send(port1, p, p).only(e, port2, p, p)
		e.eventually("the flow has counted 2 packets", func() bool {
			stats, err := e.conn.FlowStats(e.ctx(), 77, ^uint64(0))
			e.must(err)
			return len(stats) == 1 && stats[0].Packets == 2
		})
		e.apply(openflow.FlowMod{Command: openflow.Delete, Flow: openflow.Flow{Match: tcpMatch(f)}})
		r := event(e, "flow-removed", func(r openflow.FlowRemoved) bool { return r.Cookie == 77 })
		if r.Reason != openflow.RemovedDelete || r.Priority != 5 || r.Packets != 2 || r.Bytes != uint64(2*len(p)) {
			e.Errorf("flow-removed %+v, want reason %d, priority 5, 2 packets, %d octets", r, openflow.RemovedDelete, 2*len(p))
		}
	}},
	{"the order of flow mods between two barriers is kept", func(e *env) {
		f := families[0]
		flow := openflow.Flow{Priority: 5, Match: tcpMatch(f)}
		for range 20 {
			ctx, cancel := context.WithTimeout(e.Context(), patience)
			e.must(e.conn.Apply(ctx, add(flow), openflow.FlowMod{Command: openflow.DeleteStrict, Flow: flow}, add(flow)))
			cancel()
			e.wantCookies(0)
		}
	}},
}

// timeout checks that a flow with a timeout of one second goes with this reason.
func (e *env) timeout(reason uint8, change func(*openflow.Flow)) {
	e.Helper()
	m := add(openflow.Flow{Priority: 5, Cookie: 78, Match: tcpMatch(families[0])})
	change(&m.Flow)
	m.Flags = openflow.SendFlowRem
	began := time.Now()
	e.apply(m)
	r := event(e, "flow-removed", func(r openflow.FlowRemoved) bool { return r.Cookie == 78 })
	if r.Reason != reason {
		e.Errorf("reason %d, want %d", r.Reason, reason)
	}
	if d := time.Since(began); d < 900*time.Millisecond {
		e.Errorf("gone after %v, want a second", d)
	}
	e.wantCookies()
}
