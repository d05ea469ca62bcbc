package config

import (
	"log/slog"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/shunt-sdn/shunt/internal/logconf"
	"github.com/shunt-sdn/shunt/internal/metrics"
	"github.com/shunt-sdn/shunt/internal/tlsconf"
	"github.com/shunt-sdn/shunt/internal/tracing"
	conf "github.com/shunt-sdn/shunt/internal/yamlconf"
)

var byAddress = cmp.Options{
	cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
	cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
}

func mac(s string) net.HardwareAddr { m, _ := net.ParseMAC(s); return m }

func TestAFullFileIsReadAsWritten(t *testing.T) {
	got, err := Load("testdata/full.yaml")
	if err != nil {
		t.Fatal(err)
	}
	p, a := netip.MustParsePrefix, netip.MustParseAddr
	want := Config{
		Listen:      Listen{GRPC: "10.99.0.1:6640", Operator: "/run/shunt/c.sock", OpenFlow: "10.99.0.1:6653"},
		TLS:         tlsconf.Files{Cert: "/etc/shunt/cert.pem", Key: "/etc/shunt/key.pem", CA: "/etc/shunt/ca.pem"},
		OpenFlowTLS: true,
		State:       "/var/lib/shunt/c.db",
		NodeGrace:   45 * time.Second,
		NodeSilence: 6 * time.Second,
		Pools:       []netip.Prefix{p("172.31.0.0/24"), p("fd31::/120")},
		Nodes:       []string{"dispatcher1", "server1", "server2"},
		Operators:   []string{"alice", "bob.example"},
		Log:         logconf.Config{Format: logconf.JSON, Levels: map[string]slog.Level{"switches": slog.LevelDebug}},
		Metrics:     metrics.Config{Listen: "127.0.0.1:9641"},
		Tracing:     tracing.Config{Endpoint: "127.0.0.1:4317", Insecure: true, Sample: 1},
		Switches: []Switch{
			{
				DPID: 1, Steering: SteeringConntrack,
				Interfaces: []Interface{
					{"clients", mac("02:00:00:00:01:01"), []netip.Prefix{p("10.10.1.1/24"), p("fd10:1::1/64")}, []string{"client1", "client2"}},
					{"nodes", mac("02:00:00:00:02:01"), []netip.Prefix{p("10.10.2.1/24"), p("fd10:2::1/64")}, []string{"dispatcher1", "server1", "server2"}},
				},
				Routes: []Route{{p("0.0.0.0/0"), a("10.10.1.254")}, {p("::/0"), a("fd10:1::fe")}},
			},
			{
				DPID: 2, Connect: "tcp:10.99.0.3:6653", Steering: SteeringAuto,
				Interfaces: []Interface{{"nodes", mac("02:00:00:00:03:01"), []netip.Prefix{p("10.10.3.1/24")}, []string{"p1"}}},
			},
		},
		Services: []Service{
			{
				Name: "web", VIPs: []netip.Addr{a("10.10.0.80"), a("fd10::80")}, Port: 80,
				Dispatchers: []string{"dispatcher1"}, Servers: []string{"server2", "server1"},
				MaxHead: 32768, HeadTimeout: 5 * time.Second, ImportTimeout: 500 * time.Millisecond, SteerAfter: 0,
			},
			{
				Name: "files", VIPs: []netip.Addr{a("10.10.0.81")}, Port: 80,
				MaxHead: DefaultMaxHead, HeadTimeout: DefaultHeadTimeout, ImportTimeout: DefaultImportTimeout, SteerAfter: DefaultSteerAfter,
			},
		},
	}
	if diff := cmp.Diff(want, got, byAddress); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
}

// small is the least that a file has to say; cases replace parts of it.
const small = `listen: {grpc: "10.99.0.1:6640"}
insecure: true
pools: [172.31.0.0/24]
switches:
- {interfaces: [{name: nodes, mac: "02:00:00:00:00:01", addresses: [10.10.2.1/24], ports: [p1]}]}
services:
- {name: web, vips: [10.10.0.80], port: 80}
`

