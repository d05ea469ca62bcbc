package fabric

import (
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/shunt-sdn/shunt/controller/steering"
	"github.com/shunt-sdn/shunt/internal/testnet"
	"github.com/shunt-sdn/shunt/internal/testovs"
)

// A pair is a network of two switches. Each has a client of its own, and both are
// on the one segment that the nodes are on:
//
//	client1 -- a --+-- dispatcher1
//	               |-- server1
//	client2 -- b --+-- server2
type pair struct {
	t       *testing.T
	a, b    *edge
	hosts   map[string]*host
	segment *testnet.NS
	indexes steering.Indexes
	fabric  *Fabric
}

// An edge is one of the two switches. Of its rig it has what looks into a switch.
type edge struct {
	*rig
	kind
	n              int // 1, 2
	link           string
	client         *host
	clients, nodes string // hardware addresses of its interfaces
}

// A kind is what sort of switch one is.
type kind struct {
	ovs, plain bool
	mode       Mode
	steering   string // what comes of the mode
}

var (
	ovsFlows     = kind{ovs: true, mode: ExactFlow, steering: "flows"}
	ovsConntrack = kind{ovs: true, mode: Auto, steering: "conntrack"}
	simFlows     = kind{mode: ExactFlow, steering: "flows"}
	simConntrack = kind{mode: Auto, steering: "conntrack"}
	simPlain     = kind{plain: true, mode: Auto, steering: "flows"}
)

// onPairs runs a test on two switches of every kind, and on two that differ.
func onPairs(t *testing.T, f func(*testing.T, *pair)) {
	for _, k := range []struct {
		name string
		a, b kind
	}{
		{"Open vSwitch, flows", ovsFlows, ovsFlows},
		{"Open vSwitch, conntrack", ovsConntrack, ovsConntrack},
		{"simulated, flows", simFlows, simFlows},
		{"simulated, conntrack", simConntrack, simConntrack},
		{"Open vSwitch with conntrack beside a plain switch", ovsConntrack, simPlain},
	} {
		t.Run(k.name, func(t *testing.T) {
			p := newPair(t, k.a, k.b)
			p.start()
			f(t, p)
		})
	}
}

// bridge is the name of the bridge in the segment's namespace.
const bridge = "segment"

func newPair(t *testing.T, a, b kind) *pair {
	t.Helper()
	p := &pair{t: t, hosts: map[string]*host{}, segment: testnet.NewNS(t), indexes: steering.NewIndexes()}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = bridge
	br := &netlink.Bridge{LinkAttrs: attrs}
	err := p.segment.Link.LinkAdd(br)
	if err == nil {
		err = p.segment.Link.LinkSetUp(br)
	}
	if err != nil {
		t.Fatalf("make a bridge: %v", err)
	}
	p.a, p.b = p.newEdge(1, a), p.newEdge(2, b)
	for i, name := range allHosts[1:] {
		h := p.newHost(p.segment, name, 2, 11+i)
		p.join(name)
		for _, e := range p.edges() {
			h.route(t, fmt.Sprintf("10.10.%d.0/24", e.net()), fmt.Sprintf("10.10.2.%d", e.n))
			h.route(t, fmt.Sprintf("fd10:%d::/64", e.net()), fmt.Sprintf("fd10:2::%d", e.n))
		}
		h.holdSessions(t)
	}
	return p
}

func (p *pair) newEdge(n int, k kind) *edge {
	t := p.t
	t.Helper()
	ns := testnet.NewNS(t)
	e := &edge{rig: &rig{t: t, plain: k.plain, hosts: p.hosts}, kind: k, n: n, link: fmt.Sprintf("edge%d", n),
		clients: fmt.Sprintf("02:00:00:00:01:%02x", n), nodes: fmt.Sprintf("02:00:00:00:02:%02x", n)}
	if k.ovs {
		e.rig.ovs = testovs.Start(t, ns, testovs.WithDPID(uint64(n)))
		e.sw = e.rig.ovs
	} else {
		e.sw = newSim(t, ns, uint64(n), k.plain)
	}
	name := fmt.Sprintf("client%d", n)
	e.client = p.newHost(ns, name, e.net(), 11)
	e.client.route(t, "", fmt.Sprintf("10.10.%d.1", e.net()))
	e.client.route(t, "", fmt.Sprintf("fd10:%d::1", e.net()))
	e.sw.AddPort(name, 0)
	testnet.Veth(ns, "nodes", p.segment, e.link)
	testovs.NoOffload(ns, "nodes")
	p.join(e.link)
	e.sw.AddPort("nodes", 0)
	return e
}

