package policy

import (
	"fmt"
	"net/http"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/shunt-sdn/shunt/policy/match"
)

func prefix(p string) *match.Match {
	return &match.Match{Paths: []match.Path{{Kind: match.PathPrefix, Text: p}}}
}

func TestWithoutPolicyServersTakeTurns(t *testing.T) {
	b := newBed(t, nil)
	b.m.Services[0].Servers = []string{"b", "a", "c"}
	b.compile()
	got := ""
	for range 6 {
		got += b.choose(get("/"))
	}
	if got != "bacbac" {
		t.Errorf("got %s", got)
	}
	if b.e.PerRequest("web") || b.e.PerRequest("other") {
		t.Error("requests of a connection may go to different servers")
	}
	if _, ok := b.e.Route("other", get("/")); ok {
		t.Error("there is a service that there is not")
	}
}

func TestTheFirstRouteDecides(t *testing.T) {
	pools := []Pool{{Name: "rest", Members: []Member{{Server: "r", Weight: 1}}}, {Name: "static", Members: []Member{{Server: "s", Weight: 1}}}}
	b := newBed(t, pools,
		Route{Name: "no", Match: prefix("/admin/"), Reject: &Reject{Status: 403}},
		Route{Name: "static", Match: prefix("/static/"), Pool: "static", Mode: Proxy},
		Route{Name: "late", Match: prefix("/static/x"), Pool: "rest"})
	for path, want := range map[string]string{"/static/x": "s", "/": "r", "/admin": "r"} {
		if got := b.choose(get(path)); got != want {
			t.Errorf("%s goes to %q, want %q", path, got, want)
		}
	}
	r, _ := b.e.Route("web", get("/admin/x"))
	if status, reason := r.Admit(get("/admin/x")); status != 403 || reason != "Forbidden" {
		t.Errorf("rejected with %d %s", status, reason)
	}
	if c := b.choice(get("/static/"), nil); c.Mode != Proxy || c.Pool != "static" {
		t.Errorf("got %+v", c)
	}
	if c := b.choice(get("/"), nil); c.Mode != Migrate {
		t.Errorf("got %+v", c)
	}
}

func TestWeightedSplitIsExact(t *testing.T) {
	pools := []Pool{{Name: "a", Members: []Member{{Server: "a", Weight: 1}}}, {Name: "b", Members: []Member{{Server: "b", Weight: 1}}}, {Name: "c", Members: []Member{{Server: "c", Weight: 1}}}}
	b := newBed(t, pools, Route{Name: "split", Pools: []WeightedPool{{"a", 90}, {"b", 9}, {"c", 1}}})
	wantShares(t, b.count(10_000), 0.02, map[string]float64{"a": 90, "b": 9, "c": 1})
	// A pool that cannot be used is not a reason to refuse.
	b.st.SetUp("a", false, "gone")
	if got := b.count(1000); got["a"] != 0 || got[""] != 0 {
		t.Errorf("with a down: %v", got)
	}
}

func TestLimits(t *testing.T) {
	b := newBed(t, []Pool{{Name: "p", Members: members(1)}}, Route{Name: "r", Pool: "p", Limits: RouteLimits{RequestsPerSecond: 10, Burst: 3, MaxBodyBytes: 100}})
	admit := func() int {
		r, _ := b.e.Route("web", get("/"))
		status, _ := r.Admit(get("/"))
		return status
	}
	for i, want := range []int{0, 0, 0, 429, 429} {
		if got := admit(); got != want {
			t.Errorf("request %d: %d, want %d", i, got, want)
		}
	}
	b.compile() // a change of the policy fills no bucket
	if got := admit(); got != 429 {
		t.Errorf("after a change: %d", got)
	}
	b.advance(100 * time.Millisecond)
	if a, c := admit(), admit(); a != 0 || c != 429 {
		t.Errorf("after a tenth of a second: %d, %d", a, c)
	}
	b.advance(time.Hour)
	for i, want := range []int{0, 0, 0, 429} {
		if got := admit(); got != want {
			t.Errorf("request %d after an hour: %d, want %d", i, got, want)
		}
	}
	b.advance(time.Second)
	big := get("/")
	big.ContentLength = 101
	r, _ := b.e.Route("web", big)
	if status, _ := r.Admit(big); status != http.StatusRequestEntityTooLarge {
		t.Errorf("a body too big: %d", status)
	}
}

