package routing

import (
	"maps"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/shunt-sdn/shunt/policy"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

const images = `
services:
- name: web
  routes:
  - {name: images, match: {paths: [{prefix: /images/}]}, pool: static}
pools:
- {name: static, members: [{server: server2}]}
`

func (x table) expect(n int, target string, want map[string]int) {
	x.t.Helper()
	if got := x.servers(n, target); !maps.Equal(got, want) {
		x.t.Errorf("%s: %v, want %v", target, got, want)
	}
}

func (x table) versionIs(version uint64, problem string) {
	x.t.Helper()
	if v, p := x.Version(); v != version || (p == "") != (problem == "") || !strings.Contains(p, problem) {
		x.t.Errorf("version %d, problem %q; want %d, %q", v, p, version, problem)
	}
}

func TestWithoutAPolicyServersHaveTheirTurns(t *testing.T) {
	x := newTable(t)
	x.apply(all, nil)
	x.expect(9, "/", map[string]int{"server1": 3, "server2": 3, "server3": 3})
	x.versionIs(0, "")
	if x.PerRequest("web") || x.PerRequest("none") {
		t.Error("no request needs to be looked at, and yet")
	}
	if _, ok := x.Route("none", new(policy.Request)); ok {
		t.Error("a service that does not exist has a route")
	}
	x.apply(nil, nil)
	if _, ok := x.Route("web", new(policy.Request)); ok {
		t.Error("a service that is gone has a route")
	}
}

func TestSnapshotsAndChangesOfThem(t *testing.T) {
	x := newTable(t)
	x.apply(all, whole(t, 4, images))
	x.versionIs(4, "")
	x.expect(4, "/images/a", map[string]int{"server2": 4})
	x.expect(3, "/a", map[string]int{"server1": 1, "server2": 1, "server3": 1})
	if !x.PerRequest("web") {
		t.Error("requests of one connection go to different servers")
	}

	change := &shuntv1.PolicySnapshot{Version: 5, BaseVersion: 4, Policy: parsed(t, "pools: [{name: static, members: [{server: server3}]}, {name: more}]")}
	x.apply(all, change)
	x.versionIs(5, "")
	x.expect(4, "/images/a", map[string]int{"server3": 4})

	// What it says of states alone.
	x.apply(all, &shuntv1.PolicySnapshot{Version: 5, BaseVersion: 5})
	x.versionIs(5, "")
	x.expect(4, "/images/a", map[string]int{"server3": 4})

	err := x.Apply(all, &shuntv1.PolicySnapshot{Version: 9, BaseVersion: 7, Policy: parsed(t, "pools: [{name: static, members: [{server: server1}]}]")})
	if err == nil || !strings.Contains(err.Error(), "send all of it") {
		t.Errorf("a change of another version: %v", err)
	}
	x.versionIs(5, "policy 9 is a change of policy 7, and this agent has policy 5")
	x.expect(4, "/images/a", map[string]int{"server3": 4})

	x.apply(all, &shuntv1.PolicySnapshot{Version: 10, BaseVersion: 5, Removed: []*shuntv1.ResourceRef{
		{Kind: shuntv1.ResourceKind_RESOURCE_KIND_SERVICE, Name: "web"}, {Kind: shuntv1.ResourceKind_RESOURCE_KIND_POOL, Name: "static"}}})
	x.versionIs(10, "")
	x.expect(3, "/images/a", map[string]int{"server1": 1, "server2": 1, "server3": 1})
	if got := x.Model().Pools; len(got) != 1 || got[0].Name != "more" {
		t.Errorf("pools %v", got)
	}
	x.apply(all, whole(t, 11, images)) // whole: nothing of before stays
	if got := x.Model().Pools; len(got) != 1 || got[0].Name != "static" {
		t.Errorf("pools %v", got)
	}
}

func TestAWrongPolicyChangesNothingButTheServicesAre(t *testing.T) {
	x := newTable(t)
	x.apply(web("server1", "server2"), whole(t, 4, images))
	wrong := whole(t, 5, "pools: [{name: static, members: [{server: server1}]}]")
	wrong.Policy.Pools = append(wrong.Policy.Pools, &shuntv1.Pool{Name: "a", Backup: "nowhere"}, &shuntv1.Pool{Name: "b", Backup: "nowhere"})
	err := x.Apply(all, wrong)
	if err == nil || !strings.Contains(err.Error(), "apply policy 5") || strings.Count(err.Error(), "nowhere") != 2 {
		t.Errorf("want every mistake, got %v", err)
	}
	x.versionIs(4, "nowhere")
	var r shuntv1.Report
	if x.Report(&r); r.PolicyVersion != 4 || !strings.Contains(r.PolicyError, "nowhere") {
		t.Errorf("reported: %v", &r)
	}
	x.expect(2, "/images/a", map[string]int{"server2": 2})
	x.expect(3, "/", map[string]int{"server1": 1, "server2": 1, "server3": 1}) // server3 has come
	x.apply(all, whole(t, 6, images))
	x.versionIs(6, "")
}

func TestServersThatAreDownAreNotChosen(t *testing.T) {
	x := newTable(t)
	x.apply(all, nil)
	down := []Service{{Name: "web", Servers: []Server{{Node: "server1"}, {Node: "server2", Up: true}, {Node: "server3", Up: true}}}}
	x.apply(down, nil)
	x.expect(4, "/", map[string]int{"server2": 2, "server3": 2})
	// A server that takes the sessions of one service is not down for it because
	// another application is, in whatever order they come.
	other := Service{Name: "api", Servers: []Server{{Node: "server2"}}}
	x.apply([]Service{other, down[0]}, nil)
	x.apply([]Service{down[0], other}, nil)
	x.expect(4, "/", map[string]int{"server2": 2, "server3": 2})
}

func TestWhatTheControllerSaysOfServers(t *testing.T) {
	x := newTable(t)
	state := func(health shuntv1.HealthState) *shuntv1.PolicySnapshot {
		s := whole(t, 4, "services: [{name: web, defaultPool: app}]\npools: [{name: app, ejection: {}, check: {tcp: {}}}]")
		s.States = []*shuntv1.ServerState{{Server: "server1", Pool: "web/app", Health: health, Reason: "why"}, {Server: "server2", Load: 42}}
		return s
	}
	x.apply(all, state(shuntv1.HealthState_HEALTH_STATE_UNHEALTHY))
	x.expect(4, "/", map[string]int{"server2": 2, "server3": 2})
	if n := x.State().Load("server2"); n != 42+2 {
		t.Errorf("load %d, want the reported one and two requests", n)
	}
	// An ejection is each dispatcher's own affair; that the controller shows it
	// means that checks do not object any more.
	x.apply(all, state(shuntv1.HealthState_HEALTH_STATE_EJECTED))
	if got := x.servers(6, "/"); got["server1"] == 0 {
		t.Errorf("it follows another's ejection: %v", got)
	}
	x.apply(all, state(shuntv1.HealthState_HEALTH_STATE_HEALTHY))
	if got := x.servers(6, "/"); got["server1"] != 2 {
		t.Errorf("after the check succeeded: %v", got)
	}
}

func TestEjectionsThatThisNodeMakesAreReported(t *testing.T) {
	x := newTable(t)
	x.apply(all, whole(t, 4, "services: [{name: web, defaultPool: app}]\npools: [{name: app, ejection: {failures: 2}}]"))
	for range 2 {
		rule, c, _ := x.choose("/")
		c.Server = "server3"
		rule.Observe(c, "no room")
	}
	x.expect(4, "/", map[string]int{"server1": 2, "server2": 2})
	var r shuntv1.Report
	x.Report(&r)
	if len(r.Ejections) != 1 || r.Ejections[0].Server != "server3" || r.Ejections[0].Pool != "web/app" ||
		r.Ejections[0].Health != shuntv1.HealthState_HEALTH_STATE_EJECTED || !strings.Contains(r.Ejections[0].Reason, "no room") || r.Ejections[0].SinceUnixNano == 0 {
		t.Errorf("ejections %v", r.Ejections)
	}
	// A change of the policy forgets no ejection.
	x.apply(all, whole(t, 5, "services: [{name: web, defaultPool: app}]\npools: [{name: app, algorithm: random, ejection: {failures: 2}}]"))
	if got := x.servers(20, "/"); got["server3"] != 0 {
		t.Errorf("after a change: %v", got)
	}
}

func TestDrains(t *testing.T) {
	x := newTable(t)
	x.apply(all, whole(t, 4, "servers: [{name: server2, drain: true}, {name: server3, weightPercent: 50}]"))
	x.expect(4, "/", map[string]int{"server1": 2, "server3": 2})
	if !x.Drains("server2") || x.Drains("server3") || x.Drains("server1") {
		t.Error("who drains is wrong")
	}
}

func TestCountsAreReported(t *testing.T) {
	x := newTable(t)
	x.apply(all, nil)
	for _, o := range []Outcome{HandedOff, Proxied, Rejected, HandedOff} {
		x.Count("web", "images", o)
	}
	x.Count("web", "", Rejected)
	x.Count("api", "images", HandedOff)
	x.CountServer("server2", false)
	x.CountServer("server1", true)
	x.CountServer("server1", false)
	var got shuntv1.Report
	x.Report(&got)
	want := &shuntv1.Report{
		Routes: []*shuntv1.RouteCount{
			{Service: "api", Route: "images", Requests: 1},
			{Service: "web", Requests: 1, Rejected: 1},
			{Service: "web", Route: "images", Requests: 4, Rejected: 1, Proxied: 1},
		},
		Servers: []*shuntv1.ServerCount{{Server: "server1", Requests: 2, Failures: 1}, {Server: "server2", Requests: 1}},
	}
	if diff := cmp.Diff(want, &got, protocmp.Transform()); diff != "" {
		t.Error(diff)
	}
	x.Count("web", "", HandedOff) // what was reported stays as it was
	if got.Routes[1].Requests != 1 {
		t.Error("a report changes later")
	}
}
