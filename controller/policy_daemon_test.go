package controller

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/shunt-sdn/shunt/internal/policyyaml"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

func (d *daemon) policies() shuntv1.PolicyServiceClient {
	return shuntv1.NewPolicyServiceClient(d.conn)
}

func policyOf(t *testing.T, text string) *shuntv1.Policy {
	t.Helper()
	d, err := policyyaml.Read(policyyaml.Source{Name: "p.yaml", Data: []byte(text)})
	if err != nil {
		t.Fatal(err)
	}
	return d.Policy
}

// apply applies YAML.
func (d *daemon) apply(t *testing.T, text string) *shuntv1.ApplyResponse {
	t.Helper()
	r, err := d.policies().Apply(t.Context(), &shuntv1.ApplyRequest{Policy: policyOf(t, text)}, grpc.WaitForReady(true))
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// report sends an agent's report.
func (p *peer) report(r *shuntv1.Report) {
	r.Applications = helloOf(p.name, 0).Applications
	p.send(&shuntv1.AttachRequest{Message: &shuntv1.AttachRequest_Report{Report: r}})
}

// has waits until the peer's snapshot has a revision.
func (p *peer) has(t *testing.T, revision uint64) *shuntv1.PolicySnapshot {
	t.Helper()
	eventually(t, fmt.Sprintf("%s has revision %d", p.name, revision), func() bool { return p.latest().GetPolicy().GetVersion() == revision })
	return p.latest().Policy
}

// state waits until the peer is told a state, as "server/pool HEALTH reason".
func (p *peer) state(t *testing.T, want string) {
	t.Helper()
	var got []string
	defer func() {
		if t.Failed() {
			t.Logf("%s was told %q", p.name, got)
		}
	}()
	eventually(t, p.name+" is told "+want, func() bool {
		got = nil
		for _, s := range p.latest().GetPolicy().GetStates() {
			got = append(got, strings.TrimSpace(fmt.Sprintf("%s/%s %s %s", s.Server, s.Pool, strings.TrimPrefix(s.Health.String(), "HEALTH_STATE_"), s.Reason)))
			if got[len(got)-1] == want {
				return true
			}
		}
		return false
	})
}

const shopPolicy = `
services:
- name: web
  routes:
  - {name: images, match: {paths: [{prefix: /images/}]}, pool: static}
  defaultPool: app
pools:
- {name: static, algorithm: maglev, hash: {on: [{path: true}]}}
- name: app
  check: {http: {path: /health}}
  ejection: {failures: 3}
`

func TestAPolicyReachesEveryAgentWithinASecondAndSurvivesARestart(t *testing.T) {
	cfg := testConfig(t)
	d := start(t, cfg)
	peers := []*peer{d.join(t, "dispatcher1"), d.join(t, "dispatcher2"), d.join(t, "server1")}
	for _, p := range peers {
		if s := p.latest().Policy; s == nil || s.Version != 0 || len(s.Policy.GetServices()) != 0 {
			t.Errorf("%s begins with policy %v", p.name, s)
		}
	}
	began := time.Now()
	r := d.apply(t, shopPolicy)
	for _, p := range peers {
		s := p.has(t, r.Revision)
		if len(s.Policy.Services) != 1 || len(s.Policy.Pools) != 2 || s.Policy.Services[0].Version != r.Revision {
			t.Errorf("%s has %v", p.name, s)
		}
	}
	if took := time.Since(began); took > time.Second {
		t.Errorf("agents had it after %v", took)
	}
	d.stop()

	d = start(t, cfg)
	again := d.join(t, "dispatcher1").has(t, r.Revision)
	if len(again.Policy.Pools) != 2 {
		t.Errorf("after a restart: %v", again)
	}
}

func TestAWrongPolicyIsRefusedWholeAndChangesNothing(t *testing.T) {
	d := start(t, testConfig(t))
	p := d.join(t, "dispatcher1")
	first := d.apply(t, shopPolicy)
	p.has(t, first.Revision)
	for _, c := range []struct{ name, yaml, want string }{
		{"reference", "services: [{name: web, defaultPool: app, routes: [{name: r, pool: statik}]}]\npools: [{name: new}]", "services[0].routes[0].pool"},
		{"no such service", "services: [{name: wep, defaultPool: app}]", `did you mean "web"`},
		{"configured vips", "services: [{name: web, vips: [10.10.0.99], port: 80, defaultPool: app}]", "services[0].vips: service web has its vips from the controller's configuration"},
		{"vip taken", "services: [{name: api, vips: [10.10.0.80], port: 80}]", "services[0].vips[0]: 10.10.0.80:80 is service web's"},
		{"vip in pool", "services: [{name: api, vips: [172.31.0.9], port: 80}]", "lies in the session addresses' pool"},
		{"vip is the gateway's", "services: [{name: api, vips: [10.10.2.1], port: 80}]", "is the address of the switch's interface nodes"},
		{"breaks what is stored", "pools: [{name: app, backup: nowhere}]", "pools[0].backup"},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, err := d.policies().Apply(t.Context(), &shuntv1.ApplyRequest{Policy: policyOf(t, c.yaml)})
			if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), c.want) || len(status.Convert(err).Details()) != 1 {
				t.Errorf("got %v (details %v), want %q", err, status.Convert(err).Details(), c.want)
			}
		})
	}
	now, err := d.policies().GetPolicy(t.Context(), &shuntv1.GetPolicyRequest{})
	if err != nil || now.Revision != first.Revision || len(now.Policy.Pools) != 2 {
		t.Errorf("now %v, %v", now, err)
	}
	if s := p.latest().Policy; s.Version != first.Revision {
		t.Errorf("the agent has revision %d", s.Version)
	}
}

