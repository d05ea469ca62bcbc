package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
)

// check reports what is wrong between values that are right on their own.
func (r *reader) check(d *document) {
	r.checkSecurity(d)
	r.checkPools(d)
	r.checkSwitches(d)
	r.checkServices(d)
	r.checkCapacity(d)
}

func (r *reader) checkSecurity(d *document) {
	switch {
	case d.tls == nil && !d.insecure.v:
		r.errorf(d.root, "write tls: {cert, key, ca}, or insecure: true on a trusted network", "neither TLS nor its absence is configured")
	case d.tls != nil && d.insecure.v:
		r.errorf(d.insecure.n, "keep one", "both tls and insecure")
	}
	if d.openflowTLS.v && d.tls == nil {
		r.errorf(d.openflowTLS.n, "write tls: {cert, key, ca}", "openflow_tls without tls")
	}
	for _, s := range d.switches {
		if strings.HasPrefix(s.connect.v, "ssl:") && d.tls == nil {
			r.errorf(s.connect.n, "write tls: {cert, key, ca}, or connect by tcp:", "switch is reached by TLS, but there are no certificates")
		}
	}
	if d.openflow.n != nil && d.openflow.v == d.grpc.v {
		r.errorf(d.openflow.n, "choose another port, 6653 is OpenFlow's", "listen.openflow is the same as listen.grpc in line %d", d.grpc.n.Line)
	}
}

func (r *reader) checkPools(d *document) {
	for i, p := range d.pools {
		for _, q := range d.pools[:i] {
			if p.v.Overlaps(q.v) {
				r.errorf(p.n, "remove one or make them disjoint", "pool %v overlaps pool %v in line %d", p.v, q.v, q.n.Line)
			}
		}
	}
	distinct(r, d.nodes, "node")
}

// pool returns the pool that prefix p touches, nil if none.
func (d *document) pool(p netip.Prefix) *at[netip.Prefix] {
	for i := range d.pools {
		if d.pools[i].v.Overlaps(p) {
			return &d.pools[i]
		}
	}
	return nil
}

func single(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

func (r *reader) checkServices(d *document) {
	if len(d.services) == 0 {
		r.errorf(d.root, "describe at least one", "no service")
	}
	var names []at[string]
	ends := make(map[netip.AddrPort]*serviceDoc)
	for _, s := range d.services {
		names = append(names, s.name)
		for i, vip := range s.vips {
			for _, other := range s.vips[:i] {
				if other.v.Is4() == vip.v.Is4() {
					r.errorf(vip.n, "make it a service of its own", "service %s has a second vip of %s, %v beside %v", s.name.v, family(vip.v), vip.v, other.v)
				}
			}
			end := netip.AddrPortFrom(vip.v, s.port.v)
			if other := ends[end]; other != nil {
				r.errorf(vip.n, "choose another vip or port", "service %s has %v, which is service %s's in line %d", s.name.v, end, other.name.v, other.name.n.Line)
			}
			ends[end] = s
			r.checkVIP(d, s, vip)
		}
		distinct(r, s.dispatchers, "dispatcher")
		distinct(r, s.servers, "server")
		r.checkMembers(d, s.dispatchers, "dispatcher")
		r.checkMembers(d, s.servers, "server")
	}
	distinct(r, names, "service")
}

// checkMembers holds a service's nodes against the list of all, if there is one.
func (r *reader) checkMembers(d *document, members []at[string], what string) {
	if d.nodes == nil {
		return
	}
	known := values(d.nodes)
	for _, m := range members {
		if slices.Contains(known, m.v) {
			continue
		}
		remedy := "add it to nodes"
		if guess := nearest(m.v, known); guess != "" {
			remedy = fmt.Sprintf("did you mean %q? Else add it to nodes", guess)
		}
		r.errorf(m.n, remedy, "%s %s is not in nodes", what, m.v)
	}
}

func (r *reader) checkVIP(d *document, s *serviceDoc, vip at[netip.Addr]) {
	if p := d.pool(single(vip.v)); p != nil {
		r.errorf(vip.n, "choose a vip outside the pools", "vip %v of service %s lies in pool %v in line %d", vip.v, s.name.v, p.v, p.n.Line)
		return
	}
	covered := slices.ContainsFunc(d.pools, func(p at[netip.Prefix]) bool { return p.v.Addr().Is4() == vip.v.Is4() })
	if !covered {
		r.errorf(vip.n, fmt.Sprintf("add a pool of %s or remove the vip", family(vip.v)), "vip %v of service %s is not covered: no pool of %s", vip.v, s.name.v, family(vip.v))
	}
	reached := len(d.switches) == 0 // reported already
	for _, sw := range d.switches {
		for _, i := range sw.interfaces {
			for _, a := range i.addresses {
				reached = reached || a.v.Addr().Is4() == vip.v.Is4()
				if a.v.Addr() == vip.v {
					r.errorf(vip.n, "choose another vip", "vip %v of service %s is the address of interface %s in line %d", vip.v, s.name.v, i.name.v, a.n.Line)
				}
			}
		}
	}
	if !reached {
		r.errorf(vip.n, "give an interface an address of the family or remove the vip", "vip %v of service %s cannot be reached: no switch interface has %s", vip.v, s.name.v, family(vip.v))
	}
}

// checkCapacity counts the leases that named dispatchers take for certain.
func (r *reader) checkCapacity(d *document) {
	for _, v4 := range []bool{true, false} {
		room, need := uint64(0), uint64(0)
		var first *at[netip.Prefix]
		for i, p := range d.pools {
			if p.v.Addr().Is4() != v4 {
				continue
			}
			if first == nil {
				first = &d.pools[i]
			}
			// The first address is the network's or the subnet routers', the
			// last one IPv4's broadcast: neither is leased.
			room += 1<<min(p.v.Addr().BitLen()-p.v.Bits(), 32) - 2
		}
		for _, s := range d.services {
			for _, vip := range s.vips {
				if vip.v.Is4() == v4 {
					need += uint64(len(s.dispatchers))
				}
			}
		}
		if first != nil && need > room {
			r.errorf(first.n, "add or widen a pool", "pools have %d session addresses, services with their dispatchers need %d", room, need)
		}
	}
}

func family(a netip.Addr) string {
	if a.Is4() {
		return "IPv4"
	}
	return "IPv6"
}

// distinct reports values that stand in the list twice.
func distinct(r *reader, list []at[string], what string) {
	seen := make(map[string]*yaml.Node, len(list))
	for _, e := range list {
		if first := seen[e.v]; first != nil {
			r.errorf(e.n, "remove or rename one", "%s %q stands there twice, first in line %d", what, e.v, first.Line)
			continue
		}
		seen[e.v] = e.n
	}
}
