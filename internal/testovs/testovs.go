// Package testovs runs a private Open vSwitch for a test: its own database,
// sockets and logs in a directory of its own, its daemons inside a namespace of
// the test, the userspace datapath, one bridge named br0 with OpenFlow 1.3.
// Nothing is shared with an Open vSwitch that the machine may run, and both
// daemons die with the test process, however it ends.
package testovs

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/shunt-sdn/shunt/internal/testnet"
)

// Bridge is the name of the switch's one bridge.
const Bridge = "br0"

// Schema is the database schema that Debian's openvswitch-common installs.
const Schema = "/usr/share/openvswitch/vswitch.ovsschema"

// patience bounds every wait for a daemon. The machine may be busy with other
// tests.
const patience = 30 * time.Second

// A Switch is a private Open vSwitch. Its methods fail the test on errors.
type Switch struct {
	t     testing.TB
	ns    *testnet.NS
	dir   string
	dpid  uint64
	db    *daemon
	vsd   *daemon
	other []string // other_config of the database, set before vswitchd starts
}

// An Option changes how Start sets a switch up.
type Option func(*Switch)

// WithDPID sets the datapath id; the default is 1.
func WithDPID(dpid uint64) Option { return func(s *Switch) { s.dpid = dpid } }

// WithTSO lets the userspace datapath carry segments larger than the MTU. Veth
// offloads can then stay on. It is off by default, and hosts then need NoOffload.
func WithTSO() Option {
	return func(s *Switch) { s.other = append(s.other, "other_config:userspace-tso-enable=true") }
}

