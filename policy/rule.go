package policy

import "github.com/shunt-sdn/shunt/policy/balance"

// Choice is where a request goes.
type Choice struct {
	Server string
	// Pool that the server was chosen from; empty: the service's servers.
	Pool string
	// Mode is Migrate or Proxy.
	Mode Mode
	// Bound: by affinity or by a hash of the request, not by whose turn it is.
	Bound bool
	// Class of the request for Rule.Learn.
	Class Class
	// Ask is not nil if an operator's program is to be asked; the server is the
	// fallback.
	Ask *Program
}

type shares struct {
	balance.Shares
	one bool
}

func (r *Rule) split(weights []uint32) {
	r.shares = shares{balance.NewShares(weights), len(weights) == 1}
}

// Choose returns the server that a request goes to. usable, which may be nil,
// tells of a server whether this request may go to it: it was not tried before,
// and whatever the State does not know. It is called with the pool locked: it
// must be quick and not choose. False: there is no server, or the route rejects.
//
// The server's load counts one more until the next report or Done.
func (r *Rule) Choose(q *Request, usable func(server string) bool) (Choice, bool) {
	return r.choose(q, usable, false, nil)
}

func (r *Rule) choose(q *Request, usable func(string) bool, peek bool, why *trace) (Choice, bool) {
	if len(r.pools) == 0 {
		return Choice{}, false
	}
	c := Choice{}
	name, h, bound := r.affine(q)
	if name != "" {
		if p, i := r.named(name, usable); p != nil {
			why.bound(r, name)
			if !peek {
				p.members[i].server.since.Add(1)
			}
			c.Server, c.Pool, c.Bound = name, p.name, true
			return r.complete(c, q, peek), true
		}
		why.notBound(r, name)
	}
	first := 0
	switch {
	case r.shares.one:
	case bound:
		first = r.shares.Pick(balance.Mix(h))
	case peek:
		first = r.shares.Pick(balance.Spread(r.state.splits.Load() + 1))
	default:
		first = r.shares.Pick(balance.Spread(r.state.splits.Add(1)))
	}
	for k := range r.pools {
		at := (first + k) % len(r.pools)
		if k > 0 && r.shares.Weight(at) == 0 {
			continue
		}
		for p := r.pools[at]; p != nil; p = p.backup {
			v := p.current()
			i := -1
			if bound {
				i = p.affine(v, h, usable, peek)
			}
			if i < 0 {
				i = p.choose(v, q, usable, peek)
			}
			why.pool(p, v, i)
			if i < 0 {
				continue
			}
			c.Server, c.Pool, c.Bound = p.members[i].name, p.name, bound || p.algorithm.hashes()
			if !bound {
				c.Ask = p.program
			}
			return r.complete(c, q, peek), true
		}
	}
	return Choice{}, false
}

// complete fills in what does not depend on the server.
func (r *Rule) complete(c Choice, q *Request, peek bool) Choice {
	c.Mode = r.mode
	if r.mode == Auto {
		c.Class = ClassOf(q)
		x := uint64(0)
		if !peek {
			x = r.e.state.rand()
		}
		c.Mode = r.state.learner.Decide(c.Class, x)
	}
	return c
}

// affine returns the server that affinity may name, and the hash that it goes by.
func (r *Rule) affine(q *Request) (name string, h uint64, bound bool) {
	if r.affinity == nil {
		return "", 0, false
	}
	switch {
	case r.affinity.Client:
		if !q.Client.IsValid() {
			return "", 0, false
		}
		return "", addAddr(balance.NewHash(), q.Client).Sum(), true
	case r.affinity.Cookie != "":
		name = q.Cookie(r.affinity.Cookie)
	default:
		name = q.Field(r.affinity.Header)
	}
	return name, balance.NewHash().Add(name).Sum(), name != ""
}

// named returns the pool and member of that name if it can be used, whatever
// its weight and priority.
func (r *Rule) named(name string, usable func(string) bool) (*pool, int32) {
	for _, p := range r.pools {
		for ; p != nil; p = p.backup {
			if i, ok := p.index[name]; ok && p.current().healthy[i] && p.can(int(i), usable) {
				return p, i
			}
		}
	}
	return nil, -1
}

// affine is hashed for pools of any algorithm. Loads do not matter: affinity is
// about state that a client has on its server.
func (p *pool) affine(v *view, h uint64, usable func(string) bool, peek bool) int {
	if v.level < 0 || len(v.list) == 0 {
		return -1
	}
	i := p.hashed(v, h, 0, usable)
	if i >= 0 && !peek {
		p.members[i].server.since.Add(1)
		v.total.Add(1)
	}
	return i
}

// Accepts tells whether a connection that is on a server may stay there for its
// next request: the route leads to a pool that the server is in, the server can
// be used, and affinity or the hash of the request, if there is one, names it.
// False also if the route rejects, has limits, or asks a program: then the
// dispatcher has to decide.
func (r *Rule) Accepts(q *Request, server string) bool {
	if r.reject != nil || r.limits.RequestsPerSecond > 0 || r.limits.MaxBodyBytes > 0 && (q.ContentLength < 0 || uint64(q.ContentLength) > r.limits.MaxBodyBytes) {
		return false
	}
	name, h, bound := r.affine(q)
	if name != "" {
		if p, _ := r.named(name, nil); p != nil {
			return name == server
		}
	}
	for at, p := range r.pools {
		if r.shares.Weight(at) == 0 {
			continue
		}
		if p.accepts(q, server, h, bound) {
			return true
		}
	}
	return false
}

func (p *pool) accepts(q *Request, server string, h uint64, bound bool) bool {
	for ; p != nil; p = p.backup {
		v := p.current()
		if v.level < 0 {
			continue // to the backup
		}
		i, ok := p.index[server]
		if !ok || !v.healthy[i] || p.program != nil && !bound {
			return false
		}
		if l := p.levels[v.level]; int(i) < l.from || int(i) >= l.to {
			return false
		}
		if !bound && p.algorithm.hashes() {
			h, bound = key(p.hash.On, q)
		}
		// Where the key belongs, it may stay even if the load, to which the
		// connection itself adds, sends others on.
		return !bound || p.hashed(v, h, 0, nil) == int(i) || p.hash.LoadPercent > 0 && p.hashed(v, h, p.bound(v), nil) == int(i)
	}
	return false
}