func TestAServiceMadeAtRunTimeGetsLeasesAndATopologyAndLosesThem(t *testing.T) {
	cfg := testConfig(t)
	d := start(t, cfg)
	p := d.join(t, "dispatcher1")
	d.join(t, "server1")
	const yaml = "services: [{name: api, vips: [10.10.0.81, 'fd10::81'], port: 8080, servers: [server1], limits: {headTimeout: 3s}}]"
	d.apply(t, yaml)
	find := func(c *shuntv1.NodeConfig) *shuntv1.Service {
		for _, s := range c.GetServices() {
			if s.Name == "api" {
				return s
			}
		}
		return nil
	}
	eventually(t, "leases of the new service", func() bool { return len(find(p.latest()).GetLeases()) == 2 })
	if s := find(p.latest()); s.HeadTimeoutMs != 3000 || len(s.Vips) != 2 || len(s.Servers) != 1 || s.Servers[0] != "server1" {
		t.Errorf("service %v", s)
	}
	before := find(p.latest()).Leases[0].Local.String()
	inTopology := func() (found bool) {
		for _, s := range d.sw.topology().Services {
			found = found || s.Name == "api" && len(s.Homes) == 2 && s.Port == 8080
		}
		return found
	}
	eventually(t, "the switches know it", inTopology)
	d.stop()

	d = start(t, cfg)
	p = d.join(t, "dispatcher1")
	if s := find(p.latest()); len(s.GetLeases()) != 2 || s.Leases[0].Local.String() != before {
		t.Errorf("after a restart: %v, before %s", s, before)
	}
	if _, err := d.policies().Delete(t.Context(), &shuntv1.DeleteRequest{Resources: []*shuntv1.ResourceRef{{Kind: shuntv1.ResourceKind_RESOURCE_KIND_SERVICE, Name: "api"}}}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "it is gone", func() bool { return find(p.latest()) == nil && !inTopology() })
}