// newHost makes a host on a link of its name in ns.
func (p *pair) newHost(ns *testnet.NS, name string, net, last int) *host {
	p.t.Helper()
	h := &host{NS: testnet.NewNS(p.t), name: name, v4: fmt.Sprintf("10.10.%d.%d", net, last), v6: fmt.Sprintf("fd10:%d::%d", net, last)}
	testnet.Veth(ns, name, h.NS, "eth0")
	testovs.NoOffload(h.NS, "eth0")
	testovs.NoOffload(ns, name)
	h.Addr("eth0", h.v4+"/24", h.v6+"/64")
	h.mac = h.MAC("eth0")
	p.hosts[name] = h
	return h
}

// join makes a link of the segment's namespace a port of the bridge.
func (p *pair) join(link string) {
	p.t.Helper()
	br, err := p.segment.Link.LinkByName(bridge)
	if err != nil {
		p.t.Fatal(err)
	}
	l, err := p.segment.Link.LinkByName(link)
	if err == nil {
		err = p.segment.Link.LinkSetMaster(l, br.(*netlink.Bridge))
	}
	if err != nil {
		p.t.Fatalf("add %s to the segment: %v", link, err)
	}
}

// cut takes an edge off the segment, or puts it back.
func (p *pair) cut(e *edge, off bool) {
	p.t.Helper()
	l, err := p.segment.Link.LinkByName(e.link)
	if err == nil && off {
		err = p.segment.Link.LinkSetNoMaster(l)
	}
	if err != nil {
		p.t.Fatal(err)
	}
	if !off {
		p.join(e.link)
	}
}

func (p *pair) edges() []*edge { return []*edge{p.a, p.b} }

// net is the number of the clients' network.
func (e *edge) net() int { return 2*e.n - 1 }

// families are the addresses as the edge's client has them.
func (e *edge) families() []family {
	own := slices.Clone(families)
	own[0].client, own[1].client = e.client.v4, e.client.v6
	return own
}

