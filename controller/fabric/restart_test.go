package fabric

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/shunt-sdn/shunt/controller/openflow"
	"github.com/shunt-sdn/shunt/controller/steering"
)

func TestAfterASwitchsRestartFlowsAndSteeringAreReplayed(t *testing.T) {
	onEach(t, func(t *testing.T, r *rig, m Mode) {
		r.start(m)
		r.fabric.Replace(nil)
		taps := r.taps()
		for i, f := range families {
			r.steer(session(f, uint16(4000+i), "server2"))
		}
		r.sw.Kill()
		lost := session(families[0], 4999, "server1")
		if err := wait(func(done func(error)) { r.fabric.Steer(lost, done) }); !errors.Is(err, steering.ErrNoSwitch) {
			t.Errorf("steering without a switch: %v", err)
		}
		eventually(t, "the loss is noticed", func() error {
			if s := r.fabric.Status()[0]; s.Connected || s.Err == "" {
				return fmt.Errorf("%+v", s)
			}
			return nil
		})
		r.sw.Resume()
		r.ready()
		eventually(t, "all sessions are confirmed", func() error {
			for _, p := range r.fabric.Sessions() {
				if !p.Confirmed {
					return fmt.Errorf("%v is not", p.Client)
				}
			}
			return nil
		})
		for i, f := range families {
			s := session(f, uint16(4000+i), "")
			if got := r.at(taps, s.Client, s.VIP, openflow.TCPAck); got != "server2 "+f.session {
				t.Errorf("%s: at %s", f.name, got)
			}
		}
		if got := r.at(taps, lost.Client, lost.VIP, openflow.TCPAck); got != "server1 "+families[0].session {
			t.Errorf("the session that came meanwhile is at %s", got)
		}
	})
}

var volatile = regexp.MustCompile(`duration=[^,]*, |n_packets=\d+, n_bytes=\d+, `)

// flows lists the switch's flows without counters.
func (r *rig) flows() []string {
	var all []string
	for line := range strings.Lines(r.sw.Ofctl("dump-flows", "br0")) {
		if strings.Contains(line, "table=") {
			all = append(all, volatile.ReplaceAllString(strings.TrimSpace(line), ""))
		}
	}
	slices.Sort(all)
	return all
}

// ages says for how many seconds the switch has had each flow.
func (r *rig) ages() map[string]string {
	ages := map[string]string{}
	age := regexp.MustCompile(`duration=([0-9.]+)s`)
	for line := range strings.Lines(r.sw.Ofctl("dump-flows", "br0")) {
		if m := age.FindStringSubmatch(line); m != nil {
			ages[volatile.ReplaceAllString(strings.TrimSpace(line), "")] = m[1]
		}
	}
	return ages
}

