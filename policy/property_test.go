package policy

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"
)

// Whatever the pools and the state of their servers: a choice is a member that
// can be used; there is one if any member can be; and a connection may stay
// where the choice for its request would be again.
func TestChoicesAreUsable(t *testing.T) {
	rnd := rand.New(rand.NewPCG(5, 6))
	for round := range 400 {
		p := Pool{Name: "p", Algorithm: everyAlgorithm[rnd.IntN(len(everyAlgorithm))], Members: members(1 + rnd.IntN(8))}
		for i := range p.Members {
			p.Members[i].Weight = uint32(rnd.IntN(4))
			p.Members[i].Priority = uint32(rnd.IntN(3))
		}
		p.Members[0].Weight = 1
		if p.Algorithm.hashes() {
			p.Hash = &Hash{On: []HashKey{{Kind: KeyPath}}, LoadPercent: []uint32{0, 125}[rnd.IntN(2)]}
			if p.Algorithm == Maglev {
				p.Hash.TableSize = 251
			}
		}
		if rnd.IntN(2) == 0 {
			p.SlowStart = &SlowStart{Window: time.Second}
		}
		route := Route{Name: "r", Pool: "p"}
		if rnd.IntN(3) == 0 {
			route.Affinity = &Affinity{Cookie: "c"}
		}
		b := newBed(t, []Pool{p}, route)
		out := make(map[string]bool)
		weight := make(map[string]uint32)
		for _, m := range p.Members {
			weight[m.Server] = m.Weight
			switch rnd.IntN(6) {
			case 0:
				b.st.SetUp(m.Server, false, "test")
			case 1:
				b.st.SetHealth("p", m.Server, Unhealthy, "test")
			case 2:
				b.m.Servers = append(b.m.Servers, Server{Name: m.Server, WeightPercent: 100, Drain: true})
			default:
				continue
			}
			out[m.Server] = true
		}
		b.compile()
		able := slices.ContainsFunc(p.Members, func(m Member) bool { return m.Weight > 0 && !out[m.Server] })
		for k := range 30 {
			b.advance(50 * time.Millisecond)
			q := cookie(fmt.Sprintf("/%d", k), fmt.Sprintf("c=s%d", 1+rnd.IntN(12)))
			c := b.choice(q, nil)
			if (c.Server != "") != able && !c.Bound {
				t.Fatalf("round %d: chosen %+v; there is one: %v\n%+v\nout: %v", round, c, able, p, out)
			}
			if c.Server == "" {
				continue
			}
			if _, ok := weight[c.Server]; !ok || out[c.Server] {
				t.Fatalf("round %d: %s was chosen, which is out\n%+v\nout: %v", round, c.Server, p, out)
			}
			r, _ := b.e.Route("web", q)
			if route.Affinity == nil && p.Hash != nil && p.Hash.LoadPercent > 0 {
				continue // another request may have changed the answer
			}
			if !r.Accepts(q, c.Server) && c.Bound {
				t.Fatalf("round %d: %s was chosen for %s and may not stay\n%+v", round, c.Server, q.Path, p)
			}
		}
	}
}
