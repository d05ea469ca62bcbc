// Package preload tests libshunt.so, the library that makes an unmodified
// server accept handed-off sessions, with servers of all kinds and the agent's
// side of it. The library's source is in src.
package preload

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"go.uber.org/goleak"
)

var library, serverProgram string // built by TestMain

// The tests run in a process of their own, in a network namespace that it has
// for itself: their traffic is loopback's.
const insideVariable = "SHUNT_TEST_INSIDE"

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		os.Exit(playAgent())
	}
	if os.Geteuid() == 0 && os.Getenv(insideVariable) == "" {
		os.Exit(again())
	}
	os.Exit(inside(m))
}

// again runs this program in a new network namespace.
func again() int {
	cmd := exec.Command(os.Args[0], os.Args[1:]...)
	cmd.Env = append(os.Environ(), insideVariable+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET}
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		fmt.Fprintln(os.Stderr, "start the tests in a network namespace:", err)
		return 1
	}
	return cmd.ProcessState.ExitCode()
}

func inside(m *testing.M) int {
	if os.Geteuid() != 0 {
		return m.Run() // every test says that it needs root
	}
	dir, err := os.MkdirTemp("", "shunt-preload-")
	if err == nil {
		defer os.RemoveAll(dir)
		err = build(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	code := m.Run()
	if err := goleak.Find(); err != nil && code == 0 {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

func build(dir string) error {
	lo, err := netlink.LinkByName("lo")
	if err == nil {
		err = netlink.LinkSetUp(lo)
	}
	if err != nil {
		return fmt.Errorf("set lo up: %w", err)
	}
	library, serverProgram = filepath.Join(dir, "libshunt.so"), filepath.Join(dir, "server")
	for _, cmd := range []*exec.Cmd{
		exec.Command("make", "-s", "OUT="+dir, "CFLAGS=-O2 -g -Werror"),
		exec.Command("cc", "-Wall", "-Wextra", "-Werror", "-O1", "-pthread", "-o", serverProgram, "testdata/server.c"),
	} {
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%v: %w\n%s", cmd.Args, err, out)
		}
	}
	return nil
}
