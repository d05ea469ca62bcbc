package controller

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/shunt-sdn/shunt/controller/policystore"
	"github.com/shunt-sdn/shunt/controller/registry"
	"github.com/shunt-sdn/shunt/internal/policyproto"
	"github.com/shunt-sdn/shunt/policy"
	"github.com/shunt-sdn/shunt/policy/fault"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// Explain tells where a request would go by the policy and the states of servers
// that the agents have been told last; see api.Policies. It uses the engine of
// the dispatchers, which know besides what they alone have seen: whose turn it
// is, and their own ejections. What mode auto has learnt they report.
func (p policies) Explain(r *shuntv1.ExplainRequest) (*shuntv1.ExplainResponse, error) {
	v := p.c.view.Load()
	q, service, err := v.request(r)
	if err != nil {
		return nil, err
	}
	x, ok, err := p.c.explainer.explain(v, service, q)
	if err != nil {
		return nil, fmt.Errorf("the stored policy is refused by this version: %w", err)
	}
	if !ok {
		return nil, fmt.Errorf("service %q: %w; shunt get services lists them", service, policystore.ErrNotFound)
	}
	out := &shuntv1.ExplainResponse{Service: x.Service, Route: x.Route, Status: uint32(x.Status)}
	if x.Choice.Server != "" {
		out.Server, out.Pool, out.Mode = x.Choice.Server, x.Choice.Pool, shuntv1.DispatchMode(x.Choice.Mode)
	}
	if learns(v.policy.Policy, x.Service, x.Route) && out.Server != "" {
		out.Mode = shuntv1.DispatchMode_DISPATCH_MODE_AUTO
	}
	for _, s := range x.Steps {
		if out.Mode == shuntv1.DispatchMode_DISPATCH_MODE_AUTO && s.Subject == "server "+out.Server && s.Taken {
			s.Why = "mode auto" // which of the two the dispatchers alone know
		}
		out.Steps = append(out.Steps, &shuntv1.ExplainStep{Subject: s.Subject, Taken: s.Taken, Why: s.Why})
	}
	if out.Mode == shuntv1.DispatchMode_DISPATCH_MODE_AUTO {
		out.Steps = append(out.Steps, p.learnt(x.Service, x.Route)...)
	}
	return out, nil
}

// learns tells whether a route's mode is auto.
func learns(p *shuntv1.Policy, service, route string) bool {
	for _, s := range p.GetServices() {
		for _, r := range s.GetRoutes() {
			if s.Name == service && r.Name == route {
				return r.Mode == shuntv1.DispatchMode_DISPATCH_MODE_AUTO
			}
		}
	}
	return false
}

// learnt is what each dispatcher has learnt of a route in mode auto.
func (p policies) learnt(service, route string) (steps []*shuntv1.ExplainStep) {
	for _, n := range p.c.nodes.List() {
		for _, l := range n.Report.GetLearned() {
			if l.Service != service || l.Route != route {
				continue
			}
			var sizes []string
			for _, x := range l.Sizes {
				verdict := "both are tried"
				switch x.Cheaper() {
				case shuntv1.DispatchMode_DISPATCH_MODE_MIGRATE:
					verdict = "moves"
				case shuntv1.DispatchMode_DISPATCH_MODE_PROXY:
					verdict = "copies"
				}
				sizes = append(sizes, fmt.Sprintf("%s: %s (move %s, copy %s)", x.Octets(), verdict, cost(x.MoveUs, x.Moved), cost(x.CopyUs, x.Copied)))
			}
			steps = append(steps, &shuntv1.ExplainStep{Subject: "learnt by " + n.Name, Taken: true, Why: strings.Join(sizes, "; ")})
		}
	}
	if steps == nil {
		steps = append(steps, &shuntv1.ExplainStep{Subject: "learnt", Taken: true, Why: "nothing yet: both modes are tried"})
	}
	return steps
}

func cost(us, seen uint32) string {
	if seen == 0 {
		return "not seen"
	}
	return fmt.Sprintf("%.2f ms", float64(us)/1000)
}

// request makes the engine's request of an operator's, and finds the service.
func (v *view) request(r *shuntv1.ExplainRequest) (*policy.Request, string, error) {
	wrong := func(path, remedy, format string, args ...any) error {
		return &policystore.Invalid{Faults: fault.List{{Path: path, What: fmt.Sprintf(format, args...), Remedy: remedy}}}
	}
	u, err := url.Parse(r.GetUrl())
	if err != nil || u.Path == "" && u.Host == "" || u.Scheme != "" && u.Scheme != "http" || u.Opaque != "" || u.Host == "" && !strings.HasPrefix(u.Path, "/") {
		return nil, "", wrong("url", `write "http://shop.example/cart?item=1" or "/cart"`, "%q is no URL of HTTP and no path", r.GetUrl())
	}
	header := make(http.Header)
	for i, h := range r.GetHeaders() {
		if h.GetName() == "" {
			return nil, "", wrong(fmt.Sprintf("headers[%d].name", i), "name the field", "a field without name")
		}
		header.Add(h.GetName(), h.GetValue())
	}
	q := &policy.Request{Method: r.GetMethod(), ContentLength: -1, Header: header}
	if q.Method == "" {
		q.Method = http.MethodGet
	}
	if n, err := strconv.ParseInt(header.Get("Content-Length"), 10, 64); err == nil && n >= 0 {
		q.ContentLength = n
	}
	host := u.Host
	if h := header.Get("Host"); h != "" {
		host = h
	}
	q.SetHost(host)
	target := u.EscapedPath()
	if target == "" {
		target = "/"
	}
	if u.RawQuery != "" {
		target += "?" + u.RawQuery
	}
	q.SetTarget(target)
	if r.GetClient() != "" {
		if q.Client, err = netip.ParseAddr(r.GetClient()); err != nil {
			return nil, "", wrong("client", `write "192.0.2.7"`, "%q is no IP address", r.GetClient())
		}
	}
	service, err := v.serviceFor(r.GetService(), u)
	return q, service, err
}

