package fabric

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"testing"
	"time"

	"github.com/shunt-sdn/shunt/controller/openflow"
)

// fence sets a topology in which a node is fenced, or not, and waits for it.
func (r *rig) fence(node string, fenced bool) {
	r.t.Helper()
	top := r.topology()
	for i := range top.Nodes {
		top.Nodes[i].Fenced = fenced && top.Nodes[i].Name == node
	}
	r.fabric.SetTopology(top)
	ctx, cancel := context.WithTimeout(r.t.Context(), 5*time.Second)
	defer cancel()
	if err := r.fabric.Follow(ctx); err != nil {
		r.t.Fatal(err)
	}
}

func TestNothingOfAFencedNodeReachesAClient(t *testing.T) {
	onEach(t, func(t *testing.T, r *rig, m Mode) {
		r.start(m)
		client := r.hosts["client1"].tap(t)
		// A kernel that knows no connection resets it.
		ofNode := map[string]uint8{"server1": openflow.TCPAck, "server2": openflow.TCPFin | openflow.TCPAck, "dispatcher1": openflow.TCPPsh | openflow.TCPAck}
		reply := func(f family, node string) {
			h := r.hosts[node]
			h.tap(t).send(ack(h.mac, mustMAC(gwNodes), netip.MustParseAddrPort(f.session), netip.AddrPortFrom(netip.MustParseAddr(f.client), 4000), ofNode[node]))
		}
		arrives := func(f family, node string, patience time.Duration) error {
			s := client.next(80, patience)
			if s == nil {
				return errors.New("nothing arrives")
			}
			if s.src.String() != f.vip || s.flags != ofNode[node] {
				return fmt.Errorf("%+v arrives", s)
			}
			return nil
		}
		r.fence("server1", true)
		for _, f := range families {
			for _, node := range []string{"server2", "dispatcher1"} {
				reply(f, "server1")
				reply(f, node)
				if err := arrives(f, node, 5*time.Second); err != nil {
					t.Errorf("%s, server1 is fenced, %s replies: %v", f.name, node, err)
				}
			}
		}
		// A home's own sessions were not given up.
		r.fence("dispatcher1", true)
		for _, f := range families {
			reply(f, "dispatcher1")
			if err := arrives(f, "dispatcher1", 5*time.Second); err != nil {
				t.Errorf("%s, dispatcher1 is fenced and replies: %v", f.name, err)
			}
			// What the switch has cached follows its flows later.
			eventually(t, "server1 is let in again", func() error {
				reply(f, "server1")
				return arrives(f, "server1", 100*time.Millisecond)
			})
		}
	})
}

func TestFollowingATopologyIsAMatterOfTheSwitchesThatAreThere(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.start(ExactFlow)
	follow := func() error {
		ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
		defer cancel()
		return r.fabric.Follow(ctx)
	}
	goOn := r.ovs.Suspend()
	if err := follow(); err != nil {
		t.Errorf("it has followed before: %v", err)
	}
	top := r.topology()
	top.Nodes[1].Fenced = true
	r.fabric.SetTopology(top)
	if err := follow(); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a switch that hangs: %v", err)
	}
	goOn()
	eventually(t, "the switch follows", follow)
	r.sw.Kill()
	eventually(t, "the switch is away", func() error {
		if r.fabric.Status()[0].Connected {
			return errors.New("it is connected")
		}
		return nil
	})
	r.fabric.SetTopology(r.topology())
	if err := follow(); err != nil {
		t.Errorf("a switch that is away: %v", err)
	}
}
