package config

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/shunt-sdn/shunt/internal/nearest"
	conf "github.com/shunt-sdn/shunt/internal/yamlconf"
)

// check reports what is wrong between values that are right on their own.
func (r *reader) check(d *document) {
	r.checkSecurity(d)
	r.checkPools(d)
	r.checkOperators(d)
	r.checkSwitches(d)
	r.checkServices(d)
	r.checkCapacity(d)
}

func (r *reader) checkSecurity(d *document) {
	d.security.Check(r.Reader, d.root)
	if d.openflowTLS.V && d.security.TLS == nil {
		r.Errorf(d.openflowTLS.N, "write tls: {cert, key, ca}", "openflow_tls without tls")
	}
	for _, s := range d.switches {
		if strings.HasPrefix(s.connect.V, "ssl:") && d.security.TLS == nil {
			r.Errorf(s.connect.N, "write tls: {cert, key, ca}, or connect by tcp:", "switch is reached by TLS, but there are no certificates")
		}
	}
	if d.openflow.N != nil && d.openflow.V == d.grpc.V {
		r.Errorf(d.openflow.N, "choose another port, 6653 is OpenFlow's", "listen.openflow is the same as listen.grpc in line %d", d.grpc.N.Line)
	}
}

func (r *reader) checkPools(d *document) {
	for i, p := range d.pools {
		for _, q := range d.pools[:i] {
			if p.V.Overlaps(q.V) {
				r.Errorf(p.N, "remove one or make them disjoint", "pool %v overlaps pool %v in line %d", p.V, q.V, q.N.Line)
			}
		}
	}
	conf.Distinct(r.Reader, d.nodes, "node")
}

func (r *reader) checkOperators(d *document) {
	conf.Distinct(r.Reader, d.operators, "operator")
	nodes := conf.Values(d.nodes)
	for _, o := range d.operators {
		if slices.Contains(nodes, o.V) {
			r.Errorf(o.N, "give the operator a name of its own", "operator %s is in nodes, and nodes do not change the policy", o.V)
		}
	}
	if len(d.operators) > 0 && d.security.Insecure.V {
		r.Errorf(d.operators[0].N, "remove operators or insecure", "operators have certificates only with tls")
	}
}

// pool returns the pool that prefix p touches, nil if none.
func (d *document) pool(p netip.Prefix) *conf.At[netip.Prefix] {
	for i := range d.pools {
		if d.pools[i].V.Overlaps(p) {
			return &d.pools[i]
		}
	}
	return nil
}

func single(a netip.Addr) netip.Prefix { return netip.PrefixFrom(a, a.BitLen()) }

func (r *reader) checkServices(d *document) {
	if len(d.services) == 0 {
		r.Errorf(d.root, "describe at least one", "no service")
	}
	var names []conf.At[string]
	ends := make(map[netip.AddrPort]*serviceDoc)
	for _, s := range d.services {
		names = append(names, s.name)
		for i, vip := range s.vips {
			for _, other := range s.vips[:i] {
				if other.V.Is4() == vip.V.Is4() {
					r.Errorf(vip.N, "make it a service of its own", "service %s has a second vip of %s, %v beside %v", s.name.V, family(vip.V), vip.V, other.V)
				}
			}
			end := netip.AddrPortFrom(vip.V, s.port.V)
			if other := ends[end]; other != nil {
				r.Errorf(vip.N, "choose another vip or port", "service %s has %v, which is service %s's in line %d", s.name.V, end, other.name.V, other.name.N.Line)
			}
			ends[end] = s
			r.checkVIP(d, s, vip)
		}
		conf.Distinct(r.Reader, s.dispatchers, "dispatcher")
		conf.Distinct(r.Reader, s.servers, "server")
		r.checkMembers(d, s.dispatchers, "dispatcher")
		r.checkMembers(d, s.servers, "server")
	}
	conf.Distinct(r.Reader, names, "service")
}

// checkMembers holds a service's nodes against the list of all, if there is one.
func (r *reader) checkMembers(d *document, members []conf.At[string], what string) {
	if d.nodes == nil {
		return
	}
	known := conf.Values(d.nodes)
	for _, m := range members {
		if slices.Contains(known, m.V) {
			continue
		}
		remedy := "add it to nodes"
		if guess := nearest.Word(m.V, known); guess != "" {
			remedy = fmt.Sprintf("did you mean %q? Else add it to nodes", guess)
		}
		r.Errorf(m.N, remedy, "%s %s is not in nodes", what, m.V)
	}
}

func (r *reader) checkVIP(d *document, s *serviceDoc, vip conf.At[netip.Addr]) {
	if p := d.pool(single(vip.V)); p != nil {
		r.Errorf(vip.N, "choose a vip outside the pools", "vip %v of service %s lies in pool %v in line %d", vip.V, s.name.V, p.V, p.N.Line)
		return
	}
	covered := slices.ContainsFunc(d.pools, func(p conf.At[netip.Prefix]) bool { return p.V.Addr().Is4() == vip.V.Is4() })
	if !covered {
		r.Errorf(vip.N, fmt.Sprintf("add a pool of %s or remove the vip", family(vip.V)), "vip %v of service %s is not covered: no pool of %s", vip.V, s.name.V, family(vip.V))
	}
	reached := len(d.switches) == 0 // reported already
	for _, sw := range d.switches {
		for _, i := range sw.interfaces {
			for _, a := range i.addresses {
				reached = reached || a.V.Addr().Is4() == vip.V.Is4()
				if a.V.Addr() == vip.V {
					r.Errorf(vip.N, "choose another vip", "vip %v of service %s is the address of interface %s in line %d", vip.V, s.name.V, i.name.V, a.N.Line)
				}
			}
		}
	}
	if !reached {
		r.Errorf(vip.N, "give an interface an address of the family or remove the vip", "vip %v of service %s cannot be reached: no switch interface has %s", vip.V, s.name.V, family(vip.V))
	}
}

// checkCapacity counts the leases that named dispatchers take for certain.
func (r *reader) checkCapacity(d *document) {
	for _, v4 := range []bool{true, false} {
		room, need := uint64(0), uint64(0)
		var first *conf.At[netip.Prefix]
		for i, p := range d.pools {
			if p.V.Addr().Is4() != v4 {
				continue
			}
			if first == nil {
				first = &d.pools[i]
			}
			// The first address is the network's or the subnet routers', the
			// last one IPv4's broadcast: neither is leased.
			room += 1<<min(p.V.Addr().BitLen()-p.V.Bits(), 32) - 2
		}
		for _, s := range d.services {
			for _, vip := range s.vips {
				if vip.V.Is4() == v4 {
					need += uint64(len(s.dispatchers))
				}
			}
		}
		if first != nil && need > room {
			r.Errorf(first.N, "add or widen a pool", "pools have %d session addresses, services with their dispatchers need %d", room, need)
		}
	}
}

func family(a netip.Addr) string {
	if a.Is4() {
		return "IPv4"
	}
	return "IPv6"
}
