package controller

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/shunt-sdn/shunt/controller/config"
	"github.com/shunt-sdn/shunt/controller/fabric"
	"github.com/shunt-sdn/shunt/controller/leases"
	"github.com/shunt-sdn/shunt/controller/policystore"
	"github.com/shunt-sdn/shunt/controller/registry"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// view is the cluster at one moment as agents and switches are told. It is
// never changed.
type view struct {
	nodes    []registry.Node
	leases   map[netip.AddrPort]lease // by session address with the service's port
	policy   *policystore.State
	config   *shuntv1.NodeConfig
	topology fabric.Topology
}

// lease is a session address and what it stands for.
type lease struct {
	leases.Key
	local, vip netip.AddrPort
}

// session returns the session with these ends; ok is false if its local end is
// leased to nobody.
func (v *view) session(client, local netip.AddrPort) (s registry.Session, ok bool) {
	l, ok := v.leases[local]
	return registry.Session{Client: client, Local: local, VIP: l.vip, Service: l.Service, Home: l.Dispatcher}, ok
}

// wanted lists the leases that the services need: one per dispatcher and
// family. Dispatchers that the configuration names have theirs even if they
// were never seen.
func wanted(services []config.Service, nodes []registry.Node) (keys []leases.Key) {
	for _, s := range services {
		for _, d := range dispatchers(s, nodes) {
			for _, vip := range s.VIPs {
				keys = append(keys, leases.Key{Service: s.Name, Dispatcher: d, IPv6: vip.Is6()})
			}
		}
	}
	return keys
}

func dispatchers(s config.Service, nodes []registry.Node) []string {
	if s.Dispatchers != nil {
		return s.Dispatchers
	}
	return withRole(nodes, shuntv1.Role_ROLE_DISPATCHER)
}

func servers(s config.Service, nodes []registry.Node) []string {
	if s.Servers != nil {
		return s.Servers
	}
	return withRole(nodes, shuntv1.Role_ROLE_SERVER)
}

func withRole(nodes []registry.Node, r shuntv1.Role) (names []string) {
	for _, n := range nodes {
		if n.Has(r) {
			names = append(names, n.Name)
		}
	}
	return names
}

// stillWanted reports whether a stored lease has a place in the configuration:
// its service exists, has a VIP of the family and may use the dispatcher, and
// the address is in a pool.
func stillWanted(c config.Config, k leases.Key, a netip.Addr) bool {
	i := slices.IndexFunc(c.Services, func(s config.Service) bool { return s.Name == k.Service })
	if i < 0 {
		return false
	}
	s := c.Services[i]
	return slices.ContainsFunc(s.VIPs, func(v netip.Addr) bool { return v.Is6() == k.IPv6 }) &&
		(s.Dispatchers == nil || slices.Contains(s.Dispatchers, k.Dispatcher)) &&
		(c.Nodes == nil || slices.Contains(c.Nodes, k.Dispatcher)) &&
		slices.ContainsFunc(c.Pools, func(p netip.Prefix) bool { return p.Contains(a) })
}

// makeView puts services, nodes and leases together. version is the
// configuration's.
func makeView(c config.Config, nodes []registry.Node, addresses map[leases.Key]netip.Addr, version uint64) *view {
	v := &view{nodes: nodes, leases: make(map[netip.AddrPort]lease), config: &shuntv1.NodeConfig{Version: version}}
	accepts := make(map[string]bool, len(nodes))
	for _, n := range nodes {
		accepts[n.Name] = n.Accepts()
		v.config.Nodes = append(v.config.Nodes, n.Proto())
		v.topology.Nodes = append(v.topology.Nodes, fabric.Node{Name: n.Name, MAC: n.MAC, Addresses: n.Addresses, Up: n.Usable(), Fenced: n.Fenced})
	}
	for _, p := range c.Pools {
		v.config.Pools = append(v.config.Pools, p.String())
	}
	for _, s := range c.Services {
		v.addService(s, addresses, accepts)
	}
	return v
}

// setPolicy adds the policy, with the state of servers. old is the view before,
// nil at the start: then kept is what the disk remembers of them.
func (v *view) setPolicy(p *policystore.State, nodes []registry.Node, old *view, kept []*shuntv1.ServerState) {
	if old != nil {
		kept = old.config.Policy.States
	}
	v.policy = p
	v.config.Policy = &shuntv1.PolicySnapshot{
		Version: p.Revision, Policy: p.Policy, States: serverStates(p.Policy, nodes, kept),
	}
}

func (v *view) addService(s config.Service, addresses map[leases.Key]netip.Addr, accepts map[string]bool) {
	m := &shuntv1.Service{
		Name:            s.Name,
		Servers:         servers(s, v.nodes),
		MaxHeadBytes:    uint32(s.MaxHead),
		HeadTimeoutMs:   uint32(s.HeadTimeout.Milliseconds()),
		ImportTimeoutMs: uint32(s.ImportTimeout.Milliseconds()),
		SteerAfterMs:    uint32(s.SteerAfter.Milliseconds()),
	}
	t := fabric.Service{Name: s.Name, Port: s.Port, VIPs: s.VIPs}
	for _, a := range s.VIPs {
		vip := netip.AddrPortFrom(a, s.Port)
		m.Vips = append(m.Vips, shuntv1.EndpointOf(vip))
		for _, d := range dispatchers(s, v.nodes) {
			k := leases.Key{Service: s.Name, Dispatcher: d, IPv6: a.Is6()}
			address, ok := addresses[k]
			if !ok {
				continue // the pool is exhausted; that was logged
			}
			local := netip.AddrPortFrom(address, s.Port)
			v.leases[local] = lease{Key: k, local: local, vip: vip}
			m.Leases = append(m.Leases, &shuntv1.Lease{Dispatcher: d, Local: shuntv1.EndpointOf(local), Vip: shuntv1.EndpointOf(vip)})
			t.Homes = append(t.Homes, fabric.Home{Node: d, VIP: a, Session: address, Up: accepts[d]})
		}
	}
	slices.SortStableFunc(m.Leases, func(a, b *shuntv1.Lease) int {
		return cmp.Or(registry.CompareNames(a.Dispatcher, b.Dispatcher), len(a.Local.Address)-len(b.Local.Address))
	})
	v.config.Services = append(v.config.Services, m)
	v.topology.Services = append(v.topology.Services, t)
}
