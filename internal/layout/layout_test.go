package layout

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/shunt-sdn/shunt/"

type pkg struct {
	ImportPath, Doc, Dir string
	GoFiles, Imports     []string
	Deps                 []string
}

func packages(t *testing.T) []pkg {
	t.Helper()
	cmd := exec.Command("go", "list", "-json=ImportPath,Doc,Dir,GoFiles,Imports,Deps", "./...")
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	var all []pkg
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p pkg
		err := d.Decode(&p)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, p)
	}
}

// TestDependenciesPointOneWay: what may not be imported, by whom, and why.
func TestDependenciesPointOneWay(t *testing.T) {
	under := func(dirs ...string) func(string) bool {
		return func(path string) bool {
			return slices.ContainsFunc(dirs, func(d string) bool { return path == module+d || strings.HasPrefix(path, module+d+"/") })
		}
	}
	not := func(f func(string) bool) func(string) bool { return func(s string) bool { return !f(s) } }
	ours := func(s string) bool { return strings.HasPrefix(s, module) }
	rules := []struct {
		who       func(string) bool
		forbidden func(string) bool
		why       string
	}{
		{under("proto"), ours, "the API stands on nothing of ours"},
		{under("policy"), func(s string) bool { return ours(s) && !under("policy", "internal/nearest")(s) }, "the policy stands on nothing of ours, but for guesses at spelling"},
		{under("internal/nearest"), ours, "the policy imports it"},
		{under("controller"), under("agent", "handoff", "switchsim", "lab", "cmd"), "controller and agent meet only in the API"},
		{under("agent"), under("controller", "switchsim", "lab", "cmd"), "controller and agent meet only in the API"},
		{under("handoff"), not(func(s string) bool {
			return !ours(s) || under("handoff", "internal/handoffproto", "internal/httpframe")(s)
		}), "other people's servers import it"},
		{not(under("controller/openflow", "switchsim")), func(s string) bool { return strings.HasPrefix(s, "github.com/opencord/goloxi") }, "the OpenFlow codec stays where it is wrapped"},
		{not(under("agent", "internal/testnet")), func(s string) bool { return s == "github.com/cilium/ebpf" }, "only the guard is an eBPF program"},
	}
	for _, p := range packages(t) {
		for _, r := range rules {
			if !r.who(p.ImportPath) {
				continue
			}
			for _, imp := range p.Imports {
				if r.forbidden(imp) {
					t.Errorf("%s imports %s: %s", p.ImportPath, imp, r.why)
				}
			}
		}
	}
}

func TestEveryPackageSaysWhatItIsFor(t *testing.T) {
	for _, p := range packages(t) {
		if len(p.GoFiles) > 0 && p.Doc == "" {
			t.Errorf("%s has no package comment", p.ImportPath)
		}
	}
}

// TestRepairOptionsStayInTheirPackage: raw socket options that move connections
// are set in one place.
func TestRepairOptionsStayInTheirPackage(t *testing.T) {
	for _, p := range packages(t) {
		if p.ImportPath == module+"agent/tcprepair" {
			continue
		}
		for _, f := range p.GoFiles {
			b, err := os.ReadFile(filepath.Join(p.Dir, f))
			if err != nil {
				t.Fatal(err)
			}
			if bytes.Contains(b, []byte("unix.TCP_REPAIR")) || bytes.Contains(b, []byte("unix.SetsockoptInt(")) && strings.HasPrefix(p.ImportPath, module+"agent/dispatcher") {
				t.Errorf("%s/%s sets raw TCP options", p.ImportPath, f)
			}
		}
	}
}
