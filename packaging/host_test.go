package packaging

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shunt-sdn/shunt/internal/testnet"
)

// A host is a machine for tests: this machine's file system under an overlay
// that forgets, namespaces of its own, and systemd as its first process. What
// is installed, written or started there is gone when the test ends.
type host struct {
	t    testing.TB
	name string
	ns   *testnet.NS
	init int // of its first process, as this machine sees it
	log  bytes.Buffer
}

// boot makes the overlay's mounts and becomes systemd. The units of the machine
// below are not started: the target has only a journal, and the targets that
// services stand on are empty.
const boot = `set -e
mount --make-rprivate /
mount -t tmpfs tmpfs /mnt
mkdir /mnt/upper /mnt/work /mnt/root
mount -t overlay overlay -o lowerdir=/,upperdir=/mnt/upper,workdir=/mnt/work /mnt/root
root=/mnt/root
mount -t proc proc $root/proc
mount -t sysfs sysfs $root/sys
mount -t cgroup2 cgroup2 $root/sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs $root/run
mount -t tmpfs -o mode=1777 tmpfs $root/tmp
mount -t tmpfs -o mode=755 tmpfs $root/dev
for d in null zero full random urandom tty; do : >$root/dev/$d; mount --bind /dev/$d $root/dev/$d; done
mkdir $root/dev/pts $root/dev/shm $root/dev/net
: >$root/dev/net/tun; mount --bind /dev/net/tun $root/dev/net/tun
mount -t devpts -o newinstance,ptmxmode=0666 devpts $root/dev/pts
ln -s pts/ptmx $root/dev/ptmx
hostname "$1"
printf '%s\n' "$1" >$root/etc/hostname
printf '127.0.0.1 localhost %s\n' "$1" >$root/etc/hosts
cd $root/etc/systemd/system
for u in sysinit basic network-online; do
    rm -rf $u.target $u.target.wants
    printf '[Unit]\nDescription=%s\nDefaultDependencies=no\n' $u >$u.target
done
printf '[Unit]\nDescription=Test host\nDefaultDependencies=no\nWants=systemd-journald.service\nAfter=systemd-journald.service\n' >test-host.target
rm -f $root/usr/sbin/policy-rc.d $root/etc/machine-id
# What is installed need not survive a power cut, nor be found by apropos.
mkdir -p $root/etc/dpkg/dpkg.cfg.d
echo force-unsafe-io >$root/etc/dpkg/dpkg.cfg.d/test-host
rm -f $root/var/lib/man-db/auto-update
printf '%032x\n' "$2" >$root/etc/machine-id
cd $root
export container=shunt-test
# Not chroot, under which no user namespaces can be made.
pivot_root . mnt
umount -l /mnt
exec /lib/systemd/systemd --unit=test-host.target --log-target=console </dev/null
`

const patience = 60 * time.Second

// newHost boots a host with a loopback interface.
func newHost(t testing.TB, name string) *host {
	t.Helper()
	testnet.NeedRoot(t)
	testnet.NeedProgram(t, "unshare", "nsenter", "systemctl", "dpkg")
	h := &host{t: t, name: name, ns: testnet.NewNS(t)}
	group, err := makeGroup(fmt.Sprintf("shunt-test-%d-%s", os.Getpid(), name))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { removeGroup(group) })
	dir, err := os.Open(group)
	if err != nil {
		t.Fatal(err)
	}
	defer dir.Close()
	cmd := exec.Command("unshare", "--cgroup", "--mount", "--pid", "--ipc", "--uts", "--fork", "--kill-child", "--",
		"bash", "-c", boot, "boot", name, strconv.Itoa(os.Getpid()))
	cmd.Stdout, cmd.Stderr = &h.log, &h.log
	cmd.SysProcAttr = &syscall.SysProcAttr{UseCgroupFD: true, CgroupFD: int(dir.Fd()), Pdeathsig: syscall.SIGKILL}
	started, ended := make(chan error, 1), make(chan struct{})
	go func() { // the thread that starts a process with Pdeathsig has to stay
		defer close(ended)
		err := h.ns.Try(func() error {
			err := cmd.Start()
			started <- err
			if err != nil {
				return err
			}
			return cmd.Wait()
		})
		select {
		case started <- err:
		default:
		}
	}()
	if err := <-started; err != nil {
		t.Fatalf("start the host %s: %v", name, err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // takes systemd, and so every process of the host, with it
		<-ended
		if t.Failed() {
			t.Logf("%s's console:\n%s", name, &h.log)
		}
	})
	h.await(cmd.Process.Pid)
	return h
}

