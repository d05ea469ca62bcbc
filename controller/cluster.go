package controller

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"net/netip"
	"reflect"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/shunt-sdn/shunt/controller/api"
	"github.com/shunt-sdn/shunt/controller/config"
	"github.com/shunt-sdn/shunt/controller/fabric"
	"github.com/shunt-sdn/shunt/controller/leases"
	"github.com/shunt-sdn/shunt/controller/policystore"
	"github.com/shunt-sdn/shunt/controller/registry"
	"github.com/shunt-sdn/shunt/internal/tracing"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

const (
	// keepHandoffs is how many records of hand-offs are kept.
	keepHandoffs = 10000
	// warmUp is how long known nodes have to come back after a restart before
	// the steering of sessions that nobody listed is removed.
	warmUp = 10 * time.Second
	// tickEvery is the resolution of the rules for sessions.
	tickEvery = 200 * time.Millisecond
	// refreshGap is the least time between two answers to changes of nodes.
	refreshGap = 20 * time.Millisecond
	// loadsEvery is how often agents are told of servers' loads.
	loadsEvery = time.Second
)

// cluster joins the parts: what agents say, what the disk remembers, what the
// switches are told.
type cluster struct {
	cfg      config.Config
	log      *slog.Logger
	store    *leases.Store
	policy   *policystore.Store
	switches switches

	nodes    *registry.Nodes
	handoffs *registry.Handoffs
	links    links
	queries  queries
	listing  listing

	telemetry *telemetry
	traffic   traffic
	explainer explainer
	reported  chan struct{} // an agent's report has to be heard of at once

	view     atomic.Pointer[view] // never nil once newCluster is done
	stopping atomic.Bool          // agents that leave are cut off by us
	quit     chan struct{}        // closed when run has returned

	refreshing sync.Mutex             // held by refresh; guards what follows
	version    uint64                 // of the latest configuration
	stored     map[string][]byte      // records of nodes on the disk
	kept       []*shuntv1.ServerState // servers' health on the disk
	services   []config.Service       // whose leases are kept

	fencing sync.Mutex // held while a node is given up or readmitted

	tasks  sync.WaitGroup // searches that agents' lists have begun
	settle time.Duration  // registry.Timing.Settle
	reach  func(ctx context.Context, endpoint string) bool

	mu       sync.Mutex // guards sessions, and is held while their effects are performed
	sessions *registry.Sessions
}

// newCluster loads what the disk remembers and tells the switches about it.
func newCluster(cfg config.Config, log *slog.Logger, store *leases.Store, sw switches) (*cluster, error) {
	t := newTelemetry()
	log = slog.New(tracing.WithTraces(log.Handler(), &t.book))
	c := &cluster{
		cfg: cfg, log: log, store: store, switches: sw, telemetry: t,
		handoffs: registry.NewHandoffs(keepHandoffs),
		// Agents compare versions across restarts of the controller.
		version:  uint64(time.Now().UnixMicro()),
		reported: make(chan struct{}, 1),
		quit:     make(chan struct{}),
		reach:    reach,
	}
	var err error
	if c.policy, err = policystore.Open(store.DB()); err != nil {
		return nil, err
	}
	if c.kept, err = c.policy.Health(); err != nil {
		return nil, err
	}
	times := timing(effective(cfg, c.policy.State().Policy))
	c.sessions, c.settle = registry.NewSessions(times), times.Settle
	if c.stored, err = store.Nodes(); err != nil {
		return nil, err
	}
	var known []registry.Node
	for name, record := range c.stored {
		n, err := registry.ParseRecord(record)
		if err != nil {
			log.Error("node forgotten: its record is damaged", "node", name, "err", err)
			continue
		}
		known = append(known, n)
	}
	c.nodes = registry.NewNodes(cfg.Nodes, known)
	return c, c.refresh()
}

// free frees the leases that a configuration has no use for.
func (c *cluster) free(cfg config.Config) error {
	freed, err := c.store.Retain(func(k leases.Key, a netip.Addr) bool { return stillWanted(cfg, k, a) })
	for _, k := range freed {
		c.log.Info("session address freed: neither configuration nor policy has a use for it any more", "lease", k)
	}
	return err
}

// timing derives the rules' times from the configuration.
func timing(cfg config.Config) registry.Timing {
	t := registry.DefaultTiming
	t.Grace = cfg.NodeGrace
	for _, s := range cfg.Services {
		t.Settle = max(t.Settle, s.ImportTimeout+time.Second)
	}
	return t
}

