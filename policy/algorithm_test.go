package policy

import (
	"fmt"
	"slices"
	"testing"
	"time"
)

func TestSharesFollowTheWeights(t *testing.T) {
	for _, c := range []struct {
		algorithm Algorithm
		weights   []uint32
		tolerance float64
		want      map[string]float64
	}{
		{RoundRobinAlgorithm, []uint32{1, 5, 0}, 0, map[string]float64{"s1": 1, "s2": 1}},
		{WeightedRoundRobin, []uint32{1, 5, 4}, 0.01, map[string]float64{"s1": 1, "s2": 5, "s3": 4}},
		{Random, []uint32{1, 5, 4}, 0.05, map[string]float64{"s1": 1, "s2": 5, "s3": 4}},
		{LeastRequests, []uint32{1, 5, 4}, 0.1, map[string]float64{"s1": 1, "s2": 5, "s3": 4}},
		{LeastConnections, []uint32{1, 5, 4}, 0.01, map[string]float64{"s1": 1, "s2": 5, "s3": 4}},
		{RingHash, []uint32{1, 5, 4}, 0.25, map[string]float64{"s1": 1, "s2": 5, "s3": 4}},
		{Maglev, []uint32{1, 5, 4}, 0.05, map[string]float64{"s1": 1, "s2": 5, "s3": 4}},
		{Rendezvous, []uint32{1, 5, 4}, 0.05, map[string]float64{"s1": 1, "s2": 5, "s3": 4}},
	} {
		t.Run(c.algorithm.String(), func(t *testing.T) {
			p := Pool{Name: "p", Algorithm: c.algorithm, Members: members(3, c.weights...)}
			if c.algorithm.hashes() {
				p.Hash = &Hash{On: []HashKey{{Kind: KeyPath}}}
			}
			b := newBed(t, []Pool{p})
			wantShares(t, b.count(20_000), c.tolerance, c.want)
		})
	}
}

func TestTheSameClockAndRandomnessGiveTheSameChoices(t *testing.T) {
	for _, a := range everyAlgorithm {
		runs := [2][]string{}
		for i := range runs {
			runs[i] = newBed(t, []Pool{{Name: "p", Algorithm: a, Members: members(7, 1, 2, 3, 1, 2, 3, 1)}}).owners(500)
		}
		if !slices.Equal(runs[0], runs[1]) {
			t.Errorf("%v chooses differently", a)
		}
	}
}

// When a server is away only its keys move, and they come back with it; when it
// leaves for good, at most 1.2 times its share moves.
func TestHashesMoveLittle(t *testing.T) {
	for _, a := range []Algorithm{RingHash, Maglev, Rendezvous} {
		t.Run(a.String(), func(t *testing.T) {
			const keys = 10_000
			b := newBed(t, []Pool{{Name: "p", Algorithm: a, Members: members(5), Hash: &Hash{On: []HashKey{{Kind: KeyURL}}}}})
			before := b.owners(keys)
			share := 0
			for _, o := range before {
				if o == "s3" {
					share++
				}
			}
			moved := func(after []string) (n int) {
				for i := range before {
					if before[i] != after[i] {
						n++
					}
				}
				return n
			}
			b.st.SetUp("s3", false, "test")
			away := b.owners(keys)
			if n := moved(away); n != share || slices.Contains(away, "s3") {
				t.Errorf("away: %d keys moved, the share is %d", n, share)
			}
			b.st.SetUp("s3", true, "")
			if n := moved(b.owners(keys)); n != 0 {
				t.Errorf("back: %d keys are elsewhere", n)
			}
			b.m.Pools[0].Members = slices.Delete(members(5), 2, 3)
			b.compile()
			if n := moved(b.owners(keys)); float64(n) > 1.2*float64(share) {
				t.Errorf("gone: %d keys moved, the share is %d", n, share)
			} else {
				t.Logf("gone: %.3f times the share moved", float64(n)/float64(share))
			}
		})
	}
}

func TestBoundedLoads(t *testing.T) {
	for _, a := range []Algorithm{RingHash, Maglev, Rendezvous} {
		t.Run(a.String(), func(t *testing.T) {
			b := newBed(t, []Pool{{Name: "p", Algorithm: a, Members: members(5), Hash: &Hash{On: []HashKey{{Kind: KeyPath}}, LoadPercent: 125}}})
			got := make(map[string]int)
			for range 1000 {
				got[b.choose(get("/hot"))]++
				b.advance(30 * time.Millisecond)
			}
			for s, n := range got {
				if n > 251 {
					t.Errorf("%s has %d of 1000, at most 250 are allowed", s, n)
				}
			}
			if len(got) < 4 {
				t.Errorf("one hot key is on %v", got)
			}
			for i := range 5 {
				b.st.SetLoad(fmt.Sprintf("s%d", i+1), 0)
			}
			b.advance(time.Second)
			if a, c := b.choose(get("/hot")), b.choose(get("/hot")); a == "" || c == "" {
				t.Errorf("idle: %q %q", a, c)
			}
		})
	}
}

