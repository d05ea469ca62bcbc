package fabric

import (
	"context"
	"fmt"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/shunt-sdn/shunt/internal/testnet"
	"github.com/shunt-sdn/shunt/internal/testovs"
	"github.com/shunt-sdn/shunt/switchsim"
)

// A testSwitch is what tests need of a switch; testovs.Switch is one.
type testSwitch interface {
	DPID() uint64
	Management() string
	AddPort(link string, number uint32) uint32
	DelPort(link string)
	Ofctl(args ...string) string
	Kill()
	Resume()
}

var _ testSwitch = (*testovs.Switch)(nil)

// A sim is a simulated switch.
type sim struct {
	t      *testing.T
	cfg    switchsim.Config
	socket string
	ports  []string
	sw     *switchsim.Switch
	stop   func()
}

// newSimRig makes a rig on a simulated switch; plain is one without Open
// vSwitch's extensions.
func newSimRig(t *testing.T, plain bool) *rig {
	t.Helper()
	ns := testnet.NewNS(t)
	r := &rig{t: t, sw: newSim(t, ns, 7, plain), plain: plain}
	r.wire(ns)
	return r
}

func newSim(t *testing.T, ns *testnet.NS, dpid uint64, plain bool) *sim {
	t.Helper()
	s := &sim{t: t, socket: filepath.Join(t.TempDir(), "of.sock")}
	s.cfg = switchsim.Config{DatapathID: dpid, Listen: []string{"punix:" + s.socket}, Enter: ns.Try, Misbehaviour: switchsim.Misbehaviour{NoNicira: plain}}
	s.Resume()
	t.Cleanup(func() { s.stop() })
	return s
}

func (s *sim) DPID() uint64       { return s.cfg.DatapathID }
func (s *sim) Management() string { return "unix:" + s.socket }

func (s *sim) AddPort(link string, _ uint32) uint32 {
	s.t.Helper()
	n, err := s.sw.AddPort(link)
	if err != nil {
		s.t.Fatal(err)
	}
	s.ports = append(s.ports, link)
	return n
}

func (s *sim) DelPort(link string) { s.sw.RemovePort(link) }

func (s *sim) Ofctl(args ...string) string {
	s.t.Helper()
	for i, a := range args {
		if a == testovs.Bridge {
			args[i] = s.Management()
		}
	}
	out, err := exec.Command(testnet.NeedProgram(s.t, "ovs-ofctl")[0], append([]string{"-O", "OpenFlow13"}, args...)...).CombinedOutput()
	if err != nil {
		s.t.Fatalf("ovs-ofctl %v: %v\n%s", args, err, out)
	}
	return string(out)
}

func (s *sim) Kill() { s.stop() }

func (s *sim) Resume() {
	s.t.Helper()
	cfg := s.cfg
	cfg.Ports = s.ports
	sw, err := switchsim.New(cfg)
	if err != nil {
		s.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- sw.Run(ctx) }()
	s.sw, s.stop = sw, func() {
		cancel()
		if err := <-done; err != nil {
			s.t.Errorf("the simulated switch: %v", err)
		}
		s.stop = func() {}
	}
	eventually(s.t, "the simulated switch listens", func() error {
		if len(sw.Listening()) == 0 {
			return fmt.Errorf("it does not")
		}
		return nil
	})
}

// onEach runs a test on every kind of switch, with every steering that it has.
func onEach(t *testing.T, f func(*testing.T, *rig, Mode)) {
	t.Run("Open vSwitch, flows", func(t *testing.T) { f(t, newRig(t), ExactFlow) })
	t.Run("Open vSwitch, conntrack", func(t *testing.T) { f(t, newRig(t), Conntrack) })
	t.Run("simulated, flows", func(t *testing.T) { f(t, newSimRig(t, false), ExactFlow) })
	t.Run("simulated, conntrack", func(t *testing.T) { f(t, newSimRig(t, false), Conntrack) })
	t.Run("simulated, plain", func(t *testing.T) { f(t, newSimRig(t, true), ExactFlow) })
}