func TestAControllerThatComesBackTouchesOnlyWhatIsWrong(t *testing.T) {
	onEach(t, func(t *testing.T, r *rig, m Mode) {
		const foreign = "cookie=0xabc,table=3,priority=7,tcp,tp_dst=9 actions=drop"
		r.sw.Ofctl("add-flow", "br0", foreign)
		r.start(m)
		r.fabric.Replace(nil)
		taps := r.taps()
		// The client becomes known, so that there is a flow that the next
		// controller does not know of.
		r.hosts["dispatcher1"].serve(t, families[0].session)
		if c, err := r.hosts["client1"].dial(families[0].vip); err != nil {
			t.Fatal(err)
		} else {
			c.Close()
		}
		kept, ended := session(families[0], 4000, "server1"), session(families[1], 4001, "server2")
		r.steer(kept)
		r.steer(ended)
		before := r.flows()
		r.stop()

		r.sw.Ofctl("--strict", "del-flows", "br0", "table=106,priority=100,tcp,nw_dst=10.10.0.80,tp_dst=80")
		r.sw.Ofctl("add-flow", "br0", "cookie=0x5348000000000001,table=107,priority=4321,ip,nw_dst=9.9.9.9,actions=drop")
		old := r.ages()
		c := r.config(m)
		r.startWith(c)
		r.fabric.SetTopology(r.topology())
		r.ready()
		eventually(t, "the flows are as they were", func() error {
			if diff := cmp.Diff(before, r.flows()); diff != "" {
				return errors.New(diff)
			}
			return nil
		})
		// A flow that was added again would be younger.
		for flow, age := range r.ages() {
			var was, is float64
			fmt.Sscan(old[flow], &was)
			fmt.Sscan(age, &is)
			if old[flow] != "" && is < was {
				t.Errorf("touched: %s", flow)
			}
		}
		for _, s := range []Session{kept, ended} {
			if got := r.at(taps, s.Client, s.VIP, openflow.TCPAck); !strings.HasPrefix(got, s.Node) {
				t.Errorf("before Replace, %v is at %s, want %s", s.Client, got, s.Node)
			}
		}
		r.fabric.Replace([]Session{kept})
		if m == ExactFlow {
			eventually(t, "the ended session's flow goes", func() error {
				if flows, _ := r.steered(); flows != 1 {
					return fmt.Errorf("%d session flows", flows)
				}
				return nil
			})
		}
		eventually(t, "the kept session is confirmed", func() error {
			if p := r.fabric.Sessions(); len(p) != 1 || !p[0].Confirmed {
				return fmt.Errorf("%+v", p)
			}
			return nil
		})
		if got := r.at(taps, kept.Client, kept.VIP, openflow.TCPAck); got != "server1 "+families[0].session {
			t.Errorf("after Replace, the kept session is at %s", got)
		}
		if !strings.Contains(strings.Join(r.flows(), "\n"), "cookie=0xabc, table=3") {
			t.Error("another's flow is gone")
		}
	})
}

func TestASwitchCanDialIn(t *testing.T) {
	r := newRig(t)
	c := r.config(Auto)
	c.Switches[0].Connect = ""
	f, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	socket := filepath.Join(r.ovs.Dir(), "controller.sock")
	l, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	wg.Go(func() { f.Run(ctx, l, nil) })
	defer wg.Wait()
	defer cancel()
	r.fabric = f
	f.SetTopology(r.topology())
	r.ovs.SetController("unix:" + socket)
	r.ready()
	if s := f.Status()[0]; s.Steering != "conntrack" || s.DPID != r.sw.DPID() {
		t.Errorf("status %+v", s)
	}
	flows, err := f.Flows(t.Context())
	if err != nil || len(flows) != f.Status()[0].Flows {
		t.Errorf("%d flows are reported, %d expected, %v", len(flows), f.Status()[0].Flows, err)
	}
}

func TestPortsMayComeAndGo(t *testing.T) {
	r := newRig(t)
	r.sw.DelPort("server2")
	r.startWith(r.config(ExactFlow))
	r.fabric.SetTopology(r.topology())
	eventually(t, "the others are resolved", func() error {
		if n := len(r.fabric.devices[0].targets.Load().nodes); n != 2 {
			return fmt.Errorf("%d nodes", n)
		}
		return nil
	})
	s := session(families[0], 4000, "server2")
	done := make(chan error, 1)
	r.fabric.Steer(s, func(err error) { done <- err })
	if err := <-done; !errors.Is(err, steering.ErrUnresolved) {
		t.Errorf("steering to a node that is not there: %v", err)
	}
	r.sw.AddPort("server2", 0)
	r.ready()
	taps := r.taps()
	eventually(t, "the session is steered after all", func() error {
		if got := r.at(taps, s.Client, s.VIP, openflow.TCPAck); got != "server2 "+families[0].session {
			return fmt.Errorf("at %s", got)
		}
		return nil
	})
	r.sw.DelPort("server2")
	eventually(t, "the node is gone", func() error {
		if n := len(r.fabric.devices[0].targets.Load().nodes); n != 2 {
			return fmt.Errorf("%d nodes", n)
		}
		return nil
	})
}

