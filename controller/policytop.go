package controller

import (
	"cmp"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/shunt-sdn/shunt/controller/registry"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

const (
	// rateWindow is the time over which rates are taken.
	rateWindow = 10 * time.Second
	// latencyRecords is how many hand-offs to a server latencies are taken of.
	latencyRecords = 1000
)

// traffic remembers agents' latest reports, for rates. The zero value is ready.
type traffic struct {
	mu    sync.Mutex // guards what follows
	nodes map[string]*reports
}

// reports are those of one instance of an agent over rateWindow, oldest first.
type reports struct {
	instance uint64
	list     []timedReport
}

type timedReport struct {
	at time.Time
	r  *shuntv1.Report
}

// note adds a report of a node's agent. Reports that agents send at once,
// because something changed, replace the one before.
func (t *traffic) note(now time.Time, node string, instance uint64, r *shuntv1.Report) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.nodes == nil {
		t.nodes = make(map[string]*reports)
	}
	x := t.nodes[node]
	if x == nil || x.instance != instance {
		x = &reports{instance: instance}
		t.nodes[node] = x
	}
	if n := len(x.list); n > 1 && now.Sub(x.list[n-2].at) < 500*time.Millisecond {
		x.list = x.list[:n-1]
	}
	x.list = append(x.list, timedReport{now, r})
	for len(x.list) > 2 && now.Sub(x.list[0].at) > rateWindow {
		x.list = x.list[1:]
	}
}

// spans calls f for each node with its first and last report in the window and
// the seconds between them, and forgets nodes that have not reported in it.
func (t *traffic) spans(now time.Time, f func(first, last *shuntv1.Report, seconds float64)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for node, x := range t.nodes {
		first, last := x.list[0], x.list[len(x.list)-1]
		if now.Sub(last.at) > rateWindow {
			delete(t.nodes, node)
			continue
		}
		if seconds := last.at.Sub(first.at).Seconds(); seconds > 0 {
			f(first.r, last.r, seconds)
		}
	}
}

// perSecond is a counter's growth; none if it went back.
func perSecond(before, now uint64, seconds float64) float64 {
	if now < before {
		return 0
	}
	return float64(now-before) / seconds
}

type routeKey struct{ service, route string }

// rates adds up all nodes' rates by server and by route.
func (t *traffic) rates(now time.Time) (servers map[string]*shuntv1.ServerTop, routes map[routeKey]*shuntv1.RouteTop) {
	servers, routes = make(map[string]*shuntv1.ServerTop), make(map[routeKey]*shuntv1.RouteTop)
	t.spans(now, func(first, last *shuntv1.Report, seconds float64) {
		oldServers := make(map[string]*shuntv1.ServerCount)
		for _, s := range first.GetServers() {
			oldServers[s.Server] = s
		}
		for _, s := range last.GetServers() {
			out, old := servers[s.Server], oldServers[s.Server]
			if out == nil {
				out = &shuntv1.ServerTop{Server: s.Server}
				servers[s.Server] = out
			}
			out.RequestsPerSecond += perSecond(old.GetRequests(), s.Requests, seconds)
			out.FailuresPerSecond += perSecond(old.GetFailures(), s.Failures, seconds)
		}
		oldRoutes := make(map[routeKey]*shuntv1.RouteCount)
		for _, r := range first.GetRoutes() {
			oldRoutes[routeKey{r.Service, r.Route}] = r
		}
		for _, r := range last.GetRoutes() {
			k := routeKey{r.Service, r.Route}
			out, old := routes[k], oldRoutes[k]
			if out == nil {
				out = &shuntv1.RouteTop{Service: r.Service, Route: r.Route}
				routes[k] = out
			}
			out.RequestsPerSecond += perSecond(old.GetRequests(), r.Requests, seconds)
			out.RejectedPerSecond += perSecond(old.GetRejected(), r.Rejected, seconds)
			out.ProxiedPerSecond += perSecond(old.GetProxied(), r.Proxied, seconds)
		}
	})
	return servers, routes
}

