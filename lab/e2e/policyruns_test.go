package e2e

import (
	"bufio"
	"cmp"
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shunt-sdn/shunt/internal/testnet"
	"github.com/shunt-sdn/shunt/lab"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
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
		{"an application that ends and comes back", applicationGone},
		{"a drain waits for the last session", drainWaits},
		{"an operator's program that is killed and started again", programReturns},
		{"the controller's death", survives},
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

// statuses of n requests, one after the other on connections of their own.
func (c *cluster) statuses(n int, method, path string, body string) map[int]int {
	c.t.Helper()
	m := make(map[int]int)
	for range n {
		r, err := http.NewRequestWithContext(c.t.Context(), method, c.urls(path)[0], strings.NewReader(body))
		if err != nil {
			c.t.Fatal(err)
		}
		a, err := c.client("client1").Do(r)
		if err != nil {
			c.t.Error(err)
			continue
		}
		io.Copy(io.Discard, a.Body)
		a.Body.Close()
		m[a.StatusCode]++
	}
	return m
}

func limits(c *cluster) {
	c.policy(`
services:
- name: web
  routes:
  - {name: no, match: {paths: [{prefix: /status/}]}, reject: {status: 403, reason: not for you}}
  - {name: gone, match: {paths: [{exact: /old}]}, reject: {status: 410}}
  - {name: few, match: {paths: [{exact: /whoami}]}, pool: one, limits: {requestsPerSecond: 1, burst: 4}}
  - {name: small, match: {paths: [{exact: /echo}]}, pool: one, limits: {maxBodyBytes: 1000}}
` + onePerServer)
	for _, x := range []struct {
		method, path, body string
		status             int
	}{
		{"GET", "/status/200", "", 403}, {"GET", "/old", "", 410},
		{"POST", "/echo", strings.Repeat("x", 1000), 200}, {"POST", "/echo", strings.Repeat("x", 1001), 413},
	} {
		if got := c.statuses(3, x.method, x.path, x.body); got[x.status] != 3 {
			c.t.Errorf("%s %s with %d octets: %v, want %d", x.method, x.path, len(x.body), got, x.status)
		}
	}
	// Two dispatchers allow 4 each, and one more per second.
	begun := time.Now()
	got := c.statuses(60, "GET", "/whoami", "")
	most := 8 + 2*int(time.Since(begun)/time.Second+1)
	if got[200] < 4 || got[200] > most || got[429] != 60-got[200] {
		c.t.Errorf("60 requests to a limited route: %v, want 4 to %d allowed and the others 429", got, most)
	}
	c.await(10*time.Second, func() string {
		if got := c.statuses(1, "GET", "/whoami", ""); got[200] == 0 {
			return fmt.Sprint("still ", got)
		}
		return ""
	})
	c.await(10*time.Second, func() string { // rates of the last ten seconds
		top := c.exec("controller", binary, "top", "--once", "-o", "json")
		for _, want := range []string{`"few"`, `"no"`, `"rejected_per_second"`} {
			if !strings.Contains(top, want) {
				return "shunt top says " + top
			}
		}
		return ""
	})
}

func proxies(c *cluster) {
	c.policy("services: [{name: web, routes: [{name: copied, match: {paths: [{prefix: /bytes/}]}, pool: two, mode: proxy}], defaultPool: one}]" + onePerServer)
	proxied, moved := c.paths(func() {
		got, failed := c.spread(100, 8, c.get("/bytes/20000"))
		c.none(failed)
		if got["server2"] != 100 {
			c.t.Errorf("proxied requests went to %v", got)
		}
	}, 100)
	if proxied != 100 || moved != 0 {
		c.t.Errorf("mode proxy: %d proxied, %d handed off, want 100 and 0", proxied, moved)
	}
	c.policy("services: [{name: web, routes: [{name: either, match: {paths: [{prefix: /bytes/}]}, pool: all, mode: auto}]}]\npools: [{name: all}]")
	for _, size := range []int{100, 4_000_000} {
		h := c.client("client1")
		fetch := func() {
			if err := download(c.t.Context(), h, c.urls(fmt.Sprint("/bytes/", size))[0], int64(size)); err != nil {
				c.t.Error(err)
			}
		}
		for begun := time.Now(); time.Since(begun) < 3*time.Second; { // ends are told two seconds later
			fetch()
		}
		proxied, moved := c.paths(func() {
			for range 100 {
				fetch()
			}
		}, 100)
		c.t.Logf("mode auto, %d octets, after 3 s: %d proxied, %d handed off", size, proxied, moved)
	}
}

// paths counts the requests, n in all, that f has proxied and handed off.
func (c *cluster) paths(f func(), n int) (proxied, moved int) {
	c.t.Helper()
	before := c.status()
	f()
	c.await(10*time.Second, func() string { // agents report every second
		now := c.status()
		proxied, moved = int(now.RequestsProxied-before.RequestsProxied), int(now.HandoffsCompleted-before.HandoffsCompleted)
		if proxied+moved < n {
			return fmt.Sprintf("%d proxied and %d handed off of %d", proxied, moved, n)
		}
		return ""
	})
	return proxied, moved
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

// python starts the example program on a dispatcher.
func (c *cluster) python(host, address, messages string) (kill func()) {
	c.t.Helper()
	cmd := exec.Command("/usr/bin/python3", "../../docs/examples/external-python/policy.py", "--read-only", "--listen", address)
	cmd.Env = append(os.Environ(), "PYTHONPATH="+messages)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		c.t.Fatal(err)
	}
	if err := c.StartCommand(host, cmd); err != nil {
		c.t.Fatal(err)
	}
	kill = sync.OnceFunc(func() { cmd.Process.Kill(); cmd.Wait() })
	c.t.Cleanup(kill)
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		c.t.Fatalf("the program says %q, %v", line, err)
	}
	return kill
}