// Start starts a switch inside ns and waits until br0 answers OpenFlow. The test
// needs root and Open vSwitch's programs. br0 has no ports, no flows and, as its
// fail mode is secure, forwards nothing. When the test ends the switch is
// stopped and its directory removed; if the test failed, the end of vswitchd's
// log goes to the test's log.
func Start(t testing.TB, ns *testnet.NS, options ...Option) *Switch {
	t.Helper()
	testnet.NeedRoot(t)
	testnet.NeedProgram(t, "ovsdb-tool", "ovsdb-server", "ovs-vswitchd", "ovs-vsctl", "ovs-ofctl", "ovs-appctl")
	// t.TempDir would do, but unix socket paths end at 107 octets.
	dir, err := os.MkdirTemp("", "ovs")
	if err != nil {
		t.Fatalf("make a directory for Open vSwitch: %v", err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	s := &Switch{t: t, ns: ns, dir: dir, dpid: 1}
	for _, o := range options {
		o(s)
	}
	s.run("ovsdb-tool", "create", s.path("conf.db"), Schema)
	t.Cleanup(s.end)
	s.db = s.spawn("ovsdb-server", s.path("conf.db"), "--remote=punix:"+s.path("db.sock"),
		"--unixctl="+s.path("ovsdb.ctl"), "--log-file="+s.path("ovsdb.log"), "-vconsole:off")
	s.await("db.sock", s.db)
	s.Vsctl("--no-wait", "init")
	if len(s.other) > 0 {
		s.Vsctl(append([]string{"--no-wait", "set", "Open_vSwitch", "."}, s.other...)...)
	}
	s.Vsctl("--no-wait", "add-br", Bridge, "--", "set", "bridge", Bridge, "datapath_type=netdev", "fail-mode=secure",
		"protocols=OpenFlow10,OpenFlow13", fmt.Sprintf("other_config:datapath-id=%016x", s.dpid),
		// The learning, spanning-tree and in-band machinery has no place in a test of flows.
		"other_config:disable-in-band=true")
	s.startVswitchd()
	return s
}

// Resume starts vswitchd again after Stop or Kill and waits until br0 answers.
// The database, so ports and controllers, is as it was; flows, groups and
// connection tracking are gone.
func (s *Switch) Resume() {
	s.t.Helper()
	if s.vsd != nil {
		s.t.Fatal("ovs-vswitchd runs already")
	}
	s.startVswitchd()
}

func (s *Switch) startVswitchd() {
	s.t.Helper()
	os.Remove(s.path(Bridge + ".mgmt")) // a killed vswitchd leaves it behind
	s.vsd = s.spawn("ovs-vswitchd", "unix:"+s.path("db.sock"), "--unixctl="+s.path("vswitchd.ctl"),
		"--log-file="+s.path("vswitchd.log"), "-vconsole:off", "--no-chdir")
	s.await(Bridge+".mgmt", s.vsd)
}

// Stop ends vswitchd in good order; forwarding stops.
func (s *Switch) Stop() {
	s.t.Helper()
	s.stop(syscall.SIGTERM)
}

// Kill ends vswitchd with SIGKILL.
func (s *Switch) Kill() {
	s.t.Helper()
	s.stop(syscall.SIGKILL)
}

// Restart is Stop and Resume.
func (s *Switch) Restart() {
	s.t.Helper()
	s.Stop()
	s.Resume()
}

// Suspend stops vswitchd's threads with SIGSTOP, as a switch that hangs, and
// returns the function that lets it go on.
func (s *Switch) Suspend() (goOn func()) {
	s.t.Helper()
	if s.vsd == nil {
		s.t.Fatal("ovs-vswitchd does not run")
	}
	process := s.vsd.cmd.Process
	if err := process.Signal(syscall.SIGSTOP); err != nil {
		s.t.Fatalf("suspend ovs-vswitchd: %v", err)
	}
	return func() { _ = process.Signal(syscall.SIGCONT) } // gone is as good
}

func (s *Switch) stop(sig syscall.Signal) {
	s.t.Helper()
	if s.vsd == nil {
		s.t.Fatal("ovs-vswitchd does not run")
	}
	if err := s.vsd.stop(sig); err != nil {
		s.t.Fatal(err)
	}
	s.vsd = nil
}

// end runs when the test is over.
func (s *Switch) end() {
	if s.t.Failed() {
		if log, err := os.ReadFile(s.path("vswitchd.log")); err == nil {
			lines := strings.Split(strings.TrimSpace(string(log)), "\n")
			s.t.Logf("vswitchd's last words:\n%s", strings.Join(lines[max(0, len(lines)-30):], "\n"))
		}
	}
	for _, d := range []*daemon{s.vsd, s.db} {
		if d != nil {
			if err := d.stop(syscall.SIGTERM); err != nil {
				s.t.Error(err)
			}
		}
	}
}

// Dir is the directory with the switch's sockets and logs (OVS_RUNDIR).
func (s *Switch) Dir() string { return s.dir }

// DPID is the bridge's datapath id.
func (s *Switch) DPID() uint64 { return s.dpid }

// Namespace is where the switch runs.
func (s *Switch) Namespace() *testnet.NS { return s.ns }

// Management is the bridge's management socket as openflow.Dial and ovs-ofctl
// take it: unix:…/br0.mgmt. It can be dialled from any namespace.
func (s *Switch) Management() string { return "unix:" + s.path(Bridge+".mgmt") }

// AddPort makes a link of the switch's namespace a port of br0. The number is
// its OpenFlow port, 1 to 65279; 0 leaves the choice to the switch. It returns
// the number once the port is there.
func (s *Switch) AddPort(link string, number uint32) uint32 {
	s.t.Helper()
	args := []string{"add-port", Bridge, link}
	if number != 0 {
		args = append(args, "--", "set", "interface", link, fmt.Sprintf("ofport_request=%d", number))
	}
	s.Vsctl(args...)
	out := strings.TrimSpace(s.Vsctl("get", "interface", link, "ofport"))
	var got uint32
	if _, err := fmt.Sscan(out, &got); err != nil || number != 0 && got != number {
		s.t.Fatalf("port %s has the number %q, wanted %d: %s", link, out, number,
			s.Vsctl("get", "interface", link, "error"))
	}
	return got
}

// DelPort removes a port from br0.
func (s *Switch) DelPort(link string) {
	s.t.Helper()
	s.Vsctl("del-port", Bridge, link)
}

// SetController makes br0 dial the targets ("tcp:10.0.0.1:6653", "ptcp:6653",
// "unix:/path", …) and nothing else; out of band, retrying every second.
func (s *Switch) SetController(targets ...string) {
	s.t.Helper()
	s.Vsctl(append([]string{"set-controller", Bridge}, targets...)...)
	for _, id := range strings.Fields(s.Vsctl("--bare", "--columns=_uuid", "list", "controller")) {
		s.Vsctl("set", "controller", id, "connection-mode=out-of-band", "max_backoff=1000")
	}
}

// Ofctl runs ovs-ofctl -O OpenFlow13 with the arguments, in which "br0" stands
// for the bridge, and returns what it prints.
func (s *Switch) Ofctl(args ...string) string {
	s.t.Helper()
	args = append([]string{"-O", "OpenFlow13"}, args...)
	for i, a := range args {
		if a == Bridge {
			args[i] = s.Management()
		}
	}
	return s.run("ovs-ofctl", args...)
}

// Vsctl runs ovs-vsctl on the switch's database.
func (s *Switch) Vsctl(args ...string) string {
	s.t.Helper()
	return s.run("ovs-vsctl", append([]string{"--db=unix:" + s.path("db.sock"), "--timeout=30"}, args...)...)
}

// Appctl runs ovs-appctl on vswitchd.
func (s *Switch) Appctl(args ...string) string {
	s.t.Helper()
	return s.run("ovs-appctl", append([]string{"-t", s.path("vswitchd.ctl")}, args...)...)
}

// NoOffload switches transmit checksum offload off on a link of a host, so that
// a switch without WithTSO can forward its packets.
func NoOffload(ns *testnet.NS, link string) { ns.Run("ethtool", "-K", link, "tx", "off") }

func (s *Switch) path(name string) string { return filepath.Join(s.dir, name) }

func (s *Switch) env() []string {
	return append(os.Environ(), "OVS_RUNDIR="+s.dir, "OVS_LOGDIR="+s.dir, "OVS_DBDIR="+s.dir, "OVS_SYSCONFDIR="+s.dir)
}

func (s *Switch) run(name string, args ...string) string {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(s.t.Context()), patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = s.env()
	out, err := cmd.CombinedOutput()
	if err != nil {
		s.t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// await waits for a socket of the switch to exist and accept.
func (s *Switch) await(socket string, d *daemon) {
	s.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		if accepts(s.path(socket)) {
			return
		}
		select {
		case <-d.done:
			s.t.Fatalf("%s ended before %s was there: %v\n%s", d.name, socket, d.err, d.output.String())
		case <-time.After(5 * time.Millisecond):
		}
		if time.Now().After(deadline) {
			s.t.Fatalf("%s does not listen on %s after %v", d.name, socket, patience)
		}
	}
}

var errStuck = errors.New("did not end")