// serviceFor is the one that is named, whose virtual IP or name the URL has, or
// the only one.
func (v *view) serviceFor(name string, u *url.URL) (string, error) {
	services := v.config.Services
	if name != "" {
		return name, nil
	}
	port := u.Port()
	if port == "" {
		port = "80"
	}
	end, _ := netip.ParseAddrPort(net.JoinHostPort(u.Hostname(), port))
	var names []string
	for _, s := range services {
		names = append(names, s.Name)
		for _, e := range s.Vips {
			vip, err := e.AddrPort()
			if err != nil {
				continue
			}
			if vip == end || u.Hostname() == s.Name && fmt.Sprint(vip.Port()) == port {
				return s.Name, nil
			}
		}
	}
	if len(services) == 1 {
		return services[0].Name, nil
	}
	return "", &policystore.Invalid{Faults: fault.List{{
		Path: "service", What: fmt.Sprintf("the URL leads to none of the services for certain: %s", strings.Join(names, ", ")), Remedy: "name the one that is meant",
	}}}
}

// explainer keeps the compiled policy: compiling it may take long. The zero value
// is ready.
type explainer struct {
	mu       sync.Mutex // guards what follows, and is held while an engine is asked
	state    *policy.State
	engine   *policy.Engine
	policy   *policystore.State  // that the engine was compiled from
	services map[string][]string // with these servers
}

// explain asks the engine with what is known of servers. Whether they are up is
// seen from the request's service.
func (e *explainer) explain(v *view, service string, q *policy.Request) (policy.Explanation, bool, error) {
	e.mu.Lock()
	defer e.mu.Unlock()
	if err := e.compile(v); err != nil {
		return policy.Explanation{}, false, err
	}
	nodes := make(map[string]registry.Node, len(v.nodes))
	for _, n := range v.nodes {
		nodes[n.Name] = n
	}
	observe := func(server string) {
		reason := unusable(nodes[server], service)
		e.state.SetUp(server, reason == "", reason)
	}
	for _, s := range v.config.Services {
		for _, name := range s.Servers {
			observe(name)
		}
	}
	for _, pool := range v.policy.Policy.GetPools() {
		for _, x := range pool.Members {
			observe(x.Server)
		}
	}
	ejected := ejections(poolKeys(v.policy.Policy), v.nodes)
	for _, s := range v.config.Policy.States {
		health := healthOf(s.Health)
		if x := ejected[memberOf(s)]; x != nil && 2*len(x.by) < x.all {
			health = policy.Unknown // most dispatchers would choose it
		}
		e.state.SetHealth(s.Pool, s.Server, health, s.Reason)
		if s.Pool == "" {
			e.state.SetLoad(s.Server, int(s.Load))
		}
	}
	x, ok := e.engine.Explain(service, q, nil)
	return x, ok, nil
}

// compile makes the engine anew if policy or servers are others. e.mu is held.
func (e *explainer) compile(v *view) error {
	services := make(map[string][]string)
	for _, s := range v.config.Services {
		services[s.Name] = s.Servers
	}
	if e.policy == v.policy && reflect.DeepEqual(e.services, services) {
		return nil
	}
	m, err := policyproto.Check(v.policy.Policy)
	if err != nil {
		return err
	}
	m.Complete(services)
	if e.state == nil {
		e.state = policy.NewState(policy.Options{})
	}
	engine, err := policy.Compile(&m, e.state)
	if err != nil {
		return err
	}
	e.engine, e.policy, e.services = engine, v.policy, services
	return nil
}

// unusable says why a node takes no sessions of a service; empty: it does.
func unusable(n registry.Node, service string) string {
	switch i := slices.IndexFunc(n.Applications, func(a registry.Application) bool { return a.Service == service }); {
	case n.Name == "":
		return "it has never connected"
	case !n.Usable():
		return "its agent is not connected"
	case i < 0:
		return "it has no application of the service"
	case !n.Applications[i].Ready && !n.Applications[i].Direct.IsValid():
		return "its application takes no sessions"
	}
	return ""
}

func healthOf(h shuntv1.HealthState) policy.Health {
	switch h {
	case shuntv1.HealthState_HEALTH_STATE_HEALTHY:
		return policy.Healthy
	case shuntv1.HealthState_HEALTH_STATE_UNHEALTHY:
		return policy.Unhealthy
	case shuntv1.HealthState_HEALTH_STATE_EJECTED:
		return policy.Ejected
	}
	return policy.Unknown
}