func TestAffinity(t *testing.T) {
	for _, algorithm := range []Algorithm{RoundRobinAlgorithm, Maglev, Rendezvous, LeastRequests} {
		t.Run(algorithm.String(), func(t *testing.T) {
			ms := members(5)
			ms[4].Weight = 0
			b := newBed(t, []Pool{{Name: "p", Algorithm: algorithm, Members: ms}}, Route{Name: "r", Pool: "p", Affinity: &Affinity{Cookie: "srv"}})
			for _, name := range []string{"s3", "s5"} {
				if got := b.choose(cookie("/", "srv="+name)); got != name {
					t.Errorf("the cookie names %s, got %s", name, got)
				}
			}
			first := make(map[string]string)
			for range 3 {
				for i := range 50 {
					v := fmt.Sprintf("user%d", i)
					got := b.choose(cookie(fmt.Sprintf("/%d", i), "srv="+v))
					if was := first[v]; was != "" && was != got {
						t.Fatalf("%s goes to %s and %s", v, was, got)
					}
					first[v] = got
				}
			}
			all := make(map[string]int)
			for _, s := range first {
				all[s]++
			}
			if len(all) != 4 {
				t.Errorf("50 users are on %v", all)
			}
			b.st.SetUp("s3", false, "gone")
			if got := b.choose(cookie("/", "srv=s3")); got == "s3" || got == "" {
				t.Errorf("s3 is down, got %q", got)
			}
		})
	}
}

func TestAffinityKeepsAClientInItsShareOfASplit(t *testing.T) {
	b := newBed(t, []Pool{{Name: "a", Members: []Member{{Server: "a", Weight: 1}}}, {Name: "b", Members: []Member{{Server: "b", Weight: 1}}}},
		Route{Name: "r", Pools: []WeightedPool{{"a", 3}, {"b", 1}}, Affinity: &Affinity{Header: "X-User"}})
	got := make(map[string]int)
	for i := range 4000 {
		r := get("/")
		r.Header.(http.Header).Set("X-User", fmt.Sprint(i))
		s := b.choose(r)
		got[s]++
		if again := b.choose(r); again != s {
			t.Fatalf("user %d goes to %s and %s", i, s, again)
		}
	}
	wantShares(t, got, 0.1, map[string]float64{"a": 3, "b": 1})
}

func TestAccepts(t *testing.T) {
	hash := &Hash{On: []HashKey{{Kind: KeyURL}}}
	pools := []Pool{
		{Name: "turns", Members: members(3), Backup: "spare"},
		{Name: "maglev", Algorithm: Maglev, Hash: hash, Members: members(3)},
		{Name: "asks", Members: members(3), External: &External{Address: "unix:/x"}},
		{Name: "spare", Members: []Member{{Server: "b1", Weight: 1}}},
	}
	b := newBed(t, pools,
		Route{Name: "maglev", Match: prefix("/maglev/"), Pool: "maglev"},
		Route{Name: "asks", Match: prefix("/asks/"), Pool: "asks"},
		Route{Name: "no", Match: prefix("/no/"), Reject: &Reject{Status: 403}},
		Route{Name: "limited", Match: prefix("/limited/"), Pool: "turns", Limits: RouteLimits{RequestsPerSecond: 1}},
		Route{Name: "sticky", Match: prefix("/sticky/"), Pool: "turns", Affinity: &Affinity{Cookie: "c"}})
	accepts := func(r *Request) string {
		rule, _ := b.e.Route("web", r)
		var on []string
		for _, s := range []string{"s1", "s2", "s3", "b1", "x"} {
			if rule.Accepts(r, s) {
				on = append(on, s)
			}
		}
		return strings.Join(on, " ")
	}
	owner := b.choose(get("/maglev/1"))
	for _, c := range []struct {
		r    *Request
		want string
	}{
		{get("/"), "s1 s2 s3"},
		{get("/maglev/1"), owner},
		{get("/asks/"), ""},
		{get("/no/"), ""},
		{get("/limited/"), ""},
		{get("/sticky/"), "s1 s2 s3"},
		{cookie("/sticky/", "c=s2"), "s2"},
	} {
		if got := accepts(c.r); got != c.want {
			t.Errorf("%s stays on %q, want %q", c.r.Path, got, c.want)
		}
	}
	if !b.e.PerRequest("web") {
		t.Error("requests of a connection go to one server")
	}
	b.m.Servers = []Server{{Name: "s2", WeightPercent: 100, Drain: true}}
	b.compile()
	b.st.SetHealth("turns", "s1", Unhealthy, "test")
	if got := accepts(get("/")); got != "s3" {
		t.Errorf("with one drained and one unhealthy: %q", got)
	}
	b.st.SetUp("s3", false, "test")
	if got := accepts(get("/")); got != "b1" {
		t.Errorf("with all gone: %q", got)
	}
}