func TestDefaultsFillASmallFile(t *testing.T) {
	got, err := Parse("c.yaml", []byte(small))
	if err != nil {
		t.Fatal(err)
	}
	if want := (Listen{"10.99.0.1:6640", DefaultOperator, DefaultOpenFlow}); got.Listen != want {
		t.Errorf("listen %v, want %v", got.Listen, want)
	}
	if got.State != DefaultState || got.NodeGrace != DefaultNodeGrace || got.NodeSilence != DefaultNodeSilence || got.Switches[0].Steering != SteeringAuto {
		t.Errorf("defaults: %+v", got)
	}
}

func TestNoOpenFlowListenerIfEverySwitchIsDialled(t *testing.T) {
	got, err := Parse("c.yaml", []byte(strings.Replace(small, "- {interfaces", "- {connect: \"unix:/run/br.mgmt\", interfaces", 1)))
	if err != nil {
		t.Fatal(err)
	}
	if got.Listen.OpenFlow != "" {
		t.Errorf("listens on %s for switches", got.Listen.OpenFlow)
	}
}

func TestSwitchesMayShareANetwork(t *testing.T) {
	text := strings.Replace(small, "- {interfaces", "- {dpid: 1, interfaces", 1)
	text = strings.Replace(text, "services:", `- dpid: 2
  interfaces:
  - {name: nodes, mac: "02:00:00:00:00:02", addresses: [10.10.2.2/24], ports: [p1]}
  - {name: clients, mac: "02:00:00:00:00:01", addresses: [10.10.3.1/24], ports: [p2]}
services:`, 1)
	got, err := Parse("c.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Switches) != 2 || got.Switches[1].DPID != 2 {
		t.Errorf("switches %+v", got.Switches)
	}
}

