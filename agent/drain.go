package agent

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

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

	mu    sync.Mutex
	again *time.Timer // until those that could not leave try again; guarded by mu
	over  bool        // they need not; guarded by mu
}

// leaveAgain is how long sessions stay that could not leave, at most, if no
// configuration comes that may help.
const leaveAgain = time.Second

// retry has f called after leaveAgain, once for all calls until then.
func (d *drain) retry(f func()) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.again != nil || d.over {
		return
	}
	d.again = time.AfterFunc(leaveAgain, func() {
		d.mu.Lock()
		d.again = nil
		over := d.over
		d.mu.Unlock()
		if !over {
			f()
		}
	})
}

// end has nothing tried any more.
func (d *drain) end() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.over = true
	if d.again != nil {
		d.again.Stop()
	}
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
	for _, at := range a.attached {
		if l, ok := at.(*attach.Listener); ok {
			l.RoutesChanged()
		}
	}
	a.vacate() // with each configuration: there may be a server now to go to
}

// vacate has idle sessions leave, if the node is drained.
func (a *agent) vacate() {
	if !a.drain.on.Load() {
		return
	}
	for service, at := range a.attached {
		if v, ok := at.(attach.Vacater); ok {
			v.Vacate(service)
		}
	}
}

// Leaves implements attach.Leaver: idle sessions leave a node that is drained.
func (a *agent) Leaves(string) bool { return a.drain.on.Load() }

// Leave implements attach.Leaver.
func (a *agent) Leave(ctx context.Context, fd int, m attach.Meta) (err error) {
	defer func() {
		if err != nil {
			a.drain.retry(a.vacate)
		}
	}()
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
