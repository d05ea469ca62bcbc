package fabric

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"sync"
	"time"

	"github.com/shunt-sdn/shunt/controller/openflow"
	"github.com/shunt-sdn/shunt/controller/pipeline"
)

// A Fabric drives the configured switches. Its methods may be called before,
// during and after Run, from any goroutine.
type Fabric struct {
	cfg     Config
	log     *slog.Logger
	devices []*device
	counts  openflow.Counts

	mu       sync.Mutex // guards all below
	topology Topology   // the last one set
	since    time.Time  // of the first one
	known    bool       // which homes are up
}

const (
	tickEvery    = 50 * time.Millisecond
	dialAtLeast  = 200 * time.Millisecond // between attempts
	dialAtMost   = 5 * time.Second
	shakeTimeout = 10 * time.Second
)

// Run serves the switches until ctx ends, and returns then or when l fails. l is
// where switches dial in; nil if none does. tlsConfig returns what
// to dial a switch by "ssl:" with, each time; nil: none can be. All goroutines of the fabric have ended when it returns.
func (f *Fabric) Run(ctx context.Context, l net.Listener, tlsConfig func() *tls.Config) error {
	ctx, cancel := context.WithCancelCause(ctx)
	var wg sync.WaitGroup
	defer wg.Wait()
	defer cancel(context.Canceled)
	wg.Go(func() { f.tick(ctx) })
	for _, d := range f.devices {
		if d.cfg.Connect != "" {
			wg.Go(func() { f.dial(ctx, d, tlsConfig) })
		}
	}
	if l != nil {
		stop := context.AfterFunc(ctx, func() { l.Close() })
		defer stop()
		wg.Go(func() {
			if err := f.accept(ctx, l, &wg); err != nil {
				cancel(err)
			}
		})
	}
	<-ctx.Done()
	return context.Cause(ctx)
}

func (f *Fabric) tick(ctx context.Context) {
	t := time.NewTicker(tickEvery)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			for _, d := range f.devices {
				d.sessions.Tick()
			}
		}
	}
}

func (f *Fabric) accept(ctx context.Context, l net.Listener, wg *sync.WaitGroup) error {
	for {
		nc, err := l.Accept()
		switch {
		case ctx.Err() != nil:
			if err == nil {
				nc.Close()
			}
			return nil
		case errors.Is(err, net.ErrClosed):
			return fmt.Errorf("accept switches: %w", err)
		case err != nil: // out of descriptors, perhaps: that passes
			f.log.Warn("cannot accept a switch", "err", err)
			pause(ctx, dialAtLeast)
			continue
		}
		wg.Go(func() { f.welcome(ctx, nc, nil) })
	}
}

func (f *Fabric) dial(ctx context.Context, d *device, tlsConfig func() *tls.Config) {
	wait := dialAtLeast
	for ctx.Err() == nil {
		start := f.cfg.Clock()
		var conf *tls.Config
		if tlsConfig != nil {
			conf = tlsConfig()
		}
		dialCtx, cancel := context.WithTimeout(ctx, shakeTimeout)
		nc, err := openflow.Dial(dialCtx, d.cfg.Connect, conf)
		cancel()
		if err != nil {
			d.fail(err)
		} else {
			f.welcome(ctx, nc, d)
		}
		if f.cfg.Clock().Sub(start) > dialAtMost {
			wait = dialAtLeast
		}
		pause(ctx, wait)
		wait = min(2*wait, dialAtMost)
	}
}

// pause waits, unless ctx ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// welcome serves a connection until it ends. d is the device that was dialled.
func (f *Fabric) welcome(ctx context.Context, nc net.Conn, d *device) {
	defer nc.Close()
	log := f.log.With("peer", nc.RemoteAddr())
	shake, cancel := context.WithTimeout(ctx, shakeTimeout)
	conn, err := openflow.Handshake(shake, nc, openflow.Config{Log: log, EchoInterval: f.cfg.EchoInterval, EchoTimeout: f.cfg.EchoTimeout, Counts: &f.counts})
	cancel()
	if err != nil {
		log.Warn("OpenFlow handshake failed", "err", err)
		if d != nil {
			d.fail(err)
		}
		return
	}
	if d == nil {
		if d = f.deviceOf(conn.DatapathID()); d == nil {
			log.Warn("a switch that is not in the configuration dialled in; add it to use it", "dpid", fmt.Sprintf("%016x", conn.DatapathID()))
			return
		}
	} else if d.cfg.DPID != 0 && d.cfg.DPID != conn.DatapathID() {
		d.fail(fmt.Errorf("the switch at %s has the dpid %016x, the configuration says %016x", d.cfg.Connect, conn.DatapathID(), d.cfg.DPID))
		return
	}
	d.serve(ctx, conn)
}

