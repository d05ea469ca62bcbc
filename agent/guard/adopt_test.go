package guard

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/link"
	"github.com/vishvananda/netlink"

	"github.com/shunt-sdn/shunt/internal/testnet"
)

// lone is a node with an interface and no guard yet.
func lone(t testing.TB) *node {
	t.Helper()
	a, b := testnet.NewNS(t), testnet.NewNS(t)
	testnet.Veth(a, "eth0", b, "eth0")
	return &node{NS: a, t: t, name: "lone", mac: a.MAC("eth0")}
}

var both = []bool{false, true} // ForceClsact

// attached counts the guards on the node's interface, by hook.
func (x *node) attached() (inTCX, inClsact int) {
	x.t.Helper()
	ifindex := mustIndex(x.t, x.NS, "eth0")
	x.Do(func() error {
		ps, err := tcx{ifindex}.find()
		if err != nil {
			return err
		}
		inTCX = len(ps)
		closePrograms(ps)
		ps, err = clsact{x.Link, ifindex}.find()
		inClsact = len(ps)
		closePrograms(ps)
		return err
	})
	return
}

func (x *node) wantAttached(wantTCX, wantClsact int) {
	x.t.Helper()
	if tcx, clsact := x.attached(); tcx != wantTCX || clsact != wantClsact {
		x.t.Errorf("%d guards attached through tcx and %d through clsact, want %d and %d", tcx, clsact, wantTCX, wantClsact)
	}
}

func wantDiverted(t testing.TB, g *Guard, f family, want *node) {
	t.Helper()
	mac, ok, err := g.Diverted(stray(f), f.session)
	if err != nil || !ok || !bytes.Equal(mac, want.mac) {
		t.Errorf("diverted to %s, %v, %v; want %s", mac, ok, err, want.mac)
	}
}

func TestTheNextProcessAdoptsTheGuard(t *testing.T) {
	for _, force := range both {
		t.Run(fmt.Sprintf("clsact %v", force), func(t *testing.T) {
			n := newLAN(t, Options{MaxDivert: 1024, ForceClsact: force})
			for _, f := range families {
				if err := errors.Join(n.a.g.Divert(stray(f), f.session, n.b.mac, 0), n.a.g.Settle(stray(f), f.session, 0)); err != nil {
					t.Fatal(err)
				}
			}
			if err := n.a.g.Close(); err != nil {
				t.Fatal(err)
			}

			// With no process, the guard does its work.
			f := families[0]
			s := segment{from: n.client, to: n.a, src: stray(f), dst: f.session, flags: "A"}
			frame := s.bytes(t)
			came := n.b.capture()
			n.client.send(frame)
			came(n.b.mac, n.a.mac, func(b []byte) bool { return len(b) == len(frame) })

			// The next process finds everything as it was.
			n.a.open(Options{MaxDivert: 1024, ForceClsact: force})
			n.a.wantCounters(Counters{Diverted: 1})
			for _, f := range families {
				wantDiverted(t, n.a.g, f, n.b)
				s := segment{from: n.client, to: n.a, src: stray(f), dst: f.session, flags: "A"}
				frame := s.bytes(t)
				n.client.send(frame)
				came(n.b.mac, n.a.mac, func(b []byte) bool { return len(b) == len(frame) })
			}
			n.a.wantCounters(Counters{Diverted: 3})
			if force {
				n.a.wantAttached(0, 1)
			} else {
				n.a.wantAttached(1, 0)
			}
		})
	}
}

// TestMain runs a process that opens a guard and waits to be killed, if the
// environment asks for it.
func TestMain(m *testing.M) {
	mode := os.Getenv("GUARD_TEST_CHILD")
	if mode == "" {
		os.Exit(m.Run())
	}
	g, err := Open(Options{Interface: "eth0", MaxDivert: 1024, ForceClsact: mode == "clsact"})
	for _, f := range families {
		if err == nil {
			err = g.Divert(stray(f), f.session, []byte{2, 0, 0, 0, 0, 7}, 0)
		}
	}
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	fmt.Println("ready")
	select {}
}

func TestTheGuardSurvivesAKilledProcess(t *testing.T) {
	for _, mode := range []string{"tcx", "clsact"} {
		t.Run(mode, func(t *testing.T) {
			x := lone(t)
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), "GUARD_TEST_CHILD="+mode)
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := x.Start(cmd); err != nil {
				t.Fatal(err)
			}
			line, err := bufio.NewReader(out).ReadString('\n')
			cmd.Process.Kill()
			cmd.Wait()
			if line != "ready\n" {
				t.Fatalf("the process said %q, %v", line, err)
			}
			x.open(Options{MaxDivert: 1024, ForceClsact: mode == "clsact"})
			for _, f := range families {
				wantDiverted(t, x.g, f, &node{mac: []byte{2, 0, 0, 0, 0, 7}})
			}
		})
	}
}

