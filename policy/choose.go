package policy

import (
	"math"

	"github.com/shunt-sdn/shunt/policy/balance"
)

// attempts is how many random draws or rehashed keys are tried before the
// members are gone through in order.
const attempts = 8

// can tells whether a member that the view has may get this request.
func (p *pool) can(i int, usable func(string) bool) bool {
	m := &p.members[i]
	if m.maxLoad > 0 && m.server.load() >= m.maxLoad {
		return false
	}
	return usable == nil || usable(m.name)
}

// choose returns the member that gets a request, -1 if none can. peek changes
// nothing.
func (p *pool) choose(v *view, r *Request, usable func(string) bool, peek bool) int {
	i := -1
	if v.level >= 0 && len(v.list) > 0 {
		switch p.algorithm {
		case Random:
			i = p.random(v, usable)
		case LeastRequests:
			i = p.twoChoices(v, usable)
		case LeastConnections:
			i = p.least(v, usable, peek)
		case RingHash, Maglev, Rendezvous:
			if h, ok := key(p.hash.On, r); ok {
				i = p.hashed(v, h, p.bound(v), usable)
			} else {
				i = p.inOrder(v, usable, peek)
			}
		default:
			i = p.inTurn(v, usable, peek)
		}
	}
	if i < 0 {
		i = p.anyOther(v, usable)
	}
	if i >= 0 && !peek {
		p.members[i].server.since.Add(1)
		v.total.Add(1)
	}
	return i
}

// inTurn serves round robin, weighted or not.
func (p *pool) inTurn(v *view, usable func(string) bool, peek bool) int {
	t := v.turns
	t.Lock()
	defer t.Unlock()
	if i := int(v.list[t.First()]); p.can(i, usable) {
		if !peek {
			t.Spend()
		}
		return i
	}
	// Whoever cannot now keeps its turn: it was only tried before, mostly.
	best := -1
	for k := range t.Len() {
		if (best < 0 || t.Before(k, best)) && p.can(int(v.list[t.At(k)]), usable) {
			best = k
		}
	}
	if best < 0 {
		return -1
	}
	i := int(v.list[t.At(best)])
	if !peek {
		t.SpendAt(best)
	}
	return i
}

// inOrder goes round without regard to weights: for requests that lack the key.
func (p *pool) inOrder(v *view, usable func(string) bool, peek bool) int {
	n := p.state.turn.Load()
	if !peek {
		n = p.state.turn.Add(1)
	}
	for k := range v.list {
		if i := int(v.list[(n+uint64(k))%uint64(len(v.list))]); p.can(i, usable) {
			return i
		}
	}
	return -1
}

func (p *pool) random(v *view, usable func(string) bool) int {
	for range attempts {
		if i := int(v.list[v.shares.Pick(p.e.state.rand())]); p.can(i, usable) {
			return i
		}
	}
	return p.inOrder(v, usable, false)
}

// twoChoices is the power of two choices (Mitzenmacher, IEEE TPDS 2001).
func (p *pool) twoChoices(v *view, usable func(string) bool) int {
	first := -1
	for range attempts {
		k := v.shares.Pick(p.e.state.rand())
		i := int(v.list[k])
		if k == first || !p.can(i, usable) {
			continue
		}
		if first < 0 {
			first = k
			if len(v.list) == 1 {
				break
			}
			continue
		}
		if p.lighter(v, k, first) {
			first = k
		}
		break
	}
	if first < 0 {
		return p.inOrder(v, usable, false)
	}
	return int(v.list[first])
}

// lighter compares what the loads for their weights would be with one request more.
func (p *pool) lighter(v *view, a, b int) bool {
	la, lb := p.members[v.list[a]].server.load()+1, p.members[v.list[b]].server.load()+1
	return la*int64(v.weights[b]) < lb*int64(v.weights[a])
}

// Big pools are not gone through for the least load: the best of sample at
// random is among the best few of a hundred, and choosing takes as long in every
// size.
const (
	bigPool = 256
	sample  = 64
)