func (p *pair) config() Config {
	c := Config{
		Pools: pools, Linger: 300 * time.Millisecond, Settle: time.Second, Indexes: p.indexes,
		EchoInterval: time.Second, EchoTimeout: time.Second,
		Log: slog.New(slog.NewTextHandler(testWriter{p.t}, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	prefix := func(format string, n ...any) netip.Prefix { return netip.MustParsePrefix(fmt.Sprintf(format, n...)) }
	for _, e := range p.edges() {
		c.Switches = append(c.Switches, Switch{
			DPID: e.sw.DPID(), Connect: e.sw.Management(), Steering: e.mode,
			Interfaces: []Interface{
				{Name: "clients", MAC: mustMAC(e.clients), Ports: []string{e.client.name},
					Addresses: []netip.Prefix{prefix("10.10.%d.1/24", e.net()), prefix("fd10:%d::1/64", e.net())}},
				{Name: "nodes", MAC: mustMAC(e.nodes), Ports: []string{"nodes"},
					Addresses: []netip.Prefix{prefix("10.10.2.%d/24", e.n), prefix("fd10:2::%d/64", e.n)}},
			},
			// Clients of the other one are reached by the other one.
			Routes: []Route{
				{To: prefix("10.10.%d.0/24", 4-e.net()), Via: prefix("10.10.2.%d/24", 3-e.n).Addr()},
				{To: prefix("fd10:%d::/64", 4-e.net()), Via: prefix("fd10:2::%d/64", 3-e.n).Addr()},
			},
		})
	}
	return c
}

// topology serves port 80 of VIPs that are on nobody's link.
func (p *pair) topology() Topology {
	t := (&rig{hosts: p.hosts}).topology()
	t.Services = t.Services[:1]
	return t
}

func (p *pair) start() { p.startWith(p.config()) }

func (p *pair) startWith(c Config) {
	p.t.Helper()
	p.fabric, _ = run(p.t, c)
	p.fabric.SetTopology(p.topology())
	for _, e := range p.edges() {
		p.ready(e)
	}
}

// device is the fabric's record of a switch.
func (p *pair) device(e *edge) *device { return p.fabric.devices[e.n-1] }

// ready waits until an edge has resolved all nodes and the other edge.
func (p *pair) ready(e *edge) {
	p.t.Helper()
	eventually(p.t, fmt.Sprintf("switch %d is ready", e.n), func() error {
		if s := p.fabric.Status()[e.n-1]; !s.Connected || s.Err != "" || s.Steering != e.steering || s.DPID != uint64(e.n) {
			return fmt.Errorf("status %+v", s)
		}
		flows := strings.Join(e.flows(), "\n")
		for _, name := range allHosts[1:] {
			if _, ok := p.device(e).targets.Load().nodes[name]; !ok {
				return fmt.Errorf("%s is not resolved", name)
			}
			if !strings.Contains(flows, "ipv6_dst="+p.hosts[name].v6+" actions=set_field") {
				return fmt.Errorf("%s is not resolved in IPv6", name)
			}
		}
		for _, route := range []string{fmt.Sprintf("nw_dst=10.10.%d.0/24", 4-e.net()), fmt.Sprintf("ipv6_dst=fd10:%d::/64", 4-e.net())} {
			if !strings.Contains(flows, route+" actions=set_field") {
				return fmt.Errorf("the route to %s is not resolved", route)
			}
		}
		return nil
	})
}

// away waits until the loss of a switch is noticed.
func (p *pair) away(e *edge) {
	p.t.Helper()
	eventually(p.t, fmt.Sprintf("the loss of switch %d is noticed", e.n), func() error {
		if s := p.fabric.Status()[e.n-1]; s.Connected || s.Err == "" || s.DPID != uint64(e.n) {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
}

// steer steers a session and wants it confirmed, once.
func (p *pair) steer(s Session) {
	p.t.Helper()
	if err := p.told(s); err != nil {
		p.t.Fatalf("steer %v to %s: %v", s.Client, s.Node, err)
	}
}

// told returns what is said of a session's steering, which must be said once.
func (p *pair) told(s Session) error {
	p.t.Helper()
	said := make(chan error, 8)
	p.fabric.Steer(s, func(err error) { said <- err })
	p.t.Cleanup(func() {
		if n := len(said); n > 0 {
			p.t.Errorf("steering of %v: %d more answers", s.Client, n)
		}
	})
	select {
	case err := <-said:
		return err
	case <-time.After(15 * time.Second):
		return errors.New("no answer")
	}
}

func (p *pair) taps() map[string]*tap {
	taps := map[string]*tap{}
	for _, name := range allHosts[1:] {
		taps[name] = p.hosts[name].tap(p.t)
	}
	return taps
}

// at says where a segment arrives that comes in by an edge's clients' side.
func (p *pair) at(taps map[string]*tap, e *edge, s Session, flags uint8) string {
	p.t.Helper()
	return arrives(p.t, taps, p.hosts, e.nodes, s.Client.Port(), flags, func() {
		e.client.tap(p.t).send(ack(e.client.mac, mustMAC(e.clients), s.Client, s.VIP, flags))
	})
}

// holds waits until an edge has the steering of so many sessions.
func (e *edge) holds(sessions int) {
	e.t.Helper()
	eventually(e.t, fmt.Sprintf("switch %d has the steering of %d sessions", e.n, sessions), func() error {
		if flows, tracked := e.steered(); e.steering == "flows" && flows != sessions || e.rig.ovs != nil && e.steering == "conntrack" && tracked != sessions {
			return fmt.Errorf("%d flows, %d tracked connections", flows, tracked)
		}
		return nil
	})
}

// path says how the packets of a session travel: as Sessions has it.
func (p *pair) path(s Session) string {
	for _, path := range p.fabric.Sessions() {
		if path.Key() == s.Key() {
			if path.Confirmed {
				return "switched to " + path.Node
			}
			return "diverted to " + path.Node
		}
	}
	return "unknown"
}