// Least requests sends little to a slow server. Load is what is under way; s1
// takes ten times as long as the others.
func TestLoadsAvoidASlowServer(t *testing.T) {
	for _, a := range []Algorithm{LeastRequests, LeastConnections} {
		b := newBed(t, []Pool{{Name: "p", Algorithm: a, Members: members(4)}})
		type job struct {
			server string
			end    int
		}
		var jobs []job
		got := make(map[string]int)
		for tick := range 20_000 {
			jobs = slices.DeleteFunc(jobs, func(j job) bool {
				if j.end == tick {
					b.st.Done(j.server)
				}
				return j.end == tick
			})
			s := b.choose(get("/"))
			got[s]++
			took := 4
			if s == "s1" {
				took = 40
			}
			jobs = append(jobs, job{s, tick + took})
		}
		if got["s1"] > 20_000/4/2 {
			t.Errorf("%v: the slow server has %v", a, got)
		}
	}
}

func TestRequestsWithoutTheKeyTakeTurns(t *testing.T) {
	b := newBed(t, []Pool{{Name: "p", Algorithm: Maglev, Members: members(4), Hash: &Hash{On: []HashKey{{Kind: KeyCookie, Name: "user"}}}}})
	wantShares(t, b.count(400), 0, map[string]float64{"s1": 1, "s2": 1, "s3": 1, "s4": 1})
	a := b.choose(cookie("/1", "user=me"))
	if again := b.choose(cookie("/2", "user=me")); a != again {
		t.Errorf("one user goes to %s and %s", a, again)
	}
}

func TestAServerThatWasTriedIsNotChosenAgain(t *testing.T) {
	for _, a := range everyAlgorithm {
		ms := members(4)
		ms[3].Priority = 1
		b := newBed(t, []Pool{{Name: "p", Algorithm: a, Members: ms, Backup: "q"}, {Name: "q", Members: []Member{{Server: "q1", Weight: 1}}}})
		tried := make(map[string]bool)
		var order []string
		for range 6 {
			s := b.choice(get("/x"), func(s string) bool { return !tried[s] }).Server
			order = append(order, s)
			tried[s] = true
		}
		first := slices.Sorted(slices.Values(order[:3]))
		if !slices.Equal(first, []string{"s1", "s2", "s3"}) || !slices.Equal(order[3:], []string{"s4", "q1", ""}) {
			t.Errorf("%v: tried in the order %v", a, order)
		}
	}
}

func TestMaxLoad(t *testing.T) {
	for _, a := range everyAlgorithm {
		b := newBed(t, []Pool{{Name: "p", Algorithm: a, Members: members(2)}})
		b.m.Servers = []Server{{Name: "s1", WeightPercent: 100, MaxLoad: 3}, {Name: "s2", WeightPercent: 100, MaxLoad: 2}}
		b.compile()
		got := b.count(7)
		if got["s1"] != 3 || got["s2"] != 2 || got[""] != 2 {
			t.Errorf("%v: %v", a, got)
		}
		b.st.Done("s2")
		if s := b.choose(get("/")); s != "s2" {
			t.Errorf("%v: after one is done %q", a, s)
		}
	}
}

func TestWeightPercentScales(t *testing.T) {
	b := newBed(t, []Pool{{Name: "p", Algorithm: WeightedRoundRobin, Members: members(2, 2, 2)}})
	b.m.Servers = []Server{{Name: "s1", WeightPercent: 50}}
	b.compile()
	wantShares(t, b.count(3000), 0.01, map[string]float64{"s1": 1, "s2": 2})
	b.m.Servers[0].WeightPercent = 0
	b.compile()
	wantShares(t, b.count(300), 0, map[string]float64{"s2": 1})
}

func TestBigPoolsAreSharedEvenly(t *testing.T) {
	for _, a := range []Algorithm{LeastConnections, LeastRequests, Rendezvous} {
		b := newBed(t, []Pool{{Name: "p", Algorithm: a, Members: members(300), Hash: map[bool]*Hash{true: {On: []HashKey{{Kind: KeyPath}}}}[a.hashes()]}})
		most := 0
		for _, n := range b.count(6000) {
			most = max(most, n)
		}
		if limit := map[Algorithm]int{LeastConnections: 23, LeastRequests: 26, Rendezvous: 45}[a]; most > limit {
			t.Errorf("%v: a server has %d of 6000 requests, the mean is 20", a, most)
		}
	}
}
