package controller

import (
	"context"
	"errors"
	"log/slog"
	"net/netip"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/shunt-sdn/shunt/controller/api"
	"github.com/shunt-sdn/shunt/controller/config"
	"github.com/shunt-sdn/shunt/controller/leases"
	"github.com/shunt-sdn/shunt/controller/registry"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

func node(t *testing.T, name string) registry.Node {
	t.Helper()
	h, err := registry.ParseHello(helloOf(name, 1))
	if err != nil {
		t.Fatal(err)
	}
	return registry.Node{Hello: h, Up: true}
}

func TestLeasesAreWantedPerServiceDispatcherAndFamily(t *testing.T) {
	v4, v6 := netip.MustParseAddr("10.10.0.80"), netip.MustParseAddr("fd10::80")
	services := []config.Service{
		{Name: "web", VIPs: []netip.Addr{v4, v6}},
		{Name: "files", VIPs: []netip.Addr{v4}, Dispatchers: []string{"dispatcher7"}},
	}
	nodes := []registry.Node{node(t, "dispatcher1"), node(t, "server1")}
	want := []leases.Key{
		{Service: "web", Dispatcher: "dispatcher1"}, {Service: "web", Dispatcher: "dispatcher1", IPv6: true},
		{Service: "files", Dispatcher: "dispatcher7"},
	}
	if got := wanted(services, nodes); !slices.Equal(got, want) {
		t.Errorf("wanted %v, want %v", got, want)
	}
}

func TestALeaseIsFreedWithWhatItWasFor(t *testing.T) {
	c := config.Config{
		Pools: []netip.Prefix{netip.MustParsePrefix("172.31.0.0/24")},
		Services: []config.Service{
			{Name: "web", VIPs: []netip.Addr{netip.MustParseAddr("10.10.0.80")}},
			{Name: "files", VIPs: []netip.Addr{netip.MustParseAddr("10.10.0.81")}, Dispatchers: []string{"d1"}},
		},
	}
	in, out := netip.MustParseAddr("172.31.0.1"), netip.MustParseAddr("172.30.0.1")
	for _, x := range []struct {
		name string
		k    leases.Key
		a    netip.Addr
		want bool
	}{
		{"any dispatcher", leases.Key{Service: "web", Dispatcher: "d9"}, in, true},
		{"a named one", leases.Key{Service: "files", Dispatcher: "d1"}, in, true},
		{"one that is not named any more", leases.Key{Service: "files", Dispatcher: "d9"}, in, false},
		{"a service that is gone", leases.Key{Service: "gone", Dispatcher: "d1"}, in, false},
		{"a family that is gone", leases.Key{Service: "web", Dispatcher: "d1", IPv6: true}, in, false},
		{"a pool that is gone", leases.Key{Service: "web", Dispatcher: "d1"}, out, false},
	} {
		if got := stillWanted(c, x.k, x.a); got != x.want {
			t.Errorf("%s: wanted %v, want %v", x.name, got, x.want)
		}
	}
	c.Nodes = []string{"d1"}
	if stillWanted(c, leases.Key{Service: "web", Dispatcher: "d9"}, in) {
		t.Error("a node that is not in the list keeps its lease")
	}
}

func TestServersStandInTheConfigurationsOrder(t *testing.T) {
	nodes := []registry.Node{node(t, "dispatcher1"), node(t, "server1"), node(t, "server2")}
	s := config.Service{Name: "web", Port: 80, VIPs: []netip.Addr{netip.MustParseAddr("10.10.0.80")}, Servers: []string{"server9", "server2"}}
	v := makeView(config.Config{Services: []config.Service{s}}, nodes, nil, 1)
	if got := v.config.Services[0].Servers; !slices.Equal(got, s.Servers) {
		t.Errorf("servers %v", got)
	}
	s.Servers = nil
	v = makeView(config.Config{Services: []config.Service{s}}, nodes, nil, 1)
	if got := v.config.Services[0].Servers; !slices.Equal(got, []string{"server1", "server2"}) {
		t.Errorf("servers %v", got)
	}
}

func newTestCluster(t *testing.T, cfg config.Config, sw *recorder) *cluster {
	t.Helper()
	store, err := leases.Open(cfg.State)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	c, err := newCluster(cfg, slog.New(slog.DiscardHandler), store, sw)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func TestAnExhaustedPoolLeavesTheOthersWorking(t *testing.T) {
	cfg := testConfig(t)
	cfg.Pools = []netip.Prefix{netip.MustParsePrefix("172.31.0.0/30"), netip.MustParsePrefix("fd31::/120")}
	sw := newRecorder()
	c := newTestCluster(t, cfg, sw)
	for _, name := range []string{"dispatcher1", "dispatcher2", "dispatcher3"} {
		if _, err := c.Join(node(t, name).Hello, api.NewLink()); err != nil {
			t.Fatal(err)
		}
	}
	if err := c.refresh(); !errors.Is(err, leases.ErrExhausted) {
		t.Errorf("refresh: %v, want ErrExhausted", err)
	}
	if homes := sw.topology().Services[0].Homes; len(homes) != 2+3 {
		t.Errorf("homes %v, want two of IPv4 and three of IPv6", homes)
	}
}

func TestNodesThatStayAwayAreNotWaitedForLongerThanTheWarmUp(t *testing.T) {
	cfg := testConfig(t)
	record, err := node(t, "server1").Record()
	if err != nil {
		t.Fatal(err)
	}
	store, err := leases.Open(cfg.State)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(store.PutNodes(map[string][]byte{"server1": record, "damaged": []byte("rubbish")}), store.Close()); err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		sw := newRecorder()
		c := newTestCluster(t, cfg, sw)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		go c.run(ctx)
		<-time.After(warmUp - time.Millisecond)
		synctest.Wait()
		if calls := sw.did(); len(calls) != 0 || !sw.topology().Nodes[0].Up {
			t.Errorf("during the warm-up: calls %v, nodes %+v", calls, sw.topology().Nodes)
		}
		<-time.After(2*tickEvery + refreshGap)
		synctest.Wait()
		if calls := sw.did(); !slices.Equal(calls, []string{"replace []"}) || sw.topology().Nodes[0].Up {
			t.Errorf("after it: calls %v, nodes %+v", calls, sw.topology().Nodes)
		}
	})
}