// top puts rates, loads, states and latencies together for a service, or for
// all if it is empty.
func (c *cluster) top(now time.Time, service string, sessions map[string]uint64) *shuntv1.GetTopResponse {
	v := c.view.Load()
	servers, routes := c.traffic.rates(now)
	latencies := handoffLatencies(c.handoffs.Latest(keepHandoffs), service)
	out := &shuntv1.GetTopResponse{}
	for _, n := range c.nodes.List() {
		if !n.Has(shuntv1.Role_ROLE_SERVER) || service != "" && !serves(v, service, n.Name) {
			continue
		}
		top := servers[n.Name]
		if top == nil {
			top = &shuntv1.ServerTop{Server: n.Name}
		}
		top.State = summary(n.Name, v.config.Policy.States)
		for _, s := range v.config.Policy.States {
			if s.Server == n.Name && s.Pool != "" {
				top.Members = append(top.Members, s)
			}
		}
		top.Up, top.Sessions = n.InUse(), sessions[n.Name]
		for _, a := range n.Applications {
			top.Ready = top.Ready || a.Ready && (service == "" || a.Service == service)
		}
		top.Drain = draining(v.policy.Policy, n.Name)
		if list := latencies[n.Name]; len(list) > 0 {
			slices.Sort(list)
			top.HandoffP50Us, top.HandoffP99Us = list[(len(list)-1)/2], list[(len(list)-1)*99/100]
		}
		out.Servers = append(out.Servers, top)
	}
	for _, r := range slices.SortedFunc(maps.Values(routes), func(a, b *shuntv1.RouteTop) int {
		return cmp.Or(registry.CompareNames(a.Service, b.Service), registry.CompareNames(a.Route, b.Route))
	}) {
		if service == "" || r.Service == service {
			out.Routes = append(out.Routes, r)
		}
	}
	return out
}

// handoffLatencies are those of the latest completed hand-offs, microseconds, by server.
func handoffLatencies(records []*shuntv1.Handoff, service string) map[string][]uint32 {
	out := make(map[string][]uint32)
	for _, h := range records {
		if h.Outcome != shuntv1.Outcome_OUTCOME_COMPLETED || service != "" && h.Service != service || len(out[h.ToNode]) >= latencyRecords {
			continue
		}
		out[h.ToNode] = append(out[h.ToNode], h.TotalUs)
	}
	return out
}

func serves(v *view, service, node string) bool {
	for _, s := range v.config.Services {
		if s.Name == service {
			return slices.Contains(s.Servers, node)
		}
	}
	return false
}

// summary is one state for a server: the worst of its states as a member of
// pools, with its load.
func summary(server string, states []*shuntv1.ServerState) *shuntv1.ServerState {
	rank := func(h shuntv1.HealthState) int {
		switch h {
		case shuntv1.HealthState_HEALTH_STATE_UNHEALTHY:
			return 3
		case shuntv1.HealthState_HEALTH_STATE_EJECTED:
			return 2
		case shuntv1.HealthState_HEALTH_STATE_HEALTHY:
			return 1
		}
		return 0
	}
	out := &shuntv1.ServerState{Server: server, Health: shuntv1.HealthState_HEALTH_STATE_UNKNOWN}
	for _, s := range states {
		if s.Server != server {
			continue
		}
		out.Load = max(out.Load, s.Load)
		if rank(s.Health) > rank(out.Health) {
			out.Health, out.Pool, out.Reason, out.SinceUnixNano = s.Health, s.Pool, s.Reason, s.SinceUnixNano
		}
	}
	return out
}

// draining reports whether the policy has the server take no new requests.
func draining(p *shuntv1.Policy, server string) bool {
	return slices.ContainsFunc(p.GetServers(), func(s *shuntv1.Server) bool { return s.Name == server && s.Drain })
}
