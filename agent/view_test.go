package agent

import (
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	"github.com/shunt-sdn/shunt/agent/config"
	"github.com/shunt-sdn/shunt/agent/dispatcher"
	"github.com/shunt-sdn/shunt/agent/guard"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

func endpoint(s string) *shuntv1.Endpoint { return shuntv1.EndpointOf(netip.MustParseAddrPort(s)) }

func mac(last byte) []byte { return []byte{2, 0, 0, 0, 0, last} }

// cluster is a configuration of two dispatchers, of which one is a server too,
// and a server; a third server has not come yet.
func cluster() *shuntv1.NodeConfig {
	both := []shuntv1.Role{shuntv1.Role_ROLE_DISPATCHER, shuntv1.Role_ROLE_SERVER}
	return &shuntv1.NodeConfig{
		Version: 1, Pools: []string{"172.31.0.0/24", "fd31::/120"},
		Nodes: []*shuntv1.Node{
			{Name: "d1", Roles: both[:1], Mac: mac(1), TransferEndpoint: "10.99.0.11:6641", Up: true},
			{Name: "d2", Roles: both, Mac: mac(2), TransferEndpoint: "10.99.0.12:6641", Up: true},
			{Name: "s1", Roles: both[1:], Mac: mac(3), TransferEndpoint: "10.99.0.101:6641", Up: true,
				Applications: []*shuntv1.Application{{Service: "web", Ready: true, Direct: endpoint("10.10.2.101:80")}, {Service: "files"}}},
		},
		Services: []*shuntv1.Service{
			{
				Name: "web", Servers: []string{"s1", "s2"}, MaxHeadBytes: 4096, HeadTimeoutMs: 2000, ImportTimeoutMs: 500,
				Leases: []*shuntv1.Lease{
					{Dispatcher: "d1", Local: endpoint("172.31.0.1:80"), Vip: endpoint("10.10.0.80:80")},
					{Dispatcher: "d1", Local: endpoint("[fd31::1]:80"), Vip: endpoint("[fd10::80]:80")},
					{Dispatcher: "d2", Local: endpoint("172.31.0.2:80"), Vip: endpoint("10.10.0.80:80")},
				},
			},
			{
				Name: "files", Servers: []string{"s1"},
				Leases: []*shuntv1.Lease{{Dispatcher: "d2", Local: endpoint("172.31.0.3:81"), Vip: endpoint("10.10.0.80:81")}},
			},
		},
	}
}

var byValue = cmp.Options{
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
	cmp.AllowUnexported(view{}, shared{}, sharer{}),
}

func TestADispatcherSeesItsOwnServicesAndEveryHome(t *testing.T) {
	got, err := viewOf("d1", cluster())
	if err != nil {
		t.Fatal(err)
	}
	ap, a, p := netip.MustParseAddrPort, netip.MustParseAddr, netip.MustParsePrefix
	want := view{
		pools: []netip.Prefix{p("172.31.0.0/24"), p("fd31::/120")},
		homes: map[netip.Addr]guard.Home{
			a("172.31.0.1"): {MAC: mac(1), Self: true}, a("fd31::1"): {MAC: mac(1), Self: true},
			a("172.31.0.2"): {MAC: mac(2)}, a("172.31.0.3"): {MAC: mac(2)},
		},
		services: []dispatcher.Service{{
			Name:   "web",
			Leases: []dispatcher.Lease{{Local: ap("172.31.0.1:80"), VIP: ap("10.10.0.80:80")}, {Local: ap("[fd31::1]:80"), VIP: ap("[fd10::80]:80")}},
			Servers: []dispatcher.Server{
				{Node: "s1", MAC: net.HardwareAddr(mac(3)), Up: true, Ready: true, Direct: ap("10.10.2.101:80")},
				{Node: "s2"},
			},
			MaxHead: 4096, HeadTimeout: 2 * time.Second, ImportTimeout: 500 * time.Millisecond,
		}},
		peers: map[string]string{"d2": "10.99.0.12:6641", "s1": "10.99.0.101:6641"},
	}
	up := func(n string, b byte) dispatcher.Server {
		return dispatcher.Server{Node: n, MAC: net.HardwareAddr(mac(b)), Up: true, Ready: true}
	}
	want.dispatchers = map[netip.Addr]dispatcher.Server{
		a("172.31.0.1"): up("d1", 1), a("fd31::1"): up("d1", 1), a("172.31.0.2"): up("d2", 2), a("172.31.0.3"): up("d2", 2),
	}
	d1 := func(session string) sharer { return sharer{"d1", a(session), string(mac(1)), 0} }
	want.shared = []shared{
		{"web", a("172.31.0.1"), []sharer{d1("172.31.0.1"), {"d2", a("172.31.0.2"), string(mac(2)), 0}}},
		{"web", a("fd31::1"), []sharer{d1("fd31::1")}},
	}
	want.all = map[string]dispatcher.Service{"web": want.services[0], "files": {
		Name:    "files",
		Servers: []dispatcher.Server{{Node: "s1", MAC: net.HardwareAddr(mac(3)), Up: true}},
		MaxHead: defaultMaxHead, HeadTimeout: defaultHeadTimeout, ImportTimeout: defaultImportTimeout,
	}}
	if diff := cmp.Diff(want, got, byValue); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
}

func TestLimitsThatAreNotGivenHaveDefaults(t *testing.T) {
	got, err := viewOf("d2", cluster())
	if err != nil {
		t.Fatal(err)
	}
	if len(got.services) != 2 {
		t.Fatalf("%d services, want 2", len(got.services))
	}
	s := got.services[1]
	if s.MaxHead != 16384 || s.HeadTimeout != 10*time.Second || s.ImportTimeout != time.Second {
		t.Errorf("limits of files: %+v", s)
	}
	// An application that says nothing of itself is up with its node, and not ready.
	if srv := s.Servers[0]; !srv.Up || srv.Ready || srv.Direct.IsValid() {
		t.Errorf("server of files: %+v", srv)
	}
}

func TestAServerHasNoServicesToDispatch(t *testing.T) {
	got, err := viewOf("s1", cluster())
	if err != nil {
		t.Fatal(err)
	}
	if len(got.services) != 0 || len(got.homes) != 4 || len(got.pools) != 2 {
		t.Errorf("got %+v", got)
	}
	for a, h := range got.homes {
		if h.Self {
			t.Errorf("%v is at home here", a)
		}
	}
	if diff := cmp.Diff(map[string]string{"d1": "10.99.0.11:6641", "d2": "10.99.0.12:6641"}, got.peers); diff != "" {
		t.Errorf("peers: want -, got +:\n%s", diff)
	}
}

func TestAHomeWhoseNodeIsUnknownIsNone(t *testing.T) {
	c := cluster()
	c.Nodes = c.Nodes[:1]
	got, err := viewOf("d1", c)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.homes) != 2 || len(got.peers) != 0 || len(got.services[0].Servers) != 2 {
		t.Errorf("got %+v", got)
	}
}

