package lab

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shunt-sdn/shunt/internal/testnet"
	"github.com/shunt-sdn/shunt/lab/netns"
)

// script makes a program that stands for shunt.
func script(t *testing.T, body string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "shunt")
	if err := os.WriteFile(path, []byte("#!/bin/sh\n"+body+"\n"), 0o755); err != nil {
		t.Fatal(err)
	}
	return path
}

// nothingLeft fails the test if anything of the lab is.
func nothingLeft(t *testing.T, name string) {
	t.Helper()
	if names, err := netns.Names(netnsOf(name)); err != nil || len(names) > 0 {
		t.Errorf("namespaces are left: %v, %v", names, err)
	}
	if _, err := os.Stat(string(pathsOf(name))); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory is left: %v", err)
	}
}

func TestUpThatFailsSaysWhatTheDaemonSaidAndLeavesNothing(t *testing.T) {
	testnet.NeedRoot(t)
	o := Options{Name: testName(t), Binary: script(t, `echo "I am $1 and I do not want to" >&2; exit 3`)}
	_, err := Up(t.Context(), o)
	if err == nil || !strings.Contains(err.Error(), "I am controller and I do not want to") {
		t.Errorf("up: %v, want what the daemons said", err)
	}
	nothingLeft(t, o.Name)
}

func TestUpThatIsInterruptedLeavesNothing(t *testing.T) {
	testnet.NeedRoot(t)
	o := Options{Name: testName(t), Binary: script(t, `while :; do sleep 600; done`)}
	ctx, cancel := context.WithCancelCause(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := Up(ctx, o)
		done <- err
	}()
	// The last server's application is there: Up waits for requests to succeed.
	for {
		l, err := Load(o.Name)
		if err == nil && l.Info().Hosts[len(l.Info().Hosts)-1].PIDs["app"] != 0 {
			break
		}
		if err := pause(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	cancel(nil)
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("up: %v, want %v", err, context.Canceled)
	}
	nothingLeft(t, o.Name)
}

func TestRemoveWorksWithoutTheState(t *testing.T) {
	l := bare(t, Options{})
	cmd := l.command(t, "server1", "sleep", "600")
	if err := os.WriteFile(l.paths.state(), []byte("{ half a sta"), 0o644); err != nil {
		t.Fatal(err)
	}
	if found, err := Remove(t.Context(), l.Name()); err != nil || !found {
		t.Errorf("remove: found %v, %v", found, err)
	}
	nothingLeft(t, l.Name())
	if cmd.Wait() == nil {
		t.Error("the command ended by itself")
	}
}
