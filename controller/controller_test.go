package controller

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/shunt-sdn/shunt/internal/tlsconf/tlstest"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

const client = "10.10.1.2:4000"

func TestAgentsLearnOfOneAnother(t *testing.T) {
	d := start(t, testConfig(t))
	d1 := d.join(t, "dispatcher1")
	first := d1.latest()
	s1 := d.join(t, "server1")
	eventually(t, "the dispatcher hears of the server", func() bool { return len(d1.latest().Nodes) == 2 })
	c := d1.latest()
	if c.Version <= first.Version {
		t.Errorf("version %d after %d", c.Version, first.Version)
	}
	if got := c.Services[0].Servers; !slices.Equal(got, []string{"server1"}) {
		t.Errorf("servers %v", got)
	}
	if n := c.Nodes[1]; n.Name != "server1" || !n.Up || n.TransferEndpoint != "10.99.0.101:6641" || !n.Applications[0].Ready {
		t.Errorf("server1 is %v", n)
	}
	if !slices.Equal(c.Pools, []string{"172.31.0.0/24", "fd31::/120"}) {
		t.Errorf("pools %v", c.Pools)
	}
	for _, v6 := range []bool{false, true} {
		if a, b := d1.lease(t, "dispatcher1", v6), s1.lease(t, "dispatcher1", v6); a != b || a.Port() != 80 {
			t.Errorf("leases %v and %v", a, b)
		}
	}
	eventually(t, "the switch hears of both", func() bool {
		tp := d.sw.topology()
		return len(tp.Nodes) == 2 && len(tp.Services) == 1 && len(tp.Services[0].Homes) == 2 && tp.Services[0].Homes[0].Up
	})

	s1.send(&shuntv1.AttachRequest{Message: &shuntv1.AttachRequest_Report{Report: &shuntv1.Report{RequestsProxied: 3,
		Applications: []*shuntv1.Application{{Service: "web"}}}}})
	eventually(t, "the application is not ready", func() bool { return !d1.latest().Nodes[1].Applications[0].Ready })
	s1.cancel()
	eventually(t, "the server is down", func() bool { return !d1.latest().Nodes[1].Up })
	eventually(t, "operators see it", func() bool {
		st := d.status(t)
		return len(st.Nodes) == 2 && !st.Nodes[1].Up && st.RequestsProxied == 3
	})
}

func TestASessionFromHandoffToEnd(t *testing.T) {
	d := start(t, testConfig(t))
	d1, s1 := d.join(t, "dispatcher1"), d.join(t, "server1")
	local := d1.lease(t, "dispatcher1", false)
	d.sw.saw(t, "replace []")
	d.sw.mu.Lock()
	d.sw.hold = true
	d.sw.mu.Unlock()

	d1.hold(heldAt(client, local, shuntv1.Path_PATH_DISPATCHER, ""))
	eventually(t, "it is at the dispatcher", func() bool { return slices.Equal(d.sessions(t), []string{client + " web dispatcher1 DISPATCHER"}) })
	d1.steer("h1", client, local, "server1")
	d.sw.saw(t, `steer 10.10.1.2:4000>10.10.0.80:80 at `+local.String()+` to server1 by "h1"`)
	s1.hold(heldAt(client, local, 0, ""))
	eventually(t, "it is diverted", func() bool { return slices.Equal(d.sessions(t), []string{client + " web server1 DIVERTED"}) })
	d1.hold()

	d.sw.mu.Lock()
	p := d.sw.paths[netip.MustParseAddrPort(client)]
	p.Confirmed = true
	d.sw.paths[netip.MustParseAddrPort(client)] = p
	done := d.sw.held[0]
	d.sw.mu.Unlock()
	done(nil)
	d1.got(t, `h1 ""`, &d1.answers)
	eventually(t, "it is switched", func() bool { return slices.Equal(d.sessions(t), []string{client + " web server1 SWITCHED"}) })
	nodes, err := d.operator().ListNodes(t.Context(), &shuntv1.ListNodesRequest{})
	if err != nil || nodes.Nodes[1].Sessions != 1 {
		t.Errorf("nodes %v, %v", nodes, err)
	}

	s1.hold()
	begun := time.Now()
	s1.over("h1", client, local)
	d.sw.saw(t, "end "+client)
	d1.got(t, client+" "+local.String(), &d1.released)
	if waited := time.Since(begun); waited < 2*time.Second {
		t.Errorf("released after %v, want the linger first", waited)
	}
	if st := d.status(t); st.Sessions != 0 {
		t.Errorf("%d sessions left", st.Sessions)
	}
}