// programReturns: the program on each dispatcher rejects POST with 503, which
// tells whether it is asked.
func programReturns(c *cluster) {
	testnet.NeedProgram(c.t, "protoc", "/usr/bin/python3")
	messages := c.t.TempDir()
	if out, err := exec.Command("protoc", "-I", "../../proto", "--python_out="+messages, "shunt/v1/policy.proto", "shunt/v1/external.proto").CombinedOutput(); err != nil {
		c.t.Fatalf("protoc: %v\n%s", err, out)
	}
	const address = "127.0.0.1:7071" // in each dispatcher's own network
	start := func() func() {
		one, two := c.python("dispatcher1", address, messages), c.python("dispatcher2", address, messages)
		return func() { one(); two() }
	}
	kill := start()
	c.policy(fmt.Sprintf("services: [{name: web, defaultPool: app}]\npools: [{name: app, external: {address: %q, deadline: 1s, breaker: {failures: 3, openTime: 200ms}}}]", address))
	asked := func(want int) {
		c.t.Helper()
		c.await(20*time.Second, func() string {
			if got := c.statuses(8, "POST", "/echo", "text"); got[want] != 8 {
				return fmt.Sprintf("POST was answered %v, want %d", got, want)
			}
			return ""
		})
	}
	c.underLoad(func() {
		asked(503)
		kill()
		asked(200)
		begun := time.Now()
		kill = start()
		asked(503)
		c.t.Logf("asked again within %v of its start", time.Since(begun).Round(time.Millisecond))
	})
}

// everyoneIsUp waits until all agents are connected to the controller.
func (c *cluster) everyoneIsUp() {
	c.t.Helper()
	agents := 0
	for _, h := range c.Info().Hosts {
		if h.PIDs["agent"] != 0 {
			agents++
		}
	}
	c.await(20*time.Second, func() string {
		r, err := c.operator.ListNodes(c.t.Context(), &shuntv1.ListNodesRequest{})
		if err != nil {
			return err.Error()
		}
		up := 0
		for _, n := range r.Nodes {
			if n.Node.Up {
				up++
			}
		}
		if up < agents {
			return fmt.Sprintf("%d of %d agents are connected", up, agents)
		}
		return ""
	})
}

