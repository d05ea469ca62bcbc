package conformance

import (
	"errors"
	"maps"

	"github.com/shunt-sdn/shunt/controller/openflow"
)

// spread is a group over ports 2 and 3.
func spread(id uint32, ports ...uint32) openflow.GroupMod {
	g := openflow.GroupMod{Command: openflow.Add, ID: id}
	for _, p := range ports {
		g.Buckets = append(g.Buckets, openflow.Bucket{Weight: 1, Apply: []openflow.Action{out(p)}})
	}
	return g
}

// choices sends packets of 40 connections in by port 1 and returns which port each takes.
func (e *env) choices(f family) map[uint16]uint32 {
	e.Helper()
	got := map[uint16]uint32{}
	for sport := uint16(50000); sport < 50080; sport += 2 {
		o := e.send(port1, f.toVIP(sport, openflow.TCPAck).bytes())
		for port, frames := range o.ports {
			if len(frames) > 0 {
				got[sport] += uint32(port) * uint32(len(frames))
			}
		}
	}
	return got
}

var groupCases = []behaviour{
	{"a select group spreads connections and keeps each in its place", func(e *env) {
		for _, f := range families {
			e.clear()
			e.must(e.conn.Groups(e.ctx(), spread(1, port2, port3)))
			e.apply(add(openflow.Flow{Priority: 5, Match: tcpMatch(f), Apply: []openflow.Action{openflow.Group{ID: 1}}}))
			first := e.choices(f)
			n := map[uint32]int{}
			for _, port := range first {
				n[port]++
			}
			if n[port2] < 4 || n[port3] < 4 || n[port2]+n[port3] != 40 {
				e.Errorf("%s: 40 connections over ports 2 and 3: %v", f.name, n)
			}
			if second := e.choices(f); !maps.Equal(first, second) {
				e.Errorf("%s: a connection changed its port", f.name)
			}
		}
	}},
	{"a bucket's actions rewrite its copy only", func(e *env) {
		f := families[0]
		g := openflow.GroupMod{Command: openflow.Add, ID: 2, Buckets: []openflow.Bucket{{Weight: 1, Apply: []openflow.Action{
			set(openflow.IPDst(f.session)), set(openflow.EthDst(macNode)), out(port2)}}}}
		e.must(e.conn.Groups(e.ctx(), g))
		e.apply(add(openflow.Flow{Priority: 5, Match: tcpMatch(f), Apply: []openflow.Action{openflow.Group{ID: 2}, out(port3)}}))
		p := f.toVIP(1, openflow.TCPAck)
		want := p.to(macClient, macNode)
		want.dst = f.session
		o := e.send(port1, p.bytes())
		o.want(e, port2, want.bytes())
		o.want(e, port3, p.bytes())
	}},
	{"a group can be modified", func(e *env) {
		f := families[0]
		e.must(e.conn.Groups(e.ctx(), spread(3, port2)))
		e.apply(add(openflow.Flow{Priority: 5, Match: tcpMatch(f), Apply: []openflow.Action{openflow.Group{ID: 3}}}))
		p := f.toVIP(1, openflow.TCPAck).bytes()
		e.send(port1, p).only(e, port2, p)
		g := spread(3, port3)
		g.Command = openflow.Modify
		e.must(e.conn.Groups(e.ctx(), g))
		e.settle()
		e.send(port1, p).only(e, port3, p)
	}},
	{"deleting a group deletes the flows that use it", func(e *env) {
		f := families[0]
		e.must(e.conn.Groups(e.ctx(), spread(4, port2), spread(5, port3)))
		e.apply(
			add(openflow.Flow{Priority: 4, Cookie: 4, Match: tcpMatch(f), Apply: []openflow.Action{openflow.Group{ID: 4}}}),
			add(openflow.Flow{Priority: 5, Cookie: 5, Match: tcpMatch(f), Apply: []openflow.Action{openflow.Group{ID: 5}}}))
		e.must(e.conn.Groups(e.ctx(), openflow.GroupMod{Command: openflow.Delete, ID: 4}))
		e.wantCookies(5)
	}},
	{"groups are added once and modified only if they exist", func(e *env) {
		e.must(e.conn.Groups(e.ctx(), spread(6, port2)))
		if err := e.conn.Groups(e.ctx(), spread(6, port2)); !errors.Is(err, openflow.GroupModExists) {
			e.Errorf("adding again: %v, want %v", err, openflow.GroupModExists)
		}
		g := spread(7, port2)
		g.Command = openflow.Modify
		if err := e.conn.Groups(e.ctx(), g); !errors.Is(err, openflow.GroupModUnknown) {
			e.Errorf("modifying none: %v, want %v", err, openflow.GroupModUnknown)
		}
		e.must(e.conn.Groups(e.ctx(), openflow.GroupMod{Command: openflow.Delete, ID: 7}))
	}},
}