func TestAnswersToSteerAndUnsteer(t *testing.T) {
	d := start(t, testConfig(t))
	d1 := d.join(t, "dispatcher1")
	d.join(t, "server1")
	local := d1.lease(t, "dispatcher1", true)
	d1.steer("h1", "[fd10:1::2]:4000", local, "server1")
	d1.got(t, `h1 ""`, &d1.answers)
	d.sw.saw(t, `steer [fd10:1::2]:4000>[fd10::80]:80 at `+local.String()+` to server1 by "h1"`)
	d1.unsteer("h1", "[fd10:1::2]:4000", local)
	d.sw.saw(t, `unsteer [fd10:1::2]:4000 by "h1"`)

	d1.steer("h2", "[fd10:1::2]:4000", local, "server9")
	d1.got(t, `h2 "node \"server9\" is not connected to the controller"`, &d1.answers)
	d1.steer("h3", client, netip.MustParseAddrPort("172.31.0.200:80"), "server1")
	d1.got(t, `h3 "session address 172.31.0.200:80 is leased to nobody; the service or dispatcher was removed"`, &d1.answers)
	d.sw.mu.Lock()
	d.sw.fail = errors.New("no switch is connected")
	d.sw.mu.Unlock()
	d1.steer("h4", "[fd10:1::2]:4001", local, "server1")
	d1.got(t, `h4 "no switch is connected"`, &d1.answers)
}

func TestTheNewerInstanceOfANodeWins(t *testing.T) {
	d := start(t, testConfig(t))
	old := d.join(t, "server1")
	d1 := d.join(t, "dispatcher1")
	again := d.join(t, "server1")
	eventually(t, "the old stream is closed", func() bool { return status.Code(old.ended()) == codes.Aborted })
	for range 20 { // and the new one stays
		if st := d.status(t); !st.Nodes[1].Up {
			t.Fatalf("server1 is down: %v", again.ended())
		}
	}
	if !d1.latest().Nodes[1].Up || again.ended() != nil {
		t.Errorf("server1 is up: %v, %v", d1.latest().Nodes[1].Up, again.ended())
	}
}

func TestSessionsOfADeadNodeGoHome(t *testing.T) {
	cfg := testConfig(t)
	cfg.NodeGrace = 700 * time.Millisecond
	d := start(t, cfg)
	d1, s1 := d.join(t, "dispatcher1"), d.join(t, "server1")
	local := d1.lease(t, "dispatcher1", false)
	d1.steer("h1", client, local, "server1")
	d1.got(t, `h1 ""`, &d1.answers)
	begun := time.Now()
	s1.cancel()
	d.sw.saw(t, "unsteer "+client+` by ""`)
	if waited := time.Since(begun); waited < cfg.NodeGrace {
		t.Errorf("given up after %v, want %v at least", waited, cfg.NodeGrace)
	}
	d1.got(t, client+" "+local.String(), &d1.released)
}

