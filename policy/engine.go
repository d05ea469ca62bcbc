package policy

import (
	"fmt"
	"net/http"

	"github.com/shunt-sdn/shunt/policy/match"
)

// Request is what is known of a request before it is dispatched.
type Request = match.Request

// Engine is a compiled policy. It does not change; a changed policy is another
// Engine on the same State. It is safe for concurrent use.
type Engine struct {
	state    *State
	services map[string]*service
	pools    []*pool
	servers  map[string]Server
}

type service struct {
	name       string
	table      *match.Table
	rules      []*Rule // as the table counts
	standard   *Rule
	perRequest bool
}

// Compile compiles a policy. The error is a fault.List with every mistake and
// the path of its field. What the state has of pools, servers and routes of the
// same names stays as it is.
func Compile(m *Model, st *State) (*Engine, error) {
	v := validator{pools: make(map[string]*Pool)}
	v.model(m)
	e := &Engine{state: st, services: make(map[string]*service), servers: make(map[string]Server)}
	tables := make([]*match.Table, len(m.Services))
	for i := range m.Services {
		tables[i] = v.table(i, &m.Services[i])
	}
	if err := v.Err(); err != nil {
		return nil, err
	}
	for _, s := range m.Servers {
		e.servers[s.Name] = s
	}
	c := compilation{e: e, models: v.pools, done: make(map[string]*pool)}
	for i := range m.Services {
		c.service(&m.Services[i], tables[i])
	}
	st.forget(e)
	st.epoch.Add(1)
	return e, nil
}

// compilation makes the services and pools of an Engine.
type compilation struct {
	e      *Engine
	models map[string]*Pool
	done   map[string]*pool // by key
}

func (c *compilation) service(m *Service, table *match.Table) {
	s := &service{name: m.Name, table: table}
	for i := range m.Routes {
		s.rules = append(s.rules, c.rule(m, &m.Routes[i]))
	}
	s.standard = c.rule(m, &Route{Pool: m.DefaultPool, Pools: nil})
	s.perRequest = perRequest(m, s)
	c.e.services[m.Name] = s
}

func (c *compilation) rule(s *Service, r *Route) *Rule {
	st := c.e.state
	st.mu.Lock()
	rs := st.rule(s.Name, r.Name)
	st.mu.Unlock()
	out := &Rule{e: c.e, match: r.Match, Service: s.Name, Name: r.Name, mode: or(r.Mode, Migrate), affinity: r.Affinity, reject: r.Reject, limits: r.Limits, state: rs}
	if r.Reject != nil {
		return out
	}
	list := r.Pools
	if len(list) == 0 {
		list = []WeightedPool{{r.Pool, 1}}
	}
	weights := make([]uint32, len(list))
	for i, p := range list {
		out.pools = append(out.pools, c.pool(s, p.Pool))
		weights[i] = p.Weight
	}
	out.split(weights)
	if r.Affinity != nil {
		for _, p := range out.pools {
			p.forAffinity()
		}
	}
	return out
}

// pool returns the pool as the service sees it. "" is the service's servers in turn.
func (c *compilation) pool(s *Service, name string) *pool {
	m := c.models[name]
	if m == nil {
		m = &Pool{}
	}
	members, key := m.Members, name
	if len(members) == 0 {
		key = s.Name + "/" + name
		for _, n := range s.Servers {
			members = append(members, Member{Server: n, Weight: 1})
		}
	}
	if p := c.done[key]; p != nil {
		for b := p; b != nil && !b.services[s.Name]; b = b.backup {
			b.services[s.Name] = true
		}
		return p
	}
	p := newPool(c.e, m, key, members)
	p.services[s.Name] = true
	c.done[key] = p
	c.e.pools = append(c.e.pools, p)
	if m.Backup != "" {
		p.backup = c.pool(s, m.Backup)
	}
	return p
}

// Route returns what is to be done with a request: the first route whose match
// holds, or the service's default. False: there is no such service.
func (e *Engine) Route(service string, r *Request) (*Rule, bool) {
	s := e.services[service]
	if s == nil {
		return nil, false
	}
	if i := s.table.First(r); i >= 0 {
		return s.rules[i], true
	}
	return s.standard, true
}

// PerRequest tells whether requests of one connection may have to go to
// different servers, or be answered by the dispatcher. If not, a connection can
// stay where its first request went.
func (e *Engine) PerRequest(service string) bool {
	s := e.services[service]
	return s != nil && s.perRequest
}

// perRequest: only the client's address is the same for all requests of a connection.
func perRequest(m *Service, s *service) bool {
	rules := append([]*Rule{s.standard}, s.rules...)
	for i, r := range rules {
		if i > 0 {
			x := m.Routes[i-1].Match
			if x != nil && (len(x.Hosts)+len(x.Paths)+len(x.Methods)+len(x.Headers)+len(x.Cookies)+len(x.Query) > 0 || x.CEL != "") {
				return true
			}
		}
		if r.limits.RequestsPerSecond > 0 || r.limits.MaxBodyBytes > 0 || r.affinity != nil && !r.affinity.Client {
			return true
		}
		for _, p := range r.pools {
			for ; p != nil; p = p.backup {
				if p.program != nil || p.algorithm.hashes() && !p.onlyClient() {
					return true
				}
			}
		}
	}
	return false
}

// Rule is what is to be done with requests: a route of a service, or its default.
type Rule struct {
	Service string
	// Name is the route's; empty: the service's default.
	Name string

	e        *Engine
	match    *match.Match
	pools    []*pool
	shares   shares
	affinity *Affinity
	reject   *Reject
	limits   RouteLimits
	mode     Mode
	state    *ruleState
}

// Admit returns 0, or the status to answer a request with: the route rejects it,
// or a limit is reached. It counts the request; call it once.
func (r *Rule) Admit(q *Request) (status int, reason string) {
	switch {
	case r.reject != nil:
		return r.reject.Status, or(r.reject.Reason, http.StatusText(r.reject.Status))
	case r.limits.MaxBodyBytes > 0 && q.ContentLength > 0 && uint64(q.ContentLength) > r.limits.MaxBodyBytes:
		return http.StatusRequestEntityTooLarge, fmt.Sprintf("the body has more than %d octets", r.limits.MaxBodyBytes)
	case r.limits.RequestsPerSecond > 0 && !allow(&r.state.allowed, r.limits, r.e.state.now()):
		return http.StatusTooManyRequests, "too many requests"
	}
	return 0, ""
}