// await waits until systemd has started.
func (h *host) await(unshare int) {
	h.t.Helper()
	children := fmt.Sprintf("/proc/%d/task/%d/children", unshare, unshare)
	h.eventually("systemd runs", func() error {
		b, err := os.ReadFile(children)
		if err != nil {
			return err
		}
		fields := strings.Fields(string(b))
		if len(fields) == 0 {
			return errors.New("unshare has no child yet")
		}
		if h.init, err = strconv.Atoi(fields[0]); err != nil {
			return err
		}
		out, err := h.try("systemctl is-system-running")
		if strings.TrimSpace(out) != "running" {
			return fmt.Errorf("it is %q: %v", out, err)
		}
		return nil
	})
}

// eventually waits for a condition.
func (h *host) eventually(what string, f func() error) {
	h.t.Helper()
	deadline := time.Now().Add(patience)
	for {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			h.t.Fatalf("%s: not so after %v that %s: %v", h.name, patience, what, err)
		}
		<-time.After(50 * time.Millisecond)
	}
}

// try runs a script on the host and returns what it printed.
func (h *host) try(script string) (string, error) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(h.t.Context()), 2*patience)
	defer cancel()
	cmd := exec.CommandContext(ctx, "nsenter", "-t", strconv.Itoa(h.init), "-m", "-u", "-i", "-n", "-p", "-C", "-r", "-w", "--",
		"bash", "-euo", "pipefail", "-c", script)
	cmd.Env = []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C.UTF-8", "DEBIAN_FRONTEND=noninteractive"}
	cmd.Dir = "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} // a script that signals its process group means its own
	cmd.WaitDelay = 2 * time.Second                      // a daemon that the script started may keep its output
	out, err := cmd.CombinedOutput()
	if errors.Is(err, exec.ErrWaitDelay) {
		err = nil
	}
	return string(out), err
}

// run is try for scripts that must succeed.
func (h *host) run(script string) string {
	h.t.Helper()
	out, err := h.try(script)
	if err != nil {
		h.t.Fatalf("%s: %s\n%v\n%s", h.name, script, err, out)
	}
	return out
}

// path is where this machine sees a file of the host.
func (h *host) path(p string) string { return filepath.Join("/proc", strconv.Itoa(h.init), "root", p) }

// write writes a file of the host.
func (h *host) write(p string, body []byte) {
	h.t.Helper()
	if err := os.WriteFile(h.path(p), body, 0o644); err != nil {
		h.t.Fatal(err)
	}
}

// exists tells whether the host has a file.
func (h *host) exists(p string) bool {
	_, err := os.Lstat(h.path(p))
	return err == nil
}

// makeGroup makes a control group in the unified hierarchy.
func makeGroup(name string) (string, error) {
	for _, at := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
		var fs unix.Statfs_t
		if unix.Statfs(at, &fs) == nil && fs.Type == unix.CGROUP2_SUPER_MAGIC {
			dir := filepath.Join(at, name)
			if err := os.Mkdir(dir, 0o755); err != nil {
				return "", fmt.Errorf("make a control group for the host: %w", err)
			}
			return dir, nil
		}
	}
	return "", errors.New("no unified control groups are mounted at /sys/fs/cgroup or /sys/fs/cgroup/unified: systemd cannot run in a test")
}

// removeGroup removes a control group whose processes have been killed.
func removeGroup(dir string) {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		if e.IsDir() {
			removeGroup(filepath.Join(dir, e.Name()))
		}
	}
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); <-time.After(20 * time.Millisecond) {
		if err := unix.Rmdir(dir); !errors.Is(err, unix.EBUSY) {
			return
		}
	}
}
