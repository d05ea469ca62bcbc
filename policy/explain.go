package policy

import (
	"fmt"
	"strings"

	"github.com/shunt-sdn/shunt/policy/match"
)

// Explanation is where a request would go now, and why.
type Explanation struct {
	Service string
	Route   string // empty: the service's default
	// Status that the dispatcher would answer with; 0: a server would.
	Status int
	Reason string
	Choice Choice // without a server if there is none
	Steps  []Step
}

// Step is a part of a decision.
type Step struct {
	// Subject is "route images", "pool static" or "server server2".
	Subject string
	Taken   bool
	Why     string
}

// trace collects steps; a nil trace does not.
type trace struct{ steps []Step }

func (t *trace) add(taken bool, subject, format string, args ...any) {
	t.steps = append(t.steps, Step{subject, taken, fmt.Sprintf(format, args...)})
}

// Explain returns what Route, Admit and Choose would do, and changes nothing.
// False: there is no such service. Limits are not looked at, and where chance
// decides, another server may be chosen next.
func (e *Engine) Explain(service string, q *Request, usable func(string) bool) (Explanation, bool) {
	s := e.services[service]
	if s == nil {
		return Explanation{}, false
	}
	t := &trace{}
	r, i := s.standard, s.table.First(q)
	if i >= 0 {
		r = s.rules[i]
	}
	t.routes(s, i, q)
	x := Explanation{Service: service, Route: r.Name}
	if r.reject != nil || r.limits.MaxBodyBytes > 0 {
		l := *r
		l.limits.RequestsPerSecond = 0 // or it would be counted
		x.Status, x.Reason = l.Admit(q)
	}
	if x.Status == 0 {
		c, ok := r.choose(q, usable, true, t)
		x.Choice = c
		if !ok {
			x.Status, x.Reason = 503, "no server can be used"
		} else {
			t.add(true, "server "+c.Server, "mode %s", c.Mode)
		}
	} else {
		t.add(true, "status", "the route answers %d: %s", x.Status, x.Reason)
	}
	x.Steps = t.steps
	return x, true
}

// routes tells of those before the one that was taken, and of it.
func (t *trace) routes(s *service, at int, q *Request) {
	for i, r := range s.rules {
		if at >= 0 && i > at {
			return
		}
		_, why := match.Explain(r.match, q)
		t.add(i == at, "route "+r.Name, "%s", why)
	}
	if at < 0 {
		t.add(true, "default", "no route matches")
	}
}

func (t *trace) bound(r *Rule, name string) {
	if t != nil {
		t.add(true, "affinity", "%s names %s", r.affinity, name)
	}
}

func (t *trace) notBound(r *Rule, name string) {
	if t != nil {
		t.add(false, "affinity", "%s is %q, which names no server that can be used", r.affinity, name)
	}
}

func (a *Affinity) String() string {
	switch {
	case a.Cookie != "":
		return "the cookie " + a.Cookie
	case a.Header != "":
		return "the header " + a.Header
	}
	return "the client's address"
}

// pool tells who of a pool could be chosen, and who was.
func (t *trace) pool(p *pool, v *view, i int) {
	if t == nil {
		return
	}
	name := "pool " + p.name
	if p.name == "" {
		name = "the service's servers"
	}
	var out []string
	st := p.e.state
	now := st.now()
	st.mu.RLock()
	for j := range p.members {
		m := &p.members[j]
		h, why, _ := m.state.state(m.server, now)
		switch {
		case m.drain:
			out = append(out, m.name+" is drained")
		case m.server.down:
			out = append(out, m.name+" is down: "+m.server.reason)
		case !h.Usable():
			out = append(out, fmt.Sprintf("%s is %s: %s", m.name, h, why))
		case m.weight == 0:
			out = append(out, m.name+" has no weight")
		}
	}
	st.mu.RUnlock()
	why := fmt.Sprintf("%s among %d of %d members", p.algorithm, len(v.list), len(p.members))
	if p.program != nil {
		why += fmt.Sprintf(", unless the program at %s says otherwise", p.program.Config.Address)
	}
	if v.panic {
		why += "; too few are healthy, so all count as healthy"
	}
	if len(out) > 0 {
		const most = 10
		if len(out) > most {
			out = append(out[:most], fmt.Sprintf("and %d more", len(out)-most))
		}
		why += "; " + strings.Join(out, "; ")
	}
	if i < 0 {
		why = "none can be used: " + why
	}
	t.add(i >= 0, name, "%s", why)
}
