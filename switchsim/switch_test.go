package switchsim_test

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/shunt-sdn/shunt/internal/testnet"
	"github.com/shunt-sdn/shunt/switchsim"
)

// bench is a switch with hosts h1 and h2 on ports p1 and p2, h1 as 10.0.1.1 and
// fd01::1, h2 as 10.0.2.2 and fd02::2, with static neighbours: gateways .254 and
// ::fe of MAC 02:ff:….
type bench struct {
	t      *testing.T
	sw     *testnet.NS
	h1, h2 *testnet.NS
	sim    *switchsim.Switch
	ofctl  string
	stop   func()
}

const gateway = "02:ff:00:00:00:01"

func newBench(t *testing.T, change func(*switchsim.Config)) *bench {
	t.Helper()
	b := &bench{t: t, sw: testnet.NewNS(t), h1: testnet.NewNS(t), h2: testnet.NewNS(t)}
	testnet.Veth(b.sw, "p1", b.h1, "eth0")
	testnet.Veth(b.sw, "p2", b.h2, "eth0")
	b.h1.Addr("eth0", "10.0.1.1/24", "fd01::1/64")
	b.h2.Addr("eth0", "10.0.2.2/24", "fd02::2/64")
	for i, h := range []*testnet.NS{b.h1, b.h2} {
		v4, v6 := fmt.Sprintf("10.0.%d.254", i+1), fmt.Sprintf("fd0%d::fe", i+1)
		h.Run("ip", "neigh", "add", v4, "lladdr", gateway, "dev", "eth0", "nud", "permanent")
		h.Run("ip", "neigh", "add", v6, "lladdr", gateway, "dev", "eth0", "nud", "permanent")
		h.Run("ip", "route", "add", "default", "via", v4)
		h.Run("ip", "-6", "route", "add", "default", "via", v6)
	}
	socket := filepath.Join(t.TempDir(), "of.sock")
	b.ofctl = "unix:" + socket
	cfg := switchsim.Config{Ports: []string{"p1", "p2"}, Listen: []string{"punix:" + socket}, Enter: b.sw.Try,
		Log: slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelDebug}))}
	if change != nil {
		change(&cfg)
	}
	sim, err := switchsim.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	b.sim = sim
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- sim.Run(ctx) }()
	b.stop = func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		b.stop = func() {}
	}
	t.Cleanup(func() { b.stop() })
	eventually(t, "the switch listens", func() bool { return len(sim.Listening()) > 0 })
	return b
}

type testWriter struct{ t *testing.T }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimSpace(string(p)))
	return len(p), nil
}

func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	deadline := time.Now().Add(10 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		if time.Now().After(deadline) {
			t.Fatalf("not within 10 s: %s", what)
		}
		<-tick.C
	}
}

// run runs ovs-ofctl against the switch.
func (b *bench) run(args ...string) string {
	b.t.Helper()
	out, err := b.try(args...)
	if err != nil {
		b.t.Fatalf("ovs-ofctl %v: %v\n%s", args, err, out)
	}
	return out
}

func (b *bench) try(args ...string) (string, error) {
	b.t.Helper()
	path := testnet.NeedProgram(b.t, "ovs-ofctl")[0]
	full := append([]string{"-O", "OpenFlow13", args[0], b.ofctl}, args[1:]...)
	out, err := exec.CommandContext(b.t.Context(), path, full...).CombinedOutput()
	return string(out), err
}

// route adds flows that route between the two hosts.
func (b *bench) route() {
	b.t.Helper()
	m1, m2 := b.h1.MAC("eth0").String(), b.h2.MAC("eth0").String()
	rewrite := func(mac string, port int) string {
		return fmt.Sprintf("dec_ttl,set_field:%s->eth_src,set_field:%s->eth_dst,output:%d", gateway, mac, port)
	}
	b.run("add-flow", "priority=10,ip,nw_dst=10.0.1.0/24,actions="+rewrite(m1, 1))
	b.run("add-flow", "priority=10,ip,nw_dst=10.0.2.0/24,actions="+rewrite(m2, 2))
	b.run("add-flow", "priority=10,ipv6,ipv6_dst=fd01::/64,actions="+rewrite(m1, 1))
	b.run("add-flow", "priority=10,ipv6,ipv6_dst=fd02::/64,actions="+rewrite(m2, 2))
}

// transfer sends n octets from h2 to h1's connection to addr and returns how long it took.
func (b *bench) transfer(listen, dial string, n int64) time.Duration {
	b.t.Helper()
	var l net.Listener
	b.h2.Do(func() (err error) {
		l, err = net.Listen("tcp", listen)
		return err
	})
	defer l.Close()
	sent := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			sent <- err
			return
		}
		defer c.Close()
		buf := make([]byte, 256<<10)
		for left := n; left > 0; {
			k, err := c.Write(buf[:min(int64(len(buf)), left)])
			if err != nil {
				sent <- err
				return
			}
			left -= int64(k)
		}
		sent <- nil
	}()
	began := time.Now()
	var c net.Conn
	b.h1.Do(func() (err error) {
		c, err = net.DialTimeout("tcp", dial, 10*time.Second)
		return err
	})
	defer c.Close()
	c.SetDeadline(time.Now().Add(60 * time.Second))
	got, err := io.Copy(io.Discard, c)
	if err != nil || got != n {
		b.t.Fatalf("received %d of %d octets: %v", got, n, err)
	}
	if err := <-sent; err != nil {
		b.t.Fatal(err)
	}
	return time.Since(began)
}

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestRoutesTCPWithOffloads(t *testing.T) {
	b := newBench(t, nil)
	b.route()
	const size = 256 << 20
	for _, to := range []string{"10.0.2.2", "[fd02::2]"} {
		d := b.transfer(to+":8080", to+":8080", size)
		t.Logf("%s: %.2f Gbit/s", to, size*8/d.Seconds()/1e9)
	}
	t.Log(b.run("dump-ports"))
}

