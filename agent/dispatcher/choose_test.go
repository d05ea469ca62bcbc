package dispatcher

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"

	"github.com/shunt-sdn/shunt/agent/routing"
	"github.com/shunt-sdn/shunt/internal/policyyaml"
	"github.com/shunt-sdn/shunt/internal/testnet"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// by has the bed's service dispatched by a policy, with states of servers that
// the controller knows.
func (b *bed) by(yaml string, states ...*shuntv1.ServerState) {
	b.t.Helper()
	d, err := policyyaml.Read(policyyaml.Source{Name: "p.yaml", Data: []byte(yaml)})
	if err != nil {
		b.t.Fatal(err)
	}
	s := routing.Service{Name: "web"}
	for _, srv := range b.service.Servers {
		s.Servers = append(s.Servers, routing.Server{Node: srv.Node, Up: srv.Up && srv.Ready})
	}
	if err := b.o.Policy.Apply([]routing.Service{s}, &shuntv1.PolicySnapshot{Version: 1, Policy: d.Policy, States: states}); err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { b.o.Policy.Close() })
}

// ask sends a request on a connection of its own and returns "STATUS BODY".
func (b *bed) ask(text string) string {
	b.t.Helper()
	c := b.dial()
	defer c.Close()
	c.say(text)
	status, body := c.response()
	return strings.TrimSpace(fmt.Sprint(status, " ", body))
}

// turns sends n requests and counts the answers.
func (b *bed) turns(n int) string {
	b.t.Helper()
	m := make(map[string]int)
	for range n {
		m[b.ask(request)]++
	}
	return fmt.Sprint(m)
}

const nobody = "503 no server of web can take the request now"

// No link to any server is up, so the proxy serves: also where it is the last
// resort it goes by the policy.
func TestTheProxyGoesWhereThePolicySays(t *testing.T) {
	state := func(server string, h shuntv1.HealthState) *shuntv1.ServerState {
		return &shuntv1.ServerState{Server: server, Pool: "web/app", Health: h}
	}
	const app = "services: [{name: web, defaultPool: app}]\npools: [{name: app, check: {tcp: {}}%s}]\n"
	unhealthy := shuntv1.HealthState_HEALTH_STATE_UNHEALTHY
	gone := application(t, "server2")
	gone.Up, gone.Ready = false, false
	one, two := application(t, "server1"), application(t, "server2")
	for _, c := range []struct {
		name    string
		servers []Server
		yaml    string
		states  []*shuntv1.ServerState
		want    string // of four requests
	}{
		{"by weight", []Server{one, two}, "services: [{name: web, defaultPool: app}]\npools: [{name: app, algorithm: weighted_round_robin, members: [{server: server1, weight: 3}, {server: server2}]}]", nil, "map[200 server1 /a:3 200 server2 /a:1]"},
		{"a pool of one", []Server{one, two}, "services: [{name: web, defaultPool: app}]\npools: [{name: app, members: [{server: server2}]}]", nil, "map[200 server2 /a:4]"},
		{"not to one that drains", []Server{one, two}, "servers: [{name: server2, drain: true}]", nil, "map[200 server1 /a:4]"},
		{"not even if all drain", []Server{one, two}, "servers: [{name: server1, drain: true}, {name: server2, drain: true}]", nil, "map[" + nobody + ":4]"},
		{"nor if the other is gone", []Server{one, gone}, "servers: [{name: server1, drain: true}]", nil, "map[200 server2 /a:4]"},
		{"nor if it is gone itself", []Server{gone}, "servers: [{name: server2, drain: true}]", nil, "map[" + nobody + ":4]"},
		{"not to one that fails its checks", []Server{one, two}, fmt.Sprintf(app, ""), []*shuntv1.ServerState{state("server1", unhealthy)}, "map[200 server2 /a:4]"},
		{"not to any that does", []Server{one, two}, fmt.Sprintf(app, ""), []*shuntv1.ServerState{state("server1", unhealthy), state("server2", unhealthy)}, "map[" + nobody + ":4]"},
		{"in a panic to all", []Server{one, two}, fmt.Sprintf(app, ", panicPercent: 50"), []*shuntv1.ServerState{state("server1", unhealthy), state("server2", unhealthy)}, "map[200 server1 /a:2 200 server2 /a:2]"},
		{"not to one with too much to do", []Server{one, two}, "servers: [{name: server1, maxLoad: 7}]", []*shuntv1.ServerState{{Server: "server1", Load: 7}}, "map[200 server2 /a:4]"},
		{"to the backup", []Server{one, two}, "services: [{name: web, defaultPool: app}]\npools: [{name: app, members: [{server: server9}], backup: more}, {name: more, members: [{server: server2}]}]", nil, "map[200 server2 /a:4]"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBed(t, Service{Servers: c.servers}, nil)
			b.by(c.yaml, c.states...)
			if got := b.turns(4); got != c.want {
				t.Errorf("got  %s\nwant %s", got, c.want)
			}
		})
	}
}

