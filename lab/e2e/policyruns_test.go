package e2e

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shunt-sdn/shunt/lab"
)

// pools that send everything to one server each.
const onePerServer = `
pools:
- {name: one, members: [{server: server1}]}
- {name: two, members: [{server: server2}]}
- {name: three, members: [{server: server3}]}
`

// TestThePolicyHolds runs what else a policy can say, and what it survives.
func TestThePolicyHolds(t *testing.T) {
	c := up(t, lab.Options{Switch: lab.SwitchOVS, Dispatchers: 2, Clients: 3})
	for _, x := range []struct {
		name string
		run  func(*cluster)
	}{
		{"every class of paths", pathClasses},
		{"a change is applied within a second", withinASecond},
		{"a client's address keeps its server", byClient},
		{"limits", limits},
		{"proxies", proxies},
		{"mode auto", auto},
		{"answers that fail", answersFail},
		{"an application that ends and comes back", applicationGone},
		{"a drain waits for the last session", drainWaits},
		{"an operator's program that is killed and started again", programReturns},
		{"the controller's death", survives},
		{"a lost database", restored},
	} {
		t.Run(x.name, func(t *testing.T) { x.run(&cluster{c.Lab, t, c.operator}) })
	}
}

func pathClasses(c *cluster) {
	c.policy(`
services:
- name: web
  routes:
  - {name: exact, match: {paths: [{exact: /whoami}]}, pool: one}
  - {name: template, match: {paths: [{template: "/status/{code}"}, {template: "/bytes/{n}"}]}, pool: two}
  - {name: regex, match: {paths: [{regex: "/h(int|eader)s"}]}, pool: three}
  - {name: prefix, match: {paths: [{prefix: /}]}, pool: one}
` + onePerServer)
	for _, x := range []struct{ path, route, server string }{
		{"/whoami", "exact", "server1"}, {"/whoami/no", "prefix", "server1"}, {"/status/201", "template", "server2"},
		{"/bytes/7", "template", "server2"}, {"/status/200/more", "prefix", "server1"}, {"/hints", "regex", "server3"},
		{"/headers", "regex", "server3"}, {"/headers?q=1", "regex", "server3"}, {"/headersX", "prefix", "server1"},
		{"/a/../who%61mi", "exact", "server1"}, {"/chunked?n=1", "prefix", "server1"},
	} {
		got, failed := c.spread(10, 5, c.get(x.path))
		c.none(failed)
		if got[x.server] != 10 {
			c.t.Errorf("%s: %v, want %s", x.path, got, x.server)
		}
		out := c.exec("controller", binary, "explain", c.urls(x.path)[0])
		if !strings.Contains(out, x.route) || !strings.Contains(out, x.server) {
			c.t.Errorf("explain %s:\n%s", x.path, out)
		}
	}
}

// withinASecond: apply does not wait for the dispatchers here.
func withinASecond(c *cluster) {
	var verb, stale time.Duration
	for i := range 6 {
		want := []string{"one", "two", "three"}[i%3]
		file := filepath.Join(c.t.TempDir(), "policy.yaml")
		if err := os.WriteFile(file, []byte("services: [{name: web, defaultPool: "+want+"}]"+onePerServer), 0o600); err != nil {
			c.t.Fatal(err)
		}
		begun := time.Now()
		c.exec("controller", binary, "apply", "-f", file, "--prune")
		verb = max(verb, time.Since(begun))
		applied, server := time.Now(), fmt.Sprint("server", i%3+1)
		for settled := false; !settled; {
			sent := time.Since(applied)
			got, failed := c.spread(16, 8, c.get("/whoami")) // by both dispatchers
			c.none(failed)
			if settled = got[server] == 16; !settled && sent > time.Second {
				c.t.Fatalf("%v after shunt apply, requests went to %v, not all to %s", sent, got, server)
			}
			if !settled {
				stale = max(stale, time.Since(applied))
			}
		}
	}
	c.t.Logf("6 changes: shunt apply took up to %v; no request went by the old policy later than %v after it", verb.Round(time.Millisecond), stale.Round(time.Millisecond))
}

