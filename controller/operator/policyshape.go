package operator

import (
	"slices"
	"time"

	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// The JSON of the policy's verbs; the rules of shape.go hold. Services, routes
// and pools have the fields of their YAML.
type (
	// PolicyServices is services with what the policy says of them.
	PolicyServices struct{ list []policyService }
	policyService  struct {
		running Service
		policy  *shuntv1.ServicePolicy // nil: nothing
	}

	// Routes is the routes of services, in their order.
	Routes struct{ list []route }
	route  struct {
		service  string
		position int
		route    *shuntv1.Route
	}

	// Pools is pools, with how their members are.
	Pools struct {
		list []*shuntv1.Pool
		top  Top
	}

	// Servers is servers: what the policy says of them and how they are.
	Servers []Server
	// Server is one server.
	Server struct {
		Name string `json:"name"`
		// State is up, not ready, down, draining or drained.
		State    string   `json:"state"`
		Health   string   `json:"health"` // the worst in any pool
		Reason   string   `json:"reason,omitempty"`
		Sessions uint64   `json:"sessions"`
		Load     uint32   `json:"load"`
		Weight   uint32   `json:"weight_percent"`
		MaxLoad  uint32   `json:"max_load"`
		Drain    bool     `json:"drain"`
		Version  uint64   `json:"version"` // 0: the policy says nothing of it
		Pools    []Member `json:"pools"`
	}
	// Member is the state of a server in a pool.
	Member struct {
		Pool   string `json:"pool"`   // service/pool for a pool without members of its own
		Health string `json:"health"` // unknown, healthy, unhealthy or ejected
		Reason string `json:"reason,omitempty"`
		Since  string `json:"since,omitempty"` // RFC 3339, UTC
	}

	// Top is live figures.
	Top struct {
		Servers []ServerTop `json:"servers"`
		Routes  []RouteTop  `json:"routes"`

		states map[string][]Member // by server
		loads  map[string]uint32
	}
	// ServerTop is what one server does.
	ServerTop struct {
		Server   string  `json:"server"`
		State    string  `json:"state"`
		Health   string  `json:"health"`
		Reason   string  `json:"reason,omitempty"`
		Requests float64 `json:"requests_per_second"`
		Failures float64 `json:"failures_per_second"`
		Sessions uint64  `json:"sessions"`
		Load     uint32  `json:"load"`
		P50US    uint32  `json:"handoff_p50_us"` // 0: none yet
		P99US    uint32  `json:"handoff_p99_us"`
		drain    bool
	}
	// RouteTop is what becomes of a route's requests.
	RouteTop struct {
		Service  string  `json:"service"`
		Route    string  `json:"route"` // empty: none matched
		Requests float64 `json:"requests_per_second"`
		Rejected float64 `json:"rejected_per_second"`
		Proxied  float64 `json:"proxied_per_second"`
	}

	// Explanation is where a request goes, and why.
	Explanation struct {
		Service string        `json:"service"`
		Route   string        `json:"route"` // empty: none matched
		Pool    string        `json:"pool"`
		Server  string        `json:"server"`           // empty: none
		Mode    string        `json:"mode"`             // migrate, proxy or auto; empty if nobody gets it
		Status  uint32        `json:"status,omitempty"` // that the dispatcher answers with
		Steps   []ExplainStep `json:"steps"`
	}
	// ExplainStep is a part of the decision.
	ExplainStep struct {
		Subject string `json:"subject"`
		Taken   bool   `json:"taken"`
		Why     string `json:"why"`
	}
)

func healthOf(h shuntv1.HealthState) string {
	if h == shuntv1.HealthState_HEALTH_STATE_UNSPECIFIED {
		return "unknown"
	}
	return lower(h, "HEALTH_STATE_")
}

func memberOf(s *shuntv1.ServerState) Member {
	m := Member{Pool: s.GetPool(), Health: healthOf(s.GetHealth()), Reason: s.GetReason()}
	if n := s.GetSinceUnixNano(); n != 0 {
		m.Since = time.Unix(0, n).UTC().Format(time.RFC3339)
	}
	return m
}

// stateOfServer is one word for how a server is.
func stateOfServer(t *shuntv1.ServerTop) string {
	switch {
	case t.Drain && t.Sessions == 0:
		return "drained"
	case t.Drain:
		return "draining"
	case !t.Up:
		return "down"
	case !t.Ready:
		return "not ready"
	}
	return "up"
}

func topOf(r *shuntv1.GetTopResponse) Top {
	t := Top{states: make(map[string][]Member), loads: make(map[string]uint32)}
	t.Servers = each(r.GetServers(), func(s *shuntv1.ServerTop) ServerTop {
		t.states[s.Server] = each(s.Members, memberOf)
		t.loads[s.Server] = s.GetState().GetLoad()
		return ServerTop{
			Server: s.Server, State: stateOfServer(s), Health: healthOf(s.GetState().GetHealth()), Reason: s.GetState().GetReason(),
			Requests: s.RequestsPerSecond, Failures: s.FailuresPerSecond,
			Sessions: s.Sessions, Load: s.GetState().GetLoad(), P50US: s.HandoffP50Us, P99US: s.HandoffP99Us, drain: s.Drain,
		}
	})
	t.Routes = each(r.GetRoutes(), func(x *shuntv1.RouteTop) RouteTop {
		return RouteTop{x.Service, x.Route, x.RequestsPerSecond, x.RejectedPerSecond, x.ProxiedPerSecond}
	})
	return t
}

func serversOf(policy []*shuntv1.Server, top Top) Servers {
	out := Servers{}
	seen := make(map[string]bool)
	add := func(name string, t ServerTop) {
		x := Server{
			Name: name, State: t.State, Health: t.Health, Reason: t.Reason, Sessions: t.Sessions, Load: t.Load,
			Weight: 100, Drain: t.drain, Pools: append([]Member{}, top.states[name]...),
		}
		if i := slices.IndexFunc(policy, func(s *shuntv1.Server) bool { return s.Name == name }); i >= 0 {
			p := policy[i]
			x.MaxLoad, x.Drain, x.Version = p.MaxLoad, p.Drain, p.Version
			if p.WeightPercent != nil {
				x.Weight = p.GetWeightPercent()
			}
		}
		seen[name] = true
		out = append(out, x)
	}
	for _, t := range top.Servers {
		add(t.Server, t)
	}
	for _, p := range policy {
		if !seen[p.Name] {
			add(p.Name, ServerTop{State: "unknown", Health: "unknown"})
		}
	}
	return out
}

func explanationOf(r *shuntv1.ExplainResponse) Explanation {
	e := Explanation{Service: r.Service, Route: r.Route, Pool: r.Pool, Server: r.Server, Status: r.Status}
	if r.Mode != shuntv1.DispatchMode_DISPATCH_MODE_UNSPECIFIED {
		e.Mode = lower(r.Mode, "DISPATCH_MODE_")
	}
	e.Steps = each(r.Steps, func(s *shuntv1.ExplainStep) ExplainStep { return ExplainStep{s.Subject, s.Taken, s.Why} })
	return e
}
