package fabric

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/shunt-sdn/shunt/controller/steering"
	"github.com/shunt-sdn/shunt/internal/testnet"
	"github.com/shunt-sdn/shunt/internal/testovs"
)

// A rig is a network on a switch: a client, a dispatcher, two servers. Nodes hold
// the session addresses as agents have them do it.
type rig struct {
	t       *testing.T
	sw      testSwitch
	ovs     *testovs.Switch // the same, if it is Open vSwitch
	plain   bool            // it does OpenFlow 1.3 and nothing else
	hosts   map[string]*host
	indexes steering.Indexes // as if kept over restarts

	fabric *Fabric
	stop   func()
}

// A host is a namespace with eth0 on a port of the switch that has its name.
type host struct {
	*testnet.NS
	name   string
	mac    net.HardwareAddr
	v4, v6 string
}

const (
	gwClients = "02:00:00:00:01:01"
	gwNodes   = "02:00:00:00:02:01"
)

var (
	pools    = []netip.Prefix{netip.MustParsePrefix("172.31.0.0/24"), netip.MustParsePrefix("fd31::/120")}
	allHosts = []string{"client1", "dispatcher1", "server1", "server2"}
)

func mustMAC(s string) net.HardwareAddr {
	m, err := net.ParseMAC(s)
	if err != nil {
		panic(err)
	}
	return m
}

// newRig makes a rig on a private Open vSwitch.
func newRig(t *testing.T) *rig {
	t.Helper()
	ns := testnet.NewNS(t)
	sw := testovs.Start(t, ns)
	r := &rig{t: t, sw: sw, ovs: sw}
	r.wire(ns)
	return r
}

// wire makes the hosts and connects them to the switch.
func (r *rig) wire(ns *testnet.NS) {
	t := r.t
	t.Helper()
	r.hosts, r.indexes = map[string]*host{}, steering.NewIndexes()
	for i, name := range allHosts {
		net, last := 2, 10+i
		if name == "client1" {
			net, last = 1, 11
		}
		h := &host{NS: testnet.NewNS(t), name: name, v4: fmt.Sprintf("10.10.%d.%d", net, last), v6: fmt.Sprintf("fd10:%d::%d", net, last)}
		testnet.Veth(ns, name, h.NS, "eth0")
		testovs.NoOffload(h.NS, "eth0")
		testovs.NoOffload(ns, name)
		h.Addr("eth0", h.v4+"/24", h.v6+"/64")
		h.route(t, "", fmt.Sprintf("10.10.%d.1", net))
		h.route(t, "", fmt.Sprintf("fd10:%d::1", net))
		h.mac = h.MAC("eth0")
		if net == 2 {
			h.holdSessions(t)
		}
		r.hosts[name] = h
		r.sw.AddPort(name, 0)
	}
}

// route adds a route to a prefix, or the default route if that is empty.
func (h *host) route(t *testing.T, to, via string) {
	t.Helper()
	l, err := h.Link.LinkByName("eth0")
	if err == nil {
		r := &netlink.Route{LinkIndex: l.Attrs().Index, Gw: net.ParseIP(via)}
		if to != "" {
			p := netip.MustParsePrefix(to)
			r.Dst = &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
		}
		err = h.Link.RouteAdd(r)
	}
	if err != nil {
		t.Fatalf("route %s via %s: %v", h.name, via, err)
	}
}

// holdSessions makes session addresses local.
func (h *host) holdSessions(t *testing.T) {
	t.Helper()
	lo, err := h.Link.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range pools {
		dst := &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
		if err := h.Link.RouteAdd(&netlink.Route{LinkIndex: lo.Attrs().Index, Dst: dst, Type: unix.RTN_LOCAL, Scope: unix.RT_SCOPE_HOST, Table: unix.RT_TABLE_LOCAL}); err != nil {
			t.Fatalf("hold %v on %s: %v", p, h.name, err)
		}
	}
}

func (r *rig) config(mode Mode) Config {
	p := netip.MustParsePrefix
	return Config{
		Pools: pools, Linger: 300 * time.Millisecond, Settle: time.Second, Indexes: r.indexes,
		EchoInterval: time.Second, EchoTimeout: time.Second,
		Log: slog.New(slog.NewTextHandler(testWriter{r.t}, &slog.HandlerOptions{Level: slog.LevelDebug})),
		Switches: []Switch{{
			DPID: r.sw.DPID(), Connect: r.sw.Management(), Steering: mode,
			Interfaces: []Interface{
				{Name: "clients", MAC: mustMAC(gwClients), Addresses: []netip.Prefix{p("10.10.1.1/24"), p("fd10:1::1/64")}, Ports: []string{"client1"}},
				{Name: "nodes", MAC: mustMAC(gwNodes), Addresses: []netip.Prefix{p("10.10.2.1/24"), p("fd10:2::1/64")}, Ports: []string{"dispatcher1", "server1", "server2"}},
			},
		}},
	}
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(b []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(b)))
	return len(b), nil
}

