package e2e

import (
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptrace"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/shunt-sdn/shunt/lab"
)

// apply gives the cluster a policy and waits until every agent goes by it.
func (c *cluster) apply(policy string) {
	c.t.Helper()
	file := filepath.Join(c.t.TempDir(), "policy.yaml")
	if err := os.WriteFile(file, []byte(policy), 0o644); err != nil {
		c.t.Fatal(err)
	}
	c.exec("controller", binary, "apply", "--wait", "-f", file)
}

// byNumber sends requests with ?to=N to server N.
const byNumber = `
services:
- name: web
  routes:
  - {name: first, match: {query: [{name: to, exact: "1"}]}, pool: one}
  - {name: second, match: {query: [{name: to, exact: "2"}]}, pool: two}
  - {name: third, match: {query: [{name: to, exact: "3"}]}, pool: three}
  - {name: closed, match: {paths: [{prefix: /closed}]}, reject: {status: 403, reason: not open}}
pools:
- {name: one, members: [{server: server1}]}
- {name: two, members: [{server: server2}]}
- {name: three, members: [{server: server3}]}
`

// Requests of one connection that policy sends to different servers: the
// connection moves from server to server at their boundaries, and no client
// notices.
func TestKeptConnectionsFollowThePolicy(t *testing.T) {
	for _, o := range []lab.Options{
		{Switch: lab.SwitchOVS, Steering: "conntrack"},
		{Switch: lab.SwitchOVS, Steering: "flows", Attach: lab.AttachRelay},
	} {
		t.Run(o.Steering+" "+o.Attach, func(t *testing.T) {
			c := up(t, o)
			c.apply(byNumber)
			c.await(10*time.Second, func() string { // a request of each server's own
				for n := 1; n <= 3; n++ {
					if _, err := whoami(t.Context(), c.client("client1"), c.urls("")[0], n, true); err != nil {
						return err.Error()
					}
				}
				return ""
			})
			before := c.status()
			const connections, each = 8, 625 // 5,000 requests each way of attaching
			var wg sync.WaitGroup
			var opened atomic.Int64
			for i := range connections {
				wg.Go(func() {
					random := rand.New(rand.NewPCG(uint64(i), 1))
					client := c.client("client1")
					transport := client.Transport.(*http.Transport)
					transport.DisableKeepAlives = false
					for k := range each {
						n := 1 + random.IntN(3)
						reused, err := whoami(t.Context(), client, c.urls("")[0], n, false)
						if err != nil {
							t.Errorf("connection %d, request %d: %v", i, k, err)
							return
						}
						if !reused {
							opened.Add(1)
						}
					}
					transport.CloseIdleConnections()
				})
			}
			wg.Wait()
			if used := opened.Load(); used != connections {
				t.Errorf("%d connections were used, want %d: a client had to open another", used, connections)
			}
			after := c.status()
			moves := after.HandoffsCompleted - before.HandoffsCompleted
			if least := uint64(connections * each / 2); moves < least {
				t.Errorf("%d moves for %d requests, want at least %d", moves, connections*each, least)
			}
			if failed := after.HandoffsFailed - before.HandoffsFailed; failed != 0 {
				t.Errorf("%d hand-offs failed", failed)
			}
			t.Logf("%d requests on %d connections, %d hand-offs, %d taken back", connections*each, connections, moves, after.HandoffsRolledBack-before.HandoffsRolledBack)
			c.refusedAfterARequest()
		})
	}
}

// refusedAfterARequest sends a request that the policy refuses on a connection
// that a server holds: the connection goes home for that.
func (c *cluster) refusedAfterARequest() {
	c.t.Helper()
	client := c.client("client1")
	client.Transport.(*http.Transport).DisableKeepAlives = false
	if _, err := whoami(c.t.Context(), client, c.urls("")[0], 2, false); err != nil {
		c.t.Error(err)
	}
	res, err := client.Get(c.urls("/closed/x")[0])
	if err != nil {
		c.t.Error(err)
		return
	}
	defer res.Body.Close()
	if b, _ := io.ReadAll(res.Body); res.StatusCode != 403 || string(b) != "not open\n" {
		c.t.Errorf("a refused request was answered %s: %q", res.Status, b)
	}
}

// whoami asks for server n and tells whether that took no new connection.
func whoami(ctx context.Context, client *http.Client, base string, n int, alone bool) (reused bool, err error) {
	ctx = httptrace.WithClientTrace(ctx, &httptrace.ClientTrace{GotConn: func(i httptrace.GotConnInfo) { reused = i.Reused }})
	req, err := http.NewRequestWithContext(ctx, "GET", fmt.Sprintf("%s/whoami?to=%d", base, n), nil)
	if err != nil {
		return false, err
	}
	req.Close = alone
	res, err := client.Do(req)
	if err != nil {
		return false, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return false, err
	}
	if want := fmt.Sprintf("server%d\n", n); res.StatusCode != 200 || string(body) != want {
		return false, fmt.Errorf("%s: %q, want %q", res.Status, body, want)
	}
	return reused, nil
}