func TestSessionsOutliveTheirAgents(t *testing.T) {
	d := start(t, testConfig(t))
	d.sw.saw(t, "replace []")
	d1, s1 := d.join(t, "dispatcher1"), d.join(t, "server1")
	local := d1.lease(t, "dispatcher1", false)
	d1.steer("h1", client, local, "server1")
	d1.got(t, `h1 ""`, &d1.answers)
	d1.cancel()
	s1.cancel()
	eventually(t, "both are down", func() bool { st := d.status(t); return !st.Nodes[0].Up && !st.Nodes[1].Up })
	if got := d.sessions(t); !slices.Equal(got, []string{client + " web server1 SWITCHED"}) {
		t.Errorf("sessions %v", got)
	}
	d.join(t, "server1", heldAt(client, local, 0, ""), heldAt("10.10.1.2:4001", local, 0, ""))
	// One that was handed off while nobody was listening is steered now.
	d.sw.saw(t, `steer 10.10.1.2:4001>10.10.0.80:80 at `+local.String()+` to server1 by ""`)
	for _, call := range d.sw.did() {
		if strings.HasPrefix(call, "unsteer") || strings.HasPrefix(call, "end") {
			t.Errorf("call %s", call)
		}
	}
}

func TestAReleaseWaitsForItsHome(t *testing.T) {
	d := start(t, testConfig(t))
	d1, d2, s1 := d.join(t, "dispatcher1"), d.join(t, "dispatcher2"), d.join(t, "server1")
	local, local2 := d1.lease(t, "dispatcher1", false), d2.lease(t, "dispatcher2", false)
	other, last := "10.10.1.2:4001", "10.10.1.2:4002"
	for _, x := range []struct {
		by         *peer
		id, client string
		local      netip.AddrPort
	}{{d1, "h1", client, local}, {d1, "h2", other, local}, {d2, "h3", last, local2}} {
		x.by.steer(x.id, x.client, x.local, "server1")
		x.by.got(t, x.id+` ""`, &x.by.answers)
	}
	d1.cancel()
	s1.over("h1", client, local)
	s1.over("h2", other, local)
	s1.over("h3", last, local2)
	d2.got(t, last+" "+local2.String(), &d2.released) // and so the others' linger is over
	// Meanwhile the second client has come back and is at a server again.
	d2.steer("h4", other, local2, "server1")
	d2.got(t, `h4 ""`, &d2.answers)
	d1 = d.join(t, "dispatcher1")
	d1.got(t, client+" "+local.String(), &d1.released)
	d1.mu.Lock()
	defer d1.mu.Unlock()
	if len(d1.released) != 1 {
		t.Errorf("released %v, want only %s", d1.released, client)
	}
}

