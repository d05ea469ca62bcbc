package e2e

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/shunt-sdn/shunt/internal/pages"
	"github.com/shunt-sdn/shunt/internal/testnet"
	"github.com/shunt-sdn/shunt/lab"
)

// reader does what the pages tell their readers to do in a checkout and in the
// lab that they have made there.
type reader struct {
	t    *testing.T
	root string // of the checkout
	lab  string // its name
	dir  string // where the commands for hosts are run, with the page's files
	env  []string
}

// TestThePagesCommands runs every command that a page has for a checkout or for
// a host of its lab, each page's in their order.
func TestThePagesCommands(t *testing.T) {
	testnet.NeedRoot(t)
	testnet.NeedProgram(t, "bash", "make", "cc", "curl", "nginx", "ovs-vswitchd")
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	all, err := pages.Read(root)
	if err != nil {
		t.Fatal(err)
	}
	// As `make build` does, which the pages of a checkout take for granted.
	if out, err := exec.CommandContext(t.Context(), "make", "-C", root, "build").CombinedOutput(); err != nil {
		t.Fatalf("make build: %v\n%s", err, out)
	}
	done := make(map[string]bool) // what two pages say alike is run once
	for _, p := range all {
		r := &reader{root: root, lab: fmt.Sprintf("%s%d", namePrefix, os.Getpid())}
		r.env = append(os.Environ(), "SHUNT_LAB="+r.lab, "PATH="+filepath.Join(root, "bin")+":"+os.Getenv("PATH"))
		mine := false
		for _, b := range p.Blocks {
			mine = mine || b.Runs("checkout", "controller")
		}
		if mine {
			t.Run(filepath.Base(p.Path), func(t *testing.T) {
				r.t, r.dir = t, t.TempDir()
				removeLeftovers(t)
				t.Cleanup(func() {
					if _, err := lab.Remove(context.Background(), r.lab); err != nil {
						t.Errorf("lab down: %v", err)
					}
				})
				r.read(p, done)
				if names, err := lab.List(); err != nil || strings.Contains(strings.Join(names, " "), r.lab) {
					t.Errorf("after the page's last command there are the labs %v, %v", names, err)
				}
			})
		}
	}
}

func (r *reader) read(p pages.Page, done map[string]bool) {
	for _, b := range p.Blocks {
		if name := b.File(); name != "" {
			if err := os.WriteFile(filepath.Join(r.dir, name), []byte(b.Text), 0o644); err != nil {
				r.t.Fatal(err)
			}
		}
		if !b.Runs("checkout", "controller") || !strings.Contains(b.Text, " lab ") && b.Runs("checkout") && done[b.Text] {
			continue
		}
		done[b.Text] = true
		for _, s := range b.Steps() {
			r.step(b, s)
		}
	}
}

// step runs a script, until its output is what the page shows if it only looks.
func (r *reader) step(b pages.Block, s pages.Step) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 3*time.Minute)
	defer cancel()
	begun := time.Now()
	for {
		out, err := r.run(ctx, b.Places[0], s.Script)
		var exit *exec.ExitError
		refused := strings.HasPrefix(strings.Join(s.Output, "\n"), "shunt: ")
		if err != nil && !(refused && errors.As(err, &exit)) || err == nil && refused {
			r.t.Fatalf("%s: %s\n%v\n%s", b.At(), s.Script, err, out)
		}
		missing := s.Missing(out)
		if missing == "" {
			r.t.Logf("%s: %v: %s\n%s", b.At(), time.Since(begun).Round(time.Millisecond), strings.TrimSpace(s.Script), out[max(0, len(out)-1024):])
			return
		}
		if !strings.HasPrefix(s.Script, "shunt get ") || time.Since(begun) > 30*time.Second {
			r.t.Fatalf("%s: %s\nit does not say %q:\n%s", b.At(), s.Script, missing, out)
		}
		select {
		case <-time.After(100 * time.Millisecond):
		case <-ctx.Done():
			r.t.Fatal(ctx.Err())
		}
	}
}

// run runs a script in the checkout, or on a host of the lab.
func (r *reader) run(ctx context.Context, place, script string) (string, error) {
	cmd := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", script)
	cmd.Dir = r.root
	cmd.Env = r.env
	if place != "checkout" {
		cmd.Args = append([]string{"shunt", "lab", "exec", place, "--"}, cmd.Args...)
		cmd.Path = filepath.Join(r.root, "bin", "shunt")
		cmd.Dir = r.dir
		cmd.Env = append(cmd.Env, "EDITOR="+r.editor())
	}
	// What it starts and leaves running may keep its output.
	cmd.WaitDelay = 2 * time.Second
	out, err := cmd.CombinedOutput()
	if errors.Is(err, exec.ErrWaitDelay) {
		err = nil
	}
	return string(out), err
}

// editor is somebody's: while its user changes a file with a pool, somebody
// else applies a change to the same pool.
func (r *reader) editor() string {
	path := filepath.Join(r.dir, "editor")
	const script = `#!/bin/sh -e
sed 's/maglev/rendezvous/; /version:/d' "$1" >"$1.theirs"
shunt apply -f "$1.theirs"
sed -i 's/maglev/ring_hash/' "$1"
`
	if err := os.WriteFile(path, []byte(script), 0o755); err != nil {
		r.t.Fatal(err)
	}
	return path
}
