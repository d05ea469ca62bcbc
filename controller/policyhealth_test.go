package controller

import (
	"fmt"
	"strings"
	"testing"

	"github.com/shunt-sdn/shunt/controller/registry"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

const (
	healthy   = shuntv1.HealthState_HEALTH_STATE_HEALTHY
	unhealthy = shuntv1.HealthState_HEALTH_STATE_UNHEALTHY
	unsure    = shuntv1.HealthState_HEALTH_STATE_UNKNOWN
	ejected   = shuntv1.HealthState_HEALTH_STATE_EJECTED
)

func serverNode(name string, up bool, r *shuntv1.Report) registry.Node {
	return registry.Node{Hello: registry.Hello{Name: name, Roles: []shuntv1.Role{shuntv1.Role_ROLE_SERVER}}, Up: up, Report: r}
}

func statesText(list []*shuntv1.ServerState) string {
	var words []string
	for _, s := range list {
		w := fmt.Sprintf("%s/%s=%s", s.Server, s.Pool, strings.ToLower(strings.TrimPrefix(s.Health.String(), "HEALTH_STATE_")))
		if s.Load > 0 {
			w += fmt.Sprint("+", s.Load)
		}
		words = append(words, w)
	}
	return strings.Join(words, " ")
}

func TestStatesAreMergedOfWhatWasAndWhatIsReported(t *testing.T) {
	check := &shuntv1.HealthCheck{}
	p := &shuntv1.Policy{
		Services: []*shuntv1.ServicePolicy{{Name: "web", DefaultPool: "a", Routes: []*shuntv1.Route{{Name: "r", Pool: "plain"}}}},
		Pools: []*shuntv1.Pool{
			{Name: "a", Check: check, Members: []*shuntv1.Member{{Server: "s1"}, {Server: "s2"}}, Backup: "b"},
			{Name: "b", Check: check, Backup: "a", Ejection: &shuntv1.Ejection{}},
			{Name: "plain"}, {Name: "unused", Check: check},
		},
	}
	state := func(server, pool string, h shuntv1.HealthState) *shuntv1.ServerState {
		return &shuntv1.ServerState{Server: server, Pool: pool, Health: h}
	}
	report := func(load uint32, checks ...*shuntv1.ServerState) *shuntv1.Report {
		return &shuntv1.Report{Load: load, Checks: checks}
	}
	dispatcher := func(name string, e ...*shuntv1.ServerState) registry.Node {
		return registry.Node{Hello: registry.Hello{Name: name, Roles: []shuntv1.Role{shuntv1.Role_ROLE_DISPATCHER}}, Up: true, Report: &shuntv1.Report{Ejections: e}}
	}
	for _, c := range []struct {
		name   string
		nodes  []registry.Node
		before []*shuntv1.ServerState
		want   string
	}{
		{"nothing", nil, nil, ""},
		{"before the first report", []registry.Node{serverNode("s1", true, nil)}, nil, ""},
		{"reports", []registry.Node{serverNode("s1", true, report(3, state("", "a", healthy), state("", "web/b", unhealthy)))}, nil,
			"s1/=unknown+3 s1/a=healthy s1/web/b=unhealthy"},
		{"what nobody asked for", []registry.Node{serverNode("s1", true, report(0, state("", "plain", healthy), state("", "unused", healthy), state("", "b", healthy)))}, nil,
			"s1/=unknown"},
		{"undecided after a verdict", []registry.Node{serverNode("s1", true, report(0, state("", "a", unsure)))}, []*shuntv1.ServerState{state("s1", "a", unhealthy)},
			"s1/=unknown s1/a=unhealthy"},
		{"silent after a verdict", []registry.Node{serverNode("s1", true, report(0)), serverNode("s2", true, nil)},
			[]*shuntv1.ServerState{state("s1", "a", unhealthy), state("s2", "a", healthy)}, "s1/=unknown s1/a=unhealthy s2/a=healthy"},
		{"away after a verdict", []registry.Node{serverNode("s1", false, report(9, state("", "a", healthy)))}, []*shuntv1.ServerState{state("s1", "a", unhealthy)},
			"s1/a=unhealthy"},
		{"no check any more", []registry.Node{serverNode("s1", true, report(0))}, []*shuntv1.ServerState{state("s1", "web/plain", unhealthy)}, "s1/=unknown s1/web/plain=unknown"},
		{"no pool any more", []registry.Node{serverNode("s1", true, report(0))}, []*shuntv1.ServerState{state("s1", "gone", unhealthy)}, "s1/=unknown"},
		{"no node any more", nil, []*shuntv1.ServerState{state("s1", "a", unhealthy)}, ""},
		{"ejected", []registry.Node{serverNode("s1", true, report(2)), dispatcher("d1", state("s1", "web/b", ejected), state("s1", "a", ejected))}, nil, "s1/=unknown+2 s1/web/b=ejected"},
		{"ejected and unhealthy", []registry.Node{serverNode("s1", true, report(0, state("", "web/b", unhealthy))), dispatcher("d1", state("s1", "web/b", ejected))}, nil,
			"s1/=unknown s1/web/b=unhealthy"},
		{"back after an ejection", []registry.Node{serverNode("s1", true, report(0)), dispatcher("d1")}, []*shuntv1.ServerState{state("s1", "web/b", ejected)},
			"s1/=unknown s1/web/b=unknown"},
	} {
		if got := statesText(serverStates(p, c.nodes, c.before)); got != c.want {
			t.Errorf("%s: %s, want %s", c.name, got, c.want)
		}
	}
}

// BenchmarkServerStates: what a second's look at a big cluster costs.
func BenchmarkServerStates(b *testing.B) {
	p := &shuntv1.Policy{Services: []*shuntv1.ServicePolicy{{Name: "web"}}}
	for i := range 1000 {
		name := fmt.Sprint("pool", i)
		p.Pools = append(p.Pools, &shuntv1.Pool{Name: name, Check: &shuntv1.HealthCheck{}, Members: []*shuntv1.Member{{Server: "s0"}}})
		p.Services[0].Routes = append(p.Services[0].Routes, &shuntv1.Route{Name: name, Pool: name})
	}
	var nodes []registry.Node
	for i := range 4000 {
		r := &shuntv1.Report{Load: 1}
		for j := range 4 {
			r.Checks = append(r.Checks, &shuntv1.ServerState{Pool: fmt.Sprint("pool", (i*4+j)%1000), Health: healthy})
		}
		nodes = append(nodes, serverNode(fmt.Sprint("s", i), true, r))
	}
	states := serverStates(p, nodes, nil)
	for b.Loop() {
		states = serverStates(p, nodes, states)
	}
}
