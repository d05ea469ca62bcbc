package e2e

import (
	"bufio"
	"cmp"
	"fmt"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shunt-sdn/shunt/internal/testnet"
	"github.com/shunt-sdn/shunt/lab"
)

// TestThePolicyDecides runs what docs/policy.md promises on one lab.
func TestThePolicyDecides(t *testing.T) {
	c := up(t, lab.Options{Switch: lab.SwitchOVS, Dispatchers: 2})
	sub := func(name string, f func(c *cluster)) {
		t.Run(name, func(t *testing.T) { f(&cluster{c.Lab, t, c.operator}) })
	}
	sub("by path", func(c *cluster) {
		c.policy(`
services:
- name: web
  routes:
  - {name: a, match: {paths: [{prefix: /bytes/}]}, pool: one}
  - {name: b, match: {paths: [{template: "/status/{code}"}]}, pool: two}
  - {name: c, match: {paths: [{exact: /headers}], headers: [{name: X-Tier, exact: gold}]}, pool: three}
  - {name: d, match: {paths: [{prefix: /admin}]}, reject: {status: 403}}
  defaultPool: two
pools:
- {name: one, members: [{server: server1}]}
- {name: two, members: [{server: server2}]}
- {name: three, members: [{server: server3}]}
`)
		for _, x := range []struct{ path, field, server string }{
			{"/bytes/100", "", "server1"}, {"/status/200", "", "server2"}, {"/headers", "X-Tier: gold", "server3"},
			{"/headers", "X-Tier: tin", "server2"}, {"/whoami", "", "server2"}, {"/admin", "", ""},
		} {
			got, failed := c.spread(100, 16, c.get(x.path, x.field))
			c.none(failed)
			if got[x.server] != 100 {
				c.t.Errorf("%s %s: %v, want %s alone", x.path, x.field, got, x.server)
			}
			out := c.exec("controller", append([]string{binary, "explain", c.urls(x.path)[0]}, flags(x.field)...)...)
			if want := cmp.Or(x.server, "403"); !strings.Contains(out, want) {
				c.t.Errorf("explain %s %s:\n%s", x.path, x.field, out)
			}
		}
	})
	sub("by weight, within 2 % of each share", func(c *cluster) {
		c.policy(`
services: [{name: web, routes: [{name: split, pools: [{pool: one, weight: 80}, {pool: two, weight: 15}, {pool: three, weight: 5}]}]}]
pools: [{name: one, members: [{server: server1}]}, {name: two, members: [{server: server2}]}, {name: three, members: [{server: server3}]}]
`)
		got, failed := c.spread(10_000, 32, c.get("/bytes/100"))
		c.none(failed)
		for server, want := range map[string]int{"server1": 8000, "server2": 1500, "server3": 500} {
			if d := got[server] - want; d*50 > want || -d*50 > want {
				c.t.Errorf("%v, want %d on %s", got, want, server)
			}
		}
		c.t.Log(got)
	})
	sub("by URL, and few move when a server goes", maglev)
	sub("away from a slow server", func(c *cluster) {
		c.exec("server1", "tc", "qdisc", "replace", "dev", "eth0", "root", "tbf", "rate", "8mbit", "burst", "16kb", "latency", "2s")
		defer c.exec("server1", "tc", "qdisc", "del", "dev", "eth0", "root")
		c.policy("services: [{name: web, defaultPool: app}]\npools: [{name: app, algorithm: least_requests}]")
		got, failed := c.spread(1000, 24, c.get("/bytes/50000"))
		c.none(failed)
		if got["server1"] > 150 || got["server1"] == 0 {
			c.t.Errorf("%v; server1 is slow and should have some of 1000 requests, at most 150", got)
		}
		c.t.Log(got)
	})
	sub("a client's requests stay together", func(c *cluster) {
		c.policy("services: [{name: web, routes: [{name: sticky, pool: app, affinity: {cookie: sid}}]}]\npools: [{name: app}]")
		seen := make(map[string]int)
		for i := range 12 {
			got, failed := c.spread(20, 4, c.get("/bytes/100", fmt.Sprint("Cookie: sid=user", i)))
			c.none(failed)
			if len(got) != 1 {
				c.t.Errorf("user%d: %v", i, got)
			}
			for s := range got {
				seen[s]++
			}
		}
		if len(seen) < 2 {
			c.t.Errorf("all users are on %v", seen)
		}
		if got, _ := c.spread(20, 4, c.get("/bytes/100", "Cookie: sid=server2")); got["server2"] != 20 {
			c.t.Errorf("a cookie that names server2: %v", got)
		}
	})
	sub("changes drop no request and are heeded within a second", func(c *cluster) {
		var slowest time.Duration
		c.underLoad(func() {
			for i := range 12 {
				began := time.Now()
				c.policy(fmt.Sprintf("services: [{name: web, routes: [{name: r%d, match: {paths: [{prefix: /bytes/}]}, pool: p%[1]d}]}]\npools: [{name: p%[1]d, members: [{server: server%d}]}]", i%4, 1+i%3))
				slowest = max(slowest, time.Since(began))
			}
		})
		if slowest > time.Second {
			c.t.Errorf("a change took %v, the verb included", slowest)
		}
		c.t.Logf("the slowest of 12 changes took %v, the verb included", slowest)
	})
	sub("a service made at run time", created)
	sub("a failing server is left out and comes back", failing)
	sub("a drain under load", drains)
	sub("an operator's program that is killed", program)
}

