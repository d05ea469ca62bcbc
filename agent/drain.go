package agent

import (
	"context"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/shunt-sdn/shunt/agent/attach"
	"github.com/shunt-sdn/shunt/agent/httphead"
	"github.com/shunt-sdn/shunt/agent/routing"
	"github.com/shunt-sdn/shunt/policy"
)

// drain is what becomes of the sessions of a node that an operator drains.
type drain struct {
	on    atomic.Bool
	moved atomic.Uint64 // sessions that left meanwhile, since the agent began
	turn  atomic.Uint64 // of servers that no policy names
	leave chan struct{} // one place for each idle session that may leave at a time
}

// leaveAtOnce is how many idle sessions leave at a time. A hand-off takes a few
// milliseconds; many more at once would wait for each other, and for longer than
// a hand-off may take.
const leaveAtOnce = 32

// routesChanged has the attachments go by a policy that was applied: which
// requests are routed, and whether idle sessions leave.
func (a *agent) routesChanged() {
	drains := a.policy.Drains(a.cfg.Node)
	if was := a.drain.on.Swap(drains); was != drains {
		a.log.Info("an operator drains this node, or does so no more", "drains", drains)
	}
	for service, at := range a.attached {
		if l, ok := at.(*attach.Listener); ok {
			l.RoutesChanged()
		}
		// Again with each configuration: there may be a server now to go to.
		if v, ok := at.(attach.Vacater); ok && drains {
			v.Vacate(service)
		}
	}
}

// Leaves implements attach.Leaver: idle sessions leave a node that is drained.
func (a *agent) Leaves(string) bool { return a.drain.on.Load() }

// Leave implements attach.Leaver.
func (a *agent) Leave(ctx context.Context, fd int, m attach.Meta) error {
	select {
	case a.drain.leave <- struct{}{}:
		defer func() { <-a.drain.leave }()
	case <-ctx.Done():
		return ctx.Err()
	}
	node := a.away(m)
	if node == "" {
		return fmt.Errorf("send idle session of %v away: no other server of service %q takes sessions", m.Client, m.Service)
	}
	return a.handOn(ctx, fd, m, node, true)
}

// away names a server for a session without a request: the one that would answer
// its client's GET /, or else any. The next request is routed there, so that it
// need not be the right one for it.
func (a *agent) away(m attach.Meta) string {
	v, _ := a.view()
	service := v.all[m.Service]
	usable := func(name string) bool { return name != a.cfg.Node && a.reachable(service, name) }
	var q policy.Request
	routing.Request(&q, &httphead.Head{Method: "GET", Target: "/"}, m.Client)
	if rule, ok := a.policy.Route(m.Service, &q); ok && !rule.ForDispatcher() {
		if c, ok := rule.Choose(&q, usable); ok {
			a.policy.State().Done(c.Server) // nothing was asked of it
			return c.Server
		}
	}
	var others []string
	for _, s := range service.Servers {
		if usable(s.Node) && !a.policy.Drains(s.Node) {
			others = append(others, s.Node)
		}
	}
	if len(others) == 0 {
		return ""
	}
	slices.Sort(others)
	return others[a.drain.turn.Add(1)%uint64(len(others))]
}
