package health

import (
	"cmp"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"reflect"
	"slices"
	"sync"
	"time"

	"github.com/shunt-sdn/shunt/policy/health"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// Options of a Prober.
type Options struct {
	// Changed is called from the prober's goroutines after each change of what
	// States returns. It must not call the prober.
	Changed func()
	// Dial makes connections; nil: a net.Dialer's.
	Dial Dial
	Log  *slog.Logger
}

// Prober runs checks. Its methods are safe for concurrent use.
type Prober struct {
	o    Options
	ctx  context.Context
	stop context.CancelFunc
	wg   sync.WaitGroup

	mu      sync.Mutex // guards what follows
	running map[key]*runner
	closed  bool
}

type key struct{ pool, service string }

// runner is a check that runs.
type runner struct {
	check Check
	stop  context.CancelFunc

	// Guarded by Prober.mu:
	tally   health.Check
	verdict verdict // the tally's, and before it has one that of the runner before
}

type verdict struct {
	health health.State
	reason string
	since  time.Time
}

// New returns a prober without checks.
func New(o Options) *Prober {
	if o.Dial == nil {
		o.Dial = (&net.Dialer{}).DialContext
	}
	p := &Prober{o: o, running: make(map[key]*runner)}
	p.ctx, p.stop = context.WithCancel(context.Background())
	return p
}

// Set makes the checks those that run. One that ran before and is the same runs
// on; of one that has changed the verdict stays until the next one.
func (p *Prober) Set(checks []Check) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	wanted := make(map[key]bool, len(checks))
	for _, c := range checks {
		k := key{c.Pool, c.Service}
		wanted[k] = true
		r := &runner{check: c, tally: health.Check{Rise: int(c.Spec.Rise), Fall: int(c.Spec.Fall)}}
		if old := p.running[k]; old != nil {
			if reflect.DeepEqual(old.check, c) {
				continue
			}
			old.stop()
			r.verdict = old.verdict
		}
		if c.Address == "" {
			r.verdict = verdict{reason: fmt.Sprintf("the application of service %s has no address of its own that could be checked; give it one in the agent's configuration: direct", c.Service)}
		}
		p.running[k] = r
		var ctx context.Context
		ctx, r.stop = context.WithCancel(p.ctx)
		if c.Address != "" {
			p.wg.Go(func() { p.run(ctx, r) })
		}
	}
	for k, r := range p.running {
		if !wanted[k] {
			r.stop()
			delete(p.running, k)
		}
	}
}

// run checks until ctx ends: at once, then at intervals that differ by a little,
// so that checks of many pools do not fall together.
func (p *Prober) run(ctx context.Context, r *runner) {
	wait := time.NewTimer(0)
	defer wait.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-wait.C:
		}
		began := time.Now()
		err := r.check.try(ctx, p.o.Dial)
		if ctx.Err() != nil {
			return
		}
		p.observe(r, err)
		interval := r.check.Spec.Interval
		interval += time.Duration((rand.Float64() - 0.5) * 0.1 * float64(interval))
		wait.Reset(max(interval-time.Since(began), 0))
	}
}

func (p *Prober) observe(r *runner, err error) {
	what := ""
	if err != nil {
		what = err.Error()
	}
	p.mu.Lock()
	before := r.verdict
	if r.tally.Observe(what, time.Now()) {
		r.verdict.health, r.verdict.reason, r.verdict.since = r.tally.State()
	}
	now := r.verdict
	changed := now != before && p.running[key{r.check.Pool, r.check.Service}] == r
	p.mu.Unlock()
	if !changed {
		return
	}
	level := slog.LevelInfo
	if !now.health.Usable() {
		level = slog.LevelWarn
	}
	p.o.Log.Log(context.Background(), level, "health check", "pool", r.check.Pool, "service", r.check.Service, "health", now.health, "reason", now.reason)
	if p.o.Changed != nil {
		p.o.Changed()
	}
}

// States returns the verdicts, one per pool and ordered by it: the worst of the
// node's applications that the pool wants checked. They are for Report.checks;
// the server is left out, as a report is of one node.
func (p *Prober) States() []*shuntv1.ServerState {
	p.mu.Lock()
	defer p.mu.Unlock()
	worst := make(map[string]*runner)
	for k, r := range p.running {
		w := worst[k.pool]
		if w == nil || rank(r.verdict.health) > rank(w.verdict.health) ||
			rank(r.verdict.health) == rank(w.verdict.health) && k.service < w.check.Service {
			worst[k.pool] = r
		}
	}
	out := make([]*shuntv1.ServerState, 0, len(worst))
	for pool, r := range worst {
		s := &shuntv1.ServerState{Pool: pool, Health: healths[r.verdict.health], Reason: r.verdict.reason}
		if !r.verdict.since.IsZero() {
			s.SinceUnixNano = r.verdict.since.UnixNano()
		}
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b *shuntv1.ServerState) int { return cmp.Compare(a.Pool, b.Pool) })
	return out
}

// rank orders states by how much they matter: one application that fails makes
// the node fail, and one that is not known yet keeps it unknown.
func rank(h health.State) int {
	return map[health.State]int{health.Healthy: 0, health.Unknown: 1, health.Unhealthy: 2}[h]
}

var healths = map[health.State]shuntv1.HealthState{
	health.Unknown:   shuntv1.HealthState_HEALTH_STATE_UNKNOWN,
	health.Healthy:   shuntv1.HealthState_HEALTH_STATE_HEALTHY,
	health.Unhealthy: shuntv1.HealthState_HEALTH_STATE_UNHEALTHY,
}

// Close ends all checks and waits for them.
func (p *Prober) Close() {
	p.mu.Lock()
	p.closed = true
	p.mu.Unlock()
	p.stop()
	p.wg.Wait()
}
