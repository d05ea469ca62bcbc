package packaging

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/shunt-sdn/shunt/internal/pages"
	"github.com/shunt-sdn/shunt/internal/testnet"
)

// blocks returns the pages' blocks for some places, in their order.
func blocks(t testing.TB, places ...string) (all []pages.Block) {
	t.Helper()
	read, err := pages.Read("..")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range read {
		for _, b := range p.Blocks {
			if b.Runs(places...) {
				all = append(all, b)
			}
		}
	}
	if len(all) == 0 {
		t.Fatalf("there are no commands for %v", places)
	}
	return all
}

var made = regexp.MustCompile(`(?m)^[0-9a-f]{64}  (dist/shunt_\S+)$`)

// TestThePagesOfThePackage makes packages as the pages say, and runs on a Debian
// what they have for one, in the directory where the package is.
func TestThePagesOfThePackage(t *testing.T) {
	testnet.NeedRoot(t)
	testnet.NeedProgram(t, "make", "cc", "nginx")
	h := newHost(t, "debian")
	for _, b := range blocks(t, "build") {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", b.Text)
		cmd.Dir = ".."
		begun := time.Now()
		out, err := cmd.CombinedOutput()
		t.Logf("%s: %v", b.At(), time.Since(begun).Round(time.Millisecond))
		if err != nil {
			t.Fatalf("%s: %s\n%v\n%s", b.At(), b.Text, err, out)
		}
		for _, m := range made.FindAllStringSubmatch(string(out), -1) {
			body, err := os.ReadFile(filepath.Join("..", m[1]))
			if err != nil {
				t.Fatal(err)
			}
			if filepath.Ext(m[1]) == ".deb" {
				h.write(filepath.Join("/root", filepath.Base(m[1])), body)
			}
		}
	}
	for _, b := range blocks(t, "debian") {
		begun := time.Now()
		for _, s := range b.Steps() {
			out := h.run("cd /root\n" + s.Script)
			t.Logf("%s: %v\n%s", b.At(), time.Since(begun).Round(time.Millisecond), out[max(0, len(out)-512):])
			if missing := s.Missing(out); missing != "" {
				t.Errorf("%s: %s\nit does not say %q:\n%s", b.At(), s.Script, missing, out)
			}
		}
	}
	// As docs/preload.md has it.
	h.eventually("nginx waits for sessions", func() error {
		_, err := h.try("test -S /run/shunt/web.sock")
		return err
	})
}

// rotated is what logrotate is told to do after it has moved an access log.
func rotated(t testing.TB) string {
	t.Helper()
	read, err := pages.Read("..")
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range read {
		for _, b := range p.Blocks {
			if b.Language == "logrotate" {
				_, script, _ := strings.Cut(b.Text, "postrotate\n")
				script, _, found := strings.Cut(script, "endscript")
				if !found {
					t.Fatalf("%s: there is no script after a rotation", b.At())
				}
				return script
			}
		}
	}
	t.Fatal("no page has a configuration for logrotate")
	return ""
}
