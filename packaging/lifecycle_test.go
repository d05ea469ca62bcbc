package packaging

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shunt-sdn/shunt/internal/testnet"
)

// build builds the packages of this tree, once per version and test run.
func build(t testing.TB, version string) *Packages {
	t.Helper()
	builds.Lock()
	defer builds.Unlock()
	if p := builds.made[version]; p != nil {
		return p
	}
	p := makePackages(t, version)
	builds.made[version] = p
	return p
}

// makePackages builds as make does, in a process of its own: the race detector, with
// which this one may run, takes ten times as long to compress.
func makePackages(t testing.TB, version string) *Packages {
	t.Helper()
	dir := t.TempDir()
	out, err := exec.CommandContext(t.Context(), "go", "run", "./mkpackages", "-root", "..", "-o", dir, "-version", version).CombinedOutput()
	if err != nil {
		t.Fatalf("build the packages: %v\n%s", err, out)
	}
	p := &Packages{Version: version, Arch: runtime.GOARCH}
	for name, into := range map[string]*[]byte{p.DebName(): &p.Deb, p.ImageName(): &p.Image} {
		if *into, err = os.ReadFile(filepath.Join(dir, name)); err != nil {
			t.Fatal(err)
		}
	}
	return p
}

var builds = struct {
	sync.Mutex
	made map[string]*Packages
}{made: map[string]*Packages{}}

// Two versions that nobody will release.
const older, newer = "0.0~test1", "0.0~test2"

func TestTwoBuildsAreEqual(t *testing.T) {
	first := build(t, older)
	second := makePackages(t, older)
	if a, b := sha256.Sum256(first.Deb), sha256.Sum256(second.Deb); a != b {
		t.Errorf("the Debian packages differ: %x and %x", a, b)
	}
	if a, b := sha256.Sum256(first.Image), sha256.Sum256(second.Image); a != b {
		t.Errorf("the images differ: %x and %x", a, b)
	}
}

// listing is every file below the places that packages touch, and the users.
const listing = `find /etc /usr /lib/systemd /var/lib /opt /srv -xdev \( -name '*shunt*' -o -path '*shunt*' \) | sort
getent passwd shunt || true; getent group shunt || true`

