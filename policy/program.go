package policy

import (
	"fmt"

	"github.com/shunt-sdn/shunt/policy/health"
)

// Program is an operator's program that chooses the server of a request: how to
// reach it, and whether to ask it now. Asking is the caller's part:
//
//	if c.Ask != nil && c.Ask.Allow() {
//		answer, err := …within c.Ask.Config.Deadline, with c.Ask.Candidates(nil, usable)
//		c, err = c.Ask.Settle(c, answer, usable)  // or Failed(err), or Declined()
//	}
type Program struct {
	// Config with standard values filled in.
	Config External

	rule health.BreakerRule
	pool *pool
}

func newProgram(p *pool, x *External) *Program {
	c := *x
	c.Deadline = or(c.Deadline, DefaultExternalDeadline)
	c.Breaker = c.Breaker.Or()
	return &Program{Config: c, pool: p, rule: health.BreakerRule{Failures: int(c.Breaker.Failures),
		Open: c.Breaker.OpenTime, Max: MaxBreakerOpen, Trials: int(c.Breaker.Trials)}}
}

// Allow tells whether the program may be asked now: its breaker is closed, or
// this is a trial. Who is allowed must call Settle, Declined or Failed once.
func (x *Program) Allow() bool { return x.pool.state.breaker.Allow(x.pool.e.state.now()) }

// Failed says that the program did not answer in time, or nonsense. It tells
// whether its breaker has opened by that.
func (x *Program) Failed(err error) bool {
	return x.pool.state.breaker.Observe(x.rule, err.Error(), x.pool.e.state.now())
}

// Declined says that the program answered, with a rejection or by leaving the
// choice to the pool's algorithm.
func (x *Program) Declined() { x.pool.state.breaker.Observe(x.rule, "", x.pool.e.state.now()) }

// Settle puts the server that the program named in the place of the fallback. A
// server that is no candidate is a failure of the program; the error says so,
// and the choice stays as it was.
func (x *Program) Settle(c Choice, server string, usable func(string) bool) (Choice, error) {
	v := x.pool.current()
	i, ok := x.pool.index[server]
	if !ok || !v.healthy[i] || !x.pool.can(int(i), usable) {
		err := fmt.Errorf("the program at %s named %q, which is no candidate of the pool %s", x.Config.Address, server, x.pool.name)
		x.Failed(err)
		return c, err
	}
	x.Declined()
	if server != c.Server {
		x.pool.e.state.Done(c.Server)
		x.pool.members[i].server.since.Add(1)
		c.Server = server
	}
	return c, nil
}

// Open tells whether the breaker is open, and why.
func (x *Program) Open() (bool, string) { return x.pool.state.breaker.Open() }

// Candidate is a server that a program can name.
type Candidate struct {
	Server string
	Weight uint32
	Load   int
}

// Candidates appends the servers that can be chosen now to list.
func (x *Program) Candidates(list []Candidate, usable func(string) bool) []Candidate {
	v := x.pool.current()
	for i := range x.pool.members {
		if m := &x.pool.members[i]; v.healthy[i] && m.weight > 0 && x.pool.can(i, usable) {
			list = append(list, Candidate{m.name, m.weight / 100, int(m.server.load())})
		}
	}
	return list
}