// TestMistakesAreNamed is the catalogue of wrong files: what a line of small
// is replaced by, and the whole error.
func TestMistakesAreNamed(t *testing.T) {
	const (
		listen  = `{grpc: "10.99.0.1:6640"}`
		pools   = "pools: [172.31.0.0/24]"
		iface   = `{name: nodes, mac: "02:00:00:00:00:01", addresses: [10.10.2.1/24], ports: [p1]}`
		iface2  = `{name: nodes, mac: "02:00:00:00:00:02", addresses: [10.10.2.2/24], ports: [p1]}`
		sw      = "{interfaces: [" + iface + "]}"
		service = "{name: web, vips: [10.10.0.80], port: 80}"
	)
	for _, c := range []struct{ name, old, new, want string }{
		{"empty", small, "", `c.yaml: the file is empty; see docs/quickstart.md for one to start from`},
		{"only a comment", small, "# nothing\n", `c.yaml: the file is empty; see docs/quickstart.md for one to start from`},
		{"not YAML", pools, "pools: [172.31.0.0/24", `c.yaml:2:1: not YAML: did not find expected ',' or ']'; correct the YAML in this line or one next to it`},
		{"a tab", pools, "pools:\n\t- x", `c.yaml:4:1: not YAML: found character that cannot start any token; correct the YAML in this line or one next to it`},
		{"two documents", pools, "---\n" + pools, `c.yaml:3:1: a second YAML document; remove all but the first`},
		{"a list", small, "- a\n", `c.yaml:1:1: the configuration is not a mapping; write a mapping`},
		{"unknown field", "insecure: true", "insecur: true", `c.yaml:2:1: the configuration has an unknown field "insecur"; did you mean "insecure"?`},
		{"unknown field, nothing like it", listen, `{grpc: "10.99.0.1:6640", carrots: 2}`, `c.yaml:1:34: listen has an unknown field "carrots"; known are grpc, operator, openflow`},
		{"field twice", pools, pools + "\n" + pools, `c.yaml:4:1: the configuration has "pools" twice, first in line 3; remove one`},
		{"alias", pools, "pools: [&p 172.31.0.0/24, *p]", `c.yaml:3:27: pool is a YAML alias; write it out`},
		{"null", pools, "pools:", `c.yaml:3:7: pool is empty; write a value or remove the key`},
		{"empty text", "10.99.0.1:6640", "", `c.yaml:1:16: listen.grpc is empty; write a value or remove the key`},

		{"no listener", "listen: " + listen + "\n", "", `c.yaml:1:1: the configuration has no "listen"; say where to accept agents: listen: {grpc: "10.99.0.1:6640"}`},
		{"no port", "10.99.0.1:6640", "10.99.0.1", `c.yaml:1:16: listen.grpc "10.99.0.1" is not host:port; write for example 10.99.0.1:6640`},
		{"port 0", "10.99.0.1:6640", "10.99.0.1:0", `c.yaml:1:16: listen.grpc "10.99.0.1:0" has the port "0"; write 1 to 65535`},
		{"operator is TCP", listen, `{grpc: ":6640", operator: "127.0.0.1:1"}`, `c.yaml:1:35: listen.operator "127.0.0.1:1" is not a unix socket; write unix:/absolute/path of at most 88 octets`},
		{"one port for two", listen, `{grpc: ":6640", openflow: ":6640"}`, `c.yaml:1:35: listen.openflow is the same as listen.grpc in line 1; choose another port, 6653 is OpenFlow's`},
		{"no security", "insecure: true\n", "", `c.yaml:1:1: neither TLS nor its absence is configured; write tls: {cert, key, ca}, or insecure: true on a trusted network`},
		{"both", "insecure: true", "insecure: true\ntls: {cert: /a, key: /b, ca: /c}", `c.yaml:2:11: both tls and insecure; keep one`},
		{"insecure maybe", "insecure: true", "insecure: perhaps", `c.yaml:2:11: insecure "perhaps" is neither true nor false; write one of the two`},
		{"no authority", "insecure: true", "tls: {cert: /a, key: /b}", `c.yaml:2:6: tls has no "ca"; name the PEM file of the authority`},
		{"relative certificate", "insecure: true", "tls: {cert: a, key: /b, ca: /c}", `c.yaml:2:13: tls.cert "a" is a relative path; write an absolute one`},
		{"openflow_tls", "insecure: true", "insecure: true\nopenflow_tls: true", `c.yaml:3:15: openflow_tls without tls; write tls: {cert, key, ca}`},
		{"state", "insecure: true", "insecure: true\nstate: c.db", `c.yaml:3:8: state "c.db" is a relative path; write an absolute one`},
		{"silence", "insecure: true", "insecure: true\nnode_silence: 1s", `c.yaml:3:15: node_silence "1s" is out of range; write 2s to 1m0s`},
		{"grace", "insecure: true", "insecure: true\nnode_grace: 1ms", `c.yaml:3:13: node_grace "1ms" is out of range; write 1s to 1h0m0s`},

		{"pool with host bits", pools, "pools: [172.31.0.1/24]", `c.yaml:3:9: pool "172.31.0.1/24" has bits beyond the prefix length; write 172.31.0.0/24`},
		{"pool without length", pools, "pools: [172.31.0.0]", `c.yaml:3:9: pool "172.31.0.0" is not a prefix; write for example 172.31.0.0/24 or fd31::/120`},
		{"pool too small", pools, "pools: [172.31.0.0/31]", `c.yaml:3:9: pool "172.31.0.0/31" has no room; write a prefix of at most /30`},
		{"multicast pool", pools, "pools: [224.0.0.0/8]", `c.yaml:3:9: pool "224.0.0.0/8" cannot be routed to; write a unicast address that is neither loopback nor link-local`},
		{"overlapping pools", pools, "pools:\n- 172.31.0.0/24\n- 172.31.0.128/25", `c.yaml:5:3: pool 172.31.0.128/25 overlaps pool 172.31.0.0/24 in line 4; remove one or make them disjoint`},
		{"no pools", pools, "pools: []", `c.yaml:3:8: pool is an empty list; write at least one or remove the key`},
		{"pool is a network", pools, "pools: [10.10.0.0/16]", `c.yaml:5:69: address 10.10.2.1/24 of interface nodes overlaps pool 10.10.0.0/16 in line 3; choose a pool that no network uses` + "\n" +
			`c.yaml:7:22: vip 10.10.0.80 of service web lies in pool 10.10.0.0/16 in line 3; choose a vip outside the pools`},
		{"node twice", "insecure: true", "insecure: true\nnodes: [a, b, a]", `c.yaml:3:15: node "a" stands there twice, first in line 3; remove or rename one`},
		{"operator who is a node", "insecure: true", "tls: {cert: /c, key: /k, ca: /a}\nnodes: [a, b]\noperators: [b]", `c.yaml:4:13: operator b is in nodes, and nodes do not change the policy; give the operator a name of its own`},
		{"operators without tls", "insecure: true", "insecure: true\noperators: [b]", `c.yaml:3:13: operators have certificates only with tls; remove operators or insecure`},
		{"node's name", "insecure: true", "insecure: true\nnodes: [a/b]", `c.yaml:3:9: node "a/b" is not a name; write 1 to 63 letters, digits, '.', '_' or '-', a letter or digit first and last`},

		{"no switch", "- " + sw, "  []", `c.yaml:1:1: no switch; describe at least one`},
		{"dpid", sw, "{dpid: xyz, interfaces: [" + iface + "]}", `c.yaml:5:10: dpid "xyz" is not a datapath id; write up to 16 hexadecimal digits, not all zero`},
		{"steering", sw, "{steering: magic, interfaces: [" + iface + "]}", `c.yaml:5:14: steering "magic" is unknown; write auto, flows or conntrack`},
		{"connect", sw, "{connect: \"10.0.0.1:6653\", interfaces: [" + iface + "]}", `c.yaml:5:13: connect "10.0.0.1:6653" is not where a switch listens; write tcp:host:port, ssl:host:port or unix:/path`},
		{"connect by TLS", sw, "{connect: \"ssl:10.0.0.1:6653\", interfaces: [" + iface + "]}", `c.yaml:5:13: switch is reached by TLS, but there are no certificates; write tls: {cert, key, ca}, or connect by tcp:`},
		{"two switches, no dpid", sw, "{dpid: 1, interfaces: [" + iface + "]}\n- {interfaces: [" + iface2 + "]}", `c.yaml:6:3: one of several switches has no dpid; write it, as ovs-ofctl show prints it`},
		{"same dpid", sw, "{dpid: 1, interfaces: [" + iface + "]}\n- {dpid: 0x01, interfaces: [" + iface2 + "]}", `c.yaml:6:10: dpid 0000000000000001 is another switch's in line 5; correct one of them`},
		{"dpid zero", sw, "{dpid: 0, interfaces: [" + iface + "]}", `c.yaml:5:10: dpid "0" is not a datapath id; write up to 16 hexadecimal digits, not all zero`},
		{"two switches reached at one place", sw, "{dpid: 1, connect: \"tcp:10.0.0.1:6653\", interfaces: [" + iface + "]}\n- {dpid: 2, connect: \"tcp:10.0.0.1:6653\", interfaces: [" + iface2 + "]}",
			`c.yaml:6:22: tcp:10.0.0.1:6653 is another switch's in line 5; correct one of them`},
		{"two switches with one address", sw, "{dpid: 1, interfaces: [" + iface + "]}\n- {dpid: 2, interfaces: [" + strings.Replace(iface2, "10.10.2.2", "10.10.2.1", 1) + "]}",
			`c.yaml:6:78: address 10.10.2.1 of interface nodes is another switch's in line 5; give each switch an address of its own`},
		{"two switches with one MAC", sw, "{dpid: 1, interfaces: [" + iface + "]}\n- {dpid: 2, interfaces: [" + strings.Replace(iface2, "00:02", "00:01", 1) + "]}",
			`c.yaml:6:45: mac 02:00:00:00:00:01 of interface nodes is another switch's on the same network in line 5; give each switch a MAC address of its own`},
		{"no interface", sw, "{interfaces: []}", `c.yaml:5:16: switch has no interface; describe at least one`},
		{"MAC", "02:00:00:00:00:01", "02:00:00:00:01", `c.yaml:5:36: mac "02:00:00:00:01" is not a MAC address; write six octets as 02:00:00:00:00:01`},
		{"multicast MAC", "02:00:00:00:00:01", "03:00:00:00:00:01", `c.yaml:5:36: mac "03:00:00:00:00:01" is not a unicast MAC address; write an even first octet, not all zero`},
		{"gateway without length", "10.10.2.1/24", "10.10.2.1", `c.yaml:5:69: address "10.10.2.1" is not an address with a prefix length; write for example 10.10.1.1/24`},
		{"port in two interfaces", sw, "{interfaces: [" + iface + `, {name: other, mac: "02:00:00:00:00:02", addresses: [10.10.3.1/24], ports: [p1]}]}`, `c.yaml:5:173: port "p1" stands there twice, first in line 5; remove or rename one`},
		{"interfaces overlap", sw, "{interfaces: [" + iface + `, {name: other, mac: "02:00:00:00:00:02", addresses: [10.10.2.129/25], ports: [p2]}]}`, `c.yaml:5:150: address 10.10.2.129/25 of interface other overlaps 10.10.2.1/24 in line 5; give each interface a prefix of its own`},
		{"interface twice", sw, "{interfaces: [" + iface + `, {name: nodes, mac: "02:00:00:00:00:02", addresses: [10.10.3.1/24], ports: [p2]}]}`, `c.yaml:5:105: interface "nodes" stands there twice, first in line 5; remove or rename one`},
		{"route off the network", sw, "{interfaces: [" + iface + "], routes: [{to: 0.0.0.0/0, via: 10.10.3.1}]}", `c.yaml:5:129: route to 0.0.0.0/0 goes via 10.10.3.1, which is on no interface's network; write a next hop that an interface's prefix contains`},
		{"route to itself", sw, "{interfaces: [" + iface + "], routes: [{to: 0.0.0.0/0, via: 10.10.2.1}]}", `c.yaml:5:129: route to 0.0.0.0/0 goes via the switch's own address 10.10.2.1; write the neighbour's address`},
		{"route mixes families", sw, "{interfaces: [" + iface + `], routes: [{to: "::/0", via: 10.10.2.2}]}`, `c.yaml:5:126: route to ::/0 goes via 10.10.2.2; write a next hop of the same family`},
		{"route into a pool", sw, "{interfaces: [" + iface + "], routes: [{to: 172.31.0.0/25, via: 10.10.2.2}]}", `c.yaml:5:113: route to 172.31.0.0/25 is inside pool 172.31.0.0/24 in line 3; remove it: pools are routed by steering`},

		{"no service", "- " + service, "  []", `c.yaml:1:1: no service; describe at least one`},
		{"service twice", service, service + "\n- {name: web, vips: [10.10.0.81], port: 80}", `c.yaml:8:10: service "web" stands there twice, first in line 7; remove or rename one`},
		{"vip and port twice", service, service + "\n- {name: files, vips: [10.10.0.80], port: 80}", `c.yaml:8:24: service files has 10.10.0.80:80, which is service web's in line 7; choose another vip or port`},
		{"vip in a pool", "vips: [10.10.0.80]", "vips: [172.31.0.80]", `c.yaml:7:22: vip 172.31.0.80 of service web lies in pool 172.31.0.0/24 in line 3; choose a vip outside the pools`},
		{"vip is a gateway", "vips: [10.10.0.80]", "vips: [10.10.2.1]", `c.yaml:7:22: vip 10.10.2.1 of service web is the address of interface nodes in line 5; choose another vip`},
		{"vip not covered", "vips: [10.10.0.80]", `vips: ["fd10::80"]`, `c.yaml:7:22: vip fd10::80 of service web is not covered: no pool of IPv6; add a pool of IPv6 or remove the vip` + "\n" +
			`c.yaml:7:22: vip fd10::80 of service web cannot be reached: no switch interface has IPv6; give an interface an address of the family or remove the vip`},
		{"two vips of a family", "vips: [10.10.0.80]", "vips: [10.10.0.80, 10.10.0.81]", `c.yaml:7:34: service web has a second vip of IPv4, 10.10.0.81 beside 10.10.0.80; make it a service of its own`},
		{"vip is a name", "vips: [10.10.0.80]", "vips: [web.example]", `c.yaml:7:22: vip "web.example" is not an IP address; write for example 10.10.0.80 or fd10::80`},
		{"vip is IPv4 in IPv6", "vips: [10.10.0.80]", `vips: ["::ffff:10.10.0.80"]`, `c.yaml:7:22: vip "::ffff:10.10.0.80" is an IPv4 address written as IPv6; write 10.10.0.80`},
		{"vip is link-local", "vips: [10.10.0.80]", `vips: ["fe80::1"]`, `c.yaml:7:22: vip "fe80::1" cannot be routed to; write a unicast address that is neither loopback nor link-local`},
		{"service's port", "port: 80", "port: 80000", `c.yaml:7:41: port "80000" is not a TCP port; write 1 to 65535`},
		{"max_head", "port: 80", "port: 80, max_head: 16k", `c.yaml:7:55: max_head "16k" is not a size that a request head can have; write 1024 to 1048576 octets`},
		{"head_timeout", "port: 80", "port: 80, head_timeout: 10", `c.yaml:7:59: head_timeout "10" is not a duration; write for example 500ms, 10s or 2m`},
		{"unlisted server", service + "\n", "{name: web, vips: [10.10.0.80], port: 80, servers: [srv1]}\nnodes: [srv2]\n", `c.yaml:7:55: server srv1 is not in nodes; did you mean "srv2"? Else add it to nodes`},
		{"dispatcher twice", service, "{name: web, vips: [10.10.0.80], port: 80, dispatchers: [d1, d1]}", `c.yaml:7:63: dispatcher "d1" stands there twice, first in line 7; remove or rename one`},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := strings.Replace(small, c.old, c.new, 1)
			if text == small {
				t.Fatal("the case changes nothing")
			}
			_, err := Parse("c.yaml", []byte(text))
			got := ""
			if err != nil {
				got = err.Error()
			}
			if got != c.want {
				t.Errorf("got\n\t%s\nwant\n\t%s\nof\n%s", got, c.want, text)
			}
		})
	}
}

