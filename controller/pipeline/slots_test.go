package pipeline

import (
	"fmt"
	"net/netip"
	"testing"

	"github.com/shunt-sdn/shunt/controller/openflow"
	"github.com/shunt-sdn/shunt/internal/slots"
)

// homeOf returns the home of a connection from a port.
func homeOf(t *testing.T, groups []slotGroup, port uint16) string {
	t.Helper()
	home := ""
	for _, g := range groups {
		if port&g.mask == g.value {
			if home != "" {
				t.Fatalf("port %d has two homes", port)
			}
			home = g.node
		}
	}
	if home == "" {
		t.Fatalf("port %d has no home", port)
	}
	return home
}

func names(n int) (nodes []string) {
	for i := range n {
		nodes = append(nodes, fmt.Sprintf("dispatcher%d", i+1))
	}
	return nodes
}

func TestOneDispatcherNeedsOneFlow(t *testing.T) {
	groups := assign("web", names(1))
	if len(groups) != 1 || groups[0].mask != 0 {
		t.Errorf("groups %+v, want one without a mask", groups)
	}
}

func TestEveryPortHasOneHomeAndDispatchersShareThem(t *testing.T) {
	for n := 2; n <= 8; n++ {
		groups := assign("web", names(n))
		count := map[string]int{}
		for port := range 1 << 16 {
			count[homeOf(t, groups, uint16(port))]++
		}
		for _, node := range names(n) {
			if share := float64(count[node]) / (1 << 16) * float64(n); share < 0.3 || share > 2 {
				t.Errorf("%d dispatchers: %s has %.2f times its fair share", n, node, share)
			}
		}
		if len(groups) > slots.Count {
			t.Errorf("%d dispatchers take %d flows", n, len(groups))
		}
	}
}

func TestWhenADispatcherGoesOnlyItsConnectionsMove(t *testing.T) {
	all := names(4)
	before, after := assign("web", all), assign("web", all[:3])
	for port := uint16(0); port < 128; port++ {
		if was, is := homeOf(t, before, port), homeOf(t, after, port); was != all[3] && was != is {
			t.Errorf("port %d moved from %s to %s", port, was, is)
		}
	}
}

func TestHomesThatAreDownGetNoConnectionsUnlessAllAre(t *testing.T) {
	in := example(ovsFlows)
	a := netip.MustParseAddr
	in.Nodes = append(in.Nodes, Node{Name: "dispatcher2", MAC: mac(server2), Interface: 1, Port: 22})
	in.Services[0].Homes = append(in.Services[0].Homes, Home{Node: "dispatcher2", VIP: a("10.10.0.80"), Session: a("172.31.0.9")})
	for _, tt := range []struct {
		up1, up2 bool
		want     []string
	}{{true, false, []string{"172.31.0.1"}}, {false, true, []string{"172.31.0.9"}}, {true, true, []string{"172.31.0.1", "172.31.0.9"}}, {false, false, []string{"172.31.0.1", "172.31.0.9"}}} {
		in.Services[0].Homes[0].Up, in.Services[0].Homes[2].Up = tt.up1, tt.up2
		set := flowsOf(t, in)
		seen := map[string]bool{}
		for port := range 64 {
			p := segment(1, client1, gwClients, fmt.Sprintf("10.10.1.11:%d", 4000+2*port), "10.10.0.80:80", openflow.TCPSyn)
			for _, o := range walk(t, set, p) {
				seen[netip.AddrFrom4([4]byte(o.pkt[openflow.FieldIPv4Dst])).String()] = true
			}
		}
		if len(seen) != len(tt.want) {
			t.Errorf("up %v %v: homes %v, want %v", tt.up1, tt.up2, seen, tt.want)
		}
		for _, w := range tt.want {
			if !seen[w] {
				t.Errorf("up %v %v: homes %v, want %v", tt.up1, tt.up2, seen, tt.want)
			}
		}
	}
}