func TestRejectsAndLimits(t *testing.T) {
	b := newBed(t, Service{Servers: []Server{application(t, "server1")}}, nil)
	b.by(`
services:
- name: web
  routes:
  - {name: no, match: {paths: [{exact: /no}]}, reject: {status: 403, reason: not for you}}
  - {name: small, match: {methods: [POST]}, pool: app, limits: {maxBodyBytes: 3}}
  - {name: few, match: {paths: [{exact: /few}]}, pool: app, limits: {requestsPerSecond: 1, burst: 2}}
pools: [{name: app}]
`)
	get := func(path string) string { return "GET " + path + " HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n" }
	for _, c := range []struct{ text, want string }{
		{get("/no"), "403 not for you"},
		{get("/no?x=1"), "403 not for you"},
		{get("/yes"), "200 server1 /yes"},
		{"POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 4\r\n\r\nfour", "413 the body has more than 3 octets"},
		{get("/few"), "200 server1 /few"},
		{get("/few"), "200 server1 /few"},
		{get("/few"), "429 too many requests"},
	} {
		if got := b.ask(c.text); got != c.want {
			t.Errorf("%q: %s, want %s", c.text, got, c.want)
		}
	}
	var r shuntv1.Report
	b.o.Policy.Report(&r)
	counts := make(map[string]string)
	for _, x := range r.Routes {
		counts[x.Route] = fmt.Sprintf("%d requests, %d rejected, %d proxied", x.Requests, x.Rejected, x.Proxied)
	}
	if got, want := fmt.Sprint(counts), fmt.Sprint(map[string]string{"": "1 requests, 0 rejected, 1 proxied", "no": "2 requests, 2 rejected, 0 proxied",
		"small": "1 requests, 1 rejected, 0 proxied", "few": "3 requests, 1 rejected, 2 proxied"}); got != want {
		t.Errorf("counted %s, want %s", got, want)
	}
}

// refuser is an operator's program that rejects every request.
type refuser struct {
	shuntv1.UnimplementedExternalPolicyServiceServer
}

func (refuser) Choose(context.Context, *shuntv1.ChooseRequest) (*shuntv1.ChooseResponse, error) {
	return &shuntv1.ChooseResponse{Decision: &shuntv1.ChooseResponse_Reject{Reject: &shuntv1.Reject{Status: 451, Reason: "the program says no"}}}, nil
}

func TestAProgramsRejectionIsTheAnswer(t *testing.T) {
	testnet.NeedRoot(t) // a link is needed, so that the policy has a choice
	b := newBed(t, Service{Servers: []Server{movable(application(t, "server1"))}}, nil)
	b.targets(&target{node: "server1", answer: refuses})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer()
	shuntv1.RegisterExternalPolicyServiceServer(g, refuser{})
	served := make(chan struct{})
	go func() { defer close(served); g.Serve(l) }()
	t.Cleanup(func() { g.Stop(); <-served })
	b.by(fmt.Sprintf("services: [{name: web, defaultPool: app}]\npools: [{name: app, external: {address: %q, deadline: 5s}}]", l.Addr()))
	if got := b.ask(request); got != "451 the program says no" {
		t.Errorf("got %s", got)
	}
}

// A server that refuses its imports, or does not take the proxy's connections,
// is ejected, and back in after a while.
func TestAServerThatFailsIsEjectedAndReturns(t *testing.T) {
	const yaml = "services: [{name: web, defaultPool: app}]\npools: [{name: app, ejection: {failures: 2, baseTime: 1s}}]"
	check := func(t *testing.T, b *bed, tried func() int, why string) {
		t.Helper()
		for range 4 {
			if got := b.ask(request); got != "200 server2 /a" && got != "200 server1 /a" {
				t.Error(got)
			}
		}
		var r shuntv1.Report
		b.o.Policy.Report(&r)
		if len(r.Ejections) != 1 || r.Ejections[0].Server != "server1" || !strings.Contains(r.Ejections[0].Reason, why) {
			t.Fatalf("ejections %v", r.Ejections)
		}
		before := tried()
		for range 4 {
			b.ask(request)
		}
		if n := tried(); n != before {
			t.Errorf("tried %d times while it is ejected", n-before)
		}
		await(t, "it is tried again", func() bool { b.ask(request); return tried() > before })
	}
	t.Run("the proxy", func(t *testing.T) {
		b := newBed(t, Service{Servers: []Server{absent(t, "server1"), application(t, "server2")}}, nil)
		b.by(yaml)
		failures := func() int {
			var r shuntv1.Report
			b.o.Policy.Report(&r)
			for _, s := range r.Servers {
				if s.Server == "server1" {
					return int(s.Failures)
				}
			}
			return 0
		}
		check(t, b, failures, "connection refused")
	})
	t.Run("imports", func(t *testing.T) {
		testnet.NeedRoot(t)
		b := newBed(t, Service{Servers: []Server{movable(application(t, "server1")), application(t, "server2")}}, nil)
		one := &target{node: "server1", answer: refuses}
		b.targets(one)
		b.by(yaml)
		check(t, b, func() int { return len(one.received()) }, "no room")
	})
}

