package agent

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/shunt-sdn/shunt/agent/attach"
	"github.com/shunt-sdn/shunt/agent/dispatcher"
	"github.com/shunt-sdn/shunt/agent/httphead"
	"github.com/shunt-sdn/shunt/agent/routing"
	"github.com/shunt-sdn/shunt/policy"
)

// The agent is the attach.Router of its applications: each further request of a
// connection falls under the policy like a first one.

// PerRequest implements attach.Router. On a server that is drained every further
// request is looked at, so that it goes elsewhere.
func (a *agent) PerRequest(service string) bool {
	return a.drain.on.Load() || a.policy.PerRequest(service)
}

// headLimits are those of a service's request heads; 0: it is not known.
func (a *agent) headLimits(service string) (maxHead int, headTimeout time.Duration) {
	v, _ := a.view()
	s := v.all[service]
	return s.MaxHead, s.HeadTimeout
}

// Route implements attach.Router. A request that this server may answer stays;
// another goes to the server that the policy names. One that the dispatcher has
// to decide on, because its head is longer than the service allows or the policy
// refuses or limits it or asks a program, goes home.
func (a *agent) Route(m attach.Meta, head *httphead.Head) string {
	var q policy.Request
	routing.Request(&q, head, m.Client)
	rule, ok := a.policy.Route(m.Service, &q)
	v, _ := a.view()
	service, known := v.all[m.Service]
	tooLong := known && head.Length > service.MaxHead
	if !tooLong && (!ok || rule.Accepts(&q, a.cfg.Node)) {
		return ""
	}
	if !tooLong && !rule.ForDispatcher() {
		c, ok := rule.Choose(&q, func(name string) bool { return a.reachable(service, name) })
		if ok && c.Server == a.cfg.Node {
			return ""
		}
		if ok && c.Mode == policy.Migrate {
			return c.Server
		}
	}
	if home, ok := v.dispatchers[m.Local.Addr()]; ok && home.Node != a.cfg.Node {
		return home.Node
	}
	return ""
}

// reachable tells whether one of the service's servers can answer: this one, or
// one that a session can be handed to.
func (a *agent) reachable(s dispatcher.Service, name string) bool {
	i := slices.IndexFunc(s.Servers, func(s dispatcher.Server) bool { return s.Node == name })
	return i >= 0 && (name == a.cfg.Node || a.dispatcher.Reachable(s.Name, s.Servers[i]))
}

// Move implements attach.Router: it hands a session of an application here on to
// another server, or back to its home.
func (a *agent) Move(ctx context.Context, fd int, m attach.Meta, node string) error {
	return a.handOn(ctx, fd, m, node, false)
}

func (a *agent) handOn(ctx context.Context, fd int, m attach.Meta, node string, idle bool) error {
	v, _ := a.view()
	service, ok := v.all[m.Service]
	if !ok {
		return fmt.Errorf("hand session of %v on: there is no service %q any more", m.Client, m.Service)
	}
	target, ok := v.dispatchers[m.Local.Addr()]
	if !ok || target.Node != node {
		i := slices.IndexFunc(service.Servers, func(s dispatcher.Server) bool { return s.Node == node })
		if i < 0 {
			return fmt.Errorf("hand session of %v on: %s is no server of service %q", m.Client, node, m.Service)
		}
		target = service.Servers[i]
	}
	if !a.dispatcher.Reachable(m.Service, target) {
		return fmt.Errorf("hand session of %v on: %s takes no sessions of service %q now", m.Client, node, m.Service)
	}
	d := a.server.Depart(m.ID, m.Client, m.Local)
	if d == nil {
		return fmt.Errorf("hand session of %v on: this agent does not know where it came from, or is at it already", m.Client)
	}
	err := a.dispatcher.HandOn(ctx, fd, dispatcher.Onward{
		ID: m.ID, Origin: d.Origin, Hop: d.Hop, Departure: d,
		Client: m.Client, Local: m.Local, VIP: m.VIP, Service: service, Target: target, Idle: idle,
	})
	if err == nil && a.drain.on.Load() {
		a.drain.moved.Add(1)
	}
	if err != nil {
		a.log.Info("a session stays where it is", "client", m.Client, "service", m.Service, "to", node, "err", err)
	}
	return err
}

// attachment is what takes an imported session: the service's application or,
// for one that comes home, the dispatcher.
func (a *agent) attachment(service string, local netip.Addr) attach.Attachment {
	if v, _ := a.view(); v.homes[local].Self {
		return a.dispatcher.Returned()
	}
	if at := a.attached[service]; at != nil {
		return at
	}
	return nil // not an interface that holds nil
}
