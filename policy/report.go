package policy

import (
	"cmp"
	"slices"
	"time"

	"github.com/shunt-sdn/shunt/policy/health"
)

// Health is the state of a server. Only Unknown and Healthy ones are used.
type Health = health.State

const (
	Unknown   = health.Unknown
	Healthy   = health.Healthy
	Unhealthy = health.Unhealthy
	Ejected   = health.Ejected
)

// SetUp says whether a server can be reached at all: its agent is connected and
// its application takes sessions. A server that nothing was said of is up. One
// that is down is not chosen, not even in a panic.
func (st *State) SetUp(server string, up bool, reason string) {
	st.mu.Lock()
	defer st.mu.Unlock()
	s := st.server(server)
	s.reason = reason
	if s.down == up {
		s.down = !up
		st.epoch.Add(1)
	}
}

// SetHealth says what active checks (Unknown, Healthy, Unhealthy) or somebody
// else (Ejected) found out about a server in a pool; an empty pool means every
// pool.
func (st *State) SetHealth(pool, server string, h Health, reason string) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if pool == "" {
		s := st.server(server)
		if s.health != h {
			s.health, s.when = h, st.now()
			st.epoch.Add(1)
		}
		s.why = reason
		return
	}
	m := st.pool(pool).member(server)
	if m.check != h {
		m.check, m.since = h, st.now()
		st.epoch.Add(1)
	}
	m.why = reason
}

// SetLoad says how many requests or connections a server works on.
func (st *State) SetLoad(server string, load int) {
	st.mu.RLock()
	s := st.servers[server]
	st.mu.RUnlock()
	if s == nil {
		st.mu.Lock()
		s = st.server(server)
		st.mu.Unlock()
	}
	s.reported.Store(int64(load))
	s.since.Store(0)
}

// Done takes a request off a server's load that Choose has put there: it ended,
// or the server did not get it. Not needed for servers whose load is reported
// often.
func (st *State) Done(server string) {
	st.mu.RLock()
	s := st.servers[server]
	st.mu.RUnlock()
	if s == nil {
		return
	}
	for {
		n := s.since.Load()
		if n <= 0 || s.since.CompareAndSwap(n, n-1) {
			return
		}
	}
}

// Took takes in that a server took a request that Choose has put on its load,
// and what its load is with it: fresher than the latest report.
func (st *State) Took(server string, load int) {
	st.Done(server)
	st.mu.RLock()
	s := st.servers[server]
	st.mu.RUnlock()
	if s != nil {
		s.reported.Store(int64(load))
	}
}

// Hold keeps a request that Choose has put on a server's load there until
// release is called, once: for what is no part of the server's reports, as its
// agent does not see it.
func (st *State) Hold(server string) (release func()) {
	st.Done(server)
	st.mu.Lock()
	s := st.server(server)
	st.mu.Unlock()
	s.held.Add(1)
	return func() { s.held.Add(-1) }
}

// Load is the load of a server: the latest report and what was sent since.
func (st *State) Load(server string) int {
	st.mu.RLock()
	defer st.mu.RUnlock()
	if s := st.servers[server]; s != nil {
		return int(s.load())
	}
	return 0
}

// ServerState is the state of a server in a pool.
type ServerState struct {
	Pool   string // a pool without members of its own: service/pool
	Server string
	Health Health
	Up     bool
	// Reason of the state; empty if there is nothing to tell.
	Reason string
	Since  time.Time // zero: unknown
	Load   int
}

// States lists the servers of all pools that an engine has had, by pool and
// server.
func (st *State) States() []ServerState {
	now := st.now()
	st.mu.RLock()
	defer st.mu.RUnlock()
	var out []ServerState
	for pool, p := range st.pools {
		for name, m := range p.members {
			s := st.servers[name]
			if s == nil {
				continue
			}
			h, why, since := m.state(s, now)
			out = append(out, ServerState{Pool: pool, Server: name, Health: h, Up: !s.down, Reason: cmp.Or(s.reason, why), Since: since, Load: int(s.load())})
		}
	}
	slices.SortFunc(out, func(a, b ServerState) int {
		return cmp.Or(cmp.Compare(a.Pool, b.Pool), cmp.Compare(a.Server, b.Server))
	})
	return out
}

// state is the worst of what is known. The caller holds State.mu.
func (m *memberState) state(s *serverState, now time.Time) (Health, string, time.Time) {
	switch {
	case m.eject.Out(now):
		why, since := m.eject.Reason()
		return Ejected, why, since
	case !m.check.Usable():
		return m.check, m.why, m.since
	case !s.health.Usable():
		return s.health, s.why, s.when
	case m.check == Healthy || s.health == Unknown:
		return m.check, m.why, m.since
	}
	return s.health, s.why, s.when
}
