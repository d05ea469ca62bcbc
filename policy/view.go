package policy

import (
	"math"
	"sync/atomic"
	"time"

	"github.com/shunt-sdn/shunt/policy/balance"
)

// view is who of a pool may be chosen, as of an epoch of the state. It is made
// anew when something changed, and not per request.
type view struct {
	epoch   uint64
	expires int64 // Unix nanoseconds at which something changes by itself
	panic   bool

	healthy []bool  // by member: may get requests that are bound to it
	ramp    []uint8 // by member: percentage of a slow start; nil: 100 for all

	level   int      // which is used; -1: none
	list    []int32  // members of it that are healthy and have a weight
	weights []uint32 // of the list, with ramps
	sum     uint64   // of weights
	hashes  []uint64 // of the names in the list
	even    bool     // all weights of the level are equal
	turns   *balance.Turns
	shares  balance.Shares

	total   atomic.Int64 // load of the list, for bounded loads
	totaled atomic.Int64 // Unix nanoseconds of the total
}

// rampSteps is how many steps a slow start has.
const rampSteps = 20

// current returns the view as of now.
func (p *pool) current() *view {
	epoch := p.e.state.epoch.Load()
	v := p.view.Load()
	if v != nil && v.epoch == epoch && (v.expires == math.MaxInt64 || p.e.state.now().UnixNano() < v.expires) {
		return v
	}
	return p.look()
}

// look makes a new view.
func (p *pool) look() *view {
	st := p.e.state
	st.mu.Lock()
	defer st.mu.Unlock()
	now := st.now()
	epoch := st.epoch.Load()
	if v := p.view.Load(); v != nil && v.epoch == epoch && now.UnixNano() < v.expires {
		return v // somebody else has made it
	}
	v := &view{epoch: epoch, expires: math.MaxInt64, level: -1, healthy: make([]bool, len(p.members))}
	for i := range p.members {
		v.healthy[i] = p.examine(i, v, now)
	}
	p.chooseLevel(v)
	p.arrange(v)
	p.state.old = v
	p.view.Store(v)
	return v
}

// examine tells whether a member is usable, and notes the start and state of
// its slow start. The caller holds State.mu.
func (p *pool) examine(i int, v *view, now time.Time) bool {
	m := &p.members[i]
	h, _, _ := m.state.state(m.server, now)
	if m.state.eject.Out(now) {
		v.expires = min(v.expires, m.state.eject.Until().UnixNano())
	}
	usable := !m.server.down && !m.drain && h.Usable()
	if usable && !m.state.usable && p.slow != nil && p.state.old != nil {
		m.state.began = now
	}
	m.state.usable = usable
	if !usable || p.slow == nil || m.state.began.IsZero() {
		return usable
	}
	gone := now.Sub(m.state.began)
	if gone >= p.slow.Window {
		m.state.began = time.Time{}
		return usable
	}
	if v.ramp == nil {
		v.ramp = make([]uint8, len(p.members))
		for j := range v.ramp {
			v.ramp[j] = 100
		}
	}
	least := int64(or(p.slow.MinPercent, DefaultSlowStartPercent))
	v.ramp[i] = uint8(least + (100-least)*int64(gone)/int64(p.slow.Window))
	v.expires = min(v.expires, now.Add(max(p.slow.Window/rampSteps, time.Millisecond)).UnixNano())
	return usable
}

// chooseLevel takes the first priority of which enough is healthy. If there is
// none and the pool has a panic threshold, all that can be reached counts as
// healthy; if it has none, a level needs just one.
func (p *pool) chooseLevel(v *view) {
	spare := -1
	for k, l := range p.levels {
		able, healthy := 0, 0
		for i := l.from; i < l.to; i++ {
			if m := &p.members[i]; m.weight > 0 && !m.drain {
				able++
				if v.healthy[i] {
					healthy++
				}
			}
		}
		if healthy > 0 && healthy*100 >= int(p.panicking)*able {
			v.level = k
			return
		}
		if healthy > 0 && spare < 0 {
			spare = k
		}
	}
	if v.level = spare; p.panicking == 0 {
		return
	}
	for k := len(p.levels) - 1; k >= 0; k-- {
		for i := p.levels[k].from; i < p.levels[k].to; i++ {
			if m := &p.members[i]; !m.server.down && !m.drain {
				v.panic = v.panic || !v.healthy[i]
				v.healthy[i] = true
				if m.weight > 0 {
					v.level = k
				}
			}
		}
	}
}

// arrange makes what the algorithm needs. The caller holds State.mu.
func (p *pool) arrange(v *view) {
	if v.level < 0 {
		return
	}
	v.even = true
	for i := p.levels[v.level].from; i < p.levels[v.level].to; i++ {
		m := &p.members[i]
		v.even = v.even && (m.weight == 0 || m.weight == p.members[p.levels[v.level].from].weight)
		if !v.healthy[i] || m.weight == 0 {
			continue
		}
		w := m.weight * 100
		if p.algorithm == RoundRobinAlgorithm || p.algorithm.hashes() {
			w = 100 * 100
		}
		if v.ramp != nil {
			w = max(w/100*uint32(v.ramp[i]), 1)
		}
		if p.algorithm.hashes() {
			w = m.weight // what bounded loads go by
		}
		v.list, v.weights, v.hashes = append(v.list, int32(i)), append(v.weights, w), append(v.hashes, m.hash)
		v.sum += uint64(w)
	}
	switch p.algorithm {
	case RoundRobinAlgorithm, WeightedRoundRobin:
		var old *balance.Turns
		if p.state.old != nil {
			old = p.state.old.turns
		}
		v.turns = balance.NewTurns(old, len(v.list), func(i int) int32 { return p.members[v.list[i]].server.id }, v.weights)
	case Random, LeastRequests:
		v.shares = balance.NewShares(v.weights)
	}
}

// totalLoad returns the load of the list, at most 20 ms old but for what this
// node has added.
func (p *pool) totalLoad(v *view) int64 {
	now := p.e.state.now().UnixNano()
	at := v.totaled.Load()
	if now-at < int64(20*time.Millisecond) || !v.totaled.CompareAndSwap(at, now) {
		return v.total.Load()
	}
	total := int64(0)
	for _, i := range v.list {
		total += p.members[i].server.load()
	}
	v.total.Store(total)
	return total
}
