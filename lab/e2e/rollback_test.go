package e2e

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shunt-sdn/shunt/internal/testnet"
	"github.com/shunt-sdn/shunt/lab"
)

// burst sends n small requests at once and returns how many failed.
func (c *cluster) burst(n int) (wait func() []error) {
	h := c.client("client1")
	errs := make([]error, n)
	var wg sync.WaitGroup
	for i := range n {
		wg.Go(func() { errs[i] = download(c.t.Context(), h, c.urls("/bytes/3000")[0], 3000) })
	}
	return func() []error {
		wg.Wait()
		var failed []error
		for _, err := range errs {
			if err != nil {
				failed = append(failed, err)
			}
		}
		return failed
	}
}

func (c *cluster) noneFailed(failed []error) {
	c.t.Helper()
	for _, err := range failed[:min(len(failed), 5)] {
		c.t.Errorf("one of %d failed requests: %v", len(failed), err)
	}
	if s := c.status(); s.HandoffsFailed != 0 {
		c.t.Errorf("%d hand-offs failed", s.HandoffsFailed)
	}
}

// An application that does not take its sessions has the rest refused, which
// other servers then serve.
func TestARefusedImportGoesToAnotherServer(t *testing.T) {
	c := up(t, lab.Options{Switch: lab.SwitchOVS})
	if err := c.Signal("server1", "app", unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	wait := c.burst(1500)
	c.await(30*time.Second, func() string {
		if c.status().HandoffsRolledBack == 0 {
			return "no hand-off was taken back"
		}
		return ""
	})
	if err := c.Signal("server1", "app", unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	c.noneFailed(wait())
	t.Logf("%d hand-offs were taken back", c.status().HandoffsRolledBack)
}

// An agent that is stopped, and goes on after the deadline, refuses then.
func TestAnImportThatTimesOutGoesToAnotherServer(t *testing.T) {
	c := up(t, lab.Options{Switch: lab.SwitchOVS})
	for _, stopped := range []time.Duration{
		2500 * time.Millisecond, // past the deadline of an import, which is 1 s
		7 * time.Second,         // and past the patience of the link, which is 3 s
	} {
		t.Run(fmt.Sprint(stopped), func(t *testing.T) {
			c := &cluster{c.Lab, t, c.operator}
			before := c.status().HandoffsRolledBack
			if err := c.Signal("server1", "agent", unix.SIGSTOP); err != nil {
				t.Fatal(err)
			}
			wait := c.burst(12)
			select {
			case <-time.After(stopped):
			case <-t.Context().Done():
			}
			if err := c.Signal("server1", "agent", unix.SIGCONT); err != nil {
				t.Fatal(err)
			}
			c.noneFailed(wait())
			c.await(5*time.Second, func() string {
				if s := c.status(); s.HandoffsRolledBack == before {
					return fmt.Sprintf("no hand-off was taken back: %v", s)
				}
				return ""
			})
		})
	}
}

// Answers that are lost are asked for: no session is served twice or dropped.
func TestALostAnswerIsAskedFor(t *testing.T) {
	testnet.NeedProgram(t, "nft")
	c := up(t, lab.Options{Switch: lab.SwitchOVS})
	before := c.status()
	c.exec("dispatcher1", "nft", "add table inet lost; add chain inet lost in { type filter hook input priority 0; }; add rule inet lost in iifname mgmt0 ip saddr 10.99.0.101-10.99.0.103 drop")
	wait := c.burst(12)
	select {
	case <-time.After(1500 * time.Millisecond):
	case <-t.Context().Done():
	}
	c.exec("dispatcher1", "nft", "delete table inet lost")
	c.noneFailed(wait())
	c.await(10*time.Second, func() string {
		if s := c.status(); s.HandoffsCompleted < before.HandoffsCompleted+12 {
			return fmt.Sprintf("not all completed: %v", s)
		}
		return ""
	})
}

// Without any server that takes sessions the dispatcher is a plain proxy, and
// without one that takes connections it says so.
func TestTheLastResortsAreAProxyAndA503(t *testing.T) {
	c := up(t, lab.Options{Servers: 1})
	if err := c.Signal("server1", "agent", unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := c.WaitExit(t.Context(), "server1", "agent"); err != nil {
		t.Fatal(err)
	}
	c.await(15*time.Second, func() string {
		before := c.status().RequestsProxied
		if err := download(t.Context(), c.client("client1"), c.urls("/bytes/500000")[0], 500000); err != nil {
			return err.Error()
		}
		for range 100 {
			if c.status().RequestsProxied > before {
				return ""
			}
			<-time.After(20 * time.Millisecond)
		}
		return "the request was not proxied"
	})
	if err := c.Signal("server1", "app", unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := c.WaitExit(t.Context(), "server1", "app"); err != nil {
		t.Fatal(err)
	}
	resp, err := c.client("client1").Get(c.urls("/whoami")[0])
	if err != nil {
		t.Fatal(err)
	}
	resp.Body.Close()
	if resp.StatusCode != 503 {
		t.Errorf("status %s, want 503", resp.Status)
	}
}

// A dispatcher's agent that is killed between diversion and import takes the
// only copy of the connection with it. The client is told, by a reset, when the
// agent is back and no server turns out to have the session.
func TestAClientWhoseHandOffDiedWithItsDispatcherIsTold(t *testing.T) {
	c := up(t, lab.Options{Servers: 1})
	if err := c.Signal("server1", "agent", unix.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	conn, err := c.Dial("client1")(t.Context(), "tcp", strings.TrimPrefix(c.urls("")[0], "http://"))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("GET /whoami HTTP/1.1\r\nHost: a\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	select { // it is offered at once, and taken back after 1 s
	case <-time.After(400 * time.Millisecond):
	case <-t.Context().Done():
	}
	if err := c.Signal("dispatcher1", "agent", unix.SIGKILL); err != nil {
		t.Fatal(err)
	}
	if err := c.WaitExit(t.Context(), "dispatcher1", "agent"); err != nil {
		t.Fatal(err)
	}
	select { // past the import's deadline: the server would take it until then
	case <-time.After(time.Second):
	case <-t.Context().Done():
	}
	if err := c.Signal("server1", "agent", unix.SIGCONT); err != nil {
		t.Fatal(err)
	}
	if err := c.Start("dispatcher1", "agent"); err != nil {
		t.Fatal(err)
	}
	conn.SetReadDeadline(time.Now().Add(15 * time.Second))
	if n, err := conn.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
		t.Errorf("the client reads %d octets and %v, want a reset", n, err)
	}
}
