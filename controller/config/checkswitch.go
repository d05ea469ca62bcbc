package config

import (
	"net/netip"

	"go.yaml.in/yaml/v3"
)

func (r *reader) checkSwitches(d *document) {
	if len(d.switches) == 0 {
		r.errorf(d.root, "describe at least one", "no switch")
	}
	dpids := make(map[uint64]*yaml.Node)
	connects := make(map[string]*yaml.Node)
	for _, s := range d.switches {
		if s.dpid.n == nil && len(d.switches) > 1 {
			r.errorf(s.n, "write it, as ovs-ofctl show prints it", "one of several switches has no dpid")
		}
		if first := dpids[s.dpid.v]; first != nil && s.dpid.n != nil {
			r.errorf(s.dpid.n, "correct one of them", "dpid %016x is another switch's in line %d", s.dpid.v, first.Line)
		}
		dpids[s.dpid.v] = s.dpid.n
		if first := connects[s.connect.v]; first != nil && s.connect.n != nil {
			r.errorf(s.connect.n, "correct one of them", "%s is another switch's in line %d", s.connect.v, first.Line)
		}
		connects[s.connect.v] = s.connect.n
		r.checkInterfaces(d, s)
		r.checkRoutes(d, s)
	}
}

func (r *reader) checkInterfaces(d *document, s *switchDoc) {
	var names, ports []at[string]
	var prefixes []at[netip.Prefix]
	for _, i := range s.interfaces {
		names = append(names, i.name)
		ports = append(ports, i.ports...)
		for _, a := range i.addresses {
			if p := d.pool(a.v.Masked()); p != nil {
				r.errorf(a.n, "choose a pool that no network uses", "address %v of interface %s overlaps pool %v in line %d", a.v, i.name.v, p.v, p.n.Line)
			}
			for _, b := range prefixes {
				if a.v.Overlaps(b.v) {
					r.errorf(a.n, "give each interface a prefix of its own", "address %v of interface %s overlaps %v in line %d", a.v, i.name.v, b.v, b.n.Line)
				}
			}
			prefixes = append(prefixes, a)
		}
	}
	distinct(r, names, "interface")
	distinct(r, ports, "port")
}

func (r *reader) checkRoutes(d *document, s *switchDoc) {
	seen := make(map[netip.Prefix]*yaml.Node)
	for _, route := range s.routes {
		to, via := route.to.v, route.via.v
		if first := seen[to]; first != nil {
			r.errorf(route.to.n, "remove one", "a second route to %v, first in line %d", to, first.Line)
		}
		seen[to] = route.to.n
		if to.Addr().Is4() != via.Is4() {
			r.errorf(route.via.n, "write a next hop of the same family", "route to %v goes via %v", to, via)
			continue
		}
		// A default route covers the pools, but theirs are more specific.
		if p := d.pool(to); p != nil && to.Bits() >= p.v.Bits() {
			r.errorf(route.to.n, "remove it: pools are routed by steering", "route to %v is inside pool %v in line %d", to, p.v, p.n.Line)
		}
		r.checkNextHop(s, route)
	}
}

func (r *reader) checkNextHop(s *switchDoc, route *routeDoc) {
	for _, i := range s.interfaces {
		for _, a := range i.addresses {
			if a.v.Addr() == route.via.v {
				r.errorf(route.via.n, "write the neighbour's address", "route to %v goes via the switch's own address %v", route.to.v, route.via.v)
				return
			}
			if a.v.Contains(route.via.v) {
				return
			}
		}
	}
	r.errorf(route.via.n, "write a next hop that an interface's prefix contains", "route to %v goes via %v, which is on no interface's network", route.to.v, route.via.v)
}
