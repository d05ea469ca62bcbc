package fabric

import (
	"net/netip"
	"slices"

	"github.com/shunt-sdn/shunt/controller/openflow"
	"github.com/shunt-sdn/shunt/controller/pipeline"
	"github.com/shunt-sdn/shunt/controller/steering"
)

// readPorts notes the switch's ports.
func (c *channel) readPorts() {
	c.ports, c.names = map[string]uint32{}, map[uint32]string{}
	for _, p := range c.conn.Ports() {
		if p.No < 0xffffff00 { // not a reserved one
			c.ports[p.Name], c.names[p.No] = p.No, p.Name
		}
	}
}

// interfaces are the configured ones with the ports that exist.
func (c *channel) interfaces() []pipeline.Interface {
	all := make([]pipeline.Interface, len(c.cfg.Interfaces))
	for i, ifc := range c.cfg.Interfaces {
		all[i] = pipeline.Interface{Name: ifc.Name, MAC: ifc.MAC, Addresses: ifc.Addresses, Others: c.others[i]}
		for _, name := range ifc.Ports {
			if no, ok := c.ports[name]; ok {
				all[i].Ports = append(all[i].Ports, no)
			}
		}
	}
	return all
}

// ifaceOf returns the interface that a port belongs to.
func (c *channel) ifaceOf(port string) (int, bool) {
	i := slices.IndexFunc(c.cfg.Interfaces, func(ifc Interface) bool { return slices.Contains(ifc.Ports, port) })
	return i, i >= 0
}

// ours says whether an address is the switch's or a VIP or a session address:
// no neighbour's, whoever claims it.
func (c *channel) ours(a netip.Addr) bool {
	for _, ifc := range c.cfg.Interfaces {
		for _, p := range ifc.Addresses {
			if p.Addr() == a {
				return true
			}
		}
	}
	if c.pooled(a) {
		return true
	}
	for _, s := range c.currentTopology().Services {
		if slices.Contains(s.VIPs, a) {
			return true
		}
	}
	return false
}

// pooled says whether an address is a session address.
func (c *channel) pooled(a netip.Addr) bool {
	return slices.ContainsFunc(c.f.cfg.Pools, func(p netip.Prefix) bool { return p.Contains(a) })
}

// pin has nodes and routers resolved, always.
func (c *channel) pin() {
	wanted := map[netip.Addr]int{}
	want := func(a netip.Addr) {
		if iface, ok := onLink(c.cfg.Interfaces, a); ok && !c.ours(a) {
			wanted[a] = iface
		}
	}
	for _, n := range c.currentTopology().Nodes {
		for _, a := range n.Addresses {
			want(a)
		}
	}
	for _, r := range c.cfg.Routes {
		want(r.Via)
	}
	c.neighbours.pin(wanted, c.now())
}

// flowsWanted returns the static flows that the switch should hold, and where
// sessions can go once it does.
func (c *channel) flowsWanted() (pipeline.Set, *targets, error) {
	t := c.currentTopology()
	in := pipeline.Input{
		Features: c.features, Zone: c.cfg.Zone, Interfaces: c.interfaces(), Routes: c.cfg.Routes,
		Pools: c.f.cfg.Pools, Services: t.Services,
	}
	to := &targets{nodes: map[string]pipeline.Node{}, revision: t.revision}
	for a, e := range c.neighbours.entries {
		if port, ok := c.portOf(e); ok && !c.ours(a) {
			in.Neighbours = append(in.Neighbours, pipeline.Neighbour{Addr: a, MAC: e.mac, Interface: e.iface, Port: port})
		}
	}
	slices.SortFunc(in.Neighbours, func(a, b pipeline.Neighbour) int { return a.Addr.Compare(b.Addr) })
	for _, n := range t.Nodes {
		if n.Fenced && len(n.MAC) == 6 {
			in.Fences = append(in.Fences, pipeline.Fence{Node: n.Name, MAC: n.MAC})
		}
		if place, ok := c.place(n); ok {
			in.Nodes = append(in.Nodes, place)
			to.nodes[n.Name] = place
		}
	}
	if c.features.Conntrack {
		to.leases = map[netip.Addr]uint16{}
		for _, s := range t.Services {
			for _, h := range s.Homes {
				mark, err := c.f.cfg.Indexes.Index(steering.KindAddress, h.Session.String())
				if err != nil {
					c.log.Error("sessions of an address cannot be steered", "address", h.Session, "err", err)
					continue
				}
				in.Leases = append(in.Leases, pipeline.Lease{Session: h.Session, Mark: mark})
				to.leases[h.Session] = mark
			}
		}
	}
	set, err := pipeline.Flows(in)
	return set, to, err
}

// portOf returns the number of the port that a neighbour is at.
func (c *channel) portOf(e *neighbour) (uint32, bool) {
	if !e.resolved {
		return 0, false
	}
	if on, ok := c.ifaceOf(e.port); !ok || on != e.iface {
		return 0, false
	}
	no, ok := c.ports[e.port]
	return no, ok
}

// place finds a node by its addresses: the first that is resolved says where it
// is.
func (c *channel) place(n Node) (pipeline.Node, bool) {
	for _, a := range n.Addresses {
		e, ok := c.neighbours.entries[a]
		if !ok {
			continue
		}
		port, ok := c.portOf(e)
		if !ok {
			continue
		}
		p := pipeline.Node{Name: n.Name, MAC: e.mac, Interface: e.iface, Port: port}
		if len(n.MAC) == 6 {
			p.MAC = n.MAC
		}
		if c.features.Conntrack {
			mark, err := c.f.cfg.Indexes.Index(steering.KindNode, n.Name)
			if err != nil {
				c.log.Error("sessions on a node cannot be steered", "node", n.Name, "err", err)
			}
			p.Mark = mark
		}
		return p, true
	}
	return pipeline.Node{}, false
}

// portChanged takes note of a port that came, went or changed.
func (c *channel) portChanged(s openflow.PortStatus) {
	c.log.Info("port changed", "port", s.Port.Name, "number", s.Port.No, "reason", s.Reason)
	c.readPorts()
	c.dirty = true
}
