package e2e

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shunt-sdn/shunt/lab"
)

// With conntrack marks the switch learns from what the dispatcher sends on where a
// session is. No controller takes part.
func TestSessionsAreSteeredWithoutAController(t *testing.T) {
	never := time.Minute
	for _, kind := range []string{lab.SwitchSim, lab.SwitchOVS} {
		t.Run(kind, func(t *testing.T) {
			o := lab.Options{Switch: kind, Steering: "conntrack", IPv6: true, NICRate: 200_000_000, SteerAfter: &never}
			c := up(t, o)
			h := c.client("client1")
			for _, u := range c.urls("/bytes/1000") {
				if err := download(t.Context(), h, u, 1000); err != nil {
					t.Fatal(err)
				}
			}
			if err := c.Signal("controller", "controller", unix.SIGKILL); err != nil {
				t.Fatal(err)
			}
			const n = 20_000_000
			client, dispatcher := c.nicBytes("client1"), c.nicBytes("dispatcher1")
			urls := c.urls(fmt.Sprintf("/bytes/%d", n))
			errs := make([]error, len(urls))
			var wg sync.WaitGroup
			for i, u := range urls {
				wg.Go(func() { errs[i] = download(t.Context(), h, u, n) })
			}
			c.await(20*time.Second, func() string {
				if got := c.nicBytes("client1") - client; got < n/2 {
					return fmt.Sprintf("the client has %d octets", got)
				}
				return ""
			})
			crossed := c.nicBytes("dispatcher1") - dispatcher
			c.link("dispatcher1", "eth0", "down")
			wg.Wait()
			for i, err := range errs {
				if err != nil {
					t.Errorf("with the dispatcher's node gone: %s: %v", urls[i], err)
				}
			}
			// The requests, and three packets of each download.
			if crossed > 20_000 {
				t.Errorf("of two downloads %d octets crossed the dispatcher's interface", crossed)
			}
			t.Logf("%d octets crossed the dispatcher's interface", crossed)
		})
	}
}

// What the switch has learnt of a short session it forgets by itself, as it sees
// the end. Sessions too small for that leave nothing at all.
func TestTheSwitchForgetsWhatItHasLearnt(t *testing.T) {
	never := time.Minute
	c := up(t, lab.Options{Switch: lab.SwitchOVS, Steering: "conntrack", IPv6: true, SteerAfter: &never})
	h := c.client("client1")
	entries := func() (all, live int, last string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), "ovs-appctl", "dpctl/dump-conntrack")
		cmd.Env = append(cmd.Environ(), "OVS_RUNDIR="+filepath.Dir(strings.TrimPrefix(c.Info().Switch.OpenFlow, "unix:")))
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("ovs-appctl: %v: %s", err, out)
		}
		for line := range strings.Lines(string(out)) {
			if !strings.Contains(line, "dport=80") {
				continue
			}
			all++
			if strings.Contains(line, "state=ESTABLISHED") || !strings.Contains(line, "state=") {
				live, last = live+1, line
			}
		}
		return all, live, last
	}
	fetch := func(n int64, times int) {
		t.Helper()
		for range times {
			for _, u := range c.urls(fmt.Sprintf("/bytes/%d", n)) {
				if err := download(t.Context(), h, u, n); err != nil {
					t.Fatal(err)
				}
			}
		}
		c.settle()
	}
	fetch(100, 50)
	if all, _, _ := entries(); all > 0 {
		t.Errorf("the switch has %d entries after 100 small answers", all)
	}
	learnt := 0
	for _, n := range []int64{20_000, 30_000, 60_000, 300_000} {
		fetch(n, 25)
		all, live, last := entries()
		if live > 0 {
			t.Errorf("%d octets: the switch takes %d connections for alive that are over: %s", n, live, last)
		}
		learnt = all
	}
	if learnt < 100 {
		t.Errorf("the switch has learnt of %d connections of 200", learnt)
	}
}