func TestHealthIsMergedAndToldToEveryAgentAtOnce(t *testing.T) {
	cfg := testConfig(t)
	d := start(t, cfg)
	d1, s1 := d.join(t, "dispatcher1"), d.join(t, "server1")
	s1.has(t, d.apply(t, shopPolicy).Revision)
	check := func(h shuntv1.HealthState, reason string) *shuntv1.Report {
		return &shuntv1.Report{Checks: []*shuntv1.ServerState{{Pool: "web/app", Health: h, Reason: reason}, {Pool: "none", Health: h}}}
	}
	s1.report(check(shuntv1.HealthState_HEALTH_STATE_UNHEALTHY, "3 checks failed"))
	d1.state(t, "server1/web/app UNHEALTHY 3 checks failed")
	// What is not decided yet does not undo what was.
	s1.report(check(shuntv1.HealthState_HEALTH_STATE_UNKNOWN, ""))
	d1.state(t, "server1/web/app UNHEALTHY 3 checks failed")
	s1.cancel()
	d.stop()

	// A controller that starts again remembers.
	d = start(t, cfg)
	d1, d2, d3 := d.join(t, "dispatcher1"), d.join(t, "dispatcher2"), d.join(t, "dispatcher3")
	d1.state(t, "server1/web/app UNHEALTHY 3 checks failed")
	s1 = d.join(t, "server1")
	s1.report(check(shuntv1.HealthState_HEALTH_STATE_HEALTHY, "2 checks succeeded"))
	d1.state(t, "server1/web/app HEALTHY 2 checks succeeded")

	eject := func(why string) *shuntv1.Report {
		return &shuntv1.Report{Ejections: []*shuntv1.ServerState{{Server: "server1", Pool: "web/app", Health: shuntv1.HealthState_HEALTH_STATE_EJECTED, Reason: why, SinceUnixNano: 1}}}
	}
	d2.report(eject("5 imports failed"))
	d1.state(t, "server1/web/app EJECTED ejected by dispatcher2 (1 of 3): 5 imports failed")
	d3.report(eject("5 imports failed"))
	d1.state(t, "server1/web/app EJECTED ejected by dispatcher2, dispatcher3 (2 of 3): 5 imports failed")
	// What an agent repeats is no ejection.
	d3.report(eject("ejected by dispatcher2, dispatcher3 (2 of 3): 5 imports failed"))
	d1.state(t, "server1/web/app EJECTED ejected by dispatcher2 (1 of 3): 5 imports failed")
	d2.report(&shuntv1.Report{})
	d1.state(t, "server1/web/app HEALTHY 2 checks succeeded")

	s1.report(&shuntv1.Report{Load: 7, Checks: check(shuntv1.HealthState_HEALTH_STATE_HEALTHY, "2 checks succeeded").Checks})
	eventually(t, "the load", func() bool {
		for _, s := range d1.latest().Policy.States {
			if s.Server == "server1" && s.Pool == "" && s.Load == 7 {
				return true
			}
		}
		return false
	})
}

