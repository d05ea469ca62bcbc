package fabric

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/shunt-sdn/shunt/controller/openflow"
	"github.com/shunt-sdn/shunt/controller/pipeline"
	"github.com/shunt-sdn/shunt/controller/steering"
)

// A device is a configured switch, connected or not. What is learned of its
// neighbours and sessions outlives its connections.
type device struct {
	cfg      Switch
	others   [][]net.HardwareAddr // of other switches on the links of cfg.Interfaces
	f        *Fabric
	log      *slog.Logger
	sessions *steering.Sessions
	changed  chan struct{} // capacity 1: the topology changed
	replaced chan struct{} // capacity 1: Replace was called
	inquired chan struct{} // capacity 1: there are inquiries

	// targets is where nodes and leases are, as the switch's flows have it.
	targets atomic.Pointer[targets]

	serving    sync.Mutex  // held while a connection is served: one at a time
	neighbours *neighbours // guarded by serving

	mu       sync.Mutex      // guards all below
	topology *revised        // nil: not set yet
	carried  uint64          // the revision that the switch of conn carries out; 0: none yet
	news     chan struct{}   // closed, and made anew, when carried or conn changes
	far      map[string]bool // its nodes that are on no link of the switch
	conn     *openflow.Conn
	// inquiries wait for the channel of conn, and are answered when it ends.
	inquiries []*inquiry
	end       context.CancelCauseFunc // ends the connection
	steering  string
	flows     int
	err       error
}

// targets are immutable.
type targets struct {
	nodes    map[string]pipeline.Node
	leases   map[netip.Addr]uint16
	revision uint64
}

// revised is a topology with its number, from 1.
type revised struct {
	Topology
	revision uint64
}

var errReplaced = errors.New("the switch connected anew")

func newDevice(f *Fabric, s Switch) *device {
	d := &device{
		cfg: s, f: f,
		log:        f.log.With("switch", fmt.Sprintf("%016x", s.DPID)),
		sessions:   steering.NewSessions(f.cfg.Clock, f.cfg.Linger),
		changed:    make(chan struct{}, 1),
		replaced:   make(chan struct{}, 1),
		inquired:   make(chan struct{}, 1),
		news:       make(chan struct{}),
		neighbours: newNeighbours(),
	}
	d.targets.Store(&targets{})
	return d
}

// signal sets a flag of capacity 1.
func signal(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// serve serves a connection until it ends; an older one is ended first.
func (d *device) serve(ctx context.Context, conn *openflow.Conn) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(context.Canceled)
	d.mu.Lock()
	if d.end != nil {
		d.end(errReplaced)
	}
	d.conn, d.end = conn, cancel
	d.carry(0)
	d.mu.Unlock()

	d.serving.Lock()
	defer d.serving.Unlock()
	var wg sync.WaitGroup
	wg.Go(func() { cancel(conn.Run(ctx)) })
	d.log.Info("switch connected", "peer", conn.RemoteAddr(), "dpid", fmt.Sprintf("%016x", conn.DatapathID()), "software", conn.Description().Software)
	d.sessions.Attaching()
	ch := &channel{device: d, conn: conn, log: d.log, now: d.f.cfg.Clock}
	err := ch.run(ctx)
	if cause := context.Cause(ctx); cause != nil {
		err = cause // why the channel ended says more than what failed because of it
	}
	cancel(err)
	for range conn.Events() { // what is left is of no use; Run waits for nobody
	}
	wg.Wait()
	d.sessions.Detach()

	d.mu.Lock()
	if d.conn == conn {
		d.conn, d.end, d.err = nil, nil, err
		d.carry(0)
	}
	d.mu.Unlock()
	ch.abandonInquiries()
	d.log.Warn("switch disconnected", "peer", conn.RemoteAddr(), "err", err)
}

// fail notes why there is no connection.
func (d *device) fail(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.err == nil || d.err.Error() != err.Error() {
		d.log.Warn("cannot reach the switch", "err", err)
	}
	d.err = err
}

func (d *device) setTopology(t Topology) {
	far := map[string]bool{}
	for _, n := range t.Nodes {
		if !slices.ContainsFunc(n.Addresses, d.faces) {
			far[n.Name] = true
		}
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	var revision uint64 = 1
	if d.topology != nil {
		revision += d.topology.revision
	}
	d.topology, d.far = &revised{t, revision}, far
	signal(d.changed)
}

// carry notes which topology the switch carries out. d.mu is held.
func (d *device) carry(revision uint64) {
	d.carried = revision
	close(d.news)
	d.news = make(chan struct{})
}

// follow waits until the switch, if it is connected, carries out the topology that
// is set now.
func (d *device) follow(ctx context.Context) error {
	var wanted uint64
	for {
		d.mu.Lock()
		if wanted == 0 && d.topology != nil {
			wanted = d.topology.revision
		}
		done, news := d.conn == nil || d.carried >= wanted, d.news
		d.mu.Unlock()
		if done {
			return nil
		}
		select {
		case <-news:
		case <-ctx.Done():
			return fmt.Errorf("switch %016x does not follow: %w", d.cfg.DPID, ctx.Err())
		}
	}
}

func (d *device) currentTopology() *revised {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.topology
}

func (d *device) connection() *openflow.Conn {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.conn
}

// reaches says whether sessions on a node concern this switch. With one switch
// all do; with several, those whose node is on a link of it or is not known.
func (d *device) reaches(node string) bool {
	if len(d.f.devices) == 1 {
		return true
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return !d.far[node]
}

// faces says whether an address is on a link of the switch.
func (d *device) faces(a netip.Addr) bool {
	for _, ifc := range d.cfg.Interfaces {
		for _, p := range ifc.Addresses {
			if p.Contains(a) {
				return true
			}
		}
	}
	return false
}

// resolve implements steering.Resolver.
func (d *device) resolve(s Session) (steering.Target, bool) {
	t := d.targets.Load()
	n, ok := t.nodes[s.Node]
	if !ok {
		return steering.Target{}, false
	}
	lease := t.leases[s.Local.Addr().Unmap()]
	if t.leases != nil && lease == 0 {
		return steering.Target{}, false
	}
	return steering.Target{Node: n, Lease: lease}, true
}

// publish makes new targets known and steers what waited for them.
func (d *device) publish(t *targets) {
	old := d.targets.Swap(t)
	changed := map[string]bool{}
	for name, n := range t.nodes {
		if was, ok := old.nodes[name]; !ok || was.MAC.String() != n.MAC.String() || was.Mark != n.Mark {
			changed[name] = true
		}
	}
	moreLeases := !maps.Equal(old.leases, t.leases)
	if moreLeases || len(changed) > 0 {
		d.sessions.Retarget(moreLeases, changed)
	}
}

// note sets what Status says of the connection.
func (d *device) note(f func(*device)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	f(d)
}

func (d *device) status() SwitchStatus {
	confirmed := d.sessions.Confirmed()
	d.mu.Lock()
	defer d.mu.Unlock()
	s := SwitchStatus{DPID: d.cfg.DPID, Address: d.cfg.Connect, Steering: d.steering, Flows: d.flows}
	if d.steering == string(ExactFlow) {
		s.Flows += confirmed
	}
	if d.conn != nil {
		s.Connected, s.DPID, s.Address = true, d.conn.DatapathID(), d.conn.RemoteAddr()
	}
	if d.err != nil {
		s.Err = d.err.Error()
	}
	return s
}