// TestAWrongConfigurationIsRefusedAsAWhole: what is wrong stands last, so that
// all before it was right.
func TestAWrongConfigurationIsRefusedAsAWhole(t *testing.T) {
	for _, c := range []struct {
		name  string
		spoil func(*shuntv1.NodeConfig)
		want  string
	}{
		{"pool", func(c *shuntv1.NodeConfig) { c.Pools[1] = "fd31::" }, `pool "fd31::"`},
		{"hardware address", func(c *shuntv1.NodeConfig) { c.Nodes[2].Mac = mac(3)[:5] }, `node "s1" has a hardware address of 5 octets`},
		{"no hardware address", func(c *shuntv1.NodeConfig) { c.Nodes[2].Mac = nil }, `node "s1" has a hardware address of 0 octets`},
		{"session address", func(c *shuntv1.NodeConfig) { c.Services[1].Leases[0].Local.Address = []byte{1, 2, 3} }, `service "files": lease of d2: endpoint has an address of 3 octets`},
		{"no session address", func(c *shuntv1.NodeConfig) { c.Services[1].Leases[0].Local = nil }, `service "files": lease of d2: endpoint is missing`},
		{"session port", func(c *shuntv1.NodeConfig) { c.Services[1].Leases[0].Local.Port = 0 }, `service "files": lease of d2: endpoint has port 0`},
		{"virtual IP", func(c *shuntv1.NodeConfig) { c.Services[1].Leases[0].Vip = nil }, `service "files": virtual IP of the lease of d2: endpoint is missing`},
		{"application's address", func(c *shuntv1.NodeConfig) { c.Nodes[2].Applications[1].Direct = &shuntv1.Endpoint{} }, `service "files": server s1: endpoint has an address of 0 octets`},
	} {
		t.Run(c.name, func(t *testing.T) {
			wrong := proto.CloneOf(cluster())
			c.spoil(wrong)
			for _, self := range []string{"d1", "s1"} { // also of what is not this node's own
				if _, err := viewOf(self, wrong); err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("%s: got %v, want %s", self, err, c.want)
				}
			}
		})
	}
}

func TestAWrongConfigurationLeavesTheOneBeforeIt(t *testing.T) {
	before, err := viewOf("d1", cluster())
	if err != nil {
		t.Fatal(err)
	}
	a := &agent{cfg: config.Config{Node: "d1"}, log: slog.New(slog.DiscardHandler), known: true, config: before}
	wrong := cluster()
	wrong.Pools = []string{"172.31.1.0/24", "nonsense"}
	a.apply(wrong) // touches neither guard nor routes, which are nil
	if diff := cmp.Diff(before, a.config, byValue); diff != "" {
		t.Errorf("before -, after +:\n%s", diff)
	}
}
