package pipeline

import (
	"net"
	"net/netip"

	"github.com/shunt-sdn/shunt/controller/openflow"
)

// ports leads the packets of an interface's ports to the interface's table.
func (b *builder) ports(i int) {
	for _, p := range b.Interfaces[i].Ports {
		b.flow(TablePorts, prioPort, openflow.Match{openflow.InPort(p)}, b.table(i))
	}
}

// flood are the actions that send a packet out of every port of the interface.
// A switch leaves out the port that the packet came in by.
func (b *builder) flood(i int) []openflow.Action {
	var out []openflow.Action
	for _, p := range b.Interfaces[i].Ports {
		out = append(out, openflow.Output{Port: p})
	}
	return out
}

// sessionTraffic sends on what concerns session addresses, and keeps everybody
// else from using them.
func (b *builder) sessionTraffic(i int) {
	t := b.table(i)
	for _, pool := range b.Pools {
		family := openflow.EtherTypeOf(pool.Addr())
		for _, n := range b.Nodes {
			if n.Interface != i {
				continue
			}
			in := openflow.InPort(n.Port)
			b.flow(t, prioDiverted, match(family, in, openflow.IPDstIn(pool)), TableDiverted)
			b.flow(t, prioReply, match(family, in, openflow.IPSrcIn(pool)), TableReplies)
		}
		// A segment floods what it does not know the way to: without this, a reply
		// would be forwarded by every switch that it reaches.
		for _, other := range b.Interfaces[i].Others {
			b.flow(t, prioOthersReply, match(family, openflow.EthDst(other), openflow.IPSrcIn(pool)), 0)
		}
		b.flow(t, prioPoolDst, match(family, openflow.IPDstIn(pool)), 0)
		b.flow(t, prioPoolSrc, match(family, openflow.IPSrcIn(pool)), 0)
	}
}

// linkLayer switches within the interface, and routes what is for the
// interface itself.
func (b *builder) linkLayer(i int) {
	t, ifc := b.table(i), b.Interfaces[i]
	us := openflow.EthDst(ifc.MAC)
	b.echo(i)
	for _, family := range families {
		b.flow(t, prioRouted, match(family, us), TableServices)
	}
	b.flow(t, prioOurMAC, openflow.Match{us}, 0)
	for _, n := range b.Neighbours {
		if n.Interface == i {
			b.flow(t, prioSwitched, openflow.Match{openflow.EthDst(n.MAC)}, 0, openflow.Output{Port: n.Port})
		}
	}
	for _, n := range b.Nodes {
		if n.Interface == i {
			b.flow(t, prioSwitched, openflow.Match{openflow.EthDst(n.MAC)}, 0, openflow.Output{Port: n.Port})
		}
	}
	unicast := openflow.FieldValue{Field: openflow.FieldEthDst, Value: make([]byte, 6), Mask: []byte{1, 0, 0, 0, 0, 0}}
	b.flow(t, prioFlood, openflow.Match{unicast}, 0, b.flood(i)...)
}

// echo answers pings of the switch's own addresses, of whatever interface.
func (b *builder) echo(i int) {
	t, mac := b.table(i), b.Interfaces[i].MAC
	if !b.Features.Move {
		return
	}
	for _, other := range b.Interfaces {
		for _, a := range other.Addresses {
			addr := a.Addr()
			m := match(openflow.EtherTypeOf(addr), openflow.EthDst(mac), openflow.IPDst(addr))
			src, dst := openflow.FieldIPv4Src, openflow.FieldIPv4Dst
			reply := openflow.U8(openflow.FieldICMPv4Type, 0)
			if addr.Is4() {
				m = append(m, openflow.IPProto(openflow.ProtoICMP), openflow.U8(openflow.FieldICMPv4Type, 8))
			} else {
				m = append(m, openflow.IPProto(openflow.ProtoICMPv6), openflow.U8(openflow.FieldICMPv6Type, 128))
				src, dst = openflow.FieldIPv6Src, openflow.FieldIPv6Dst
				reply = openflow.U8(openflow.FieldICMPv6Type, 129)
			}
			b.flow(t, prioEcho, m, 0,
				openflow.Move{Src: openflow.FieldEthSrc, Dst: openflow.FieldEthDst}, set(openflow.EthSrc(mac)),
				openflow.Move{Src: src, Dst: dst}, set(openflow.IPSrc(addr)),
				set(reply), openflow.Output{Port: openflow.PortInPort})
		}
	}
}

// diverted delivers packets that a guard sent to another node, as they are. One
// that teaches has its connection marked: the next packet goes to that node at once.
func (b *builder) diverted() {
	for _, n := range b.Nodes {
		b.flow(TableDiverted, prioDeliver, openflow.Match{openflow.EthDst(n.MAC)}, 0, openflow.Output{Port: n.Port})
	}
	if !b.Features.Conntrack || !b.Features.TCPFlags {
		return
	}
	lease := map[netip.Addr]uint16{}
	for _, l := range b.Leases {
		lease[l.Session] = l.Mark
	}
	for _, s := range b.Services {
		for _, h := range s.Homes {
			for _, n := range b.Nodes {
				if n.Mark == 0 || lease[h.Session] == 0 {
					continue
				}
				m := tcp(openflow.EtherTypeOf(h.Session), openflow.EthDst(n.MAC), openflow.IPDst(h.Session), openflow.TCPDst(s.Port),
					openflow.TCPFlags(openflow.TCPTeaches, openflow.TCPTeaches))
				mark := openflow.CT{
					Zone: b.Zone, Commit: true, Table: openflow.NoTable,
					Exec: []openflow.Action{set(openflow.CTMark(Mark(lease[h.Session], n.Mark)))},
				}
				b.flow(TableDiverted, prioTeach, m, 0, set(openflow.IPDst(h.VIP)), mark, set(openflow.IPDst(h.Session)), openflow.Output{Port: n.Port})
			}
		}
	}
}

// egress gives a routed packet its source hardware address and its port.
func (b *builder) egress() {
	add := func(mac net.HardwareAddr, i int, port uint32) {
		if i >= len(b.Interfaces) {
			return
		}
		us := set(openflow.EthSrc(b.Interfaces[i].MAC))
		b.flow(TableEgress, prioDeliverBack, openflow.Match{openflow.InPort(port), openflow.EthDst(mac)}, 0, us, openflow.Output{Port: openflow.PortInPort})
		b.flow(TableEgress, prioDeliver, openflow.Match{openflow.EthDst(mac)}, 0, us, openflow.Output{Port: port})
	}
	for _, n := range b.Nodes {
		add(n.MAC, n.Interface, n.Port)
	}
	for _, n := range b.Neighbours {
		add(n.MAC, n.Interface, n.Port)
	}
}

// OnLink returns the position of the interface whose link an address is on.
func OnLink(interfaces []Interface, a netip.Addr) (int, bool) {
	best, found := -1, 0
	for i, ifc := range interfaces {
		for _, p := range ifc.Addresses {
			if p.Contains(a) && p.Bits() >= found {
				best, found = i, p.Bits()
			}
		}
	}
	return best, best >= 0
}