func maglev(c *cluster) {
	yaml := "services: [{name: web, defaultPool: m}]\npools: [{name: m, algorithm: maglev, hash: {on: [{url: true}]}, members: [{server: server1}, {server: server2}, {server: server3}]}]"
	const keys = 1000
	where := func() map[int]string {
		out := make(map[int]string)
		h := c.client("client1")
		var mu sync.Mutex
		var next atomic.Int64
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() {
				for i := int(next.Add(1)); i <= keys; i = int(next.Add(1)) {
					server, err := answer(h, c.get(fmt.Sprint("/whoami?key=", i))(i))
					if err != nil {
						c.t.Error(err)
					}
					mu.Lock()
					out[i] = server
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		return out
	}
	c.policy(yaml)
	before := where()
	if again := where(); !maps.Equal(before, again) {
		c.t.Error("the same URL went to different servers")
	}
	c.policy(strings.Replace(yaml, ", {server: server3}", "", 1))
	after := where()
	share, moved := 0, 0
	for i := 1; i <= keys; i++ {
		if before[i] == "server3" {
			share++
		}
		if before[i] != after[i] {
			moved++
		}
	}
	if float64(moved) > 1.2*float64(share) || share < keys/4 {
		c.t.Errorf("%d of %d URLs moved, server3 had %d", moved, keys, share)
	}
	c.t.Logf("%d of %d URLs moved, server3 had %d", moved, keys, share)
}

// created: leases, flows and dispatchers of a service come and go with the policy.
func created(c *cluster) {
	c.policy("services: [{name: closed, vips: [10.10.0.81], port: 8080, routes: [{name: all, reject: {status: 403, reason: closed}}]}]")
	h := c.client("client1")
	get := func() (status int, err error) {
		a, err := h.Get("http://10.10.0.81:8080/")
		if err != nil {
			return 0, err
		}
		a.Body.Close()
		return a.StatusCode, nil
	}
	h.Timeout = time.Second
	c.await(10*time.Second, func() string {
		if status, err := get(); status != http.StatusForbidden {
			return fmt.Sprintf("the new service answers %d, %v", status, err)
		}
		return ""
	})
	if out := c.exec("controller", binary, "get", "services", "closed"); !strings.Contains(out, "10.10.0.81:8080") {
		c.t.Errorf("get services:\n%s", out)
	}
	c.exec("controller", binary, "delete", "service", "closed")
	c.await(10*time.Second, func() string {
		if status, err := get(); err == nil {
			return fmt.Sprintf("the deleted service answers %d", status)
		}
		return ""
	})
}

// failing: a check finds an application that does not answer, and so do imports
// that are refused because it does not take its sessions.
func failing(c *cluster) {
	c.policy(`
services: [{name: web, defaultPool: app}]
pools: [{name: app, check: {http: {path: /whoami}, interval: 200ms, timeout: 200ms, fall: 2}}]
`)
	for _, s := range []string{"server1", "server2", "server3"} {
		c.becomes(s, "healthy")
	}
	signal := func(daemon string, s unix.Signal) {
		if err := c.Signal("server2", daemon, s); err != nil {
			c.t.Fatal(err)
		}
	}
	signal("app", unix.SIGSTOP)
	c.becomes("server2", "unhealthy")
	if h := c.health("server2"); !strings.Contains(h.Reason, "GET /whoami") {
		c.t.Errorf("reason %q", h.Reason)
	}
	got, failed := c.spread(300, 16, c.get("/bytes/100"))
	c.none(failed)
	if got["server2"] != 0 {
		c.t.Errorf("while server2 is unhealthy: %v", got)
	}
	signal("app", unix.SIGCONT)
	c.becomes("server2", "healthy")
	if got, _ := c.spread(300, 16, c.get("/bytes/100")); got["server2"] < 50 {
		c.t.Errorf("when server2 is back: %v", got)
	}

	c.policy("services: [{name: web, defaultPool: app}]\npools: [{name: app, ejection: {failures: 2, baseTime: 3s}}]")
	signal("app", unix.SIGSTOP)
	wait := c.burst(1500)
	c.becomes("server2", "ejected")
	if h := c.health("server2"); !strings.Contains(h.Reason, "ejected by dispatcher") {
		c.t.Errorf("reason %q", h.Reason)
	}
	signal("app", unix.SIGCONT)
	c.none(wait())
	c.await(20*time.Second, func() string { // ejected no more
		if got, _ := c.spread(30, 4, c.get("/bytes/100")); got["server2"] == 0 {
			return fmt.Sprint("without server2: ", got)
		}
		return ""
	})
}

// drains: no request fails, none comes after the drain, and it ends by itself.
func drains(c *cluster) {
	c.policy("services: [{name: web, defaultPool: app}]\npools: [{name: app}]")
	var after map[string]int
	c.underLoad(func() {
		if out := c.exec("controller", binary, "drain", "server2", "--wait", "--timeout", "30s"); !strings.HasSuffix(out, "server2 is drained\n") {
			c.t.Errorf("drain: %s", out)
		}
		var failed []error
		after, failed = c.spread(300, 8, c.get("/bytes/100"))
		c.none(failed)
	})
	if after["server2"] != 0 {
		c.t.Errorf("after the drain: %v", after)
	}
	if h := c.health("server2"); h.State != "drained" {
		c.t.Errorf("server2 is %+v", h)
	}
	c.exec("controller", binary, "undrain", "server2")
	c.await(5*time.Second, func() string {
		if got, _ := c.spread(30, 4, c.get("/bytes/100")); got["server2"] == 0 {
			return fmt.Sprint("without server2: ", got)
		}
		return ""
	})
}

// program: the example in Python is asked until it is killed in mid-load; then
// the pool's algorithm chooses, and no request fails.
func program(c *cluster) {
	testnet.NeedProgram(c.t, "protoc", "/usr/bin/python3")
	dir := c.t.TempDir()
	if out, err := exec.Command("protoc", "-I", "../../proto", "--python_out="+dir, "shunt/v1/policy.proto", "shunt/v1/external.proto").CombinedOutput(); err != nil {
		c.t.Fatalf("protoc: %v\n%s", err, out)
	}
	socket := "unix:" + filepath.Join(dir, "policy")
	cmd := exec.Command("/usr/bin/python3", "../../docs/examples/external-python/policy.py", "--read-only", "--listen", socket)
	cmd.Env = append(os.Environ(), "PYTHONPATH="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		c.t.Fatal(err)
	}
	if err := c.StartCommand("dispatcher1", cmd); err != nil {
		c.t.Fatal(err)
	}
	kill := sync.OnceFunc(func() { cmd.Process.Kill(); cmd.Wait() })
	c.t.Cleanup(kill)
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		c.t.Fatalf("it says %q, %v", line, err)
	}
	c.policy(fmt.Sprintf("services: [{name: web, defaultPool: app}]\npools: [{name: app, external: {address: %q, deadline: 500ms}}]", socket))
	post := func() (status int) {
		a, err := c.client("client1").Post(c.urls("/echo")[0], "text/plain", strings.NewReader("text"))
		if err != nil {
			c.t.Error(err)
			return 0
		}
		a.Body.Close()
		return a.StatusCode
	}
	if s := post(); s != http.StatusServiceUnavailable {
		c.t.Errorf("the program rejects POST with 503; it was answered %d", s)
	}
	servers := c.underLoad(func() {
		got, failed := c.spread(100, 4, c.get("/bytes/100"))
		c.none(failed)
		c.t.Logf("with the program: %v", got)
		kill()
		got, failed = c.spread(300, 4, c.get("/bytes/100"))
		c.none(failed)
		for _, s := range []string{"server1", "server2", "server3"} {
			if got[s] < 50 {
				c.t.Errorf("without the program: %v", got)
				break
			}
		}
	})
	if s := post(); s != http.StatusOK {
		c.t.Errorf("without the program POST was answered %d", s)
	}
	c.t.Log(servers)
}
