package pipeline

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"

	"github.com/shunt-sdn/shunt/controller/openflow"
)

// service adds a service: SYNs to home, other packets to steering, replies from
// session addresses.
func (b *builder) service(s Service) {
	for _, vip := range s.VIPs {
		family := openflow.EtherTypeOf(vip)
		to := []openflow.FieldValue{openflow.IPDst(vip), openflow.TCPDst(s.Port)}
		if b.Features.TCPFlags {
			syn := openflow.TCPFlags(openflow.TCPSyn, openflow.TCPSyn|openflow.TCPAck)
			m := append(tcp(family, to...), syn)
			if b.Features.Conntrack {
				b.flow(TableServices, prioSYN, m, 0, openflow.CT{Zone: b.Zone, Table: TableSYN})
			} else {
				b.flow(TableServices, prioSYN, m, TableHome)
			}
		}
		if b.Features.Conntrack {
			b.flow(TableServices, prioService, tcp(family, to...), 0, openflow.CT{Zone: b.Zone, Table: TableSteer})
		} else {
			b.flow(TableServices, prioService, tcp(family, to...), TableSteer)
		}
		b.homes(s, vip)
	}
	for _, h := range s.Homes {
		m := tcp(openflow.EtherTypeOf(h.Session), openflow.IPSrc(h.Session), openflow.TCPSrc(s.Port))
		reply := []openflow.Action{set(openflow.IPSrc(h.VIP))}
		if b.Features.Conntrack {
			// The tracker sees both directions of what the client sees. What it says of
			// this one does not matter, so the packet need not begin anew after it.
			reply = append(reply, openflow.CT{Zone: b.Zone, Table: openflow.NoTable})
		}
		b.flow(TableReplies, prioService, m, TableRoutes, reply...)
		for _, f := range b.Fences {
			if f.Node == h.Node {
				b.flow(TableReplies, prioFenceHome, slices.Concat(m, openflow.Match{openflow.EthSrc(f.MAC)}), TableRoutes, reply...)
			}
		}
	}
}

// fences drops replies of nodes that were given up.
func (b *builder) fences() {
	for _, f := range b.Fences {
		for _, pool := range b.Pools {
			b.flow(TableReplies, prioFence, match(openflow.EtherTypeOf(pool.Addr()), openflow.EthSrc(f.MAC), openflow.IPSrcIn(pool)), 0)
		}
	}
}

// homes spreads a VIP's connections over its homes.
func (b *builder) homes(s Service, vip netip.Addr) {
	byNode := map[string]Home{}
	var up, all []string
	for _, h := range s.Homes {
		if _, known := b.nodes[h.Node]; h.VIP != vip || !known {
			continue
		}
		byNode[h.Node] = h
		all = append(all, h.Node)
		if h.Up {
			up = append(up, h.Node)
		}
	}
	if len(up) == 0 {
		up = all // better a connection refused by its home than one that hangs
	}
	for _, g := range assign(s.Name, up) {
		h := byNode[g.node]
		m := tcp(openflow.EtherTypeOf(vip), openflow.IPDst(vip), openflow.TCPDst(s.Port))
		if g.mask != 0 {
			m = append(m, openflow.U16Masked(openflow.FieldTCPSrc, g.value, g.mask))
		}
		b.flow(TableHome, prioHome+uint16(g.bits()), m, TableEgress, deliver(h.Session, b.nodes[h.Node])...)
	}
}

// marks adds what turns a connection's mark into a node and a session address.
func (b *builder) marks() {
	if !b.Features.Conntrack {
		return
	}
	for _, family := range families {
		for _, n := range b.Nodes {
			if n.Mark != 0 {
				b.flow(TableSteer, prioMark, match(family, openflow.U32Masked(openflow.FieldCTMark, uint32(n.Mark), 0xffff)), TableLease,
					set(openflow.EthDst(n.MAC)))
			}
		}
		// A SYN of a connection that reuses a port erases the mark.
		unmarked := match(family, openflow.CTMark(0))
		erase := openflow.CT{Zone: b.Zone, Commit: true, Table: openflow.NoTable, Exec: []openflow.Action{set(openflow.CTMark(0))}}
		b.flow(TableSYN, prioMark+1, unmarked, TableHome)
		b.flow(TableSYN, prioMark, match(family), TableHome, erase)
	}
	for _, l := range b.Leases {
		b.flow(TableLease, prioMark, match(openflow.EtherTypeOf(l.Session), openflow.U32Masked(openflow.FieldCTMark, uint32(l.Mark)<<16, 0xffff0000)), TableEgress,
			set(openflow.IPDst(l.Session)), openflow.DecTTL{})
	}
}

// Mark is the ct_mark of a session of a lease that a node holds.
func Mark(lease, node uint16) uint32 { return uint32(lease)<<16 | uint32(node) }

// SessionFlow steers one session by an exact match: the packets of client for
// vip go to the session address on n.
func SessionFlow(client, vip netip.AddrPort, session netip.Addr, n Node) openflow.Flow {
	f := openflow.Flow{
		Table:    TableSteer,
		Priority: prioSession,
		Match: tcp(openflow.EtherTypeOf(vip.Addr()), openflow.IPSrc(client.Addr()), openflow.IPDst(vip.Addr()),
			openflow.TCPSrc(client.Port()), openflow.TCPDst(vip.Port())),
		Apply: deliver(session, n),
		Goto:  TableEgress,
	}
	f.Cookie = Cookie(ClassSession, f)
	return f
}

// SessionEnds returns the client and the VIP of a session's flow.
func SessionEnds(m openflow.Match) (client, vip netip.AddrPort, err error) {
	var src, dst netip.Addr
	var sport, dport uint16
	for _, fv := range m {
		if fv.Mask != nil && slices.ContainsFunc(fv.Mask, func(b byte) bool { return b != 0xff }) {
			return client, vip, fmt.Errorf("match %v is not exact", m)
		}
		switch fv.Field {
		case openflow.FieldIPv4Src, openflow.FieldIPv6Src:
			src, _ = netip.AddrFromSlice(fv.Value)
		case openflow.FieldIPv4Dst, openflow.FieldIPv6Dst:
			dst, _ = netip.AddrFromSlice(fv.Value)
		case openflow.FieldTCPSrc:
			sport = binary.BigEndian.Uint16(fv.Value)
		case openflow.FieldTCPDst:
			dport = binary.BigEndian.Uint16(fv.Value)
		}
	}
	if !src.IsValid() || !dst.IsValid() || sport == 0 || dport == 0 {
		return client, vip, fmt.Errorf("match %v is not that of a session", m)
	}
	return netip.AddrPortFrom(src, sport), netip.AddrPortFrom(dst, dport), nil
}
