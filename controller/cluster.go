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
	"github.com/shunt-sdn/shunt/controller/registry"
	"github.com/shunt-sdn/shunt/internal/tracing"
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
)

// cluster joins the parts: what agents say, what the disk remembers, what the
// switches are told.
type cluster struct {
	cfg      config.Config
	log      *slog.Logger
	store    *leases.Store
	switches switches

	nodes    *registry.Nodes
	handoffs *registry.Handoffs
	links    links
	queries  queries
	listing  listing

	telemetry *telemetry

	view     atomic.Pointer[view] // never nil once newCluster is done
	stopping atomic.Bool          // agents that leave are cut off by us

	refreshing sync.Mutex        // held by refresh; guards what follows
	version    uint64            // of the latest configuration
	stored     map[string][]byte // records of nodes on the disk

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
		sessions: registry.NewSessions(timing(cfg)),
		// Agents compare versions across restarts of the controller.
		version: uint64(time.Now().UnixMicro()),
	}
	freed, err := store.Retain(func(k leases.Key, a netip.Addr) bool { return stillWanted(cfg, k, a) })
	if err != nil {
		return nil, err
	}
	for _, k := range freed {
		log.Info("session address freed: the configuration has no use for it any more", "lease", k)
	}
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
	defer c.stopping.Store(true)
	tick := time.NewTicker(tickEvery)
	defer tick.Stop()
	gap := time.NewTimer(0)
	defer gap.Stop()
	started, deadline := false, time.Now().Add(warmUp)
	changed := (<-chan struct{})(nil) // not before the gap is over
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
			changed = c.nodes.Changed()
		case <-changed:
			if err := c.refresh(); err != nil {
				c.log.Error("the cluster's state could not be brought up to date", "err", err)
			}
			changed = nil
			gap.Reset(refreshGap)
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
	c.nodes.GiveUp()
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
// the nodes.
func (c *cluster) refresh() error {
	c.refreshing.Lock()
	defer c.refreshing.Unlock()
	nodes := c.nodes.List()
	// An exhausted pool leaves some dispatchers without a lease; the others work.
	addresses, err := c.store.Assign(c.cfg.Pools, wanted(c.cfg.Services, nodes)...)
	if err != nil && !errors.Is(err, leases.ErrExhausted) {
		return err
	}
	old := c.view.Load()
	next := makeView(c.cfg, nodes, addresses, c.version)
	if old == nil || !proto.Equal(old.config, next.config) {
		c.version++
		next.config.Version = c.version
		c.view.Store(next)
		c.links.each(func(l *api.Link) { l.Configure(next.config) })
		if old == nil || !reflect.DeepEqual(old.topology, next.topology) {
			c.switches.SetTopology(next.topology)
		}
	}
	return errors.Join(err, c.remember(nodes))
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