func TestPerRequest(t *testing.T) {
	p := Pool{Name: "p", Members: members(2)}
	clients := &match.Match{Clients: nil}
	for _, c := range []struct {
		name  string
		pool  Pool
		route Route
		want  bool
	}{
		{"a path", p, Route{Name: "r", Match: prefix("/a"), Pool: "p"}, true},
		{"a client", p, Route{Name: "r", Match: clients, Pool: "p"}, false},
		{"affinity of the client", p, Route{Name: "r", Pool: "p", Affinity: &Affinity{Client: true}}, false},
		{"affinity of a cookie", p, Route{Name: "r", Pool: "p", Affinity: &Affinity{Cookie: "c"}}, true},
		{"a rate", p, Route{Name: "r", Pool: "p", Limits: RouteLimits{RequestsPerSecond: 1}}, true},
		{"a hash of the client", Pool{Name: "p", Algorithm: Maglev, Members: members(2)}, Route{Name: "r", Pool: "p"}, false},
		{"a hash of the path", Pool{Name: "p", Algorithm: Maglev, Members: members(2), Hash: &Hash{On: []HashKey{{Kind: KeyPath}}}}, Route{Name: "r", Pool: "p"}, true},
		{"a program", Pool{Name: "p", Members: members(2), External: &External{Address: "unix:/x"}}, Route{Name: "r", Pool: "p"}, true},
	} {
		if got := newBed(t, []Pool{c.pool}, c.route).e.PerRequest("web"); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}

func TestExplainChangesNothing(t *testing.T) {
	b := newBed(t, []Pool{{Name: "p", Members: members(3)}, {Name: "q", Members: members(2), Backup: "p"}},
		Route{Name: "admin", Match: prefix("/admin/"), Reject: &Reject{Status: 403, Reason: "not here"}},
		Route{Name: "q", Match: prefix("/q/"), Pool: "q"})
	b.st.SetHealth("p", "s2", Unhealthy, "3 checks in a row failed: status 500")
	b.m.Servers = []Server{{Name: "s3", WeightPercent: 100, Drain: true}}
	b.compile()
	explain := func(path string) string {
		x, ok := b.e.Explain("web", get(path), nil)
		if !ok {
			t.Fatal("no service")
		}
		s := fmt.Sprintf("%s>%s>%s %d", x.Route, x.Choice.Pool, x.Choice.Server, x.Status)
		for _, step := range x.Steps {
			s += fmt.Sprintf("\n%v %s: %s", step.Taken, step.Subject, step.Why)
		}
		return s
	}
	want := `>p>s1 0
false route admin: the path "/x" is none of /admin/
false route q: the path "/x" is none of /q/
true default: no route matches
true pool p: round_robin among 1 of 3 members; s2 is unhealthy: 3 checks in a row failed: status 500; s3 is drained
true server s1: mode migrate`
	for range 2 {
		if got := explain("/x"); got != want {
			t.Errorf("got:\n%s\nwant:\n%s", got, want)
		}
	}
	if got := explain("/admin/x"); got != "admin>> 403\ntrue route admin: all that it asks for holds\ntrue status: the route answers 403: not here" {
		t.Errorf("got:\n%s", got)
	}
	a := explain("/q/")
	if c := b.choose(get("/q/")); !strings.HasPrefix(a, "q>q>"+c+" 0") {
		t.Errorf("chosen %s, explained as %s", c, a)
	}
	b.st.SetUp("s1", false, "its agent is not connected")
	if got := explain("/x"); !strings.HasPrefix(got, ">> 503") || !strings.Contains(got, "s1 is down: its agent is not connected") {
		t.Errorf("got:\n%s", got)
	}
}

// A change of the policy resets nothing that it is not about.
func TestAChangeOfThePolicyKeepsTheState(t *testing.T) {
	b := newBed(t, []Pool{{Name: "p", Members: members(3), Ejection: &Ejection{Failures: 1}}})
	first := b.choose(get("/")) + b.choose(get("/"))
	r, _ := b.e.Route("web", get("/"))
	if !r.Observe(Choice{Server: "s1", Pool: "p"}, "refused") {
		t.Fatal("s1 is not ejected")
	}
	b.m.Pools = append(b.m.Pools, Pool{Name: "new", Members: members(1)})
	b.m.Services[0].Routes = append(b.m.Services[0].Routes, Route{Name: "new", Match: prefix("/new"), Pool: "new"})
	b.compile()
	if got := first + b.choose(get("/")) + b.choose(get("/")) + b.choose(get("/")); got != "s1s2s3s2s3" {
		t.Errorf("turns %s", got)
	}
	b.m.Pools = b.m.Pools[:1]
	b.m.Services[0].Routes = nil
	b.compile()
	if _, ok := b.st.pools["new"]; ok || len(b.st.rules) != 1 {
		t.Errorf("what is gone is still remembered: %v", b.st.rules)
	}
}

func TestStatesTellTheReason(t *testing.T) {
	b := newBed(t, []Pool{{Name: "p", Members: members(2), Ejection: &Ejection{Failures: 1}}})
	r, _ := b.e.Route("web", get("/"))
	r.Observe(Choice{Server: "s2", Pool: "p"}, "import refused")
	b.st.SetUp("s1", false, "its agent is not connected")
	b.st.SetLoad("s2", 7)
	want := []ServerState{
		{Pool: "p", Server: "s1", Health: Unknown, Reason: "its agent is not connected"},
		{Pool: "p", Server: "s2", Health: Ejected, Up: true, Reason: "1 failures in a row: import refused; ejected for 10s", Since: b.now(), Load: 7},
	}
	if got := b.st.States(); !reflect.DeepEqual(got, want) {
		t.Errorf("got  %+v\nwant %+v", got, want)
	}
}

// Engines, states and choices in any order, for the race detector.
func TestConcurrentUse(t *testing.T) {
	b := newBed(t, []Pool{{Name: "p", Members: members(5), SlowStart: &SlowStart{Window: time.Second}, Ejection: &Ejection{}}}, Route{Name: "r", Pool: "p", Mode: Auto})
	b.st.rand = func() uint64 { return uint64(b.nanos.Load()) * 0x9e3779b97f4a7c15 }
	engines := make(chan *Engine, 1)
	engines <- b.e
	var wg sync.WaitGroup
	for k := range 4 {
		wg.Go(func() {
			for i := range 300 {
				e := <-engines
				engines <- e
				q := get(fmt.Sprintf("/%d", i))
				r, _ := e.Route("web", q)
				c, ok := r.Choose(q, nil)
				if !ok {
					t.Error("nobody")
					return
				}
				r.Accepts(q, c.Server)
				r.Observe(c, "")
				r.Learn(c, 100, time.Millisecond)
				b.st.SetUp("s1", i%2 == 0, "")
				b.st.SetLoad("s2", i)
				b.st.SetHealth("p", "s3", Health(i%3), "")
				b.st.States()
				b.st.Done(c.Server)
				b.advance(time.Millisecond)
				e.Explain("web", q, nil)
				if i%50 == k {
					m := *b.m
					m.Pools = []Pool{{Name: "p", Algorithm: everyAlgorithm[i/50], Members: members(3 + i%3)}}
					n, err := Compile(&m, b.st)
					if err != nil {
						t.Error(err)
						return
					}
					<-engines
					engines <- n
				}
			}
		})
	}
	wg.Wait()
}