func byClient(c *cluster) {
	c.policy("services: [{name: web, routes: [{name: sticky, pool: app, affinity: {client: true}}]}]\npools: [{name: app, algorithm: random}]")
	for _, host := range []string{"client1", "client2", "client3"} {
		got := make(map[string]int)
		for range 30 {
			server, err := answer(c.client(host), c.get("/whoami")(0))
			if err != nil {
				c.t.Error(err)
			}
			got[server]++
		}
		if len(got) != 1 {
			c.t.Errorf("%s: %v", host, got)
		}
		c.t.Log(host, got)
	}
	c.policy("services: [{name: web, routes: [{name: sticky, pool: app, affinity: {header: X-User}}]}]\npools: [{name: app}]")
	for i := range 6 {
		got, failed := c.spread(10, 5, c.get("/whoami", fmt.Sprint("X-User: u", i)))
		c.none(failed)
		if len(got) != 1 {
			c.t.Errorf("user %d: %v", i, got)
		}
	}
}

// applicationGone: its agent lives and says so.
func applicationGone(c *cluster) {
	c.policy("services: [{name: web, defaultPool: app}]\npools: [{name: app, ejection: {failures: 3, baseTime: 1s}}]")
	c.underLoad(func() {
		if err := c.Signal("server3", "app", unix.SIGTERM); err != nil {
			c.t.Fatal(err)
		}
		if err := c.WaitExit(c.t.Context(), "server3", "app"); err != nil {
			c.t.Fatal(err)
		}
		c.becomes("server3", "not ready")
		got, failed := c.spread(100, 8, c.get("/whoami"))
		c.none(failed)
		if got["server3"] != 0 {
			c.t.Errorf("without its application: %v", got)
		}
		if err := c.Start("server3", "app"); err != nil {
			c.t.Fatal(err)
		}
		c.becomes("server3", "up")
		c.await(10*time.Second, func() string {
			if got, _ := c.spread(12, 4, c.get("/whoami")); got["server3"] == 0 {
				return fmt.Sprint("with its application: ", got)
			}
			return ""
		})
	})
}

// drainWaits: for a long answer, which ends in peace; an idle connection's next
// request is answered elsewhere.
func drainWaits(c *cluster) {
	c.policy("services: [{name: web, routes: [{name: long, match: {paths: [{exact: /slow}]}, pool: two}], defaultPool: two}]\npools: [{name: two, members: [{server: server2}, {server: server1, priority: 1}]}]")
	slow := make(chan error, 1)
	go func() {
		server, err := answer(c.client("client1"), c.get("/slow?ms=4000")(0))
		if err == nil && server != "server2" {
			err = fmt.Errorf("answered by %s", server)
		}
		slow <- err
	}()
	kept := c.client("client2")
	kept.Transport.(*http.Transport).DisableKeepAlives = false
	if server, err := answer(kept, c.get("/whoami")(0)); err != nil || server != "server2" {
		c.t.Fatal(server, err)
	}
	c.await(3*time.Second, func() string {
		held := 0
		for _, s := range c.sessions() {
			if s.Node == "server2" {
				held++
			}
		}
		if held < 2 {
			return fmt.Sprintf("server2 holds %d sessions", held)
		}
		return ""
	})
	begun := time.Now()
	drained := make(chan error, 1)
	ctx, cancel := context.WithTimeout(c.t.Context(), time.Minute)
	defer cancel()
	go func() {
		out, err := c.Exec(ctx, "controller", binary, "drain", "server2", "--wait", "--timeout", "40s")
		if err == nil && !strings.HasSuffix(string(out), "server2 is drained\n") {
			err = fmt.Errorf("it says %s", out)
		}
		drained <- err
	}()
	c.becomes("server2", "draining")
	if server, err := answer(kept, c.get("/whoami")(0)); err != nil || server != "server1" {
		c.t.Errorf("the next request of an idle connection was answered by %s, %v", server, err)
	}
	if err := <-slow; err != nil {
		c.t.Errorf("the long answer: %v", err)
	}
	answered := time.Since(begun)
	if err := <-drained; err != nil {
		c.t.Errorf("drain: %v", err)
	}
	if took := time.Since(begun); took < answered-time.Second {
		c.t.Errorf("the drain ended after %v, before its last session", took)
	}
	c.becomes("server2", "drained")
	c.exec("controller", binary, "undrain", "server2")
	c.becomes("server2", "up")
}