func TestChangingTheHookKeepsTheDiversions(t *testing.T) {
	x := lone(t)
	f := families[0]
	x.open(Options{MaxDivert: 1024})
	if err := x.g.Divert(stray(f), f.session, x.mac, 0); err != nil {
		t.Fatal(err)
	}
	x.g.Close()
	x.open(Options{MaxDivert: 1024, ForceClsact: true})
	x.wantAttached(0, 1)
	wantDiverted(t, x.g, f, x)
	x.g.Close()
	x.open(Options{MaxDivert: 1024})
	x.wantAttached(1, 0)
	wantDiverted(t, x.g, f, x)
}

func TestAnAdoptedDivertMapKeepsItsSize(t *testing.T) {
	x := lone(t)
	f := families[0]
	x.open(Options{MaxDivert: 2048})
	if err := x.g.Divert(stray(f), f.session, x.mac, 0); err != nil {
		t.Fatal(err)
	}
	x.g.Close()
	var log bytes.Buffer
	x.open(Options{MaxDivert: 4096, Log: slog.New(slog.NewTextHandler(&log, nil))})
	wantDiverted(t, x.g, f, x)
	if got := x.g.divert.MaxEntries(); got != 2048 {
		t.Errorf("the adopted map has room for %d", got)
	}
	if !strings.Contains(log.String(), "keeps its size") {
		t.Errorf("logged %s", &log)
	}
	if err := x.g.Detach(); err != nil {
		t.Fatal(err)
	}
	x.open(Options{MaxDivert: 4096})
	if got := x.g.divert.MaxEntries(); got != 4096 {
		t.Errorf("after a clean stop the map has room for %d", got)
	}
}

// foreign loads a program that passes every packet on, with maps so that an
// adopter has something to look at.
func foreign(t testing.TB, name string, maps ...*ebpf.MapSpec) *ebpf.Program {
	t.Helper()
	var code asm.Instructions
	for _, spec := range maps {
		m, err := ebpf.NewMap(spec)
		if err != nil {
			t.Fatal(err)
		}
		defer m.Close()
		code = append(code, asm.LoadMapPtr(asm.R1, m.FD()))
	}
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: name, Type: ebpf.SchedCLS, License: "Apache-2.0",
		Instructions: append(code, asm.LoadImm(asm.R0, -1, asm.DWord), asm.Return()),
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.Close() })
	return p
}

func TestMapsOfAnotherLayoutAreLeftBehind(t *testing.T) {
	for _, c := range []struct {
		force      bool
		key, value uint32
		says       string
	}{
		{false, 44, 16, "44"},
		{true, 44, 16, "44"},
		{false, 40, 8, "8"}, // before diversions had owners
		{true, 40, 8, "8"},
	} {
		t.Run(fmt.Sprintf("clsact %v, key %d, value %d", c.force, c.key, c.value), func(t *testing.T) {
			force := c.force
			x := lone(t)
			ifindex := mustIndex(t, x.NS, "eth0")
			old := foreign(t, programName, &ebpf.MapSpec{
				Name: guardMapShuntDivert, Type: ebpf.LRUHash, KeySize: c.key, ValueSize: c.value, MaxEntries: 1024,
			})
			x.Do(func() error {
				if force {
					return clsact{x.Link, ifindex}.attach(old)
				}
				return tcx{ifindex}.attach(old)
			})
			var log bytes.Buffer
			x.open(Options{MaxDivert: 1024, ForceClsact: force, Log: slog.New(slog.NewTextHandler(&log, nil))})
			if !strings.Contains(log.String(), "left behind") || !strings.Contains(log.String(), c.says) {
				t.Errorf("logged %s", &log)
			}
			if tcx, clsact := x.attached(); tcx+clsact != 1 {
				t.Errorf("%d and %d guards are attached", tcx, clsact)
			}
			if err := x.g.Divert(stray(families[1]), families[1].session, x.mac, 0); err != nil {
				t.Error(err)
			}
		})
	}
}