// run does what is due until ctx ends.
func (c *cluster) run(ctx context.Context) {
	defer close(c.quit)
	defer c.stopping.Store(true)
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	gap := time.NewTimer(0)
	defer gap.Stop()
	loads := time.NewTicker(loadsEvery)
	defer loads.Stop()
	started, deadline := false, time.Now().Add(warmUp)
	// Not before the gap is over:
	changed, policy, reported := (<-chan struct{})(nil), (<-chan struct{})(nil), (<-chan struct{})(nil)
	refresh := func() {
		began := time.Now()
		if err := c.refresh(); err != nil {
			c.log.Error("the cluster's state could not be brought up to date", "err", err)
		}
		changed, policy, reported = nil, nil, nil
		gap.Reset(max(refreshGap, 4*time.Since(began))) // a big cluster leaves time for the rest
	}
	seen := c.view.Load().policy
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-tick.C:
			if !started {
				started = c.warm(now.After(deadline))
			}
			c.tick(now)
		case <-gap.C:
			changed, reported = c.nodes.Changed(), c.reported
			var latest *policystore.State
			if latest, policy = c.policy.Latest(); latest != seen {
				seen = latest
				refresh()
			}
		case <-changed:
			refresh()
		case <-policy:
			seen = c.policy.State()
			refresh()
		case <-reported:
			refresh()
		case <-loads.C:
			if changed != nil { // no refresh was just now
				refresh()
			}
		}
	}
}

// warm starts steering by the sessions that nodes listed, once all that are
// known did or time is up. It reports whether it did.
func (c *cluster) warm(late bool) bool {
	if missing := c.nodes.Awaited(); len(missing) > 0 {
		if !late {
			return false
		}
		c.log.Warn("nodes that were up have not come back; going on without them", "nodes", missing)
	}
	c.nodes.StopWaiting()
	c.mu.Lock()
	defer c.mu.Unlock()
	var all []fabric.Session
	for _, s := range c.sessions.Start() {
		all = append(all, steered(s))
	}
	c.switches.Replace(all)
	c.telemetry.warm.Store(true)
	c.log.Info("sessions are known", "elsewhere", len(all))
	return true
}

// refresh brings leases, configurations, switches and the disk in line with
// the nodes and the policy.
func (c *cluster) refresh() error {
	c.refreshing.Lock()
	defer c.refreshing.Unlock()
	nodes, policy, old := c.nodes.List(), c.policy.State(), c.view.Load()
	cfg := effective(c.cfg, policy.Policy)
	if !reflect.DeepEqual(c.services, cfg.Services) {
		if err := c.free(cfg); err != nil {
			return err
		}
		c.services = cfg.Services
	}
	// An exhausted pool leaves some dispatchers without a lease; the others work.
	addresses, err := c.store.Assign(cfg.Pools, wanted(cfg.Services, nodes)...)
	if err != nil && !errors.Is(err, leases.ErrExhausted) {
		return err
	}
	next := makeView(cfg, nodes, addresses, c.version)
	next.setPolicy(policy, nodes, old, c.kept)
	if old == nil || !proto.Equal(old.config, next.config) {
		c.version++
		next.config.Version = c.version
		c.view.Store(next)
		c.links.each(func(_ string, l *api.Link) { l.Configure(next.config) })
		if old == nil || !reflect.DeepEqual(old.topology, next.topology) {
			c.switches.SetTopology(next.topology)
		}
	}
	return errors.Join(err, c.remember(nodes), c.keepHealth(next.config.Policy.States))
}

// keepHealth writes the servers' health to the disk if it has changed.
func (c *cluster) keepHealth(states []*shuntv1.ServerState) error {
	health := healthOnly(states)
	if sameStates(health, c.kept) {
		return nil
	}
	if err := c.policy.KeepHealth(health); err != nil {
		return err
	}
	c.kept = health
	return nil
}

// remember writes what changed of the nodes to the disk.
func (c *cluster) remember(nodes []registry.Node) error {
	changes := make(map[string][]byte)
	records := make(map[string][]byte, len(nodes))
	var errs []error
	for _, n := range nodes {
		record, err := n.Record()
		if err != nil {
			errs = append(errs, err)
			continue
		}
		records[n.Name] = record
		if string(c.stored[n.Name]) != string(record) {
			changes[n.Name] = record
		}
	}
	for name := range c.stored {
		if records[name] == nil {
			changes[name] = nil
		}
	}
	if len(changes) > 0 {
		if err := c.store.PutNodes(changes); err != nil {
			return errors.Join(append(errs, err)...)
		}
		c.stored = maps.Clone(records)
	}
	return errors.Join(errs...)
}

// tick performs what has become due for sessions.
func (c *cluster) tick(now time.Time) {
	c.queries.expire(now)
	c.mu.Lock()
	defer c.mu.Unlock()
	c.perform(c.sessions.Tick(now), nil)
}
