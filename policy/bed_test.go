package policy

import (
	"fmt"
	"math"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"
)

// clock is a time that tests move.
type clock struct{ nanos atomic.Int64 }

func (c *clock) now() time.Time          { return time.Unix(1_700_000_000, c.nanos.Load()) }
func (c *clock) advance(d time.Duration) { c.nanos.Add(int64(d)) }

// bed is a policy of one service, "web", under a clock and a random source.
type bed struct {
	*testing.T
	*clock
	st *State
	e  *Engine
	m  *Model
}

func newBed(t *testing.T, pools []Pool, routes ...Route) *bed {
	t.Helper()
	c := &clock{}
	b := &bed{T: t, clock: c, st: NewState(Options{Now: c.now, Rand: rand.New(rand.NewPCG(7, 7)).Uint64})}
	s := Service{Name: "web", Routes: routes}
	if len(pools) > 0 {
		s.DefaultPool = pools[0].Name
	}
	b.m = &Model{Services: []Service{s}, Pools: pools}
	b.compile()
	return b
}

func (b *bed) compile() {
	b.Helper()
	e, err := Compile(b.m, b.st)
	if err != nil {
		b.Fatal(err)
	}
	b.e = e
}

// members of weight 1, or of the weights given.
func members(n int, weights ...uint32) []Member {
	out := make([]Member, n)
	for i := range out {
		out[i] = Member{Server: fmt.Sprintf("s%d", i+1), Weight: 1}
		if len(weights) > 0 {
			out[i].Weight = weights[i]
		}
	}
	return out
}

func get(path string) *Request {
	return &Request{Method: "GET", Host: "example.org", Path: path, Client: netip.MustParseAddr("192.0.2.1"), ContentLength: -1, Header: http.Header{}}
}

func cookie(path, c string) *Request {
	r := get(path)
	r.Header.(http.Header).Set("Cookie", c)
	return r
}

// choose returns the server of a request, "" if there is none.
func (b *bed) choose(r *Request) string {
	b.Helper()
	return b.choice(r, nil).Server
}

func (b *bed) choice(r *Request, usable func(string) bool) Choice {
	b.Helper()
	rule, ok := b.e.Route("web", r)
	if !ok {
		b.Fatal("no service web")
	}
	c, _ := rule.Choose(r, usable)
	return c
}

// count chooses for n requests with different paths.
func (b *bed) count(n int) map[string]int {
	b.Helper()
	got := make(map[string]int)
	for i := range n {
		got[b.choose(get(fmt.Sprintf("/object/%d", i)))]++
	}
	return got
}

// owners returns the server of each of n paths.
func (b *bed) owners(n int) []string {
	b.Helper()
	out := make([]string, n)
	for i := range out {
		out[i] = b.choose(get(fmt.Sprintf("/object/%d", i)))
	}
	return out
}

// wantShares checks counts against weights, with a tolerance in parts of each share.
func wantShares(t *testing.T, got map[string]int, tolerance float64, weights map[string]float64) {
	t.Helper()
	total, sum := 0, 0.0
	for _, n := range got {
		total += n
	}
	for _, w := range weights {
		sum += w
	}
	for name, w := range weights {
		want := float64(total) * w / sum
		if math.Abs(float64(got[name])-want) > tolerance*want {
			t.Errorf("%s has %d of %d, want %.0f within %.0f %%", name, got[name], total, want, 100*tolerance)
		}
	}
	for name := range got {
		if _, ok := weights[name]; !ok {
			t.Errorf("%q has %d", name, got[name])
		}
	}
}
