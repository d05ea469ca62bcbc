package e2e

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptrace"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/shunt-sdn/shunt/lab"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// preferSecond sends all to server2 while it takes requests, but some to server3.
const preferSecond = `
services:
- name: web
  routes:
  - {name: second, match: {query: [{name: to, exact: "2"}]}, pool: two}
  - {name: third, match: {query: [{name: to, exact: "3"}]}, pool: three}
  defaultPool: app
pools:
- {name: app, members: [{server: server2}, {server: server1, priority: 1}, {server: server3, priority: 1}]}
- {name: two, members: [{server: server2}, {server: server1, priority: 1}]}
- {name: three, members: [{server: server3}]}
`

// A drained server's connections leave at once if they are idle, the others when
// they become so; their clients' next requests are answered where they belong.
func TestIdleConnectionsLeaveADrainedServer(t *testing.T) {
	for _, o := range []lab.Options{
		{Switch: lab.SwitchOVS, Steering: "conntrack"},
		{Switch: lab.SwitchOVS, Steering: "flows", Attach: lab.AttachRelay},
	} {
		t.Run(o.Steering+" "+o.Attach, func(t *testing.T) {
			c := up(t, o)
			c.policy(preferSecond)
			const connections, last = 50, 3 * time.Second
			kept := make([]*http.Client, connections)
			for i := range kept {
				kept[i] = c.client("client1")
				transport := kept[i].Transport.(*http.Transport)
				transport.DisableKeepAlives = false
				defer transport.CloseIdleConnections()
				if server, _, err := c.again(kept[i], "/whoami"); err != nil || server != "server2" {
					t.Fatalf("the first request of connection %d was answered by %s, %v", i, server, err)
				}
			}
			slow := make(chan error, 1)
			go func() { // the last connection's answer is under way for a while
				server, reused, err := c.again(kept[connections-1], fmt.Sprintf("/slow?ms=%d", last.Milliseconds()))
				if err == nil && (server != "server2" || !reused) {
					err = fmt.Errorf("answered by %s, connection reused: %v", server, reused)
				}
				slow <- err
			}()
			<-time.After(last / 10) // it has been sent by then
			c.await(5*time.Second, func() string {
				if n := c.heldBy("server2"); n != connections {
					return fmt.Sprintf("server2 holds %d sessions, want %d", n, connections)
				}
				return ""
			})

			begun := time.Now()
			drained := make(chan error, 1)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			go func() {
				out, err := c.Exec(ctx, "controller", binary, "drain", "server2", "--wait", "--timeout", "30s")
				t.Logf("shunt drain says:\n%s", out)
				if err == nil && !strings.HasSuffix(string(out), "server2 is drained\n") {
					err = fmt.Errorf("it does not say that server2 is drained")
				}
				drained <- err
			}()
			c.await(last-500*time.Millisecond, func() string {
				if n := c.heldBy("server2"); n > 1 {
					return fmt.Sprintf("server2 holds %d sessions", n)
				}
				return ""
			})
			t.Logf("%d idle sessions had left after %v", connections-1, time.Since(begun).Round(time.Millisecond))
			if err := <-slow; err != nil {
				t.Errorf("the slow request: %v", err)
			}
			if err := <-drained; err != nil {
				t.Errorf("drain: %v", err)
			}
			t.Logf("the drain ended after %v", time.Since(begun).Round(time.Millisecond))
			if n := c.heldBy("server2"); n != 0 {
				t.Errorf("server2 holds %d sessions after the drain", n)
			}

			var wg sync.WaitGroup
			for i, client := range kept {
				wg.Go(func() {
					for _, path := range []string{"/whoami?to=3", "/whoami"} {
						server, reused, err := c.again(client, path)
						if err != nil || !reused || server == "server2" || strings.HasSuffix(path, "3") && server != "server3" {
							t.Errorf("connection %d: %s was answered by %s, reused: %v, %v", i, path, server, reused, err)
						}
					}
				})
			}
			wg.Wait()
			if status := c.status(); status.HandoffsFailed != 0 {
				t.Errorf("%d hand-offs failed", status.HandoffsFailed)
			}
			c.exec("controller", binary, "undrain", "server2")
			if server, _, err := c.again(c.client("client1"), "/whoami"); err != nil || server == "" {
				t.Errorf("after the drain: %s, %v", server, err)
			}
			c.drainsWhileClientsSpeak(kept)
		})
	}
}

// drainsWhileClientsSpeak: requests that come just as their connection leaves are
// answered by a server that the policy names for them.
func (c *cluster) drainsWhileClientsSpeak(clients []*http.Client) {
	c.t.Helper()
	before := c.status()
	var done atomic.Bool
	var requests atomic.Int64
	var wg sync.WaitGroup
	for i, client := range clients {
		wg.Go(func() {
			random := rand.New(rand.NewPCG(uint64(i), 2))
			for !done.Load() {
				for path, wrong := range map[string]string{"/whoami?to=2": "server3", "/whoami?to=3": "server1 server2"} {
					server, reused, err := c.again(client, path)
					if err != nil || !reused || strings.Contains(wrong, server) {
						c.t.Errorf("connection %d: %s was answered by %q, reused: %v, %v", i, path, server, reused, err)
						return
					}
					requests.Add(1)
					<-time.After(time.Duration(random.IntN(200)) * time.Millisecond)
				}
			}
		})
	}
	for range 4 {
		if out := c.exec("controller", binary, "drain", "server2", "--wait", "--timeout", "20s"); !strings.HasSuffix(out, "server2 is drained\n") {
			c.t.Errorf("drain: %s", out)
		}
		c.exec("controller", binary, "undrain", "server2")
		c.await(5*time.Second, func() string {
			if n := c.heldBy("server2"); n < len(clients)/4 {
				return fmt.Sprintf("server2 holds %d sessions", n)
			}
			return ""
		})
	}
	done.Store(true)
	wg.Wait()
	after := c.status()
	if failed := after.HandoffsFailed - before.HandoffsFailed; failed != 0 {
		c.t.Errorf("%d hand-offs failed", failed)
	}
	c.t.Logf("%d requests during 4 drains: %d hand-offs, %d taken back", requests.Load(), after.HandoffsCompleted-before.HandoffsCompleted, after.HandoffsRolledBack-before.HandoffsRolledBack)
}

// again sends a request and tells who answered, and whether on an old connection.
func (c *cluster) again(client *http.Client, path string) (server string, reused bool, err error) {
	ctx := httptrace.WithClientTrace(c.t.Context(), &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { reused = i.Reused }})
	r, err := http.NewRequestWithContext(ctx, http.MethodGet, c.urls(path)[0], nil)
	if err != nil {
		return "", false, err
	}
	a, err := client.Do(r)
	if err != nil {
		return "", reused, err
	}
	defer a.Body.Close()
	if _, err := io.Copy(io.Discard, a.Body); err != nil {
		return "", reused, err
	}
	if a.StatusCode != http.StatusOK {
		err = fmt.Errorf("status %d", a.StatusCode)
	}
	return a.Header.Get("X-Node"), reused, err
}

// heldBy counts the sessions that shunt sessions shows at a server.
func (c *cluster) heldBy(server string) (n int) {
	c.t.Helper()
	for _, s := range c.sessions() {
		if s.Node == server && s.Path != shuntv1.Path_PATH_DISPATCHER {
			n++
		}
	}
	return n
}
