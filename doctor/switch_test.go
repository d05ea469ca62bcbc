package doctor_test

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/shunt-sdn/shunt/doctor"
)

var switchBreakages = []struct {
	name       string
	broken     func(r *rig) (mend func(), args []string)
	fail, warn []string
}{
	{name: "fail mode", fail: []string{"bridge-fail-mode"}, broken: func(r *rig) (func(), []string) {
		r.vsctl("set-fail-mode", "br0", "standalone")
		return func() { r.vsctl("set-fail-mode", "br0", "secure") }, nil
	}},
	{name: "OpenFlow 1.0 only", fail: []string{"bridge-controller", "bridge-protocols", "switch-connection", "switch-openflow"}, broken: func(r *rig) (func(), []string) {
		r.vsctl("set", "bridge", "br0", "protocols=OpenFlow10")
		return func() { r.vsctl("clear", "bridge", "br0", "protocols"); r.whole() }, nil
	}},
	{name: "a port is missing", fail: []string{"bridge-ports", "switch-ports"}, broken: func(r *rig) (func(), []string) {
		return nil, []string{"--controller", r.edited("controller", "- server1", "- server7")}
	}},
	{name: "a port does not work", fail: []string{"bridge-ports", "switch-ports"}, broken: func(r *rig) (func(), []string) {
		r.vsctl("--no-wait", "add-port", "br0", "absent0")
		return func() { r.vsctl("--no-wait", "del-port", "br0", "absent0") }, []string{"--controller", r.edited("controller", "- server1", "- absent0")}
	}},
	{name: "a flow in a table of Shunt's", fail: []string{"switch-foreign-flows"}, broken: func(r *rig) (func(), []string) {
		r.ofctl("add-flow", r.management(), "table=102,priority=7,cookie=0x9,udp,actions=drop")
		return func() { r.ofctl("del-flows", r.management(), "cookie=0x9/-1") }, nil
	}},
	{name: "a flow that takes packets of Shunt's ports", fail: []string{"switch-foreign-flows"}, broken: func(r *rig) (func(), []string) {
		r.ofctl("add-flow", r.management(), "table=0,priority=60000,cookie=0x9,udp,actions=NORMAL")
		return func() { r.ofctl("del-flows", r.management(), "cookie=0x9/-1") }, nil
	}},
	{name: "a flow of others that is not in the way", broken: func(r *rig) (func(), []string) {
		r.ofctl("add-flow", r.management(), "table=0,priority=60000,cookie=0x9,in_port=77,actions=NORMAL")
		r.ofctl("add-flow", r.management(), "table=0,priority=0,cookie=0x9,actions=NORMAL")
		return func() { r.ofctl("del-flows", r.management(), "cookie=0x9/-1") }, nil
	}},
	{name: "the bridge has another controller", fail: []string{"bridge-controller", "switch-connection"}, broken: func(r *rig) (func(), []string) {
		r.vsctl("set-controller", "br0", "ssl:10.99.0.77:6653")
		r.disconnected()
		return func() { r.reconnect() }, nil
	}},
	{name: "the bridge connects without TLS", fail: []string{"bridge-controller", "switch-connection"}, broken: func(r *rig) (func(), []string) {
		r.vsctl("set-controller", "br0", "tcp:10.99.0.1:6653")
		r.disconnected()
		return func() { r.reconnect() }, nil
	}},
	{name: "another datapath id", fail: []string{"bridge", "switch-dpid"}, broken: func(r *rig) (func(), []string) {
		return nil, []string{"--controller", r.edited("controller", `"0000000000000001"`, `"00000000000000ff"`)}
	}},
	{name: "no such bridge", fail: []string{"bridge"}, broken: func(r *rig) (func(), []string) {
		return nil, []string{"--controller", r.file("controller"), "--bridge", "br7"}
	}},
	{name: "no such database", fail: []string{"ovsdb"}, broken: func(r *rig) (func(), []string) {
		return nil, []string{"--controller", r.file("controller"), "--ovsdb", "unix:/absent.sock"}
	}},
}

// disconnected waits until the controller noticed that its switch is gone.
func (r *rig) disconnected() {
	r.t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; <-time.After(50 * time.Millisecond) {
		report := r.examine("controller", nil, "--controller", r.file("controller"))
		for _, f := range report {
			if f.Check == "switch-connection" && f.Level == doctor.Fail {
				return
			}
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("the switch is still connected: %+v", report)
		}
	}
}

// settle waits until the doctor's failures are these: the switch tells its
// database every five seconds whether it is connected.
func (r *rig) settle(args, fail []string) {
	r.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); time.Now().Before(deadline); <-time.After(200 * time.Millisecond) {
		if slices.Equal(wrong(r.examine("controller", nil, args...), doctor.Fail), fail) {
			return
		}
	}
}

func (r *rig) reconnect() {
	r.t.Helper()
	r.vsctl("set-controller", "br0", "ssl:10.99.0.1:6653")
	r.vsctl("set", "controller", "br0", "connection_mode=out-of-band", "max_backoff=1000")
	r.whole()
}

func TestBrokenSwitchesAreNamed(t *testing.T) {
	r := newRig(t)
	usual := func(args []string) []string {
		if args == nil {
			args = []string{"--controller", r.file("controller")}
		}
		// The last one given counts.
		return append([]string{"--ovsdb", "unix:" + r.dir + "/ovs/db.sock", "--switch", r.management()}, args...)
	}
	r.settle(usual(nil), nil)
	for _, b := range switchBreakages {
		t.Run(b.name, func(t *testing.T) {
			r := &rig{r.Lab, t, r.dir}
			mend, args := b.broken(r)
			if mend != nil {
				defer mend()
			}
			r.settle(usual(args), b.fail)
			r.compare(r.examine("controller", nil, usual(args)...), b.fail, b.warn)
		})
	}
	t.Run("without a controller the doctor waits for the switch", func(t *testing.T) {
		r := &rig{r.Lab, t, r.dir}
		r.kill("controller", "controller")
		report := r.examine("controller", nil, "--controller", r.file("controller"))
		r.compare(report, nil, nil)
		for _, f := range report {
			if f.Check == "switch-conntrack" {
				return
			}
		}
		t.Errorf("the switch was not looked at: %+v", report)
	})
	t.Run("a switch without connection tracking", func(t *testing.T) {
		r := &rig{r.Lab, t, r.dir}
		socket := filepath.Join(t.TempDir(), "sim")
		cmd := exec.Command(binary, "switchsim", "--port", "lo", "--listen", "punix:"+socket, "--misbehave-no-extensions", "--controller", "unix:/absent")
		if err := r.StartCommand("switch", cmd); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
		file := r.edited("controller", "steering: auto", "steering: conntrack")
		for deadline := time.Now().Add(20 * time.Second); ; <-time.After(50 * time.Millisecond) {
			report := r.examine("controller", nil, "--controller", file, "--switch", "unix:"+socket)
			if fails := wrong(report, doctor.Fail); fmt.Sprint(fails) == "[switch-conntrack switch-ports]" {
				return
			}
			if time.Now().After(deadline) {
				t.Fatalf("report %+v", report)
			}
		}
	})
}