func TestASwitchThatHangsFailsRequestsInTime(t *testing.T) {
	r := newRig(t)
	r.start(ExactFlow)
	goOn := r.ovs.Suspend()
	defer goOn()
	start := time.Now()
	if err := wait(func(done func(error)) { r.fabric.Steer(session(families[0], 4000, "server1"), done) }); err == nil {
		t.Error("no error")
	}
	if took := time.Since(start); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	goOn()
	eventually(t, "the session is steered after all", func() error {
		if p := r.fabric.Sessions(); len(p) != 1 || !p[0].Confirmed {
			return fmt.Errorf("%+v", p)
		}
		return nil
	})
}

func TestASecondDispatcherSharesTheConnections(t *testing.T) {
	r := newRig(t)
	r.start(Conntrack)
	topo := r.topology()
	for i := range topo.Services {
		for j, vip := range topo.Services[i].VIPs {
			session := fmt.Sprintf([]string{"172.31.0.%d", "fd31::%d"}[j], i+10)
			topo.Services[i].Homes = append(topo.Services[i].Homes, Home{Node: "server1", VIP: vip, Session: netip.MustParseAddr(session), Up: true})
		}
	}
	r.fabric.SetTopology(topo)
	taps := r.taps()
	count := func() map[string]int {
		n := map[string]int{}
		for port := range uint16(32) {
			s := session(families[0], 4000+2*port, "")
			n[r.at(taps, s.Client, s.VIP, openflow.TCPSyn)]++
		}
		return n
	}
	eventually(t, "both have connections", func() error {
		if n := count(); n["dispatcher1 172.31.0.1:80"] == 0 || n["server1 172.31.0.10:80"] == 0 || len(n) != 2 {
			return fmt.Errorf("%v", n)
		}
		return nil
	})
	for i := range topo.Services {
		for j := range topo.Services[i].Homes {
			topo.Services[i].Homes[j].Up = topo.Services[i].Homes[j].Node == "server1"
		}
	}
	r.fabric.SetTopology(topo)
	eventually(t, "the one that is up has all", func() error {
		if n := count(); n["server1 172.31.0.10:80"] != 32 {
			return fmt.Errorf("%v", n)
		}
		return nil
	})
	for i := range topo.Services {
		for j := range topo.Services[i].Homes {
			topo.Services[i].Homes[j].Up = false
		}
	}
	r.fabric.SetTopology(topo)
	if n := count(); n["server1 172.31.0.10:80"] != 32 {
		t.Errorf("with all down, the last assignment is not kept: %v", n)
	}
}

func TestAControllerThatComesBackLeavesTheAssignmentUntilItKnowsWhoIsUp(t *testing.T) {
	r := newRig(t)
	topo := r.topology()
	for i := range topo.Services {
		for j, vip := range topo.Services[i].VIPs {
			session := fmt.Sprintf([]string{"172.31.0.%d", "fd31::%d"}[j], i+10)
			topo.Services[i].Homes = append(topo.Services[i].Homes, Home{Node: "server1", VIP: vip, Session: netip.MustParseAddr(session), Up: true})
		}
	}
	upOnly := func(nodes ...string) Topology {
		t := topo.normal()
		for i := range t.Services {
			for j := range t.Services[i].Homes {
				t.Services[i].Homes[j].Up = slices.Contains(nodes, t.Services[i].Homes[j].Node)
			}
		}
		return t
	}
	homes := func() []string {
		return slices.DeleteFunc(r.flows(), func(s string) bool { return !strings.Contains(s, "table=106,") })
	}
	r.startWith(r.config(ExactFlow))
	r.fabric.SetTopology(topo)
	r.ready()
	before := homes()
	r.stop()

	r.startWith(r.config(ExactFlow))
	r.fabric.SetTopology(upOnly())
	r.ready()
	r.fabric.SetTopology(upOnly("server1")) // its agent is the first to come back
	s := session(families[0], 4000, "server2")
	r.steer(s) // whatever was to be done is done now
	if diff := cmp.Diff(before, homes()); diff != "" {
		t.Errorf("the assignment changed: %s", diff)
	}
	eventually(t, "after a while, the dispatcher that did not come back has none", func() error {
		if got := homes(); len(got) != 5 { // one per VIP, and the miss
			return errors.New(strings.Join(got, "\n"))
		}
		return nil
	})
}