// TestThousandsOfFlowsCostNothing steers one connection among many that are not there.
func TestThousandsOfFlowsCostNothing(t *testing.T) {
	b := newBench(t, nil)
	b.route()
	flows := filepath.Join(t.TempDir(), "flows")
	var lines strings.Builder
	for i := range 20000 {
		fmt.Fprintf(&lines, "priority=100,tcp,nw_src=172.16.%d.%d,nw_dst=10.0.2.2,tp_src=%d,tp_dst=80,actions=drop\n", i>>8&255, i&255, 1024+i)
	}
	if err := os.WriteFile(flows, []byte(lines.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	b.run("add-flows", flows)
	if got := b.run("dump-aggregate"); !strings.Contains(got, "flow_count=20004") {
		t.Errorf("aggregate: %s", got)
	}
	const size = 128 << 20
	d := b.transfer("10.0.2.2:8080", "10.0.2.2:8080", size)
	t.Logf("%.2f Gbit/s among 20000 flows", size*8/d.Seconds()/1e9)
}

func TestSmallPacketsAndNoOffloads(t *testing.T) {
	b := newBench(t, nil)
	b.route()
	for _, h := range []*testnet.NS{b.h1, b.h2} {
		h.Run("ethtool", "-K", "eth0", "tx", "off", "tso", "off", "gso", "off")
	}
	const size = 64 << 20
	d := b.transfer("10.0.2.2:8080", "10.0.2.2:8080", size)
	t.Logf("%.2f Gbit/s in packets of 1500 octets", size*8/d.Seconds()/1e9)
}

func TestOvsOfctlWorks(t *testing.T) {
	b := newBench(t, nil)
	b.run("add-group", "group_id=7,type=select,bucket=weight:1,output:1,bucket=weight:2,output:2")
	b.run("add-flow", "table=3,priority=9,cookie=0xabc,tcp,tcp_flags=+syn-ack,nw_dst=10.0.0.0/8,actions=group:7")
	b.run("add-flow", "arp,arp_op=1,actions=move:NXM_OF_ETH_SRC[]->NXM_OF_ETH_DST[],set_field:2->arp_op,move:NXM_NX_ARP_SHA[]->NXM_NX_ARP_THA[],load:0xa000001->NXM_OF_ARP_SPA[],IN_PORT")
	b.run("add-flow", "ip,nw_src=10.1.0.0/16,actions=ct(zone=5,table=4)")
	b.run("add-flow", "table=4,ct_mark=0x10/0xf0,ip,actions=ct(commit,zone=5,exec(set_field:0x11->ct_mark)),output:2")
	for _, c := range []struct {
		args []string
		want []string
	}{
		{[]string{"dump-flows", "table=3"}, []string{"cookie=0xabc", "priority=9,tcp,nw_dst=10.0.0.0/8,tcp_flags=+syn-ack actions=group:7"}},
		{[]string{"dump-flows", "table=0"}, []string{"NXM_OF_ETH_DST[]", "ct(table=4,zone=5)", "load:0xa000001->NXM_OF_ARP_SPA[]"}},
		{[]string{"dump-flows", "table=4"}, []string{"ct_mark=0x10/0xf0,ip", "ct(commit,zone=5,exec(set_field:0x11->ct_mark)),output:2"}},
		{[]string{"dump-ports-desc"}, []string{"1(p1)", "2(p2)", "LIVE"}},
		{[]string{"dump-ports"}, []string{"2 ports", "rx pkts="}},
		{[]string{"dump-groups"}, []string{"group_id=7,type=select", "weight:2"}},
		{[]string{"dump-group-stats"}, []string{"group_id=7", "ref_count=1", "bucket1"}},
		{[]string{"dump-group-features"}, []string{"max_groups"}},
		{[]string{"dump-tables"}, []string{"active=1"}},
		{[]string{"dump-table-features"}, []string{"table 253"}},
		{[]string{"dump-desc"}, []string{"switchsim"}},
		{[]string{"dump-aggregate"}, []string{"flow_count=4"}},
		{[]string{"queue-stats"}, []string{"0 queues"}},
		{[]string{"show"}, []string{"dpid:0000000000000001", "n_tables:254"}},
		{[]string{"probe"}, nil},
		{[]string{"mod-port", "p1", "no-forward"}, nil},
		{[]string{"dump-ports-desc"}, []string{"NO_FWD"}},
		{[]string{"del-flows", "cookie=0xabc/-1"}, nil},
		{[]string{"dump-aggregate"}, []string{"flow_count=3"}},
		{[]string{"del-groups"}, nil},
	} {
		out := b.run(c.args...)
		for _, want := range c.want {
			if !strings.Contains(out, want) {
				t.Errorf("%v: no %q in\n%.2000s", c.args, want, out)
			}
		}
	}
	if out, err := b.try("add-flow", "table=3,actions=group:99"); err == nil || !strings.Contains(out, "OFPBAC_BAD_OUT_GROUP") {
		t.Errorf("a group that does not exist: %v %s", err, out)
	}
}