// topology serves port 80 of two VIPs, one of them on the clients' link.
func (r *rig) topology() Topology {
	a := netip.MustParseAddr
	t := Topology{}
	for i, vips := range [][2]string{{"10.10.0.80", "fd10::80"}, {"10.10.1.80", "fd10:1::80"}} {
		s := Service{Name: fmt.Sprintf("web%d", i), Port: 80}
		for j, v := range vips {
			session := fmt.Sprintf([]string{"172.31.0.%d", "fd31::%d"}[j], i+1)
			s.VIPs = append(s.VIPs, a(v))
			s.Homes = append(s.Homes, Home{Node: "dispatcher1", VIP: a(v), Session: a(session), Up: true})
		}
		t.Services = append(t.Services, s)
	}
	for _, name := range allHosts[1:] {
		h := r.hosts[name]
		t.Nodes = append(t.Nodes, Node{Name: name, MAC: h.mac, Addresses: []netip.Addr{a(h.v4), a(h.v6)}, Up: true})
	}
	return t
}

// start runs a fabric and waits until its flows are complete.
func (r *rig) start(mode Mode) {
	r.t.Helper()
	r.startWith(r.config(mode))
	r.fabric.SetTopology(r.topology())
	r.ready()
}

func (r *rig) startWith(c Config) {
	r.t.Helper()
	r.fabric, r.stop = run(r.t, c)
}

// run runs a fabric until stop is called or the test ends.
func run(t *testing.T, c Config) (f *Fabric, stop func()) {
	t.Helper()
	f, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx, nil, nil) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := <-done; !errors.Is(err, context.Canceled) {
			t.Errorf("Run: %v", err)
		}
	})
	t.Cleanup(stop)
	return f, stop
}

// ready waits until all nodes are resolved and installed.
func (r *rig) ready() {
	r.t.Helper()
	eventually(r.t, "the switch is ready", func() error {
		if s := r.fabric.Status()[0]; !s.Connected || s.Err != "" {
			return fmt.Errorf("status %+v", s)
		}
		for _, name := range allHosts[1:] {
			if _, ok := r.fabric.devices[0].targets.Load().nodes[name]; !ok {
				return fmt.Errorf("%s is not resolved", name)
			}
		}
		flows := strings.Join(r.flows(), "\n")
		for _, name := range allHosts[1:] {
			if !strings.Contains(flows, "ipv6_dst="+r.hosts[name].v6+" actions=set_field") {
				return fmt.Errorf("%s is not resolved in IPv6", name)
			}
		}
		return nil
	})
}

// eventually waits until check succeeds, and fails the test with its last error
// if that takes too long.
func eventually(t *testing.T, what string, check func() error) {
	t.Helper()
	deadline := time.After(15 * time.Second)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for {
		err := check()
		if err == nil {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("%s: %v", what, err)
		case <-tick.C:
		}
	}
}

// steer steers a session and waits for the confirmation.
func (r *rig) steer(s Session) {
	r.t.Helper()
	if err := wait(func(done func(error)) { r.fabric.Steer(s, done) }); err != nil {
		r.t.Fatalf("steer: %v", err)
	}
}

func wait(f func(done func(error))) error {
	c := make(chan error, 1)
	f(func(err error) { c <- err })
	select {
	case err := <-c:
		return err
	case <-time.After(15 * time.Second):
		return errors.New("no answer")
	}
}

// serve echoes on a session address of a host, in the background.
func (h *host) serve(t *testing.T, addr string) {
	t.Helper()
	lc := net.ListenConfig{Control: freebind}
	lc.SetMultipathTCP(false)
	var l net.Listener
	h.Do(func() (err error) { l, err = lc.Listen(context.Background(), "tcp", addr); return })
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				fmt.Fprintf(c, "%s %v\n", h.name, c.RemoteAddr())
				io.Copy(c, c)
			}()
		}
	}()
}

// dial connects from a host.
func (h *host) dial(addr string) (c net.Conn, err error) {
	err = h.Try(func() (err error) { c, err = net.DialTimeout("tcp", addr, 5*time.Second); return })
	return c, err
}

// freebind lets a listener use an IPv6 address that is only routed here.
func freebind(_, _ string, c syscall.RawConn) error {
	var err error
	if e := c.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.SOL_IPV6, unix.IPV6_FREEBIND, 1) }); e != nil {
		return e
	}
	if errors.Is(err, unix.ENOPROTOOPT) { // an IPv4 socket
		return nil
	}
	return err
}
