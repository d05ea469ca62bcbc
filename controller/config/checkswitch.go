package config

import (
	"bytes"
	"net/netip"

	"go.yaml.in/yaml/v3"

	conf "github.com/shunt-sdn/shunt/internal/yamlconf"
)

func (r *reader) checkSwitches(d *document) {
	if len(d.switches) == 0 {
		r.Errorf(d.root, "describe at least one", "no switch")
	}
	dpids := make(map[uint64]*yaml.Node)
	connects := make(map[string]*yaml.Node)
	for i, s := range d.switches {
		for _, other := range d.switches[:i] {
			r.checkShared(s, other)
		}
		if s.dpid.N == nil && len(d.switches) > 1 {
			r.Errorf(s.n, "write it, as ovs-ofctl show prints it", "one of several switches has no dpid")
		}
		if first := dpids[s.dpid.V]; first != nil && s.dpid.N != nil {
			r.Errorf(s.dpid.N, "correct one of them", "dpid %016x is another switch's in line %d", s.dpid.V, first.Line)
		}
		dpids[s.dpid.V] = s.dpid.N
		if first := connects[s.connect.V]; first != nil && s.connect.N != nil {
			r.Errorf(s.connect.N, "correct one of them", "%s is another switch's in line %d", s.connect.V, first.Line)
		}
		connects[s.connect.V] = s.connect.N
		r.checkInterfaces(d, s)
		r.checkRoutes(d, s)
	}
}

// checkShared reports what two switches cannot both have. That a network is on
// interfaces of both is as it should be: nodes are behind both.
func (r *reader) checkShared(s, other *switchDoc) {
	for _, i := range s.interfaces {
		for _, j := range other.interfaces {
			shared := false
			for _, a := range i.addresses {
				for _, b := range j.addresses {
					shared = shared || a.V.Overlaps(b.V)
					if a.V.Addr() == b.V.Addr() {
						r.Errorf(a.N, "give each switch an address of its own", "address %v of interface %s is another switch's in line %d", a.V.Addr(), i.name.V, b.N.Line)
					}
				}
			}
			if shared && bytes.Equal(i.mac.V, j.mac.V) {
				r.Errorf(i.mac.N, "give each switch a MAC address of its own", "mac %v of interface %s is another switch's on the same network in line %d", i.mac.V, i.name.V, j.mac.N.Line)
			}
		}
	}
}

func (r *reader) checkInterfaces(d *document, s *switchDoc) {
	var names, ports []conf.At[string]
	var prefixes []conf.At[netip.Prefix]
	for _, i := range s.interfaces {
		names = append(names, i.name)
		ports = append(ports, i.ports...)
		for _, a := range i.addresses {
			if p := d.pool(a.V.Masked()); p != nil {
				r.Errorf(a.N, "choose a pool that no network uses", "address %v of interface %s overlaps pool %v in line %d", a.V, i.name.V, p.V, p.N.Line)
			}
			for _, b := range prefixes {
				if a.V.Overlaps(b.V) {
					r.Errorf(a.N, "give each interface a prefix of its own", "address %v of interface %s overlaps %v in line %d", a.V, i.name.V, b.V, b.N.Line)
				}
			}
			prefixes = append(prefixes, a)
		}
	}
	conf.Distinct(r.Reader, names, "interface")
	conf.Distinct(r.Reader, ports, "port")
}

func (r *reader) checkRoutes(d *document, s *switchDoc) {
	seen := make(map[netip.Prefix]*yaml.Node)
	for _, route := range s.routes {
		to, via := route.to.V, route.via.V
		if first := seen[to]; first != nil {
			r.Errorf(route.to.N, "remove one", "a second route to %v, first in line %d", to, first.Line)
		}
		seen[to] = route.to.N
		if to.Addr().Is4() != via.Is4() {
			r.Errorf(route.via.N, "write a next hop of the same family", "route to %v goes via %v", to, via)
			continue
		}
		// A default route covers the pools, but theirs are more specific.
		if p := d.pool(to); p != nil && to.Bits() >= p.V.Bits() {
			r.Errorf(route.to.N, "remove it: pools are routed by steering", "route to %v is inside pool %v in line %d", to, p.V, p.N.Line)
		}
		r.checkNextHop(s, route)
	}
}

func (r *reader) checkNextHop(s *switchDoc, route *routeDoc) {
	for _, i := range s.interfaces {
		for _, a := range i.addresses {
			if a.V.Addr() == route.via.V {
				r.Errorf(route.via.N, "write the neighbour's address", "route to %v goes via the switch's own address %v", route.to.V, route.via.V)
				return
			}
			if a.V.Contains(route.via.V) {
				return
			}
		}
	}
	r.Errorf(route.via.N, "write a next hop that an interface's prefix contains", "route to %v goes via %v, which is on no interface's network", route.to.V, route.via.V)
}