func TestPoolsMustHoldEveryNamedDispatcher(t *testing.T) {
	text := strings.NewReplacer("172.31.0.0/24", "172.31.0.0/30", "port: 80", "port: 80, dispatchers: [d1, d2, d3]").Replace(small)
	_, err := Parse("c.yaml", []byte(text))
	want := "c.yaml:3:9: pools have 2 session addresses, services with their dispatchers need 3; add or widen a pool"
	if err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestEveryMistakeOfAFileIsReported(t *testing.T) {
	_, err := Parse("c.yaml", []byte("listen: 3\npools: [x]\nservices: [{port: 0}]\nbanana: 1\n"))
	if err == nil || strings.Count(err.Error(), "\n") < 6 {
		t.Errorf("got %v", err)
	}
	_, err = Parse("c.yaml", []byte("pools: ["+strings.Repeat("x, ", 100)+"]"))
	if n := len(err.(conf.Errors)); n != conf.MaxErrors {
		t.Errorf("%d mistakes reported, want %d", n, conf.MaxErrors)
	}
}

func TestFilesThatCannotBeRead(t *testing.T) {
	huge := filepath.Join(t.TempDir(), "huge.yaml")
	if err := os.WriteFile(huge, make([]byte, conf.MaxSize+1), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{"/absent.yaml": "--config", huge: "at most", t.TempDir(): "not a regular file"} {
		if _, err := Load(path); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", path, err, want)
		}
	}
}

func FuzzParse(f *testing.F) {
	full, err := os.ReadFile("testdata/full.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(full)
	f.Add([]byte(small))
	f.Add([]byte("a: &a [*a]\n<<: *a\n? {}\n: !!binary x\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := Parse("c.yaml", text)
		if err == nil && (len(c.Pools) == 0 || len(c.Switches) == 0 || len(c.Services) == 0 || c.Listen.GRPC == "") {
			t.Errorf("accepted %+v", c)
		}
		if es, ok := err.(conf.Errors); err != nil && (!ok || len(es) == 0 || len(es) > conf.MaxErrors) {
			t.Errorf("error %#v", err)
		}
	})
}
