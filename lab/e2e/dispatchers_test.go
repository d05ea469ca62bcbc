package e2e

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shunt-sdn/shunt/lab"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// A dispatcher that stops and comes back takes no request with it, neither its own
// nor those of the other one, whose connections the switch sends to the wrong
// one then: answers that a dispatcher copies are such for as long as they last.
func TestDispatchersComeAndGo(t *testing.T) {
	for _, steering := range []string{"conntrack", "flows"} {
		t.Run(steering, func(t *testing.T) {
			c := up(t, lab.Options{Switch: lab.SwitchOVS, Steering: steering, Dispatchers: 2, IPv6: true})
			c.policy("services: [{name: web, routes: [{name: copied, match: {paths: [{prefix: /sse}]}, pool: all, mode: proxy}], defaultPool: all}]\n" +
				"pools: [{name: all, members: [{server: server1}, {server: server2}, {server: server3}]}]\n")
			c.stops("dispatcher2")
			const lines = 80
			streams := c.streams(t.Context(), 24, lines) // all by dispatcher1
			c.underLoad(func() {
				for range 3 {
					c.starts("dispatcher2")
					c.handsOff("dispatcher2")
					c.stops("dispatcher2")
				}
			})
			for i, s := range streams {
				if <-s.over; s.err != nil {
					t.Errorf("stream %d: %v", i, s.err)
				}
			}
			c.underLoad(func() {
				c.starts("dispatcher2")
				c.handsOff("dispatcher2")
				for _, d := range []string{"dispatcher1", "dispatcher2"} {
					c.stops(d)
					c.starts(d)
					c.handsOff(d)
				}
			})
		})
	}
}

// A dispatcher's agent that is killed takes with it the connections that it has
// not handed off, and no others, although the switch does not know the sessions:
// its guard has them. Nor is a connection refused.
func TestADispatchersAgentIsKilledBesideAnother(t *testing.T) {
	never := time.Minute
	c := up(t, lab.Options{Switch: lab.SwitchOVS, Steering: "conntrack", Dispatchers: 2, IPv6: true, SteerAfter: &never})
	streams := c.streams(t.Context(), 24, 60)
	ctx, cancel := context.WithCancel(t.Context())
	var dialling sync.WaitGroup
	var refused atomic.Int32
	dial := c.Dial("client1")
	for _, vip := range c.Service().VIPs() {
		dialling.Go(func() {
			for ctx.Err() == nil {
				conn, err := dial(ctx, "tcp", netip.AddrPortFrom(vip, c.Service().Port).String())
				switch {
				case err == nil:
					conn.Close()
				case errors.Is(err, unix.ECONNREFUSED):
					refused.Add(1)
				}
				time.Sleep(2 * time.Millisecond)
			}
		})
	}
	for range 2 {
		if err := c.Signal("dispatcher1", "agent", unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
		if err := c.WaitExit(ctx, "dispatcher1", "agent"); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Second) // in which each stream has its client acknowledge ten lines
		c.starts("dispatcher1")
	}
	cancel()
	dialling.Wait()
	if n := refused.Load(); n > 0 {
		t.Errorf("%d connections were refused", n)
	}
	for i, s := range streams {
		if <-s.over; s.err != nil {
			t.Errorf("stream %d: %v", i, s.err)
		}
	}
}

// stops ends an agent as a service manager does.
func (c *cluster) stops(host string) {
	c.t.Helper()
	if err := c.Signal(host, "agent", unix.SIGTERM); err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(c.t.Context(), 15*time.Second)
	defer cancel()
	if err := c.WaitExit(ctx, host, "agent"); err != nil {
		c.t.Fatal(err)
	}
}

func (c *cluster) starts(host string) {
	c.t.Helper()
	if err := c.Start(host, "agent"); err != nil {
		c.t.Fatal(err)
	}
}

// handsOff waits until a dispatcher has handed off requests since it is up.
func (c *cluster) handsOff(dispatcher string) {
	c.t.Helper()
	begun := time.Now()
	c.await(15*time.Second, func() string {
		r, err := c.operator.ListHandoffs(c.t.Context(), &shuntv1.ListHandoffsRequest{Limit: 50})
		if err != nil {
			return err.Error()
		}
		for _, h := range r.Handoffs {
			if h.FromNode == dispatcher && h.StartedUnixNano > begun.UnixNano() {
				return ""
			}
		}
		return fmt.Sprintf("%s has handed off nothing", dispatcher)
	})
}