func TestLifeCycle(t *testing.T) {
	testnet.NeedRoot(t)
	h := newHost(t, "node1")
	before := h.run(listing)
	h.write("/root/older.deb", build(t, older).Deb)
	h.write("/root/newer.deb", build(t, newer).Deb)

	t.Run("install", func(t *testing.T) {
		h := h.in(t)
		h.run("dpkg -i /root/older.deb")
		if got := strings.TrimSpace(h.run("shunt --version")); got != "shunt version "+older {
			t.Errorf("shunt says %q", got)
		}
		for _, unit := range []string{"shunt-controller", "shunt-agent"} {
			if out, _ := h.try("systemctl is-active " + unit); strings.TrimSpace(out) != "inactive" {
				t.Errorf("%s is %q after the installation", unit, out)
			}
			if out, _ := h.try("systemctl is-enabled " + unit); strings.TrimSpace(out) != "disabled" {
				t.Errorf("%s is %q after the installation", unit, out)
			}
			if out := h.run("systemd-analyze verify --man=yes " + unit + ".service 2>&1"); strings.Contains(out, "shunt") {
				t.Errorf("systemd-analyze verify %s: %s", unit, out)
			}
		}
		h.run("dpkg --verify shunt; man -w shunt 8 shunt-agent 8 shunt-controller 5 shunt.yaml")
		h.run("bash -c 'source /usr/share/bash-completion/completions/shunt; complete -p shunt'")
		if h.exists("/usr/bin/zsh") {
			h.run("zsh -n /usr/share/zsh/vendor-completions/_shunt")
		}
	})
	t.Run("a daemon that is not configured says so and stays down", func(t *testing.T) {
		h := h.in(t)
		for _, unit := range []string{"shunt-controller", "shunt-agent"} {
			if out, err := h.try("systemctl start " + unit); err == nil {
				t.Errorf("%s started: %s", unit, out)
			}
			if got := h.property(unit, "ExecMainStatus"); got != "78" {
				t.Errorf("%s ended with status %s", unit, got)
			}
			if got := h.property(unit, "SubState"); got != "failed" {
				t.Errorf("%s is %s", unit, got)
			}
			h.eventually("the journal says why", func() error {
				if out := h.run("journalctl -u " + unit + " -o cat --no-pager"); !strings.Contains(out, "the file is empty") {
					return errors.New(out)
				}
				return nil
			})
		}
	})
	h.run(`ip link add eth0 type veth peer name eth0-peer; ip link set eth0 up; ip link set eth0-peer up; ip addr add 10.20.0.11/24 dev eth0
cat >/etc/shunt/controller.yaml <<'END'
listen: {grpc: "127.0.0.1:6640", openflow: "127.0.0.1:6653"}
insecure: true
pools: [172.31.0.0/24]
switches:
- interfaces: [{name: nodes, mac: "02:00:00:00:02:01", addresses: [10.20.0.1/24], ports: [eth0-peer]}]
services: [{name: web, vips: [10.20.1.80], port: 80}]
END
cat >/etc/shunt/agent.yaml <<'END'
node: node1
roles: [dispatcher, server]
interface: eth0
controller: "127.0.0.1:6640"
listen: "127.0.0.1:6641"
insecure: true
applications: [{service: web, attach: listener, socket: /run/shunt/web.sock}]
END
shunt controller --check; shunt agent --check`)

	t.Run("configured daemons run, unprivileged and confined", func(t *testing.T) {
		h := h.in(t)
		h.run("systemctl reset-failed; systemctl enable --now shunt-controller shunt-agent")
		h.connected()
		agent, controller := h.pid("shunt-agent"), h.pid("shunt-controller")
		if log := h.run("journalctl --no-pager -o cat _PID=" + agent); strings.Contains(log, "CAP_") {
			t.Errorf("the agent misses a capability:\n%s", log)
		}
		for pid, want := range map[string]string{agent: h.capabilities("shunt-agent"), controller: "0000000000000000"} {
			status := h.run("cat /proc/" + pid + "/status")
			for _, set := range []string{"CapPrm", "CapEff", "CapBnd", "CapAmb"} {
				if !strings.Contains(status, set+":\t"+want) {
					t.Errorf("%s of %s is not %s", set, pid, want)
				}
			}
			if !strings.Contains(status, "NoNewPrivs:\t1") || !strings.Contains(status, "Seccomp:\t2") {
				t.Errorf("process %s is not confined", pid)
			}
			if out, err := h.try("nsenter -t " + pid + " -m -- touch /usr/test /etc/shunt/test"); err == nil {
				t.Errorf("%s could write to the system: %s", pid, out)
			}
		}
		h.run("ip route show table local | grep -q '^local 172.31.0.0/24'")
	})
	t.Run("a daemon that is killed starts again and adopts what it left", func(t *testing.T) {
		h := h.in(t)
		for _, unit := range []string{"shunt-controller", "shunt-agent"} {
			pid := h.pid(unit)
			h.run("kill -KILL " + pid)
			h.eventually(unit+" runs again", func() error {
				if now := h.property(unit, "MainPID"); now == pid || now == "0" || h.property(unit, "SubState") != "running" {
					return fmt.Errorf("MainPID %s, %s", now, h.property(unit, "SubState"))
				}
				return nil
			})
		}
		h.connected()
	})
	t.Run("a controller that hangs is restarted by the watchdog", func(t *testing.T) {
		h := h.in(t)
		h.run("mkdir /run/systemd/system/shunt-controller.service.d; printf '[Service]\nWatchdogSec=1s\n' >/run/systemd/system/shunt-controller.service.d/test.conf; systemctl daemon-reload; systemctl restart shunt-controller")
		pid := h.pid("shunt-controller")
		h.run("kill -STOP " + pid)
		h.eventually("another controller runs", func() error {
			if now := h.property("shunt-controller", "MainPID"); now == pid || now == "0" {
				return fmt.Errorf("MainPID is %s", now)
			}
			return nil
		})
		h.run("rm -r /run/systemd/system/shunt-controller.service.d; systemctl daemon-reload; systemctl restart shunt-controller")
		h.connected()
	})
	t.Run("upgrade", func(t *testing.T) {
		h := h.in(t)
		agent, controller := h.pid("shunt-agent"), h.pid("shunt-controller")
		out := h.run("dpkg -i --force-confold /root/newer.deb")
		if h.property("shunt-agent", "MainPID") != agent || !strings.Contains(out, "systemctl restart shunt-agent") {
			t.Errorf("the agent was restarted, or nobody was told that it was not:\n%s", out)
		}
		if h.property("shunt-controller", "MainPID") == controller {
			t.Error("the controller was not restarted")
		}
		if got := h.run("grep -c 'node: node1' /etc/shunt/agent.yaml"); strings.TrimSpace(got) != "1" {
			t.Errorf("the configuration is not the administrator's any more")
		}
		h.run("systemctl restart shunt-agent")
		h.connected()
		for _, unit := range []string{"shunt-controller", "shunt-agent"} {
			if out := h.run("systemctl is-enabled " + unit); strings.TrimSpace(out) != "enabled" {
				t.Errorf("%s is %s after the upgrade", unit, out)
			}
			if exe := h.run("sha256sum /proc/" + h.pid(unit) + "/exe /usr/bin/shunt | cut -d' ' -f1 | uniq | wc -l"); strings.TrimSpace(exe) != "1" {
				t.Errorf("%s does not run the new version", unit)
			}
		}
	})
	t.Run("remove and purge", func(t *testing.T) {
		h := h.in(t)
		h.run("dpkg -r shunt")
		for _, unit := range []string{"shunt-controller", "shunt-agent"} {
			if out, _ := h.try("systemctl is-active " + unit); strings.TrimSpace(out) != "inactive" {
				t.Errorf("%s is %q after the removal", unit, out)
			}
		}
		if !h.exists("/etc/shunt/agent.yaml") || !h.exists("/var/lib/shunt/controller.db") || h.exists("/usr/bin/shunt") || h.exists("/run/shunt") {
			t.Error("a removal keeps configuration and state, and nothing else")
		}
		if out := h.run("ip route show table local; tc filter show dev eth0 ingress"); strings.Contains(out, "172.31.0.0") || strings.Contains(out, "shunt") {
			t.Errorf("the agent left something on the host: %s", out)
		}
		h.run("dpkg -P shunt")
		if after := h.run(listing); after != before {
			t.Errorf("left behind:\n%s\nbefore the installation there was:\n%s", after, before)
		}
	})
}

