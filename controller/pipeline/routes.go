package pipeline

import (
	"net/netip"

	"github.com/shunt-sdn/shunt/controller/openflow"
)

// routes sends packets to neighbours, and those for unresolved ones to the
// controller, which asks for them.
func (b *builder) routes() {
	resolve := openflow.Controller{MaxLen: maxControllerLen}
	resolved := map[netip.Addr]Neighbour{}
	for _, n := range b.Neighbours {
		resolved[n.Addr] = n
	}
	for v := range b.vips {
		b.toUs(v)
	}
	for _, ifc := range b.Interfaces {
		for _, p := range ifc.Addresses {
			b.toUs(p.Addr())
		}
	}
	for _, n := range b.Neighbours {
		if on, ok := OnLink(b.Interfaces, n.Addr); !ok || on != n.Interface || n.Addr.IsLinkLocalUnicast() {
			continue
		}
		b.route(netip.PrefixFrom(n.Addr, n.Addr.BitLen()), prioRouteHost, TableEgress, set(openflow.EthDst(n.MAC)), openflow.DecTTL{})
	}
	for _, ifc := range b.Interfaces {
		for _, p := range ifc.Addresses {
			if !p.Addr().IsLinkLocalUnicast() { // never routed
				b.route(p, prioRouteOnLink, 0, resolve)
			}
		}
	}
	for _, r := range b.Routes {
		if n, ok := resolved[r.Via]; ok {
			b.route(r.To, 0, TableEgress, set(openflow.EthDst(n.MAC)), openflow.DecTTL{})
		} else {
			b.route(r.To, 0, 0, resolve)
		}
	}
}

// toUs drops what is for one of the switch's own addresses and was not
// answered before.
func (b *builder) toUs(a netip.Addr) {
	b.flow(TableRoutes, prioOwnAddress, match(openflow.EtherTypeOf(a), openflow.IPDst(a)), 0)
}

func (b *builder) route(to netip.Prefix, kind uint16, next uint8, apply ...openflow.Action) {
	m := match(openflow.EtherTypeOf(to.Addr()))
	if to.Bits() > 0 {
		m = append(m, openflow.IPDstIn(to))
	}
	b.flow(TableRoutes, prioRoute+prioRouteLength*uint16(to.Bits())+kind, m, next, apply...)
}
