package e2e

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

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
}

// auto: big answers come to be handed off, as copying costs by the octet. Little
// ones cost about the same either way in the lab; what they cost is learnt.
func auto(c *cluster) {
	c.policy("services: [{name: web, routes: [{name: either, match: {paths: [{prefix: /bytes/}]}, pool: all, mode: auto}]}]\npools: [{name: all}]")
	fetch := func(host string, size int) {
		if err := download(c.t.Context(), c.client(host), c.urls(fmt.Sprint("/bytes/", size))[0], int64(size)); err != nil {
			c.t.Error(err)
		}
	}
	// load has n answers fetched, two at a time.
	load := func(size, n int) (proxied, moved int) {
		return c.paths(func() {
			var wg sync.WaitGroup
			for _, host := range []string{"client1", "client2"} {
				wg.Go(func() {
					for range n / 2 {
						fetch(host, size)
					}
				})
			}
			wg.Wait()
		}, n)
	}
	learn := func(size int, d time.Duration) {
		for begun := time.Now(); time.Since(begun) < d; { // ends are told two seconds later
			fetch("client1", size)
			fetch("client2", size)
		}
	}
	// learnUntil goes on until both dispatchers have learnt that.
	learnUntil := func(size int, verdict string) {
		explained := ""
		for begun := time.Now(); time.Since(begun) < time.Minute; {
			learn(size, time.Second)
			explained = c.exec("controller", binary, "explain", c.urls("/bytes/7")[0])
			if strings.Count(explained, verdict) == 2 {
				return
			}
		}
		c.t.Errorf("a minute's answers of %d octets do not teach %q to both:\n%s", size, verdict, explained)
	}
	const big, little = 16 << 20, 100
	learnUntil(big, "16 MiB to 32 MiB: moves")
	proxied, moved := load(big, 64)
	c.t.Logf("mode auto, %d octets, learnt: %d proxied, %d handed off", big, proxied, moved)
	if moved*4 < (moved+proxied)*3 { // 15 of 16 are expected: one goes the other way, to notice changes
		c.t.Errorf("big answers: %d proxied, only %d handed off", proxied, moved)
	}
	learn(little, 3*time.Second)
	proxied, moved = load(little, 200)
	c.t.Logf("mode auto, %d octets, after 3 s: %d proxied, %d handed off", little, proxied, moved)
	c.await(5*time.Second, func() string { // agents report every second
		out := c.exec("controller", binary, "describe", "route", "either")
		if !strings.Contains(out, "16 MiB to 32 MiB") || !strings.Contains(out, "256 B to 512 B") || !strings.Contains(out, "migrate") {
			return "describe says\n" + out
		}
		return ""
	})
	c.t.Log(c.exec("controller", binary, "describe", "route", "either"))
	if out := c.exec("controller", binary, "explain", c.urls("/bytes/7")[0]); !strings.Contains(out, "learnt by dispatcher1") || !strings.Contains(out, "16 MiB to 32 MiB: moves") {
		c.t.Errorf("explain does not tell what was learnt:\n%s", out)
	}
	// Where servers are slow to take connections, little answers are copied.
	quick := c.sluggish("server1", "server2", "server3")
	learn(little, 5*time.Second) // to forget what was before
	learnUntil(little, "256 B to 512 B: copies")
	proxied, moved = load(little, 400)
	quick()
	c.t.Logf("mode auto, %d octets, servers' agents held up: %d proxied, %d handed off", little, proxied, moved)
	if proxied*4 < (moved+proxied)*3 {
		c.t.Errorf("little answers of servers that are slow to take connections: %d handed off, only %d proxied", moved, proxied)
		c.t.Log(c.exec("controller", binary, "describe", "route", "either"))
	}
}

// sluggish has the hosts' agents stand still most of the time until quick is
// called; their applications and their kernels do not.
func (c *cluster) sluggish(hosts ...string) (quick func()) {
	c.t.Helper()
	done := make(chan struct{})
	var wg sync.WaitGroup
	signal := func(s unix.Signal) {
		for _, h := range hosts {
			if err := c.Signal(h, "agent", s); err != nil {
				c.t.Error(err)
			}
		}
	}
	wg.Go(func() {
		defer signal(unix.SIGCONT)
		for {
			signal(unix.SIGSTOP)
			select {
			case <-done:
				return
			case <-time.After(30 * time.Millisecond):
			}
			signal(unix.SIGCONT)
			select {
			case <-done:
				return
			case <-time.After(5 * time.Millisecond):
			}
		}
	})
	quick = sync.OnceFunc(func() { close(done); wg.Wait() })
	c.t.Cleanup(quick)
	return quick
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
