package policy

import (
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/shunt-sdn/shunt/policy/health"
)

// State is what outlives a change of the policy: whose turn it is, loads,
// health, ejections, slow starts, limits, what was learned. It is keyed by
// names, so that only what a change is about changes. One State serves all
// engines of a node. It is safe for concurrent use.
type State struct {
	now  func() time.Time
	rand func() uint64

	// epoch grows with everything that changes who may be chosen.
	epoch atomic.Uint64

	mu      sync.RWMutex            // guards the maps and the fields named so below
	servers map[string]*serverState // by server
	pools   map[string]*poolState   // by pool, or service and pool
	rules   map[ruleKey]*ruleState  // by service and route
}

type ruleKey struct{ service, route string }

// serverState is a server in all pools.
type serverState struct {
	id   int32 // unique and never used again
	name string

	reported atomic.Int64 // load, by its agent
	since    atomic.Int64 // sent to it since that report
	held     atomic.Int64 // sent to it past its agent, and not over yet: see Hold

	errors map[string]uint64 // that its agent has counted, by service; guarded by State.mu

	down   bool   // guarded by State.mu
	reason string // why it is down; guarded by State.mu
	// What others found out, for all pools; guarded by State.mu.
	health health.State
	why    string
	when   time.Time
}

// load is the latest report, what was sent since, and what is in no report.
func (s *serverState) load() int64 { return s.reported.Load() + s.since.Load() + s.held.Load() }

// poolState is a pool, for all engines.
type poolState struct {
	breaker health.Breaker
	turn    atomic.Uint64 // of ties and of keys that are missing

	members map[string]*memberState // guarded by State.mu
	old     *view                   // the latest, of any engine; guarded by State.mu
	tables  map[string]any          // hash tables by what they were made of; guarded by State.mu
}

// memberState is a server in a pool. Guarded by State.mu.
type memberState struct {
	check  health.State // by active checks
	why    string
	since  time.Time
	eject  health.Ejection
	usable bool      // as of the latest view
	began  time.Time // slow start; zero: none
}

// ruleState is a route, for all engines.
type ruleState struct {
	splits  atomic.Uint64 // requests that were split among pools
	allowed atomic.Int64  // rate limit: see limit.go
	learner Learner
}

// Options of a State. The zero value is the system's clock and randomness.
type Options struct {
	// Now returns the time.
	Now func() time.Time
	// Rand returns a number, drawn evenly from all 64-bit numbers. It must be
	// safe for concurrent use.
	Rand func() uint64
}

// NewState returns a state in which nothing is known.
func NewState(o Options) *State {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Rand == nil {
		o.Rand = rand.Uint64
	}
	return &State{now: o.Now, rand: o.Rand, servers: make(map[string]*serverState),
		pools: make(map[string]*poolState), rules: make(map[ruleKey]*ruleState)}
}

// server returns the state of a server. The caller holds mu for writing.
func (st *State) server(name string) *serverState {
	s := st.servers[name]
	if s == nil {
		s = &serverState{id: int32(len(st.servers)), name: name}
		st.servers[name] = s
	}
	return s
}

// pool returns the state of a pool. The caller holds mu for writing.
func (st *State) pool(key string) *poolState {
	p := st.pools[key]
	if p == nil {
		p = &poolState{members: make(map[string]*memberState), tables: make(map[string]any)}
		st.pools[key] = p
	}
	return p
}

// member returns the state of a member. The caller holds State.mu for writing.
func (p *poolState) member(server string) *memberState {
	m := p.members[server]
	if m == nil {
		m = &memberState{}
		p.members[server] = m
	}
	return m
}

func (st *State) rule(service, route string) *ruleState {
	k := ruleKey{service, route}
	r := st.rules[k]
	if r == nil {
		r = &ruleState{}
		st.rules[k] = r
	}
	return r
}

// forget drops the pools and routes that the engine has not. Engines before it
// that are still in use keep theirs.
func (st *State) forget(e *Engine) {
	st.mu.Lock()
	defer st.mu.Unlock()
	pools := make(map[string]bool, len(e.pools))
	for _, p := range e.pools {
		pools[p.key] = true
	}
	for key := range st.pools {
		if !pools[key] {
			delete(st.pools, key)
		}
	}
	for k := range st.rules {
		s := e.services[k.service]
		if s == nil || k.route != "" && !slices.ContainsFunc(s.rules, func(r *Rule) bool { return r.Name == k.route }) {
			delete(st.rules, k)
		}
	}
}
