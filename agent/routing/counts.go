package routing

import (
	"cmp"
	"slices"
	"sync"

	"github.com/shunt-sdn/shunt/policy"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// counts are what came of requests since the agent began.
type counts struct {
	mu      sync.Mutex
	routes  map[[2]string]*shuntv1.RouteCount // by service and route
	servers map[string]*shuntv1.ServerCount
}

// Outcome is what became of a request that a dispatcher routed.
type Outcome uint8

const (
	HandedOff Outcome = iota
	Proxied
	Rejected // answered by the dispatcher, by the policy or its limits
)

// Count counts a request that matched a route; empty: none of the service's.
func (t *Table) Count(service, route string, o Outcome) {
	c := &t.counts
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.routes == nil {
		c.routes = make(map[[2]string]*shuntv1.RouteCount)
	}
	k := [2]string{service, route}
	r := c.routes[k]
	if r == nil {
		r = &shuntv1.RouteCount{Service: service, Route: route}
		c.routes[k] = r
	}
	r.Requests++
	switch o {
	case Proxied:
		r.Proxied++
	case Rejected:
		r.Rejected++
	}
}

// CountServer counts a request that was sent to a server, and whether that failed.
func (t *Table) CountServer(server string, failed bool) {
	c := &t.counts
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.servers == nil {
		c.servers = make(map[string]*shuntv1.ServerCount)
	}
	s := c.servers[server]
	if s == nil {
		s = &shuntv1.ServerCount{Server: server}
		c.servers[server] = s
	}
	s.Requests++
	if failed {
		s.Failures++
	}
}

// Report fills in what the controller is told of the policy's working.
func (t *Table) Report(r *shuntv1.Report) {
	r.PolicyVersion, r.PolicyError = t.Version()
	for _, s := range t.state.States() {
		if s.Health == policy.Ejected {
			r.Ejections = append(r.Ejections, &shuntv1.ServerState{
				Server: s.Server, Pool: s.Pool, Health: shuntv1.HealthState_HEALTH_STATE_EJECTED, Reason: s.Reason, SinceUnixNano: s.Since.UnixNano(),
			})
		}
	}
	for _, x := range t.engine.Load().Learned() {
		m := &shuntv1.LearnedRoute{Service: x.Service, Route: x.Route}
		for _, y := range x.Sizes {
			m.Sizes = append(m.Sizes, &shuntv1.LearnedSize{
				Bits: uint32(y.Bits), MoveUs: uint32(y.Move.Microseconds()), Moved: y.Moved, CopyUs: uint32(y.Copy.Microseconds()), Copied: y.Copied,
			})
		}
		r.Learned = append(r.Learned, m)
	}
	c := &t.counts
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, x := range c.routes {
		r.Routes = append(r.Routes, &shuntv1.RouteCount{Service: x.Service, Route: x.Route, Requests: x.Requests, Rejected: x.Rejected, Proxied: x.Proxied})
	}
	for _, x := range c.servers {
		r.Servers = append(r.Servers, &shuntv1.ServerCount{Server: x.Server, Requests: x.Requests, Failures: x.Failures})
	}
	slices.SortFunc(r.Routes, func(a, b *shuntv1.RouteCount) int {
		return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.Route, b.Route))
	})
	slices.SortFunc(r.Servers, func(a, b *shuntv1.ServerCount) int { return cmp.Compare(a.Server, b.Server) })
}
