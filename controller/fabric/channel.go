package fabric

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"time"

	"github.com/shunt-sdn/shunt/controller/openflow"
	"github.com/shunt-sdn/shunt/controller/pipeline"
	"github.com/shunt-sdn/shunt/controller/steering"
)

// A channel is one connection of a switch, driven by one goroutine.
type channel struct {
	*device
	conn *openflow.Conn
	log  *slog.Logger
	now  func() time.Time

	features  pipeline.Features
	ports     map[string]uint32
	names     map[uint32]string
	installed pipeline.Set // static flows that the switch has and should have
	// orphans are static flows of ours that the switch has and, it seems,
	// should not have. They are left until settled, and then deleted.
	orphans []openflow.FlowStat
	settled time.Time
	holding bool // the assignment to homes that the switch came with
	dirty   bool // flows are to be computed anew
	retry   time.Time
	backoff time.Duration
	warned  time.Time // of a forged address
	open    []*inquiry
}

const (
	requestTimeout = 30 * time.Second
	lookEvery      = 100 * time.Millisecond
	asksPerLook    = 64
	retryAtLeast   = time.Second
	retryAtMost    = 30 * time.Second
)

// run drives the switch until ctx ends or the switch cannot be used.
func (c *channel) run(ctx context.Context) error {
	// Packet-ins by a flow's action or miss; every change of a port.
	async := openflow.AsyncConfig{PacketIn: [2]uint32{3, 3}, PortStatus: [2]uint32{7, 7}}
	if err := c.conn.SetAsync(ctx, async); err != nil {
		c.log.Warn("the switch does not let us choose its messages; it may send none", "err", err)
	}
	var err error
	if c.features, err = probe(ctx, c.conn, c.cfg.Steering, c.cfg.Zone); err != nil {
		return err
	}
	var method steering.Method = steering.Flows{}
	if c.features.Conntrack {
		method = steering.Marks{Zone: c.cfg.Zone}
	}
	c.note(func(d *device) { d.steering, d.err = method.Name(), nil })
	if err := c.awaitTopology(ctx); err != nil {
		return err
	}
	c.readPorts()
	c.pin()
	sessions, err := c.reconcile(ctx)
	if err != nil {
		return err
	}
	c.deleteStats(c.sessions.Attach(c.conn, method, c.resolve, sessions))
	c.log.Info("switch is ready", "steering", method.Name(), "features", fmt.Sprintf("%+v", c.features), "flows", len(c.installed), "left over", len(c.orphans))
	return c.loop(ctx)
}

// awaitTopology waits for the first SetTopology: before, an empty one would
// tear down what an earlier run of the controller left.
func (c *channel) awaitTopology(ctx context.Context) error {
	for c.currentTopology() == nil {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-c.changed:
		}
	}
	return nil
}

func (c *channel) loop(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	events := c.conn.Events()
	c.ask() // nodes, at once
	for {
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case e, ok := <-events:
			if !ok {
				return openflow.ErrClosed
			}
			c.handle(e)
			for more := true; more; { // flows are computed once for all that came
				select {
				case e, ok := <-events:
					if more = ok; ok {
						c.handle(e)
					}
				default:
					more = false
				}
			}
		case <-c.changed:
			c.pin()
			c.dirty = true
			c.ask()
		case <-c.replaced:
			if err := c.adopt(ctx); err != nil {
				return err
			}
		case <-c.inquired:
			c.inquire()
		case <-tick.C:
			c.conclude()
			c.ask()
			c.releaseHomes()
			c.bury()
		}
		if err := c.sync(ctx); err != nil {
			return err
		}
	}
}

// reconcile compares what the switch holds with what it should hold, adds what
// is missing, and returns the session flows that it holds.
func (c *channel) reconcile(ctx context.Context) (sessions []openflow.FlowStat, err error) {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	stats, err := c.conn.FlowStats(ctx, pipeline.CookieBase, pipeline.CookieMask)
	if err != nil {
		return nil, fmt.Errorf("read the switch's flows: %w", err)
	}
	c.holding = holdsHomes(stats) && !c.f.homesKnown(c.now())
	want, marked, err := c.flowsWanted()
	if err != nil {
		return nil, err
	}
	type name struct {
		table  uint8
		cookie uint64
	}
	wanted := make(map[name]pipeline.Key, len(want))
	for k, f := range want {
		wanted[name{f.Table, f.Cookie}] = k
	}
	c.installed, c.orphans = pipeline.Set{}, nil
	for _, s := range stats {
		class, _ := pipeline.ClassOf(s.Cookie)
		if class == pipeline.ClassSession {
			sessions = append(sessions, s)
		} else if k, ok := wanted[name{s.Table, s.Cookie}]; ok {
			c.installed[k] = want[k]
		} else {
			c.orphans = append(c.orphans, s)
			c.wantHostOf(s)
		}
	}
	c.settled = c.now().Add(c.f.cfg.Settle)
	return sessions, c.install(ctx, want, marked)
}