// A guard from before dispatchers passed packets on has fewer counters, and
// neither others nor begun: its counts are lost, its diversions are not.
func TestAGuardWithFewerMapsKeepsItsDiversions(t *testing.T) {
	for _, force := range both {
		t.Run(fmt.Sprintf("clsact %v", force), func(t *testing.T) {
			x := lone(t)
			ifindex := mustIndex(t, x.NS, "eth0")
			f := families[1]
			key, err := newFlowKey(stray(f), f.session)
			if err != nil {
				t.Fatal(err)
			}
			hop, err := newNextHop(x.mac, 7)
			if err != nil {
				t.Fatal(err)
			}
			old := foreign(t, programName,
				&ebpf.MapSpec{
					Name: guardMapShuntDivert, Type: ebpf.LRUHash, KeySize: 40, ValueSize: 16, MaxEntries: 1024,
					Contents: []ebpf.MapKV{{Key: key, Value: hop}},
				},
				&ebpf.MapSpec{Name: guardMapShuntCounters, Type: ebpf.PerCPUArray, KeySize: 4, ValueSize: 8, MaxEntries: 14})
			x.Do(func() error {
				if force {
					return clsact{x.Link, ifindex}.attach(old)
				}
				return tcx{ifindex}.attach(old)
			})
			var log bytes.Buffer
			x.open(Options{MaxDivert: 1024, ForceClsact: force, Log: slog.New(slog.NewTextHandler(&log, nil))})
			wantDiverted(t, x.g, f, x)
			x.wantCounters(Counters{})
			if !strings.Contains(log.String(), "left behind") || !strings.Contains(log.String(), guardMapShuntCounters) {
				t.Errorf("logged %s", &log)
			}
			if err := x.g.SetOthers(map[Share]Another{{f.session.Addr(), 0}: {f.session.Addr(), x.mac, 0}}); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestProgramsOfOthersAreLeftAlone(t *testing.T) {
	x := lone(t)
	ifindex := mustIndex(t, x.NS, "eth0")
	other := foreign(t, "somebody_elses", &ebpf.MapSpec{Type: ebpf.Array, KeySize: 4, ValueSize: 8, MaxEntries: 1})
	ids := func() (ids []ebpf.ProgramID) {
		x.Do(func() error {
			res, err := link.QueryPrograms(link.QueryOptions{Target: ifindex, Attach: ebpf.AttachTCXIngress})
			if err != nil {
				return err
			}
			for _, p := range res.Programs {
				ids = append(ids, p.ID)
			}
			return nil
		})
		return
	}
	x.Do(func() error { return tcx{ifindex}.attach(other) })
	x.Do(func() error {
		c := clsact{x.Link, ifindex}
		if err := c.attach(other); err != nil { // also makes the qdisc
			return err
		}
		// The same filter under its own name and priority.
		fs, err := c.filters()
		if err != nil || len(fs) != 1 {
			return fmt.Errorf("%d filters, %v", len(fs), err)
		}
		if err := x.Link.FilterDel(fs[0]); err != nil {
			return err
		}
		f := *fs[0]
		f.Name, f.Priority, f.Fd = "somebody_elses", 7, other.FD()
		return x.Link.FilterAdd(&f)
	})
	before := ids()

	x.open(Options{MaxDivert: 1024})
	if now := ids(); len(now) != 2 || now[1] != before[0] {
		t.Errorf("programs %v before and %v after: want ours in front", before, now)
	}
	if err := x.g.Detach(); err != nil {
		t.Fatal(err)
	}
	if now := ids(); len(now) != 1 || now[0] != before[0] {
		t.Errorf("programs %v before and %v after Detach", before, now)
	}

	x.open(Options{MaxDivert: 1024, ForceClsact: true})
	x.wantAttached(0, 1)
	if err := x.g.Detach(); err != nil {
		t.Fatal(err)
	}
	filters, err := x.Link.FilterList(&netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: ifindex}}, netlink.HANDLE_MIN_INGRESS)
	if err != nil || len(filters) != 1 || filters[0].(*netlink.BpfFilter).Name != "somebody_elses" {
		t.Errorf("filters %v, %v after Detach", filters, err)
	}
}

func TestAdoptionDoesNotInterruptTransfers(t *testing.T) {
	for _, force := range both {
		t.Run(fmt.Sprintf("clsact %v", force), func(t *testing.T) {
			f := families[0]
			n := newLAN(t, Options{MaxDivert: 1024, ForceClsact: force})
			s := n.sessionAt(n.b, f)
			if err := n.a.g.Divert(s.peer, f.session, n.b.mac, 0); err != nil {
				t.Fatal(err)
			}
			n.steer(n.a)
			done := make(chan error, 1)
			go func() { done <- bulk(s.client, s.server, 64<<20) }()
			for running := true; running; {
				select {
				case err := <-done:
					if err != nil {
						t.Error(err)
					}
					running = false
				default:
					n.a.g.Close()
					n.a.open(Options{MaxDivert: 1024, ForceClsact: force})
				}
			}
			if c := n.a.counters(); c.Diverted == 0 || c.DeliveredHome > 0 || n.a.resets() > 0 {
				t.Errorf("node a counts %+v and sent %d RSTs", c, n.a.resets())
			}
		})
	}
}
