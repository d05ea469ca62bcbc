package main

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const small = `link:
  port: server1
  mac: "02:53:48:00:03:01"
  addresses: [10.10.2.101/24, "fd10:2::101/64"]
  gateways: [10.10.2.1, "fd10:2::1"]
run:
- {command: [sleep, infinity], user: nobody, environment: {A: b}}
`

func TestANodesFileIsReadAsWritten(t *testing.T) {
	got, err := parseNode("node.yaml", []byte(small))
	if err != nil {
		t.Fatal(err)
	}
	want := node{
		Link: link{
			Port: "server1", MAC: "02:53:48:00:03:01",
			Addresses: []netip.Prefix{netip.MustParsePrefix("10.10.2.101/24"), netip.MustParsePrefix("fd10:2::101/64")},
			Gateways:  []netip.Addr{netip.MustParseAddr("10.10.2.1"), netip.MustParseAddr("fd10:2::1")},
		},
		Run: []program{{Command: []string{"sleep", "infinity"}, User: "nobody", Environment: map[string]string{"A": "b"}}},
	}
	if diff := cmp.Diff(want, got, cmp.Comparer(func(a, b netip.Addr) bool { return a == b }), cmp.Comparer(func(a, b netip.Prefix) bool { return a == b })); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
}

func TestMistakesInANodesFileAreNamed(t *testing.T) {
	for _, c := range []struct{ name, old, new, want string }{
		{"unknown field", "port:", "prot:", "field prot not found"},
		{"no port", "  port: server1\n", "", "link.port is missing"},
		{"wrong MAC", "02:53:48:00:03:01", "02", "link.mac: "},
		{"wrong address", "10.10.2.101/24", "10.10.2.101", "10.10.2.101"},
		{"no addresses", `  addresses: [10.10.2.101/24, "fd10:2::101/64"]`, "", "link.addresses is missing"},
		{"nothing to run", "run:\n- {command: [sleep, infinity], user: nobody, environment: {A: b}}\n", "", "run is missing"},
		{"no command", "command: [sleep, infinity], ", "", "run[0].command is missing"},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := strings.Replace(small, c.old, c.new, 1)
			if text == small {
				t.Fatalf("%q is not in the file", c.old)
			}
			if _, err := parseNode("node.yaml", []byte(text)); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("%v, want %q in it", err, c.want)
			}
		})
	}
}

func TestTheLabsFilesAreRight(t *testing.T) {
	files, err := filepath.Glob("../config/*/node.yaml")
	if err != nil || len(files) != 6 {
		t.Fatalf("%v, %v; want six files", files, err)
	}
	ports, macs := map[string]bool{}, map[string]bool{}
	for _, f := range files {
		n, err := loadNode(f)
		if err != nil {
			t.Error(err)
			continue
		}
		if want := filepath.Base(filepath.Dir(f)); n.Link.Port != want || ports[n.Link.Port] || macs[n.Link.MAC] {
			t.Errorf("%s: port %s and MAC %s; want port %s, and each once", f, n.Link.Port, n.Link.MAC, want)
		}
		ports[n.Link.Port], macs[n.Link.MAC] = true, true
		if _, err := os.Stat(filepath.Join(filepath.Dir(f), "agent.yaml")); err != nil && n.Link.Port != "client" {
			t.Error(err)
		}
	}
}

func FuzzParseNode(f *testing.F) {
	f.Add([]byte(small))
	f.Add([]byte("run: [{command: [a]}]"))
	f.Fuzz(func(t *testing.T, text []byte) {
		n, err := parseNode("node.yaml", text)
		if err == nil && (n.Link.Port == "" || len(n.Run) == 0) {
			t.Errorf("accepted %q", text)
		}
	})
}