// in is the host as a subtest sees it.
func (h *host) in(t testing.TB) *host {
	return &host{t: t, name: h.name, ns: h.ns, init: h.init}
}

// property is one of a unit's.
func (h *host) property(unit, name string) string {
	h.t.Helper()
	return strings.TrimSpace(h.run("systemctl show --value -p " + name + " " + unit))
}

// pid is a unit's main process, as the host numbers it.
func (h *host) pid(unit string) string {
	h.t.Helper()
	pid := h.property(unit, "MainPID")
	if pid == "0" {
		h.t.Fatalf("%s does not run:\n%s", unit, h.run("journalctl -n 20 --no-pager -o cat -u "+unit))
	}
	return pid
}

// capabilities are what a unit grants, as /proc shows sets of them.
func (h *host) capabilities(unit string) string {
	h.t.Helper()
	bits := map[string]uint{
		"cap_dac_override": unix.CAP_DAC_OVERRIDE, "cap_net_admin": unix.CAP_NET_ADMIN, "cap_net_bind_service": unix.CAP_NET_BIND_SERVICE,
		"cap_net_raw": unix.CAP_NET_RAW, "cap_sys_admin": unix.CAP_SYS_ADMIN, "cap_bpf": unix.CAP_BPF, "cap_sys_nice": unix.CAP_SYS_NICE,
	}
	var set uint64
	for _, name := range strings.Fields(h.property(unit, "AmbientCapabilities")) {
		bit, known := bits[name]
		if !known {
			h.t.Errorf("%s is granted %s: say in docs/install.md why", unit, name)
		}
		set |= 1 << bit
	}
	return fmt.Sprintf("%016x", set)
}

// connected waits until the controller knows the agent.
func (h *host) connected() {
	h.t.Helper()
	h.eventually("the agent is connected to the controller", func() error {
		out, err := h.try("shunt nodes -o json")
		if err != nil || !strings.Contains(out, `"up": true`) && !strings.Contains(out, `"up":true`) {
			return fmt.Errorf("%v: %s\n%s", err, out, h.run("journalctl -n 10 --no-pager -o cat -u shunt-agent -u shunt-controller"))
		}
		return nil
	})
}

func TestDebianFindsNothingWrong(t *testing.T) {
	lintian := testnet.NeedProgram(t, "lintian")[0]
	path := t.TempDir() + "/" + build(t, older).DebName()
	if err := os.WriteFile(path, build(t, older).Deb, 0o644); err != nil {
		t.Fatal(err)
	}
	var out bytes.Buffer
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, lintian, "--allow-root", "--fail-on=error,warning", "--no-cfg", path)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Run(); err != nil {
		t.Errorf("lintian: %v\n%s", err, &out)
	}
}
