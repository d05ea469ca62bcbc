package controller

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/shunt-sdn/shunt/controller/registry"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// member is a server in a pool, which is named by its key; empty: everywhere.
type member struct{ server, pool string }

func memberOf(s *shuntv1.ServerState) member { return member{s.GetServer(), s.GetPool()} }

// poolKeys maps pools by what states call them: a pool without members of its
// own is one for each service that leads to it, "service/pool".
func poolKeys(p *shuntv1.Policy) map[string]*shuntv1.Pool {
	byName := make(map[string]*shuntv1.Pool)
	for _, pool := range p.GetPools() {
		byName[pool.Name] = pool
	}
	keys := make(map[string]*shuntv1.Pool)
	for _, s := range p.GetServices() {
		add := func(name string) {
			for seen := make(map[string]bool); name != "" && !seen[name] && byName[name] != nil; name = byName[name].Backup {
				seen[name] = true
				key := name
				if len(byName[name].Members) == 0 {
					key = s.Name + "/" + name
				}
				keys[key] = byName[name]
			}
		}
		for _, r := range s.Routes {
			add(r.Pool)
			for _, w := range r.Pools {
				add(w.Pool)
			}
		}
		add(s.DefaultPool)
	}
	return keys
}

// serverStates merges what agents report of servers into one list, ordered by
// server and pool: active checks by a server's own agent, ejections by
// dispatchers, loads. A server that was in the list stays in it, as unknown if
// nothing is known any more.
//
// before is the list that is replaced. It goes on to hold for a server whose
// agent has said nothing yet, or whose checks have not decided: an agent or
// controller that starts anew forgets no failure.
func serverStates(p *shuntv1.Policy, nodes []registry.Node, before []*shuntv1.ServerState) []*shuntv1.ServerState {
	pools := poolKeys(p)
	old := make(map[member]*shuntv1.ServerState, len(before))
	states := make(map[member]*shuntv1.ServerState, len(before))
	present := make(map[string]bool, len(nodes))
	for _, n := range nodes {
		present[n.Name] = n.Has(shuntv1.Role_ROLE_SERVER)
	}
	for _, s := range before {
		m := memberOf(s)
		if pools[m.pool] == nil || !present[m.server] {
			continue
		}
		old[m] = s
		if states[m] = unknown(m, 0); pools[m.pool].Check != nil {
			states[m] = decided(m, nil, s)
		}
	}
	for _, n := range nodes {
		if !n.Up || n.Report == nil || !present[n.Name] {
			continue
		}
		s := unknown(member{n.Name, ""}, n.Report.Load)
		s.Answers = n.Report.Answers
		states[member{n.Name, ""}] = s
		for _, c := range n.Report.Checks {
			if m := (member{n.Name, c.Pool}); pools[m.pool].GetCheck() != nil {
				states[m] = decided(m, c, old[m])
			}
		}
	}
	for m, x := range ejections(pools, nodes) {
		if states[m].GetHealth() != shuntv1.HealthState_HEALTH_STATE_UNHEALTHY {
			states[m] = x.state
		}
	}
	out := make([]*shuntv1.ServerState, 0, len(states))
	for _, s := range states {
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b *shuntv1.ServerState) int {
		return cmp.Or(registry.CompareNames(a.Server, b.Server), registry.CompareNames(a.Pool, b.Pool))
	})
	return out
}

func unknown(m member, load uint32) *shuntv1.ServerState {
	return &shuntv1.ServerState{Server: m.server, Pool: m.pool, Health: shuntv1.HealthState_HEALTH_STATE_UNKNOWN, Load: load}
}

// decided is the state by active checks: the latest report, or what was known
// before if there is none or it has not decided.
func decided(m member, report, old *shuntv1.ServerState) *shuntv1.ServerState {
	switch report.GetHealth() {
	case shuntv1.HealthState_HEALTH_STATE_HEALTHY, shuntv1.HealthState_HEALTH_STATE_UNHEALTHY:
		return &shuntv1.ServerState{Server: m.server, Pool: m.pool, Health: report.Health, Reason: report.Reason, SinceUnixNano: report.SinceUnixNano}
	}
	switch old.GetHealth() {
	case shuntv1.HealthState_HEALTH_STATE_HEALTHY, shuntv1.HealthState_HEALTH_STATE_UNHEALTHY:
		return old
	}
	out := unknown(m, 0)
	out.Reason = report.GetReason() // why there is no check
	return out
}

// toldBy begins the reason of an ejection that the controller tells of. An
// agent may report what it was told; that is not another ejection, or none
// would ever end.
const toldBy = "ejected by "

// ejection is a member that dispatchers have ejected.
type ejection struct {
	state *shuntv1.ServerState
	by    []string // dispatchers
	all   int      // connected dispatchers
}

// ejections are the members that any connected dispatcher has ejected. It is
// for operators to see: each dispatcher heeds what it found out itself, so that
// one with a bad link does not decide for all.
func ejections(pools map[string]*shuntv1.Pool, nodes []registry.Node) map[member]*ejection {
	dispatchers := 0
	out := make(map[member]*ejection)
	for _, n := range nodes {
		if !n.Up || !n.Has(shuntv1.Role_ROLE_DISPATCHER) {
			continue
		}
		dispatchers++
		for _, e := range n.Report.GetEjections() {
			m := memberOf(e)
			if pools[m.pool].GetEjection() == nil || strings.HasPrefix(e.Reason, toldBy) {
				continue
			}
			x := out[m]
			if x == nil {
				x = &ejection{state: e}
				out[m] = x
			}
			if x.by = append(x.by, n.Name); e.SinceUnixNano < x.state.SinceUnixNano {
				x.state = e
			}
		}
	}
	for m, x := range out {
		x.all = dispatchers
		x.state = &shuntv1.ServerState{
			Server: m.server, Pool: m.pool, Health: shuntv1.HealthState_HEALTH_STATE_EJECTED,
			Reason:        fmt.Sprintf(toldBy+"%s (%d of %d): %s", strings.Join(x.by, ", "), len(x.by), dispatchers, x.state.Reason),
			SinceUnixNano: x.state.SinceUnixNano,
		}
	}
	return out
}

// healthOnly is the list without loads, and without what no check has decided:
// what is kept on the disk.
func healthOnly(states []*shuntv1.ServerState) (out []*shuntv1.ServerState) {
	for _, s := range states {
		switch s.Health {
		case shuntv1.HealthState_HEALTH_STATE_HEALTHY, shuntv1.HealthState_HEALTH_STATE_UNHEALTHY:
			out = append(out, &shuntv1.ServerState{Server: s.Server, Pool: s.Pool, Health: s.Health, Reason: s.Reason, SinceUnixNano: s.SinceUnixNano})
		}
	}
	return out
}

func sameStates(a, b []*shuntv1.ServerState) bool {
	return slices.EqualFunc(a, b, func(x, y *shuntv1.ServerState) bool { return proto.Equal(x, y) })
}
