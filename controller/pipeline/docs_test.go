package pipeline

import (
	"flag"
	"fmt"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/shunt-sdn/shunt/controller/openflow"
)

const docs = "../../docs/flow-tables.md"

var update = flag.Bool("update", false, "write the listings of docs/flow-tables.md anew")

// documented is the network whose flows docs/flow-tables.md lists.
func documented(f Features) Input {
	in := example(f)
	in.Services = in.Services[:1]
	in.Services[0].VIPs, in.Services[0].Homes = in.Services[0].VIPs[:1], in.Services[0].Homes[:1]
	in.Interfaces[0].Ports, in.Interfaces[1].Ports = []uint32{1, 2}, []uint32{11, 21}
	in.Nodes, in.Pools, in.Routes, in.Leases = in.Nodes[:2], in.Pools[:1], in.Routes[:1], in.Leases[:1]
	in.Interfaces[1].Addresses, in.Interfaces[1].Others = in.Interfaces[1].Addresses[:1], nil
	in.Neighbours = slices.DeleteFunc(in.Neighbours, func(n Neighbour) bool { return n.Addr.Is6() })
	return in
}

func listing(t *testing.T, f Features) []openflow.Flow {
	set := flowsOf(t, documented(f))
	if !f.Conntrack {
		s := SessionFlow(netip.MustParseAddrPort("10.10.1.11:40000"), netip.MustParseAddrPort("10.10.0.80:80"), netip.MustParseAddr("172.31.0.1"), documented(f).Nodes[1])
		set[KeyOf(s)] = s
	}
	return set.Sorted()
}

// render returns the flows of a table, one a line, without what they have in common.
func render(flows []openflow.Flow, table uint8) string {
	var b strings.Builder
	for _, f := range flows {
		if f.Table == table {
			_, s, _ := strings.Cut(openflow.FormatFlow(f), fmt.Sprintf("table=%d,", table))
			b.WriteString(s + "\n")
		}
	}
	return b.String()
}

// TestTheDocumentedTablesAreTheRealOnes compares every listing of
// docs/flow-tables.md, which starts with a line such as "```flows 104 conntrack",
// with the pipeline's. go test ./controller/pipeline -run Documented -update
// writes them anew.
func TestTheDocumentedTablesAreTheRealOnes(t *testing.T) {
	text, err := os.ReadFile(docs)
	if err != nil {
		t.Fatal(err)
	}
	givenUp := documented(ovsFlows)
	givenUp.Fences = []Fence{{"dispatcher1", mac(dispatcher)}}
	modes := map[string][]openflow.Flow{
		"flows": listing(t, ovsFlows), "conntrack": listing(t, ovsConntrack), "given-up": flowsOf(t, givenUp).Sorted(),
	}
	shown := map[uint8]bool{}
	var out strings.Builder
	rest := string(text)
	for {
		before, after, found := strings.Cut(rest, "```flows ")
		out.WriteString(before)
		if !found {
			break
		}
		head, after, _ := strings.Cut(after, "\n")
		have, after, closed := strings.Cut(after, "```")
		var table uint8
		var mode string
		if _, err := fmt.Sscanf(head, "%d %s", &table, &mode); err != nil || !closed || modes[mode] == nil {
			t.Fatalf("listing %q: want a table and flows or conntrack", head)
		}
		shown[table] = true
		want := render(modes[mode], table)
		if diff := cmp.Diff(want, have); diff != "" && !*update {
			t.Errorf("table %d, %s: %s", table, mode, diff)
		}
		fmt.Fprintf(&out, "```flows %s\n%s```", head, want)
		rest = after
	}
	for _, flows := range modes {
		for _, f := range flows {
			if !shown[f.Table] {
				t.Errorf("table %d is not in %s", f.Table, docs)
				shown[f.Table] = true
			}
		}
	}
	if *update {
		if err := os.WriteFile(docs, []byte(out.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
