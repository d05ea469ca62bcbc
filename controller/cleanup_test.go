package controller_test

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/shunt-sdn/shunt/controller"
	"github.com/shunt-sdn/shunt/controller/config"
	"github.com/shunt-sdn/shunt/controller/openflow"
	"github.com/shunt-sdn/shunt/internal/testnet"
	"github.com/shunt-sdn/shunt/internal/testovs"
)

// A bridge is an Open vSwitch that others use too: it has their flows and is
// connected to another controller.
type bridge struct {
	*testovs.Switch
	t     *testing.T
	other *openflow.Conn
}

var foreign = []string{
	"table=0,priority=0,cookie=0x1,actions=NORMAL",
	"table=0,priority=50,cookie=0x2,in_port=7,actions=drop",
	"table=30,priority=9,cookie=0x5347ffffffffffff,ip,actions=resubmit(,40)",
	"table=40,priority=1,cookie=0x5349000000000000,actions=NORMAL",
}

func newBridge(t *testing.T) *bridge {
	ns := testnet.NewNS(t)
	b := &bridge{Switch: testovs.Start(t, ns), t: t}
	for i, p := range []string{"clients", "nodes"} {
		testnet.Veth(ns, p, ns, p+"-host")
		b.AddPort(p, uint32(i+1))
	}
	return b
}

// connectOther connects another controller, as the bridge's master.
func (b *bridge) connectOther(l net.Listener) {
	b.t.Helper()
	nc, err := l.Accept()
	if err != nil {
		b.t.Fatal(err)
	}
	conn, err := openflow.Handshake(b.t.Context(), nc, openflow.Config{})
	if err != nil {
		b.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = conn.Run(ctx) }()
	go func() {
		for range conn.Events() {
		}
	}()
	b.t.Cleanup(func() { cancel(); <-done })
	if err := conn.SetRole(b.t.Context(), true, 1); err != nil {
		b.t.Fatal(err)
	}
	b.other = conn
}

var counters = regexp.MustCompile(` (duration|n_packets|n_bytes|idle_age)=[^,]*,`)

// flows are the flows that have or have not Shunt's cookie, without counters.
func (b *bridge) flows(ours bool) (out []string) {
	for line := range strings.Lines(b.Ofctl("dump-flows", testovs.Bridge)) {
		if !strings.Contains(line, "table=") {
			continue
		}
		if strings.Contains(line, "cookie=0x5348") == ours {
			out = append(out, strings.TrimSpace(counters.ReplaceAllString(line, "")))
		}
	}
	return out
}

// tracked are the connections that the switch tracks in a zone.
func (b *bridge) tracked(zone int) int {
	return strings.Count(b.Appctl("dpctl/dump-conntrack", fmt.Sprintf("zone=%d", zone)), "\n")
}

func (b *bridge) eventually(what string, f func() bool) {
	b.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); !f(); <-time.After(20 * time.Millisecond) {
		if time.Now().After(deadline) {
			b.t.Fatalf("not so after 30 s: %s", what)
		}
	}
}

func cleanupConfig(t *testing.T) config.Config {
	dir := t.TempDir()
	return config.Config{
		Listen:    config.Listen{GRPC: "127.0.0.1:6640", Operator: filepath.Join(dir, "operator.sock")},
		Insecure:  true,
		State:     filepath.Join(dir, "state.db"),
		NodeGrace: time.Second,
		Pools:     []netip.Prefix{netip.MustParsePrefix("172.31.0.0/24")},
		Switches: []config.Switch{{DPID: 1, Steering: config.SteeringAuto, Interfaces: []config.Interface{
			{Name: "clients", MAC: net.HardwareAddr{2, 0, 0, 0, 1, 1}, Addresses: []netip.Prefix{netip.MustParsePrefix("10.10.1.1/24")}, Ports: []string{"clients"}},
			{Name: "nodes", MAC: net.HardwareAddr{2, 0, 0, 0, 2, 1}, Addresses: []netip.Prefix{netip.MustParsePrefix("10.10.2.1/24")}, Ports: []string{"nodes"}},
		}}},
		Services: []config.Service{{Name: "web", VIPs: []netip.Addr{netip.MustParseAddr("10.10.0.80")}, Port: 80, MaxHead: 16384, HeadTimeout: time.Second, ImportTimeout: time.Second}},
	}
}