func TestMailForAnAbsentNodeIsBounded(t *testing.T) {
	var l links
	l.post("d1", registry.Key{}, nil) // before anyone came: dropped
	l.put("other", api.NewLink())
	for i := range maxMail + 10 {
		k := registry.Key{Client: netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}), 1)}
		l.post("d1", k, &shuntv1.AttachResponse{})
	}
	if got := len(l.collect("d1")); got != maxMail {
		t.Errorf("%d messages wait, want %d", got, maxMail)
	}
	if got := len(l.collect("d1")); got != 0 {
		t.Errorf("%d messages were delivered twice", got)
	}
}

func TestADispatcherThatStartsOrLeavesGetsNoConnections(t *testing.T) {
	c := config.Config{Services: []config.Service{{Name: "web", VIPs: []netip.Addr{netip.MustParseAddr("10.10.0.80")}, Port: 80}}}
	address := map[leases.Key]netip.Addr{{Service: "web", Dispatcher: "dispatcher1"}: netip.MustParseAddr("172.31.0.1")}
	for state, want := range map[shuntv1.DispatcherState]bool{
		shuntv1.DispatcherState_DISPATCHER_STATE_UNSPECIFIED: true,
		shuntv1.DispatcherState_DISPATCHER_STATE_STARTING:    false,
		shuntv1.DispatcherState_DISPATCHER_STATE_LEAVING:     false,
		99: false, // of a later version
	} {
		n := node(t, "dispatcher1")
		n.Dispatcher = state
		v := makeView(c, []registry.Node{n}, address, 1)
		if got := v.topology.Services[0].Homes[0].Up; got != want {
			t.Errorf("%v: up %v, want %v", state, got, want)
		}
		if told := v.config.Nodes[0]; !told.Up || told.Dispatcher != state {
			t.Errorf("%v: the nodes are told %v", state, told)
		}
	}
}