// A proxied server is judged by its answers where these count.
func TestAProxiedServerIsEjectedForItsAnswers(t *testing.T) {
	failing := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, "out of order", http.StatusServiceUnavailable)
	}))
	t.Cleanup(failing.Close)
	one := Server{Node: "server1", Up: true, Ready: true, Direct: netip.MustParseAddrPort(failing.Listener.Addr().String())}
	for counts, want := range map[bool]int{true: 2, false: 10} {
		b := newBed(t, Service{Servers: []Server{one, application(t, "server2")}}, nil)
		b.by(fmt.Sprintf("services: [{name: web, defaultPool: app}]\npools: [{name: app, ejection: {failures: 2, serverErrors: %v}}]", counts))
		failed := 0
		for range 20 {
			if got := b.ask(request); got == "503 out of order" {
				failed++
				// An answer counts once its client has it.
				if counts && failed == want {
					await(t, "the ejection", func() bool {
						var r shuntv1.Report
						b.o.Policy.Report(&r)
						return len(r.Ejections) > 0
					})
				}
			} else if got != "200 server2 /a" {
				t.Error(got)
			}
		}
		if failed != want {
			t.Errorf("counting answers %v: %d of 20 requests failed, want %d", counts, failed, want)
		}
	}
}

// With the controller away what it said of servers is old: a link that works is
// worth more. What operators want is not.
func TestWithoutTheControllerLinksAreBelieved(t *testing.T) {
	testnet.NeedRoot(t)
	servers := []Server{movable(application(t, "server1")), movable(application(t, "server2"))}
	for i := range servers {
		servers[i].Up, servers[i].Ready = false, false
	}
	b := newBed(t, Service{Servers: servers}, nil)
	one, two := &target{node: "server1", answer: refuses}, &target{node: "server2", answer: refuses}
	b.targets(one, two)
	b.by("servers: [{name: server2, drain: true}]")
	b.network.connected.Store(false)
	if got := b.ask(request); got != "200 server1 /a" {
		t.Errorf("got %s", got)
	}
	if n, m := len(one.received()), len(two.received()); n != 1 || m != 0 {
		t.Errorf("%d and %d hand-offs were begun, want one to the server that does not drain", n, m)
	}
}

// A route in mode proxy is proxied though it could be moved.
func TestModeProxyIsHeeded(t *testing.T) {
	testnet.NeedRoot(t)
	b := newBed(t, Service{Servers: []Server{movable(application(t, "server1"))}}, nil)
	one := &target{node: "server1", answer: refuses}
	b.targets(one)
	b.by("services: [{name: web, routes: [{name: copied, pool: app, mode: proxy}]}]\npools: [{name: app}]")
	c := b.dial()
	c.SetDeadline(time.Now().Add(deadline))
	c.r = bufio.NewReader(c)
	for range 2 {
		c.say(request)
		if status, body := c.response(); status != 200 || body != "server1 /a" {
			t.Errorf("%d %s", status, body)
		}
	}
	if n := len(one.received()); n != 0 {
		t.Errorf("%d hand-offs were begun", n)
	}
	if got := b.Counters(); got != (Counters{Proxied: 1}) {
		t.Errorf("counters %+v", got)
	}
	if n := b.o.Policy.State().Load("server1"); n != 1 {
		t.Errorf("server1's load is %d, want 1", n)
	}
	c.Close()
	await(t, "it is off its server's load", func() bool { return b.o.Policy.State().Load("server1") == 0 })
}

// A node that has fallen silent may be dead: what is offered to it is lost.
func TestASilentNodeIsChosenLast(t *testing.T) {
	testnet.NeedRoot(t)
	b := newBed(t, Service{Servers: []Server{movable(application(t, "server1")), movable(application(t, "server2"))}}, nil)
	offered := make(chan string, 100)
	says := func(node string) func(*shuntv1.Import) *shuntv1.ImportResult {
		return func(m *shuntv1.Import) *shuntv1.ImportResult {
			offered <- node
			return refuses(m)
		}
	}
	one, two := &target{node: "server1", answer: says("server1")}, &target{node: "server2", answer: says("server2")}
	b.targets(one, two)
	one.mute.Store(true)
	for end := time.Now().Add(deadline); b.peers.Link("server1").Fresh(); {
		if time.Now().After(end) {
			t.Fatal("a node that answers no pings is fresh")
		}
		<-time.After(time.Millisecond)
	}
	for range 4 { // a round robin would begin with server1 in its turn
		b.ask(request)
		if first := <-offered; first != "server2" {
			t.Errorf("the session was offered to %s first", first)
		}
		for len(offered) > 0 {
			<-offered
		}
	}
}
