package policy

import (
	"fmt"
	"net/http"
	"net/netip"
	"runtime"
	"testing"

	"github.com/shunt-sdn/shunt/policy/match"
)

// bigModel is a policy of 1,000 routes in one service and 10,000 servers: a pool of
// ten per route. Routes have hosts or paths, or both, of every kind but RE2.
func bigModel(algorithm Algorithm) *Model {
	m := &Model{}
	s := Service{Name: "web"}
	for i := range 1000 {
		pool := fmt.Sprintf("pool%d", i)
		p := Pool{Name: pool, Algorithm: algorithm}
		if algorithm.hashes() {
			p.Hash = &Hash{On: []HashKey{{Kind: KeyURL}}}
		}
		for j := range 10 {
			p.Members = append(p.Members, Member{Server: fmt.Sprintf("server%d", 10*i+j), Weight: uint32(1 + j%3)})
		}
		m.Pools = append(m.Pools, p)
		x := &match.Match{}
		switch i % 4 {
		case 0:
			x.Hosts = []string{fmt.Sprintf("host%d.example.org", i)}
		case 1:
			x.Paths = []match.Path{{Kind: match.PathPrefix, Text: fmt.Sprintf("/tenant%d/objects/", i)}}
		case 2:
			x.Hosts = []string{fmt.Sprintf("*.zone%d.example.org", i)}
			x.Paths = []match.Path{{Kind: match.PathExact, Text: "/index.html"}}
		case 3:
			x.Paths = []match.Path{{Kind: match.PathTemplate, Text: fmt.Sprintf("/users/{id}/box%d/**", i)}}
		}
		s.Routes = append(s.Routes, Route{Name: fmt.Sprintf("route%d", i), Match: x, Pool: pool})
	}
	m.Services = []Service{s}
	return m
}

// bigRequests match the last routes of each kind, and none.
func bigRequests() []Request {
	rs := []Request{
		{Host: "host996.example.org", Path: "/a/b/c"},
		{Host: "www.example.org", Path: "/tenant997/objects/big/file.iso"},
		{Host: "a.b.zone998.example.org", Path: "/index.html"},
		{Host: "WWW.example.org", Path: "/users/4711/box999/photos/1.jpg"},
	}
	for i := range rs {
		rs[i].Method, rs[i].Client, rs[i].ContentLength = "GET", netip.MustParseAddr("192.0.2.7"), -1
		rs[i].Header = http.Header{"User-Agent": {"curl/8"}}
	}
	return rs
}

var everyAlgorithm = []Algorithm{RoundRobinAlgorithm, WeightedRoundRobin, Random, LeastRequests, LeastConnections, RingHash, Maglev, Rendezvous}

func compile(t testing.TB, m *Model, o Options) (*Engine, *State) {
	t.Helper()
	st := NewState(o)
	e, err := Compile(m, st)
	if err != nil {
		t.Fatal(err)
	}
	return e, st
}

func TestHostAndPathMatchesAllocateNothing(t *testing.T) {
	for _, a := range everyAlgorithm {
		m := bigModel(a)
		for i := range m.Pools { // small tables are made sooner
			switch a {
			case Maglev:
				m.Pools[i].Hash.TableSize = 127
			case RingHash:
				m.Pools[i].Hash.Points = 8
			}
		}
		e, _ := compile(t, m, Options{})
		rs := bigRequests()
		usable := func(s string) bool { return s != "" }
		for i := range rs {
			r := &rs[i]
			n := testing.AllocsPerRun(200, func() {
				rule, ok := e.Route("web", r)
				if !ok || rule.Name != fmt996(i) {
					t.Fatalf("request %d goes to %q", i, rule.Name)
				}
				if status, _ := rule.Admit(r); status != 0 {
					t.Fatal(status)
				}
				c, ok := rule.Choose(r, usable)
				if !ok || !rule.Accepts(r, c.Server) {
					t.Fatalf("request %d: %+v", i, c)
				}
			})
			if n != 0 {
				t.Errorf("%v, request %d: %v allocations", a, i, n)
			}
		}
	}
}

func fmt996(i int) string { return [...]string{"route996", "route997", "route998", "route999"}[i] }

// 1,000 routes, 10,000 servers in pools of ten.
func BenchmarkRequest(b *testing.B) {
	for _, a := range everyAlgorithm {
		b.Run(a.String(), func(b *testing.B) {
			e, _ := compile(b, bigModel(a), Options{})
			rs := bigRequests()
			usable := func(s string) bool { return true }
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				r := &rs[i&3]
				i++
				rule, _ := e.Route("web", r)
				if _, ok := rule.Choose(r, usable); !ok {
					b.Fatal("nobody")
				}
			}
		})
	}
}

// One pool of 10,000 servers.
func BenchmarkRequestOnePool(b *testing.B) {
	for _, a := range everyAlgorithm {
		b.Run(a.String(), func(b *testing.B) {
			m := bigModel(a)
			p := Pool{Name: "all", Algorithm: a, Hash: m.Pools[0].Hash}
			for i := range 10_000 {
				p.Members = append(p.Members, Member{Server: fmt.Sprint("server", i), Weight: 1})
			}
			m.Pools = []Pool{p}
			for i := range m.Services[0].Routes {
				m.Services[0].Routes[i].Pool = "all"
			}
			e, _ := compile(b, m, Options{})
			rs := bigRequests()
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				r := &rs[i&3]
				i++
				rule, _ := e.Route("web", r)
				if _, ok := rule.Choose(r, nil); !ok {
					b.Fatal("nobody")
				}
			}
		})
	}
}

// A change of one server's weight in a policy of 1,000 routes and 10,000 servers,
// and the memory that a policy takes.
func BenchmarkUpdate(b *testing.B) {
	for _, a := range everyAlgorithm {
		b.Run(a.String(), func(b *testing.B) {
			m := bigModel(a)
			_, st := compile(b, m, Options{})
			rs := bigRequests()
			var before, after runtime.MemStats
			runtime.GC()
			runtime.ReadMemStats(&before)
			fresh, _ := compile(b, bigModel(a), Options{})
			runtime.GC()
			runtime.ReadMemStats(&after)
			n := 0
			for b.Loop() {
				n++
				m.Pools[500].Members[3].Weight = uint32(1 + n%7)
				e, err := Compile(m, st)
				if err != nil {
					b.Fatal(err)
				}
				rule, _ := e.Route("web", &rs[0])
				rule.Choose(&rs[0], nil)
			}
			b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/1e6, "MB")
			runtime.KeepAlive(fresh)
		})
	}
}
