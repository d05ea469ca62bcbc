//go:build compose

package compose

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httputil"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// An engine is a Docker engine of the test's own, in namespaces of its own (see
// engine.sh). The machine's, if it has one, is not involved. It has no way out:
// what images are built from comes through a proxy of the test's.
type engine struct {
	dir    string
	cgroup string // name of its control groups, below the root
	log    string
	proxy  string // as its containers see it
	cmd    *exec.Cmd
	ended  chan struct{}
}

const (
	enginesDir    = "/var/tmp"
	enginesPrefix = "shunt-compose-"
	bridge        = "172.17.0.1" // the engine's side of containers that are being built
	proxyPort     = "3128"
)

// startEngine starts an engine that is stopped when the test ends.
func startEngine(t *testing.T) *engine {
	t.Helper()
	removeStale(t)
	dir, err := os.MkdirTemp(enginesDir, enginesPrefix)
	if err != nil {
		t.Fatal(err)
	}
	// Held for as long as the test lives: the next test removes the directory
	// of one that was killed.
	lock, err := lockDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	e := &engine{dir: dir, cgroup: filepath.Base(dir), log: filepath.Join(dir, "log"), ended: make(chan struct{})}
	t.Cleanup(func() {
		e.stop(t)
		lock.Close()
	})
	log, err := os.Create(e.log)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	e.cmd = exec.Command("unshare", "--mount", "--net", "--pid", "--fork", "--kill-child=KILL", "--mount-proc",
		"./engine.sh", dir, "/"+e.cgroup)
	e.cmd.Stdout, e.cmd.Stderr = log, log
	e.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error, 1)
	go func() {
		defer close(e.ended)
		runtime.LockOSThread() // the death signal goes by the thread that forked
		defer runtime.UnlockOSThread()
		err := e.cmd.Start()
		started <- err
		if err == nil {
			_ = e.cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		t.Fatalf("start an engine: %v", err)
	}
	wait(t, 60*time.Second, "the engine", func(ctx context.Context) error {
		select {
		case <-e.ended:
			t.Fatalf("the engine ended:\n%s", tail(e.log))
		default:
		}
		return command(ctx, e.env(), "docker", "version").Run()
	})
	e.startProxy(t)
	return e
}

// env is what clients of the engine have in their environment. The classic
// builder is in every engine; BuildKit wants a plugin that Debian 12 lacks.
func (e *engine) env() []string {
	return []string{"DOCKER_HOST=unix://" + filepath.Join(e.dir, "docker.sock"), "DOCKER_CONTEXT=", "DOCKER_BUILDKIT=0", "COMPOSE_DOCKER_CLI_BUILD=0"}
}

// startProxy lets builds in the engine's network fetch packages by HTTP: it
// listens there and connects from here.
func (e *engine) startProxy(t *testing.T) {
	t.Helper()
	l, err := listenIn(e.cmd.Process.Pid, net.JoinHostPort("0.0.0.0", proxyPort))
	if err != nil {
		t.Fatal(err)
	}
	s := &http.Server{Handler: &httputil.ReverseProxy{Rewrite: func(*httputil.ProxyRequest) {}}}
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = s.Serve(l)
	}()
	t.Cleanup(func() {
		_ = s.Close()
		<-done
	})
	e.proxy = "http://" + net.JoinHostPort(bridge, proxyPort)
}

// listenIn listens in the network namespace of the child of a process.
func listenIn(parent int, address string) (l net.Listener, err error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%d/children", parent, parent))
	if err != nil {
		return nil, err
	}
	child, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil {
		return nil, err
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread() // for good: the thread dies with its namespace
		ns, e := netns.GetFromPid(child)
		if err = e; err != nil {
			return
		}
		defer ns.Close()
		if err = netns.Set(ns); err == nil {
			l, err = net.Listen("tcp", address)
		}
	}()
	<-done
	return l, err
}

// stop ends the engine and everything in it, and fails the test if something
// stays behind.
func (e *engine) stop(t *testing.T) {
	if t.Failed() {
		t.Logf("the engine's log ends:\n%s", tail(e.log))
	}
	if e.cmd.Process != nil {
		// With it goes the first process of its namespace, and with that all others.
		_ = e.cmd.Process.Kill()
		<-e.ended
	}
	begin := time.Now()
	removeEngine(t, e.dir)
	t.Logf("removing the engine: %v", time.Since(begin).Round(time.Second/10))
}

// removeEngine removes what an engine leaves on the machine. Its processes are
// being ended by the kernel, which takes a moment.
func removeEngine(t *testing.T, dir string) {
	var err error
	for deadline := time.Now().Add(30 * time.Second); ; {
		if err = errors.Join(removeCgroups(filepath.Base(dir)), os.RemoveAll(dir)); err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Errorf("the engine left something behind: %v", err)
			return
		}
		_ = pause(context.Background())
	}
}

func removeCgroups(name string) error {
	roots, err := filepath.Glob("/sys/fs/cgroup/*/" + name)
	if err != nil {
		return err
	}
	if _, err := os.Stat("/sys/fs/cgroup/" + name); err == nil {
		roots = append(roots, "/sys/fs/cgroup/"+name)
	}
	var errs []error
	for _, root := range roots {
		var dirs []string
		_ = filepath.WalkDir(root, func(path string, d os.DirEntry, err error) error {
			if err == nil && d.IsDir() {
				dirs = append(dirs, path)
			}
			return nil
		})
		for i := len(dirs) - 1; i >= 0; i-- {
			if err := unix.Rmdir(dirs[i]); err != nil && !errors.Is(err, unix.ENOENT) {
				errs = append(errs, fmt.Errorf("remove %s: %w", dirs[i], err))
			}
		}
	}
	return errors.Join(errs...)
}

// removeStale removes what tests left that were killed.
func removeStale(t *testing.T) {
	dirs, err := filepath.Glob(filepath.Join(enginesDir, enginesPrefix+"*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range dirs {
		lock, err := lockDir(dir)
		if err != nil {
			continue // in use
		}
		t.Logf("removing %s of a test that was killed", dir)
		removeEngine(t, dir)
		lock.Close()
	}
}

func lockDir(dir string) (io.Closer, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		f.Close()
		return nil, err
	}
	return f, nil
}

// tail returns the end of a file.
func tail(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-4096):])
}