// least goes through all; of those that are equal, each has its turn.
func (p *pool) least(v *view, usable func(string) bool, peek bool) int {
	if len(v.list) > bigPool {
		if i := p.leastOfSome(v, usable); i >= 0 {
			return i
		}
	}
	n := p.state.turn.Load()
	if !peek {
		n = p.state.turn.Add(1)
	}
	best, at := -1, int(n%uint64(len(v.list)))
	for range v.list {
		if (best < 0 || p.lighter(v, at, best)) && p.can(int(v.list[at]), usable) {
			best = at
		}
		if at++; at == len(v.list) {
			at = 0
		}
	}
	if best < 0 {
		return -1
	}
	return int(v.list[best])
}

func (p *pool) leastOfSome(v *view, usable func(string) bool) int {
	best, number := -1, p.e.state.rand()
	for range sample {
		number = balance.Mix(number + 0x9e3779b97f4a7c15)
		k := int(number % uint64(len(v.list)))
		if (best < 0 || p.lighter(v, k, best)) && p.can(int(v.list[k]), usable) {
			best = k
		}
	}
	if best < 0 {
		return -1
	}
	return int(v.list[best])
}

// hashed returns the server of a key: the one that the key names or, if that
// cannot, one that depends on the key alone. So only the keys of a server that
// is away are elsewhere, and they return with it. limit is of bounded loads; 0:
// none.
func (p *pool) hashed(v *view, h uint64, limit float64, usable func(string) bool) int {
	l := &p.levels[v.level]
	switch {
	case l.maglev != nil:
		slot := h
		for range attempts * 4 {
			if i := l.from + l.maglev.Lookup(slot); p.takes(v, i, h, limit, usable) {
				return i
			}
			slot = balance.Mix(slot + 0x9e3779b97f4a7c15)
		}
	case l.ring != nil:
		start := l.ring.Start(h)
		for k := range min(l.ring.Len(), 64*len(v.list)) {
			if i := l.from + l.ring.At(start+k); p.takes(v, i, h, limit, usable) {
				return i
			}
		}
	case v.even:
		if i := p.rendezvousEven(v, h, limit, usable); i >= 0 {
			return i
		}
	default:
		best, most := -1, math.Inf(-1)
		for _, i := range v.list {
			m := &p.members[i]
			if s := balance.Score(h, m.hash, m.weight); s > most && p.takes(v, int(i), h, limit, usable) {
				best, most = int(i), s
			}
		}
		if best >= 0 {
			return best
		}
	}
	// All are full, or few are left.
	best := -1
	for k, i := range v.list {
		if (best < 0 || p.lighter(v, k, best)) && p.can(int(i), usable) {
			best = k
		}
	}
	if best < 0 {
		return -1
	}
	return int(v.list[best])
}

// rendezvousEven is rendezvous hashing among equal weights: then the logarithms
// of balance.Score do not matter.
func (p *pool) rendezvousEven(v *view, h uint64, limit float64, usable func(string) bool) int {
	best, most := -1, uint64(0)
	for k, name := range v.hashes {
		if s := balance.Mix(h ^ name); (s > most || best < 0) && p.takes(v, int(v.list[k]), h, limit, usable) {
			best, most = int(v.list[k]), s
		}
	}
	return best
}

// bound returns the load per unit of weight that is too much, with bounded
// loads (Mirrokni, Thorup, Zadimoghaddam, SODA 2018); 0: there is none.
func (p *pool) bound(v *view) float64 {
	if p.hash.LoadPercent == 0 || v.sum == 0 {
		return 0
	}
	return float64(p.totalLoad(v)+1) * float64(p.hash.LoadPercent) / 100 / float64(v.sum)
}

// takes tells whether a member takes a key. In a slow start it takes a growing
// part of its keys, always the same.
func (p *pool) takes(v *view, i int, h uint64, limit float64, usable func(string) bool) bool {
	m := &p.members[i]
	if !v.healthy[i] || m.weight == 0 {
		return false
	}
	if v.ramp != nil && v.ramp[i] < 100 && balance.Mix(h^m.hash^1)%100 >= uint64(v.ramp[i]) {
		return false
	}
	if limit > 0 && float64(m.server.load()) >= math.Ceil(limit*float64(m.weight)) {
		return false
	}
	return p.can(i, usable)
}

// anyOther goes through the members of the other levels.
func (p *pool) anyOther(v *view, usable func(string) bool) int {
	for i := range p.members {
		if v.level >= 0 && i >= p.levels[v.level].from && i < p.levels[v.level].to {
			continue
		}
		if v.healthy[i] && p.members[i].weight > 0 && p.can(i, usable) {
			return i
		}
	}
	return -1
}