// deviceOf returns the device of a switch that dialled in.
func (f *Fabric) deviceOf(dpid uint64) *device {
	for _, d := range f.devices {
		if d.cfg.DPID == dpid {
			return d
		}
	}
	for _, d := range f.devices {
		if d.cfg.DPID == 0 && d.cfg.Connect == "" {
			return d
		}
	}
	return nil
}

// SetTopology sets what the switches are to serve. It returns at once; the
// switches follow.
func (f *Fabric) SetTopology(t Topology) {
	f.mu.Lock()
	defer f.mu.Unlock()
	t = t.normal()
	t.keepLastUp(f.topology)
	f.topology = t
	if f.since.IsZero() {
		f.since = f.cfg.Clock()
	}
	for _, d := range f.devices {
		d.setTopology(t)
	}
}

// Follow waits until all switches that are connected carry out the latest
// topology. The error says which one does not, and is the context's.
func (f *Fabric) Follow(ctx context.Context) error {
	errs := make([]error, len(f.devices))
	var wg sync.WaitGroup
	for i, d := range f.devices {
		wg.Go(func() { errs[i] = d.follow(ctx) })
	}
	wg.Wait()
	return errors.Join(errs...)
}

// normal returns a copy with plain IPv4 addresses.
func (t Topology) normal() Topology {
	n := Topology{Services: slices.Clone(t.Services), Nodes: slices.Clone(t.Nodes)}
	for i := range n.Services {
		s := &n.Services[i]
		s.VIPs, s.Homes = slices.Clone(s.VIPs), slices.Clone(s.Homes)
		for j := range s.VIPs {
			s.VIPs[j] = s.VIPs[j].Unmap()
		}
		for j := range s.Homes {
			s.Homes[j].VIP, s.Homes[j].Session = s.Homes[j].VIP.Unmap(), s.Homes[j].Session.Unmap()
		}
	}
	for i := range n.Nodes {
		n.Nodes[i].Addresses = slices.Clone(n.Nodes[i].Addresses)
		for j, a := range n.Nodes[i].Addresses {
			n.Nodes[i].Addresses[j] = a.Unmap()
		}
	}
	return n
}

// keepLastUp leaves a VIP none of whose homes is up with those that were last:
// their listeners may well be alive, and a new assignment would help nobody.
func (t Topology) keepLastUp(last Topology) {
	type place struct {
		service string
		home    Home
	}
	was := map[place]bool{}
	for _, s := range last.Services {
		for _, h := range s.Homes {
			up := h.Up
			h.Up = false
			was[place{s.Name, h}] = up
		}
	}
	for _, s := range t.Services {
		for _, vip := range s.VIPs {
			up := slices.ContainsFunc(s.Homes, func(h Home) bool { return h.VIP == vip && h.Up })
			for i, h := range s.Homes {
				if !up && h.VIP == vip {
					s.Homes[i].Up = was[place{s.Name, h}]
				}
			}
		}
	}
}

// A SwitchStatus says how a switch is doing.
type SwitchStatus struct {
	DPID      uint64
	Address   string // of the connection, or the target
	Connected bool   // its flows are what they should be, or are being made so
	Steering  string // "flows" or "conntrack"; "" until known
	Flows     int    // ours that the switch should hold
	Err       string // why it is not connected, or what it refuses
}

// Status returns the state of every switch, in the order of the configuration.
func (f *Fabric) Status() []SwitchStatus {
	var all []SwitchStatus
	for _, d := range f.devices {
		all = append(all, d.status())
	}
	return all
}

// Messages are the OpenFlow messages exchanged with all switches.
func (f *Fabric) Messages() *openflow.Counts { return &f.counts }

// A FlowInfo is one of our flows, as a switch reports it.
type FlowInfo struct {
	DPID uint64
	openflow.FlowDump
}

// Flows reads our flows from all switches that are connected.
func (f *Fabric) Flows(ctx context.Context) ([]FlowInfo, error) {
	var all []FlowInfo
	for _, d := range f.devices {
		conn := d.connection()
		if conn == nil {
			continue
		}
		flows, err := conn.DumpFlows(ctx, pipeline.CookieBase, pipeline.CookieMask)
		if err != nil {
			return nil, fmt.Errorf("read the flows of switch %016x: %w", conn.DatapathID(), err)
		}
		slices.SortFunc(flows, func(a, b openflow.FlowDump) int {
			return cmp.Or(cmp.Compare(a.Table, b.Table), cmp.Compare(b.Priority, a.Priority), cmp.Compare(a.Match.String(), b.Match.String()))
		})
		for _, flow := range flows {
			all = append(all, FlowInfo{conn.DatapathID(), flow})
		}
	}
	return all, nil
}
