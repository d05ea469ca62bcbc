package pipeline

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/shunt-sdn/shunt/controller/openflow"
)

// Flows returns the flows of class ClassStatic that the switch should hold.
// It returns an error only for an input that no switch could carry out.
func Flows(in Input) (Set, error) {
	if len(in.Interfaces) > MaxInterfaces {
		return nil, fmt.Errorf("a switch has %d interfaces, but at most %d are possible: use several switches", len(in.Interfaces), MaxInterfaces)
	}
	b := &builder{Input: in, set: Set{}, nodes: map[string]Node{}, vips: map[netip.Addr]bool{}}
	for _, n := range in.Nodes {
		b.nodes[n.Name] = n
		if !slices.Contains(b.nodePorts, n.Port) {
			b.nodePorts = append(b.nodePorts, n.Port)
		}
	}
	for _, s := range in.Services {
		for _, v := range s.VIPs {
			b.vips[v] = true
		}
	}
	for i := range in.Interfaces {
		b.ports(i)
		b.neighbourDiscovery(i)
		b.sessionTraffic(i)
		b.linkLayer(i)
	}
	b.diverted()
	b.fences()
	for _, s := range in.Services {
		b.service(s)
	}
	b.marks()
	b.routes()
	b.egress()
	b.misses()
	return b.set, nil
}

// A builder collects the flows of one input.
type builder struct {
	Input
	set       Set
	nodes     map[string]Node
	nodePorts []uint32 // where session addresses are
	vips      map[netip.Addr]bool
}

func (b *builder) flow(table uint8, prio uint16, m openflow.Match, next uint8, apply ...openflow.Action) {
	b.set.add(openflow.Flow{Table: table, Priority: prio, Match: m, Apply: apply, Goto: next})
}

// misses adds the explicit drop to every table in use, or, for tables that only
// pick packets out of the stream, the way on. The first table has none: what
// comes in by ports that are not Shunt's is a matter of others' flows, and where
// there are none OpenFlow 1.3 drops it.
func (b *builder) misses() {
	for i := range b.Interfaces {
		b.flow(b.table(i), prioMiss, nil, 0)
	}
	b.flow(TableDiverted, prioMiss, nil, 0)
	b.flow(TableReplies, prioMiss, nil, 0)
	b.flow(TableServices, prioMiss, nil, TableRoutes)
	b.flow(TableSteer, prioMiss, nil, TableHome)
	b.flow(TableHome, prioMiss, nil, 0)
	b.flow(TableRoutes, prioMiss, nil, 0)
	b.flow(TableEgress, prioMiss, nil, 0)
	if b.Features.Conntrack {
		b.flow(TableSYN, prioMiss, nil, TableHome)
		b.flow(TableLease, prioMiss, nil, TableHome) // a lease that is not known yet
	}
	if b.Features.Advertise {
		b.flow(TableAdvertise, prioMiss, nil, 0)
	}
}

func (b *builder) table(i int) uint8 { return TableInterfaces + uint8(i) }

// match is a match on the family of an address and what else is given.
func match(family uint16, fields ...openflow.FieldValue) openflow.Match {
	return append(openflow.Match{openflow.EthType(family)}, fields...)
}

// tcp is a match on TCP of a family.
func tcp(family uint16, fields ...openflow.FieldValue) openflow.Match {
	return append(openflow.Match{openflow.EthType(family), openflow.IPProto(openflow.ProtoTCP)}, fields...)
}

func set(fv openflow.FieldValue) openflow.Action { return openflow.SetField{FieldValue: fv} }

// deliver are the actions that send a packet for a VIP to a session address on
// a node: what both homes and steering do. TableEgress does the rest.
func deliver(session netip.Addr, n Node) []openflow.Action {
	return []openflow.Action{set(openflow.IPDst(session)), set(openflow.EthDst(n.MAC)), openflow.DecTTL{}}
}

var families = []uint16{openflow.EthTypeIPv4, openflow.EthTypeIPv6}