func TestCleanupLeavesWhatIsOthers(t *testing.T) {
	testnet.NeedRoot(t)
	log := slog.New(slog.DiscardHandler)
	for _, how := range []string{"dialled", "dialling"} {
		t.Run(how, func(t *testing.T) {
			b := newBridge(t)
			cfg := cleanupConfig(t)
			var theirs net.Listener
			b.Namespace().Do(func() (err error) {
				theirs, err = net.Listen("tcp", "127.0.0.1:6699")
				return err
			})
			defer theirs.Close()
			targets := []string{"tcp:127.0.0.1:6699"}
			if how == "dialled" {
				cfg.Switches[0].Connect = b.Management()
			} else {
				cfg.Listen.OpenFlow = "127.0.0.1:6653"
				targets = append(targets, "tcp:127.0.0.1:6653")
			}
			b.SetController(targets...)
			b.connectOther(theirs)
			// Not before: a bridge that gets its first controller loses its flows.
			for _, f := range foreign {
				b.Ofctl("add-flow", testovs.Bridge, f)
			}
			before := b.flows(false)
			if len(before) != len(foreign) {
				t.Fatalf("flows of others: %q", before)
			}

			ctx, stop := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			go func() {
				ended <- b.Namespace().Try(func() error { return controller.Run(ctx, cfg, "test", log) })
			}()
			b.eventually("Shunt's flows are in the switch", func() bool { return len(b.flows(true)) > 20 })
			if diff := cmp.Diff(before, b.flows(false)); diff != "" {
				t.Errorf("the controller changed flows of others: before -, after +:\n%s", diff)
			}
			if err := controller.Cleanup(t.Context(), cfg, log); err == nil || !strings.Contains(err.Error(), "running") {
				t.Errorf("cleaning up beside a controller that runs: %v", err)
			}
			stop()
			if err := <-ended; err != nil {
				t.Fatal(err)
			}
			const packet = "02000000010102000000020108004500001c00010000401165620a0a010b0a0a00501f90005000080000" // a datagram of UDP
			for _, zone := range []int{0x5348, 7} {
				b.Ofctl("packet-out", testovs.Bridge, fmt.Sprintf("in_port=1 packet=%s actions=ct(commit,zone=%d)", packet, zone))
				b.eventually("a connection is tracked", func() bool { return b.tracked(zone) == 1 })
			}
			if len(b.flows(true)) == 0 {
				t.Fatal("a controller that stops takes its flows with it")
			}

			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			b.Namespace().Do(func() error { return controller.Cleanup(ctx, cfg, log) })
			if left := b.flows(true); len(left) > 0 {
				t.Errorf("left behind: %q", left)
			}
			if diff := cmp.Diff(before, b.flows(false)); diff != "" {
				t.Errorf("flows of others: before -, after +:\n%s", diff)
			}
			if ours, others := b.tracked(0x5348), b.tracked(7); ours != 0 || others != 1 {
				t.Errorf("tracked connections: %d of ours, %d of others, want 0 and 1", ours, others)
			}
			if err := b.other.Barrier(ctx); err != nil {
				t.Errorf("the other controller lost its switch: %v", err)
			}
			b.Namespace().Do(func() error { return controller.Cleanup(ctx, cfg, log) }) // again: nothing to do
		})
	}
}

func TestCleanupNamesSwitchesThatDoNotCome(t *testing.T) {
	cfg := cleanupConfig(t)
	cfg.Listen.OpenFlow = "127.0.0.1:0"
	cfg.Switches = append(cfg.Switches, config.Switch{DPID: 2, Connect: "unix:" + filepath.Join(t.TempDir(), "absent")})
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := controller.Cleanup(ctx, cfg, slog.New(slog.DiscardHandler))
	for _, want := range []string{"absent", "1 switches did not connect"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want one with %q", err, want)
		}
	}
}
