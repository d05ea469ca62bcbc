package health

import (
	"slices"

	"github.com/shunt-sdn/shunt/policy"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// Check is an application that a pool wants checked.
type Check struct {
	Pool    string // without members of its own: service/pool
	Service string // that the application answers
	Address string // host:port; empty: it accepts no connections of its own
	// Spec has the standard values filled in.
	Spec policy.HealthCheck
}

// Checks lists what a node has to check: its applications of those services that
// lead to a pool with a check and this node in it. services are those of the
// NodeConfig, which say who may answer; applications are the node's, with the
// address of each.
func Checks(node string, p policy.Model, services []*shuntv1.Service, applications map[string]string) (checks []Check) {
	servers := make(map[string][]string)
	for _, s := range services {
		servers[s.GetName()] = s.GetServers()
	}
	pools := make(map[string]policy.Pool)
	for _, pool := range p.Pools {
		pools[pool.Name] = pool
	}
	for _, s := range p.Services {
		address, runs := applications[s.Name]
		if !runs {
			continue
		}
		for _, name := range poolsOf(s, pools) {
			pool := pools[name]
			in := len(pool.Members) == 0 && slices.Contains(servers[s.Name], node) ||
				slices.ContainsFunc(pool.Members, func(m policy.Member) bool { return m.Server == node })
			if in && pool.Check != nil {
				if len(pool.Members) == 0 {
					name = s.Name + "/" + name
				}
				checks = append(checks, Check{Pool: name, Service: s.Name, Address: address, Spec: pool.Check.Or()})
			}
		}
	}
	return checks
}

// poolsOf lists the pools that requests to a service can get to, backups included.
func poolsOf(s policy.Service, pools map[string]policy.Pool) (names []string) {
	add := func(name string) {
		for name != "" && !slices.Contains(names, name) {
			names = append(names, name)
			name = pools[name].Backup
		}
	}
	for _, r := range s.Routes {
		add(r.Pool)
		for _, w := range r.Pools {
			add(w.Pool)
		}
	}
	add(s.DefaultPool)
	return names
}