func TestADrainEndsByItself(t *testing.T) {
	d := start(t, testConfig(t))
	d1, s1 := d.join(t, "dispatcher1"), d.join(t, "server1")
	local := d1.lease(t, "dispatcher1", false)
	client := "10.10.1.2:4000"
	s1.hold(heldAt(client, local, shuntv1.Path_PATH_SWITCHED, ""))
	stream, err := d.policies().Drain(t.Context(), &shuntv1.DrainRequest{Server: "server1"}, grpc.WaitForReady(true))
	if err != nil {
		t.Fatal(err)
	}
	next := func() *shuntv1.DrainResponse {
		t.Helper()
		r, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	if r := next(); r.Sessions != 1 || r.Done {
		t.Errorf("at first %v", r)
	}
	eventually(t, "the agents are told", func() bool {
		servers := d1.latest().GetPolicy().GetPolicy().GetServers()
		return len(servers) == 1 && servers[0].Drain
	})
	s1.hold()
	if r := next(); r.Sessions != 0 || r.Done {
		t.Errorf("while a dispatcher has not heard of it: %v", r)
	}
	d1.report(&shuntv1.Report{PolicyVersion: d1.latest().Policy.Version})
	if r := next(); !r.Done {
		t.Errorf("in the end %v", r)
	}
	top, err := d.policies().GetTop(t.Context(), &shuntv1.GetTopRequest{})
	if err != nil || len(top.Servers) != 1 || !top.Servers[0].Drain || top.Servers[0].Sessions != 0 {
		t.Errorf("top %v, %v", top, err)
	}

	// The end of a drain ends those who wait for it, and leaves no trace.
	s1.hold(heldAt(client, local, shuntv1.Path_PATH_SWITCHED, ""))
	stream, err = d.policies().Drain(t.Context(), &shuntv1.DrainRequest{Server: "server1"})
	if err != nil {
		t.Fatal(err)
	}
	next()
	undo, err := d.policies().Drain(t.Context(), &shuntv1.DrainRequest{Server: "server1", Undo: true})
	if err != nil {
		t.Fatal(err)
	}
	if r, err := undo.Recv(); err != nil || !r.Done {
		t.Errorf("undrain: %v, %v", r, err)
	}
	if _, err := stream.Recv(); status.Code(err) != codes.Aborted {
		t.Errorf("the one that waits: %v", err)
	}
	if p, _ := d.policies().GetPolicy(t.Context(), &shuntv1.GetPolicyRequest{}); len(p.GetPolicy().GetServers()) != 0 {
		t.Errorf("left behind: %v", p)
	}
	for name, want := range map[string]codes.Code{"server9": codes.NotFound, "dispatcher1": codes.NotFound} {
		s, err := d.policies().Drain(t.Context(), &shuntv1.DrainRequest{Server: name})
		if err == nil {
			_, err = s.Recv()
		}
		if status.Code(err) != want {
			t.Errorf("drain %s: %v", name, err)
		}
	}
}

func TestWatchersGetWhatIsThereAndThenWhatChanges(t *testing.T) {
	d := start(t, testConfig(t))
	d.apply(t, shopPolicy)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	w, err := d.policies().Watch(ctx, &shuntv1.WatchRequest{})
	if err != nil {
		t.Fatal(err)
	}
	next := func() string {
		t.Helper()
		m, err := w.Recv()
		if err != nil {
			t.Fatal(err)
		}
		var words []string
		for _, s := range m.Changed.GetServices() {
			words = append(words, s.Name)
		}
		for _, p := range m.Changed.GetPools() {
			words = append(words, p.Name)
		}
		for _, r := range m.Removed {
			words = append(words, "-"+r.Name)
		}
		return strings.Join(words, " ")
	}
	if got := next(); got != "web app static" {
		t.Errorf("at first %s", got)
	}
	d.apply(t, "pools: [{name: app, panicPercent: 30}]")
	if got := next(); got != "app" {
		t.Errorf("after a change %s", got)
	}
	if _, err := d.policies().Apply(ctx, &shuntv1.ApplyRequest{Policy: policyOf(t, "services: [{name: web, defaultPool: app}]\npools: [{name: app}]"), Prune: true}); err != nil {
		t.Fatal(err)
	}
	if got := next(); got != "web app -static" {
		t.Errorf("after pruning %s", got)
	}
}

func TestTopTellsRatesOfTheLastSecondsAndLatencies(t *testing.T) {
	d := start(t, testConfig(t))
	d1, _ := d.join(t, "dispatcher1"), d.join(t, "server1")
	n := uint64(0)
	count := func() {
		n += 100
		d1.report(&shuntv1.Report{
			Servers: []*shuntv1.ServerCount{{Server: "server1", Requests: n, Failures: n / 10}},
			Routes:  []*shuntv1.RouteCount{{Service: "web", Route: "images", Requests: n, Proxied: n / 2}},
		})
	}
	count()
	for i := range 100 {
		local := d1.lease(t, "dispatcher1", false)
		h := &shuntv1.Handoff{Id: fmt.Sprint(i), Service: "web", FromNode: "dispatcher1", ToNode: "server1", Outcome: shuntv1.Outcome_OUTCOME_COMPLETED,
			StartedUnixNano: time.Now().UnixNano(), TotalUs: uint32(i + 1), Session: heldAt("10.10.1.2:4000", local, 0, "").Session}
		d1.send(&shuntv1.AttachRequest{Message: &shuntv1.AttachRequest_Handoff{Handoff: h}})
	}
	var top *shuntv1.GetTopResponse
	eventually(t, "figures", func() bool {
		count()
		var err error
		if top, err = d.policies().GetTop(t.Context(), &shuntv1.GetTopRequest{Service: "web"}); err != nil {
			t.Fatal(err)
		}
		return len(top.Servers) == 1 && top.Servers[0].RequestsPerSecond > 0 && len(top.Routes) == 1 && top.Servers[0].HandoffP99Us == 99
	})
	s, r := top.Servers[0], top.Routes[0]
	if s.HandoffP50Us != 50 || !s.Up || !s.Ready || r.Route != "images" || r.RejectedPerSecond != 0 {
		t.Errorf("top %v", top)
	}
	if q := s.FailuresPerSecond / s.RequestsPerSecond; q < 0.099 || q > 0.101 || r.ProxiedPerSecond/r.RequestsPerSecond < 0.49 {
		t.Errorf("rates %v", top)
	}
	if _, err := d.policies().GetTop(t.Context(), &shuntv1.GetTopRequest{Service: "none"}); status.Code(err) != codes.NotFound {
		t.Errorf("an unknown service: %v", err)
	}
}

func TestExplanationsAreOfTheEngineAndTheStatesOfServers(t *testing.T) {
	d := start(t, testConfig(t))
	d1 := d.join(t, "dispatcher1")
	s1, s2 := d.join(t, "server1"), d.join(t, "server2")
	d1.has(t, d.apply(t, shopPolicy).Revision)
	explain := func(r *shuntv1.ExplainRequest) *shuntv1.ExplainResponse {
		t.Helper()
		x, err := d.policies().Explain(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	for _, u := range []string{"http://10.10.0.80/images/a.png", "http://[fd10::80]/images/a.png", "http://web/images/a.png", "/images/a.png", "http://shop.example/images/a.png?x=1"} {
		x := explain(&shuntv1.ExplainRequest{Url: u})
		if x.Service != "web" || x.Route != "images" || x.Pool != "static" || x.Server == "" || x.Mode != shuntv1.DispatchMode_DISPATCH_MODE_MIGRATE || len(x.Steps) < 2 {
			t.Errorf("%s: %v", u, x)
		}
	}
	unhealthy := []*shuntv1.ServerState{{Pool: "web/app", Health: shuntv1.HealthState_HEALTH_STATE_UNHEALTHY, Reason: "3 checks failed"}}
	s1.report(&shuntv1.Report{Checks: unhealthy})
	d1.state(t, "server1/web/app UNHEALTHY 3 checks failed")
	for range 10 {
		if x := explain(&shuntv1.ExplainRequest{Url: "/cart", Method: "POST", Client: "192.0.2.7"}); x.Server != "server2" || x.Route != "" || x.Pool != "app" {
			t.Fatalf("with server1 unhealthy: %v", x)
		}
	}
	s2.cancel()
	eventually(t, "server2 is down", func() bool { return explain(&shuntv1.ExplainRequest{Url: "/cart"}).Status == 503 })
	if text := fmt.Sprint(explain(&shuntv1.ExplainRequest{Url: "/cart"}).Steps); !strings.Contains(text, "3 checks failed") || !strings.Contains(text, "its agent is not connected") {
		t.Errorf("reasons: %s", text)
	}
	for _, c := range []struct {
		r    *shuntv1.ExplainRequest
		code codes.Code
		want string
	}{
		{&shuntv1.ExplainRequest{Url: "ftp://x/"}, codes.InvalidArgument, "url: "},
		{&shuntv1.ExplainRequest{Url: ""}, codes.InvalidArgument, "url: "},
		{&shuntv1.ExplainRequest{Url: "cart"}, codes.InvalidArgument, "url: "},
		{&shuntv1.ExplainRequest{Url: "/", Client: "me"}, codes.InvalidArgument, "client: "},
		{&shuntv1.ExplainRequest{Url: "/", Service: "wep"}, codes.NotFound, "wep"},
	} {
		if _, err := d.policies().Explain(t.Context(), c.r); status.Code(err) != c.code || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v", c.r, err)
		}
	}
	d.apply(t, "services: [{name: api, vips: [10.10.0.81], port: 8080, routes: [{name: no, reject: {status: 403}}]}]")
	eventually(t, "another service", func() bool {
		_, err := d.policies().Explain(t.Context(), &shuntv1.ExplainRequest{Url: "/"})
		return err != nil
	})
	if x := explain(&shuntv1.ExplainRequest{Url: "http://10.10.0.81:8080/"}); x.Service != "api" || x.Status != 403 {
		t.Errorf("the other service: %v", x)
	}
}

func TestAnAgentThatCannotApplyADeltaGetsTheWholePolicyAndIsShown(t *testing.T) {
	d := start(t, testConfig(t))
	p := d.join(t, "dispatcher1")
	first := d.apply(t, shopPolicy).Revision
	p.has(t, first)
	second := d.apply(t, "pools: [{name: app, panicPercent: 30}]").Revision
	p.has(t, second)
	p.mu.Lock()
	n := p.configs
	p.mu.Unlock()
	p.report(&shuntv1.Report{PolicyVersion: first, PolicyError: "send all of it"})
	p.report(&shuntv1.Report{PolicyVersion: first, PolicyError: "send all of it"}) // again: it is sent once
	eventually(t, "another configuration", func() bool { p.mu.Lock(); defer p.mu.Unlock(); return p.configs == n+1 })
	if s := p.has(t, second); len(s.Policy.Pools) != 2 {
		t.Errorf("it has %v", s)
	}
	eventually(t, "operators see it", func() bool {
		nodes, err := d.operator().ListNodes(t.Context(), &shuntv1.ListNodesRequest{})
		return err == nil && nodes.Nodes[0].Report.GetPolicyVersion() == first && nodes.Nodes[0].Report.GetPolicyError() != ""
	})
}
