package controller

import (
	"context"

	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// Status sums the cluster up; see api.Operations.
func (c *cluster) Status(ctx context.Context) (*shuntv1.GetStatusResponse, error) {
	sessions, err := c.Sessions(ctx)
	if err != nil {
		return nil, err
	}
	counts := c.handoffs.Counts()
	r := &shuntv1.GetStatusResponse{
		HandoffsCompleted:  counts.Completed,
		HandoffsRolledBack: counts.RolledBack,
		HandoffsFailed:     counts.Failed,
		RequestsProxied:    c.nodes.Proxied(),
		Sessions:           uint64(len(sessions)),
	}
	for _, s := range c.switches.Status() {
		r.Switches = append(r.Switches, &shuntv1.SwitchStatus{
			Dpid: s.DPID, Connected: s.Connected, Steering: s.Steering,
			Flows: uint64(s.Flows), Address: s.Address, Error: s.Err,
		})
	}
	for _, n := range c.nodes.List() {
		m := n.Proto()
		m.Up = n.InUse() // operators are told what is, not what is expected
		r.Nodes = append(r.Nodes, m)
	}
	return r, nil
}

// Services lists the services with their leases.
func (c *cluster) Services() []*shuntv1.Service { return c.view.Load().config.Services }

// Handoffs lists the latest hand-offs, with those of which agents have not told yet.
func (c *cluster) Handoffs(ctx context.Context, limit int) ([]*shuntv1.Handoff, error) {
	if _, err := c.Sessions(ctx); err != nil {
		return nil, err
	}
	return c.handoffs.Latest(limit), nil
}

// Nodes lists the nodes.
func (c *cluster) Nodes() []*shuntv1.NodeInfo {
	nodes := c.nodes.List()
	out := make([]*shuntv1.NodeInfo, 0, len(nodes))
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, n := range nodes {
		m := n.Proto()
		m.Up = n.InUse()
		out = append(out, &shuntv1.NodeInfo{Node: m, Sessions: uint64(c.sessions.On(n.Name)), Report: n.Report, Expected: n.Expected})
	}
	return out
}

// Flows lists Shunt's flows as the switches report them.
func (c *cluster) Flows(ctx context.Context) ([]*shuntv1.FlowInfo, error) {
	flows, err := c.switches.Flows(ctx)
	if err != nil {
		return nil, err
	}
	out := make([]*shuntv1.FlowInfo, len(flows))
	for i, f := range flows {
		out[i] = &shuntv1.FlowInfo{
			Dpid: f.DPID, Table: uint32(f.Table), Priority: uint32(f.Priority), Cookie: f.Cookie,
			Match: f.Match.String(), Actions: f.Actions, Packets: f.Packets, Bytes: f.Bytes,
		}
	}
	return out, nil
}
