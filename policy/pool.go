package policy

import (
	"cmp"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/shunt-sdn/shunt/policy/balance"
	"github.com/shunt-sdn/shunt/policy/health"
)

// pool is a compiled pool. Only view changes.
type pool struct {
	e            *Engine
	name, key    string // the key is that of its state
	algorithm    Algorithm
	hash         Hash
	panicking    uint32 // percentage
	slow         *SlowStart
	ejection     *health.EjectionRule
	ejectMost    uint32 // percentage
	serverErrors bool
	program      *Program
	backup       *pool
	services     map[string]bool // that lead to it

	members []member // by priority
	index   map[string]int32
	levels  []level
	state   *poolState

	view atomic.Pointer[view]
}

// member is a server in a pool.
type member struct {
	name    string
	hash    uint64 // of the name
	weight  uint32 // hundredths; 0: only requests that are bound to it
	drain   bool
	maxLoad int64 // 0: none
	server  *serverState
	state   *memberState // guarded by State.mu
}

// level is the members of one priority.
type level struct {
	from, to int
	maglev   *balance.Maglev
	ring     *balance.Ring
}

func newPool(e *Engine, m *Pool, key string, members []Member) *pool {
	p := &pool{e: e, name: m.Name, key: key, algorithm: or(m.Algorithm, RoundRobinAlgorithm), panicking: m.PanicPercent, slow: m.SlowStart, services: make(map[string]bool)}
	if m.Hash != nil {
		p.hash = *m.Hash
	}
	if len(p.hash.On) == 0 {
		p.hash.On = []HashKey{{Kind: KeyClient}}
	}
	if m.Ejection != nil {
		x := m.Ejection.Or()
		p.ejection = &health.EjectionRule{Failures: int(x.Failures), Base: x.BaseTime, Max: x.MaxTime}
		p.ejectMost, p.serverErrors = x.MaxPercent, x.ServerErrors
	}
	st := e.state
	st.mu.Lock()
	p.state = st.pool(key)
	p.fill(members)
	old := p.state.tables
	st.mu.Unlock()
	if m.External != nil {
		p.program = newProgram(p, m.External)
	}
	made := p.tables(old) // takes a tenth of a second for big pools
	st.mu.Lock()
	p.state.tables = made
	st.mu.Unlock()
	return p
}

// fill makes the members. The caller holds State.mu.
func (p *pool) fill(list []Member) {
	list = slices.Clone(list)
	slices.SortStableFunc(list, func(a, b Member) int { return cmp.Compare(a.Priority, b.Priority) })
	p.members = make([]member, len(list))
	p.index = make(map[string]int32, len(list))
	for i, m := range list {
		o, ok := p.e.servers[m.Server]
		if !ok {
			o.WeightPercent = 100
		}
		p.members[i] = member{name: m.Server, hash: balance.NewHash().Add(m.Server).Sum(), weight: m.Weight * o.WeightPercent,
			drain: o.Drain, maxLoad: int64(o.MaxLoad), server: p.e.state.server(m.Server), state: p.state.member(m.Server)}
		p.index[m.Server] = int32(i)
		if i == 0 || m.Priority != list[i-1].Priority {
			p.levels = append(p.levels, level{from: i})
		}
		p.levels[len(p.levels)-1].to = i + 1
	}
	for name := range p.state.members {
		if _, ok := p.index[name]; !ok {
			delete(p.state.members, name)
		}
	}
}

// tables makes the hash tables, or takes those that an engine before has made
// of the same members from old. It returns them by what they were made of.
func (p *pool) tables(old map[string]any) map[string]any {
	made := make(map[string]any)
	for i := range p.levels {
		l := &p.levels[i]
		names, weights := p.weights(l)
		if p.algorithm != Maglev && p.algorithm != RingHash || slices.Max(weights) == 0 || len(names) > balance.MaxMaglev {
			continue // rendezvous needs no table
		}
		key := fmt.Sprint(p.algorithm, p.hash.TableSize, p.hash.Points, names, weights)
		if p.algorithm == Maglev {
			t, ok := old[key].(*balance.Maglev)
			if !ok {
				t = balance.NewMaglev(names, weights, int(or(p.hash.TableSize, uint32(balance.MaglevSize(len(names))))))
			}
			l.maglev, made[key] = t, t
		} else {
			t, ok := old[key].(*balance.Ring)
			if !ok {
				t = balance.NewRing(names, weights, int(or(p.hash.Points, DefaultRingPoints)))
			}
			l.ring, made[key] = t, t
		}
	}
	return made
}

// scan is how many members rendezvous hashing is quick enough for.
const scan = 64

// forAffinity makes tables for keys in a pool whose algorithm has none.
func (p *pool) forAffinity() {
	for ; p != nil; p = p.backup {
		for i := range p.levels {
			l := &p.levels[i]
			names, weights := p.weights(l)
			if l.maglev == nil && l.ring == nil && p.algorithm != Rendezvous && len(names) > scan && len(names) <= balance.MaxMaglev && slices.Max(weights) > 0 {
				l.maglev = balance.NewMaglev(names, weights, balance.MaglevSize(len(names)))
			}
		}
	}
}

// weights returns a level's names and weights, these in the smallest numbers.
func (p *pool) weights(l *level) ([]string, []uint32) {
	var names []string
	var weights []uint32
	divisor := uint32(0)
	for _, m := range p.members[l.from:l.to] {
		names, weights = append(names, m.name), append(weights, m.weight)
		divisor = gcd(m.weight, divisor)
	}
	for i := range weights {
		weights[i] /= max(divisor, 1)
	}
	return names, weights
}

func gcd(a, b uint32) uint32 {
	for b != 0 {
		a, b = b, a%b
	}
	return a
}

// onlyClient tells whether the hash is the same for all requests of a connection.
func (p *pool) onlyClient() bool {
	return !slices.ContainsFunc(p.hash.On, func(k HashKey) bool { return k.Kind != KeyClient })
}
