package openflow_test

import (
	"bytes"
	"encoding/hex"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	of "github.com/shunt-sdn/shunt/controller/openflow"
	"github.com/shunt-sdn/shunt/internal/testnet"
)

var update = flag.Bool("update", false, "rewrite testdata/golden.txt from the encoders and ovs-ofctl")

const goldenFile = "testdata/golden.txt"

// A golden is an encoding and how ovs-ofctl prints it.
type golden struct{ name, hex, printed string }

// readGolden parses the file: "# name", lines of hex, "> " lines as printed.
func readGolden(t *testing.T) []golden {
	t.Helper()
	file, err := os.ReadFile(goldenFile)
	if err != nil {
		t.Fatal(err)
	}
	var all []golden
	for line := range strings.Lines(string(file)) {
		line = strings.TrimRight(line, "\n")
		if name, ok := strings.CutPrefix(line, "# "); ok {
			all = append(all, golden{name: name})
			continue
		}
		if len(all) == 0 {
			continue
		}
		g := &all[len(all)-1]
		if text, ok := strings.CutPrefix(line, ">"); ok {
			g.printed += strings.TrimPrefix(text, " ") + "\n"
		} else {
			g.hex += line
		}
	}
	return all
}

// ofPrint is what ovs-ofctl makes of one message.
func ofPrint(t *testing.T, m of.Message) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "message")
	if err := os.WriteFile(file, m, 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "ovs-ofctl", "ofp-parse", file).CombinedOutput()
	if err != nil {
		t.Fatalf("ovs-ofctl ofp-parse: %v\n%s", err, out)
	}
	return string(out)
}

func TestEncodingsAreGolden(t *testing.T) {
	want := map[string][]string{}
	if !*update {
		for _, g := range readGolden(t) {
			want[g.name] = append(want[g.name], g.hex)
		}
	}
	got := map[string][]string{}
	for _, s := range samples(t) {
		got[s.name] = append(got[s.name], hex.EncodeToString(s.msg))
	}
	if *update {
		writeGolden(t)
		return
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("encodings changed (go test -run Golden -update writes them anew):\n%s", diff)
	}
}

func writeGolden(t *testing.T) {
	t.Helper()
	var b bytes.Buffer
	for _, s := range samples(t) {
		fmt.Fprintf(&b, "# %s\n", s.name)
		h := hex.EncodeToString(s.msg)
		for len(h) > 96 {
			fmt.Fprintln(&b, h[:96])
			h = h[96:]
		}
		fmt.Fprintln(&b, h)
		for line := range strings.Lines(ofPrint(t, s.msg)) {
			b.WriteString(strings.TrimRight("> "+line, " \n") + "\n")
		}
	}
	if err := os.MkdirAll(filepath.Dir(goldenFile), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(goldenFile, b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

func TestGoldenEncodingsAreWhatOpenVSwitchReads(t *testing.T) {
	testnet.NeedProgram(t, "ovs-ofctl")
	trim := func(s string) string {
		var b strings.Builder
		for line := range strings.Lines(s) {
			b.WriteString(strings.TrimRight(line, " \n") + "\n")
		}
		return b.String()
	}
	for _, g := range readGolden(t) {
		m, err := hex.DecodeString(g.hex)
		if err != nil {
			t.Fatalf("%s: %v", g.name, err)
		}
		printed := ofPrint(t, m)
		if strings.Contains(printed, "decode error") {
			t.Errorf("%s: %s", g.name, printed)
		}
		if diff := cmp.Diff(g.printed, trim(printed)); diff != "" {
			t.Errorf("%s:\n%s", g.name, diff)
		}
	}
}

// ovs-ofctl reads our notation of a flow as the flow that we encode.
func TestNotationIsOvsOfctls(t *testing.T) {
	testnet.NeedProgram(t, "ovs-ofctl")
	for _, s := range samples(t) {
		if s.msg.Type() != of.TypeFlowMod {
			continue
		}
		fm, err := of.ParseFlowMod(s.msg)
		if err != nil {
			t.Errorf("%s: %v", s.name, err)
			continue
		}
		if fm.Command != of.Add || fm.Flags != 0 {
			continue
		}
		text := of.FormatFlow(fm.Flow)
		out, err := exec.CommandContext(t.Context(), "ovs-ofctl", "-O", "OpenFlow13", "parse-flow", text).CombinedOutput()
		if err != nil {
			t.Errorf("%s: ovs-ofctl parse-flow %q: %v\n%s", s.name, text, err, out)
			continue
		}
		_, got, _ := strings.Cut(string(out), "OFPT_FLOW_MOD")
		_, got, _ = strings.Cut(got, "): ")
		_, want, _ := strings.Cut(ofPrint(t, s.msg), "): ")
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("%s: ovs-ofctl reads %q differently:\n%s", s.name, text, diff)
		}
	}
}