// wantHostOf asks for the neighbour that a left-over flow leads to: if it still
// answers, the flow is right.
func (c *channel) wantHostOf(s openflow.FlowStat) {
	if s.Table != pipeline.TableRoutes {
		return
	}
	for _, fv := range s.Match {
		if (fv.Field != openflow.FieldIPv4Dst && fv.Field != openflow.FieldIPv6Dst) || fv.Mask != nil {
			continue
		}
		if a, ok := netip.AddrFromSlice(fv.Value); ok && !c.ours(a) {
			if iface, ok := onLink(c.cfg.Interfaces, a); ok {
				c.neighbours.want(a, iface, nil, c.now())
			}
		}
	}
}

// sync brings the switch up to date if anything changed.
func (c *channel) sync(ctx context.Context) error {
	if !c.dirty || c.now().Before(c.retry) {
		return nil
	}
	if c.backoff > 0 { // the switch refused something: what does it hold?
		sessions, err := c.reconcile(ctx)
		if err == nil {
			c.deleteStats(c.sessions.Adopt(sessions))
		}
		return err
	}
	want, marked, err := c.flowsWanted()
	if err != nil {
		return err
	}
	return c.install(ctx, want, marked)
}

// install makes the switch's static flows equal to want. Refusals are noted and
// tried again later; an error is the channel's.
func (c *channel) install(ctx context.Context, want pipeline.Set, marked *targets) error {
	if c.holding {
		c.keepHomes(want)
	}
	mods := pipeline.Diff(c.installed, want)
	err := c.conn.Apply(ctx, mods...)
	var refused *openflow.SwitchError
	if errors.As(err, &refused) && !errors.Is(err, openflow.ErrClosed) {
		c.backoff = min(max(2*c.backoff, retryAtLeast), retryAtMost)
		c.retry, c.dirty = c.now().Add(c.backoff), true
		c.log.Error("the switch refuses flows; they are tried again", "err", refused, "after", c.backoff)
		c.note(func(d *device) { d.err = fmt.Errorf("the switch refuses flows: %w", refused) })
		return nil
	}
	if err != nil {
		return fmt.Errorf("change the switch's flows: %w", err)
	}
	if len(mods) > 0 {
		c.log.Debug("flows changed", "messages", len(mods), "flows", len(want))
	}
	if c.backoff > 0 {
		c.note(func(d *device) { d.err = nil })
	}
	c.dirty, c.backoff, c.installed = false, 0, want
	c.note(func(d *device) {
		d.flows = len(want)
		if d.conn == c.conn { // not a newer one
			d.carry(marked.revision)
		}
	})
	c.publish(marked)
	c.releaseHeld()
	return nil
}

// bury deletes left-over flows once neighbours had the time to answer.
func (c *channel) bury() {
	if len(c.orphans) == 0 || c.now().Before(c.settled) || c.dirty || c.holding {
		return
	}
	right := map[uint64]bool{}
	for _, f := range c.installed {
		right[f.Cookie] = true
	}
	gone := slices.DeleteFunc(c.orphans, func(s openflow.FlowStat) bool { return right[s.Cookie] })
	c.log.Info("deleting flows of an earlier run", "flows", len(gone))
	c.deleteStats(gone)
	c.orphans = nil
}

// adopt removes the steering of sessions that Replace did not name.
func (c *channel) adopt(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, requestTimeout)
	defer cancel()
	const class = pipeline.CookieMask | 0xf<<44
	stats, err := c.conn.FlowStats(ctx, pipeline.CookieBase|uint64(pipeline.ClassSession)<<44, class)
	if err != nil {
		return fmt.Errorf("read the switch's session flows: %w", err)
	}
	c.deleteStats(c.sessions.Adopt(stats))
	return nil
}

// deleteStats deletes flows by their exact match and cookie.
func (c *channel) deleteStats(stats []openflow.FlowStat) {
	var mods []openflow.FlowMod
	for _, s := range stats {
		mods = append(mods, pipeline.DeleteOf(openflow.Flow{Table: s.Table, Priority: s.Priority, Cookie: s.Cookie, Match: s.Match}))
	}
	slices.SortFunc(mods, func(a, b openflow.FlowMod) int { return cmp.Compare(a.Flow.Table, b.Flow.Table) })
	if len(mods) > 0 {
		c.conn.ApplyAsync(mods, nil, func(err error) {
			if err != nil {
				c.log.Warn("left-over flows could not be deleted", "err", err)
			}
		})
	}
}
