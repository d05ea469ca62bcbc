package e2e

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shunt-sdn/shunt/lab"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// A server that is silent for long enough is taken for dead, and others answer
// its requests. When it turns out to be alive nothing of its own answers may
// reach a client: not before its agent has ended them, nor after.
func TestAServerThatWasOnlySilentSpoilsNoAnswerOfOthers(t *testing.T) {
	for _, steering := range []string{"conntrack", "flows"} {
		t.Run(steering, func(t *testing.T) {
			c := up(t, lab.Options{Switch: lab.SwitchOVS, Steering: steering, IPv6: true})
			c.fallSilent("server1")
		})
	}
}

// fallSilent has nothing come from a server, though it hears and works, until
// others answer for it.
func (c *cluster) fallSilent(server string) {
	links := []string{lab.DataLink, lab.ManagementLink}
	for _, link := range links {
		c.exec(server, "tc", "qdisc", "replace", "dev", link, "root", "blackhole")
	}
	var asked sync.WaitGroup
	defer asked.Wait()
	ctx, cancel := context.WithCancel(c.t.Context())
	defer cancel()
	const n = 12
	for i := range n {
		asked.Go(func() {
			// Its own answer is ready soon after it is given up, the others' long after.
			if node, err := c.fetch(ctx, c.urls("/slow?ms=8000")[i%2]); err != nil || node == server {
				c.t.Errorf("request %d is answered by %q, %v", i, node, err)
			}
		})
	}
	c.await(5*time.Second, func() string {
		if got := c.connections(server); got == 0 {
			return server + " has got no request"
		}
		return ""
	})
	held := c.connections(server)
	// It cannot end them before its answers come.
	if err := c.Signal(server, "agent", unix.SIGSTOP); err != nil {
		c.t.Fatal(err)
	}
	c.await(15*time.Second, func() string {
		if !c.node(server).GetGivenUp() {
			return server + " is not given up"
		}
		return ""
	})
	for _, link := range links {
		c.exec(server, "tc", "qdisc", "del", "dev", link, "root")
	}
	var stopped uint64
	c.await(10*time.Second, func() string {
		if stopped = c.stopped(); stopped == 0 {
			return "the switch has stopped none of its answers"
		}
		return ""
	})
	if got := c.connections(server); got != held {
		c.t.Errorf("%s had %d sessions, and has %d", server, held, got)
	}
	if err := c.Signal(server, "agent", unix.SIGCONT); err != nil {
		c.t.Fatal(err)
	}
	c.await(20*time.Second, func() string {
		switch {
		case !c.isUp(server) || c.node(server).GetGivenUp():
			return server + " is not up again"
		case c.connections(server) > 0:
			return server + " still has sessions of before"
		case len(c.fenceFlows()) > 0:
			return "the switch still has flows that keep it out"
		}
		return ""
	})
	asked.Wait()
	c.await(5*time.Second, func() string {
		if node, err := c.fetch(ctx, c.urls("/whoami")[0]); err != nil || node != server {
			return fmt.Sprintf("a new request is answered by %q, %v", node, err)
		}
		return ""
	})
	c.t.Logf("%s had %d of %d requests; the switch stopped %d packets of its answers", server, held, n, stopped)
}

// connections counts the clients' connections that a server's kernel has.
func (c *cluster) connections(server string) (n int) {
	c.t.Helper()
	for line := range strings.Lines(c.exec(server, "ss", "-Htn")) {
		fields := strings.Fields(line) // state, queues, local, peer
		peer, err := netip.ParseAddrPort(fields[4])
		if err != nil {
			c.t.Fatalf("ss says %q: %v", line, err)
		}
		for _, h := range c.Info().Hosts {
			if h.Role == lab.RoleClient && slices.Contains(h.Addresses, peer.Addr().Unmap()) {
				n++
			}
		}
	}
	return n
}

// fenceFlows are the flows that keep a node's replies from clients.
func (c *cluster) fenceFlows() (all []*shuntv1.FlowInfo) {
	c.t.Helper()
	r, err := c.operator.ListFlows(c.t.Context(), &shuntv1.ListFlowsRequest{})
	if err != nil {
		c.t.Fatal(err)
	}
	for _, f := range r.Flows {
		if f.Table == 101 && strings.Contains(f.Match, "dl_src=") {
			all = append(all, f)
		}
	}
	return all
}

// stopped counts the packets that were kept from clients.
func (c *cluster) stopped() (packets uint64) {
	c.t.Helper()
	for _, f := range c.fenceFlows() {
		packets += f.Packets
	}
	return packets
}
