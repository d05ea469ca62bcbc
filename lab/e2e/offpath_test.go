package e2e

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shunt-sdn/shunt/lab"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// nicBytes is what a host's data interface has sent and received.
func (c *cluster) nicBytes(host string) int64 {
	c.t.Helper()
	var sum int64
	for _, dir := range []string{"rx", "tx"} {
		// Network namespaces made by hand see the sysfs of the mount namespace
		// that they are used in; /proc/net/dev is the thread's own.
		for line := range strings.Lines(c.exec(host, "cat", "/proc/net/dev")) {
			f := strings.Fields(line)
			if len(f) < 10 || f[0] != "eth0:" {
				continue
			}
			n, err := strconv.ParseInt(f[map[string]int{"rx": 1, "tx": 9}[dir]], 10, 64)
			if err != nil {
				c.t.Fatal(err)
			}
			sum += n
		}
	}
	return sum
}

func TestTheDispatcherIsOutOfThePathOfADownload(t *testing.T) {
	for _, o := range kinds {
		t.Run(o.Switch+" "+o.Steering, func(t *testing.T) {
			c := up(t, o)
			const n = 200_000_000
			before := c.nicBytes("dispatcher1")
			if err := download(t.Context(), c.client("client1"), c.urls(fmt.Sprintf("/bytes/%d", n))[0], n); err != nil {
				t.Fatal(err)
			}
			if crossed := c.nicBytes("dispatcher1") - before; crossed > n/100 {
				t.Errorf("of a download of %d octets %d crossed the dispatcher's interface", n, crossed)
			} else {
				t.Logf("%d of %d octets crossed the dispatcher's interface", crossed, n)
			}
		})
	}
}

func TestDownloadsSurviveTheDispatchersDeath(t *testing.T) {
	for _, o := range kinds {
		t.Run(o.Switch+" "+o.Steering, func(t *testing.T) {
			o.NICRate = 200_000_000 // so that they are still running then
			c := up(t, o)
			const n, downloads = 20_000_000, 20
			h := c.client("client1")
			before := c.status().HandoffsCompleted
			errs := make([]error, downloads)
			var wg sync.WaitGroup
			for i := range downloads {
				wg.Go(func() { errs[i] = download(t.Context(), h, c.urls(fmt.Sprintf("/bytes/%d", n))[0], n) })
			}
			// A SYN that the full NIC drops comes again after 1, 3 and 7 s.
			c.await(15*time.Second, func() string {
				if n := c.status().HandoffsCompleted - before; n < downloads {
					return fmt.Sprintf("%d of %d downloads are handed off", n, downloads)
				}
				return ""
			})
			live := 0
			for _, s := range c.sessions() {
				if s.Path == shuntv1.Path_PATH_SWITCHED || s.Path == shuntv1.Path_PATH_DIVERTED {
					live++
				}
			}
			if live < downloads/2 {
				t.Fatalf("only %d of %d downloads still run", live, downloads)
			}
			if err := c.Signal("dispatcher1", "agent", unix.SIGKILL); err != nil {
				t.Fatal(err)
			}
			wg.Wait()
			for i, err := range errs {
				if err != nil {
					t.Errorf("download %d: %v", i, err)
				}
			}
			// And the agent starts again, on what the killed one left.
			if err := c.Start("dispatcher1", "agent"); err != nil {
				t.Fatal(err)
			}
			c.await(20*time.Second, func() string {
				if err := download(t.Context(), h, c.urls("/bytes/1000")[0], 1000); err != nil {
					return err.Error()
				}
				return ""
			})
		})
	}
}

func TestSessionsSurviveEveryDaemon(t *testing.T) {
	for _, victim := range []struct {
		host, daemon string
		signal       unix.Signal
	}{
		{"controller", "controller", unix.SIGKILL},
		{"controller", "controller", unix.SIGTERM},
		{"server1", "agent", unix.SIGKILL},
		{"server1", "agent", unix.SIGTERM},
		{"dispatcher1", "agent", unix.SIGTERM},
	} {
		t.Run(fmt.Sprintf("%s of %s's %s", unix.SignalName(victim.signal), victim.host, victim.daemon), func(t *testing.T) {
			c := up(t, lab.Options{Switch: lab.SwitchOVS, Servers: 1, NICRate: 200_000_000})
			const n = 30_000_000
			h := c.client("client1")
			done := make(chan error, 1)
			go func() { done <- download(t.Context(), h, c.urls(fmt.Sprintf("/bytes/%d", n))[0], n) }()
			c.await(10*time.Second, func() string {
				for _, s := range c.sessions() {
					if s.Path == shuntv1.Path_PATH_SWITCHED {
						return ""
					}
				}
				return "no session is switched"
			})
			if err := c.Signal(victim.host, victim.daemon, victim.signal); err != nil {
				t.Fatal(err)
			}
			if err := c.WaitExit(t.Context(), victim.host, victim.daemon); err != nil {
				t.Fatal(err)
			}
			if err := c.Start(victim.host, victim.daemon); err != nil {
				t.Fatal(err)
			}
			if err := <-done; err != nil {
				t.Errorf("the download broke: %v", err)
			}
			c.await(20*time.Second, func() string {
				before, err := c.operator.GetStatus(t.Context(), &shuntv1.GetStatusRequest{})
				if err != nil {
					return err.Error()
				}
				if err := download(t.Context(), h, c.urls("/bytes/1000")[0], 1000); err != nil {
					return err.Error()
				}
				after, err := c.operator.GetStatus(t.Context(), &shuntv1.GetStatusRequest{})
				if err != nil {
					return err.Error()
				}
				for range 25 { // the account comes a moment after the answer
					if after.HandoffsCompleted != before.HandoffsCompleted {
						return ""
					}
					<-time.After(20 * time.Millisecond)
					if after, err = c.operator.GetStatus(t.Context(), &shuntv1.GetStatusRequest{}); err != nil {
						return err.Error()
					}
				}
				return "requests succeed, but none is handed off"
			})
		})
	}
}