func TestListsMergeWhatNodesAndSwitchSay(t *testing.T) {
	d := start(t, testConfig(t))
	d1, s1, s2 := d.join(t, "dispatcher1"), d.join(t, "server1"), d.join(t, "server2")
	local := d1.lease(t, "dispatcher1", false)
	d1.steer("h1", "10.10.1.2:1", local, "server1")
	d1.steer("h2", "10.10.1.2:2", local, "server2")
	d1.got(t, `h2 ""`, &d1.answers)
	d1.hold(
		heldAt("10.10.1.2:1", local, shuntv1.Path_PATH_DISPATCHER, ""), // not closed yet
		heldAt("10.10.1.2:2", local, shuntv1.Path_PATH_DIVERTED, ""),
		heldAt("10.10.1.2:3", local, shuntv1.Path_PATH_DISPATCHER, ""),
		heldAt("10.10.1.2:4", local, shuntv1.Path_PATH_PROXIED, "server2"),
		heldAt("10.10.1.2:5", local, shuntv1.Path_PATH_DIVERTED, ""), // whose session is over
		heldAt("10.10.1.2:6", netip.MustParseAddrPort("172.31.0.99:80"), shuntv1.Path_PATH_DISPATCHER, ""),
	)
	s1.hold(heldAt("10.10.1.2:1", local, 0, ""))
	s2.mu.Lock()
	s2.mute = true
	s2.mu.Unlock()
	began := time.Now()
	got := d.sessions(t)
	want := []string{
		"10.10.1.2:1 web server1 SWITCHED",
		"10.10.1.2:2 web server2 SWITCHED",
		"10.10.1.2:3 web dispatcher1 DISPATCHER",
		"10.10.1.2:4 web server2 PROXIED",
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	if took := time.Since(began); took < listTimeout || took > 2*listTimeout {
		t.Errorf("a mute agent held the list up for %v, want %v", took, listTimeout)
	}
}

func TestHandoffsAreRecorded(t *testing.T) {
	d := start(t, testConfig(t))
	d1 := d.join(t, "dispatcher1")
	for i, o := range []shuntv1.Outcome{1, 1, 2, 3} {
		d1.send(&shuntv1.AttachRequest{Message: &shuntv1.AttachRequest_Handoff{Handoff: &shuntv1.Handoff{
			Id: string(rune('a' + i)), Session: shuntv1.SessionOf(netip.MustParseAddrPort(client), d1.lease(t, "dispatcher1", false)),
			Service: "web", FromNode: "dispatcher1", ToNode: "server1", Outcome: o, TotalUs: 300,
		}}})
	}
	eventually(t, "all are counted", func() bool {
		st := d.status(t)
		return st.HandoffsCompleted == 2 && st.HandoffsRolledBack == 1 && st.HandoffsFailed == 1
	})
	r, err := d.operator().ListHandoffs(t.Context(), &shuntv1.ListHandoffsRequest{Limit: 3})
	if err != nil || len(r.Handoffs) != 3 || r.Handoffs[0].Id != "d" {
		t.Errorf("handoffs %v, %v", r, err)
	}
}

func TestOneAgentsRubbishDisturbsNobody(t *testing.T) {
	d := start(t, testConfig(t))
	d1 := d.join(t, "dispatcher1")
	s1 := d.join(t, "server1")
	bad := d.join(t, "server2")
	bad.send(&shuntv1.AttachRequest{Message: &shuntv1.AttachRequest_Steer{Steer: &shuntv1.Steer{Id: "x"}}})
	eventually(t, "the stream is refused", func() bool { return status.Code(bad.ended()) == codes.InvalidArgument })
	d1.steer("h1", client, d1.lease(t, "dispatcher1", false), "server1")
	d1.got(t, `h1 ""`, &d1.answers)
	if s1.ended() != nil || d1.ended() != nil {
		t.Errorf("others: %v, %v", s1.ended(), d1.ended())
	}
}

func TestARestartedControllerBreaksNoSession(t *testing.T) {
	cfg := testConfig(t)
	d := start(t, cfg)
	d1 := d.join(t, "dispatcher1")
	d.join(t, "server1")
	gone := d.join(t, "server2")
	eventually(t, "all are known", func() bool { return len(d.sw.topology().Nodes) == 3 })
	gone.cancel()
	eventually(t, "server2 is down", func() bool { return !d.sw.topology().Nodes[2].Up })
	local, before, version := d1.lease(t, "dispatcher1", false), d.sw.topology(), d1.latest().Version
	eventually(t, "the disk has it", func() bool { st := d.status(t); return !st.Nodes[2].Up })
	d.stop()

	d = start(t, cfg)
	// From the first moment the switches are told what they were told last.
	eventually(t, "a topology", func() bool { return len(d.sw.topology().Nodes) == 3 })
	after := d.sw.topology()
	for i, n := range before.Nodes {
		if m := after.Nodes[i]; m.Name != n.Name || m.Up != n.Up || m.MAC.String() != n.MAC.String() || !slices.Equal(m.Addresses, n.Addresses) {
			t.Errorf("node was %+v, is %+v", n, m)
		}
	}
	if !slices.Equal(before.Services[0].Homes, after.Services[0].Homes) {
		t.Errorf("homes were %v, are %v", before.Services[0].Homes, after.Services[0].Homes)
	}
	d1 = d.join(t, "dispatcher1")
	c := d1.latest()
	if c.Version <= version || !proto.Equal(c.Nodes[1], &shuntv1.Node{
		Name: "server1", Roles: helloOf("server1", 0).Roles, Mac: helloOf("server1", 0).Mac, Addresses: helloOf("server1", 0).Addresses,
		TransferEndpoint: "10.99.0.101:6641", Up: true, Applications: helloOf("server1", 0).Applications,
	}) {
		t.Errorf("version %d after %d; server1 is %v", c.Version, version, c.Nodes[1])
	}
	if st := d.status(t); st.Nodes[1].Up {
		t.Error("operators are told that server1 is connected")
	}
	// New hand-offs go on at once, and nothing else changes until all are back.
	d1.steer("h1", "10.10.1.2:1", local, "server1")
	d1.got(t, `h1 ""`, &d1.answers)
	if calls := d.sw.did(); len(calls) != 1 {
		t.Errorf("calls %v", calls)
	}
	d.join(t, "server1", heldAt("10.10.1.2:1", local, 0, ""), heldAt("10.10.1.2:2", local, 0, ""))
	d.sw.saw(t, "replace [10.10.1.2:1=server1 10.10.1.2:2=server1]")
	if st := d.status(t); st.Sessions != 2 {
		t.Errorf("%d sessions", st.Sessions)
	}
}

func TestServersAreAskedAboutDiversionsThatNobodyKnows(t *testing.T) {
	d := start(t, testConfig(t))
	s1 := d.join(t, "server1")
	d1 := d.join(t, "dispatcher1")
	local := d1.lease(t, "dispatcher1", false)
	d.sw.saw(t, "replace []")
	// Handed off while the dispatcher had no stream: server1 had nobody to tell.
	d1.cancel()
	s1.hold(heldAt(client, local, 0, ""))
	d.join(t, "dispatcher1", heldAt(client, local, shuntv1.Path_PATH_DIVERTED, ""))
	d.sw.saw(t, `steer 10.10.1.2:4000>10.10.0.80:80 at `+local.String()+` to server1 by ""`)
}

func TestRunWithTLSAndARealFabric(t *testing.T) {
	cfg := testConfig(t)
	cfg.Listen.GRPC, cfg.Listen.OpenFlow = freePort(t), freePort(t)
	cfg.Insecure, cfg.OpenFlowTLS = false, true
	cfg.TLS = tlstest.NewCA(t).Files(t, "controller", "127.0.0.1")
	log := slog.New(slog.NewTextHandler(testWriter(t), nil))
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- Run(ctx, cfg, "test", log) }()
	eventually(t, "it listens for switches", func() bool {
		c, err := net.Dial("tcp", cfg.Listen.OpenFlow)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	stop()
	if err := <-done; err != nil {
		t.Errorf("clean stop: %v", err)
	}
}

func TestWhatIsWrongAtTheStartIsNamed(t *testing.T) {
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	log := slog.New(slog.DiscardHandler)

	cfg := testConfig(t)
	cfg.Listen.GRPC = busy.Addr().String()
	if err := Run(t.Context(), cfg, "test", log); err == nil || !strings.Contains(err.Error(), "correct listen.grpc") {
		t.Errorf("agents' port is taken: %v", err)
	}
	cfg.Listen.GRPC, cfg.Listen.OpenFlow = freePort(t), busy.Addr().String()
	if err := Run(t.Context(), cfg, "test", log); err == nil || !strings.Contains(err.Error(), "correct listen.openflow") {
		t.Errorf("switches' port is taken: %v", err)
	}
	cfg.Insecure = false
	if err := Run(t.Context(), cfg, "test", log); err == nil || !strings.Contains(err.Error(), "tls: cert is missing") {
		t.Errorf("no certificate: %v", err)
	}
	cfg.Insecure, cfg.State = true, "/proc/nothing/c.db"
	if err := Run(t.Context(), cfg, "test", log); err == nil || !strings.Contains(err.Error(), "state database") {
		t.Errorf("no state: %v", err)
	}
	d := start(t, testConfig(t))
	d.status(t)
	if err := Run(t.Context(), d.cfg, "test", log); err == nil || !strings.Contains(err.Error(), "is a controller running already") {
		t.Errorf("a second controller: %v", err)
	}
}