// survives: what apply and drain have answered is there after a SIGKILL at any
// moment, and requests go by it meanwhile.
func survives(c *cluster) {
	export := func() string {
		out, err := c.Exec(c.t.Context(), "controller", binary, "export")
		if err != nil {
			return err.Error()
		}
		return string(out)
	}
	restart := func() {
		c.t.Helper()
		if err := c.Signal("controller", "controller", unix.SIGKILL); err != nil {
			c.t.Fatal(err)
		}
		if err := c.WaitExit(c.t.Context(), "controller", "controller"); err != nil {
			c.t.Fatal(err)
		}
	}
	for i := range 3 {
		server := fmt.Sprint("server", i%2+1)
		c.policy(fmt.Sprintf(`
services:
- {name: web, routes: [{name: r%d, match: {paths: [{exact: /whoami}]}, pool: chosen}]}
- {name: more, vips: [10.10.0.81], port: %d, servers: [server1]}
pools: [{name: chosen, members: [{server: %s}]}]
`, i, 8000+i, server))
		if _, err := c.Exec(c.t.Context(), "controller", binary, "drain", "server3"); err != nil {
			c.t.Fatal(err)
		}
		before := export()
		restart()
		got, failed := c.spread(20, 4, c.get("/whoami"))
		c.none(failed)
		if got[server] != 20 {
			c.t.Errorf("without the controller: %v", got)
		}
		if err := c.Start("controller", "controller"); err != nil {
			c.t.Fatal(err)
		}
		c.everyoneIsUp()
		c.await(20*time.Second, func() string {
			if after := export(); after != before {
				return fmt.Sprintf("before:\n%s\nafter:\n%s", before, after)
			}
			return ""
		})
		if !strings.Contains(before, "more") || !strings.Contains(before, "drain: true") || !strings.Contains(before, server) {
			c.t.Errorf("exported: %s", before)
		}
		c.await(20*time.Second, func() string {
			return cmp.Or(strings.TrimPrefix(c.health("server3").State, "drained"), "")
		})
		got, failed = c.spread(20, 4, c.get("/whoami"))
		c.none(failed)
		if got[server] != 20 {
			c.t.Errorf("after the restart: %v", got)
		}
	}
	c.exec("controller", binary, "undrain", "server3")
}

// A server whose answers fail is left out for a while, whether its own agent
// relays them or a dispatcher does.
func TestAServerIsLeftOutForItsAnswers(t *testing.T) {
	c := up(t, lab.Options{Switch: lab.SwitchOVS, Attach: lab.AttachRelay, Servers: 2})
	for _, mode := range []string{"migrate", "proxy"} {
		c.policy(fmt.Sprintf(`
services: [{name: web, routes: [{name: all, pool: app, mode: %s, affinity: {cookie: to}}]}]
pools: [{name: app, ejection: {failures: 4, baseTime: 3s, serverErrors: true}}]
`, mode))
		// Answers that do not fail, in between, excuse those that do.
		for range 4 {
			for range 3 {
				c.spread(1, 1, c.get("/status/503", "Cookie: to=server2"))
			}
			if got, _ := c.spread(1, 1, c.get("/status/404", "Cookie: to=server2")); got["server2"] != 1 {
				t.Fatalf("%s: %v", mode, got)
			}
		}
		if h := c.health("server2"); h.Health == "ejected" {
			t.Errorf("%s: %+v", mode, h)
		}
		c.await(20*time.Second, func() string {
			c.spread(4, 1, c.get("/status/503", "Cookie: to=server2"))
			if h := c.health("server2"); h.Health != "ejected" || !strings.Contains(h.Reason, "status 50") {
				return fmt.Sprintf("%s: %+v", mode, h)
			}
			return ""
		})
		got, failed := c.spread(20, 4, c.get("/whoami", "Cookie: to=server2"))
		c.none(failed)
		if got["server2"] != 0 {
			t.Errorf("%s: while server2 is ejected: %v", mode, got)
		}
		c.await(30*time.Second, func() string {
			if got, _ := c.spread(4, 4, c.get("/whoami", "Cookie: to=server2")); got["server2"] != 4 {
				return fmt.Sprintf("%s: server2 is not back: %v", mode, got)
			}
			return ""
		})
	}
}
