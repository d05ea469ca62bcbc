package fabric

import (
	"net/netip"
	"time"

	"github.com/shunt-sdn/shunt/controller/fabric/frame"
	"github.com/shunt-sdn/shunt/controller/openflow"
	"github.com/shunt-sdn/shunt/controller/pipeline"
)

// handle takes in what the switch says unasked.
func (c *channel) handle(e openflow.Event) {
	switch e := e.(type) {
	case openflow.PortStatus:
		c.portChanged(e)
	case openflow.PacketIn:
		if e.Table == pipeline.TableRoutes {
			c.unresolved(e)
		} else {
			c.neighbourMessage(e)
		}
	case *openflow.SwitchError:
		c.log.Warn("the switch reports an error", "err", e)
	}
}

// unresolved asks for the next hop of a packet, and holds the packet.
func (c *channel) unresolved(p openflow.PacketIn) {
	dst, err := frame.Destination(p.Data)
	if err != nil {
		c.log.Debug("unexpected packet from the switch", "err", err)
		return
	}
	hop, ok := c.nextHop(dst)
	if !ok {
		return
	}
	iface, ok := onLink(c.cfg.Interfaces, hop)
	if !ok || c.ours(hop) {
		return
	}
	c.neighbours.want(hop, iface, &heldPacket{p.InPort, p.Data}, c.now())
	c.ask()
	if e := c.neighbours.entries[hop]; e != nil && e.resolved {
		c.dirty = true // it was resolved while the packet was on its way here
	}
}

// nextHop is the address on a link by which a destination is reached.
func (c *channel) nextHop(dst netip.Addr) (netip.Addr, bool) {
	if _, ok := onLink(c.cfg.Interfaces, dst); ok {
		return dst, true
	}
	best := -1
	var via netip.Addr
	for _, r := range c.cfg.Routes {
		if r.To.Contains(dst) && r.To.Bits() > best {
			best, via = r.To.Bits(), r.Via
		}
	}
	return via, best >= 0
}

// neighbourMessage learns from an ARP or neighbour discovery message, and
// answers it if it is a question that the switch's flows do not answer.
func (c *channel) neighbourMessage(p openflow.PacketIn) {
	port, ok := c.names[p.InPort]
	iface, on := c.ifaceOf(port)
	if !ok || !on {
		return
	}
	n, err := frame.ParseNeighbour(p.Data)
	if err != nil {
		c.log.Debug("unexpected packet from the switch", "port", port, "err", err)
		return
	}
	if n.Sender.IsValid() && n.SenderMAC != nil && !c.ours(n.Sender) {
		if link, ok := onLink(c.cfg.Interfaces, n.Sender); ok && link == iface {
			if c.neighbours.learn(n.Sender, iface, port, n.SenderMAC, c.now()) {
				c.log.Debug("neighbour", "address", n.Sender, "mac", n.SenderMAC, "port", port)
				c.dirty = true
			}
		}
	} else if c.ours(n.Sender) && !c.pooled(n.Sender) && c.now().Sub(c.warned) > time.Minute {
		// A node may well ask in the name of a session address.
		c.warned = c.now()
		c.log.Warn("a host claims an address of the switch or a VIP: two have it, or somebody forges", "address", n.Sender, "mac", n.SenderMAC, "port", port)
	}
	if n.Question && c.answersFor(n, iface) {
		c.send(openflow.PacketOut{InPort: openflow.PortController, Apply: []openflow.Action{openflow.Output{Port: p.InPort}},
			Data: frame.Answer(n, c.cfg.Interfaces[iface].MAC)})
	}
}

// answersFor says whether a question is ours to answer, and left to us by the
// switch's flows; see pipeline.
func (c *channel) answersFor(n frame.Neighbour, iface int) bool {
	inSwitch := c.features.Move
	if n.Target.Is6() {
		inSwitch = c.features.Move && c.features.Advertise && n.SenderMAC != nil
	}
	if inSwitch {
		return false
	}
	for _, a := range pipeline.OwnAddresses(c.interfaces(), c.currentTopology().Services, iface) {
		if a == n.Target {
			return true
		}
	}
	return false
}

// ask sends the questions that are due.
func (c *channel) ask() {
	questions, gone := c.neighbours.due(c.now(), asksPerLook)
	c.dirty = c.dirty || gone
	interfaces := c.interfaces()
	for _, q := range questions {
		ifc := interfaces[q.iface]
		our, ok := sourceFor(ifc, q.addr)
		if !ok {
			continue
		}
		var out []openflow.Action
		if no, ok := c.ports[q.port]; ok && q.mac != nil {
			out = []openflow.Action{openflow.Output{Port: no}}
		} else {
			q.mac = nil
			for _, no := range ifc.Ports {
				out = append(out, openflow.Output{Port: no})
			}
		}
		if len(out) > 0 {
			c.send(openflow.PacketOut{InPort: openflow.PortController, Apply: out, Data: frame.Ask(ifc.MAC, our, q.addr, q.mac)})
		}
	}
}

// sourceFor is the interface's own address on the link of a.
func sourceFor(ifc pipeline.Interface, a netip.Addr) (netip.Addr, bool) {
	for _, p := range ifc.Addresses {
		if p.Contains(a) {
			return p.Addr(), true
		}
	}
	return netip.Addr{}, false
}

// releaseHeld sends the packets whose next hop is resolved through the tables
// again.
func (c *channel) releaseHeld() {
	if c.neighbours.held == 0 {
		return
	}
	for a, e := range c.neighbours.entries {
		if _, ok := c.portOf(e); !ok || len(e.held) == 0 {
			continue
		}
		for _, p := range c.neighbours.release(a) {
			frame.CompleteChecksum(p.data)
			c.send(openflow.PacketOut{InPort: p.inPort, Apply: []openflow.Action{openflow.Output{Port: openflow.PortTable}}, Data: p.data})
		}
	}
}

func (c *channel) send(p openflow.PacketOut) {
	if err := c.conn.PacketOut(p); err != nil {
		c.log.Debug("packet-out", "err", err)
	}
}
