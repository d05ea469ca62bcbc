package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shunt-sdn/shunt/internal/testnet"
	"github.com/shunt-sdn/shunt/lab"
	"github.com/shunt-sdn/shunt/lab/app"
)

// anApplication is one of those that every server of this test runs.
type anApplication struct {
	service, daemon string
	says            string      // in the field Server of its answers; empty: it has none
	stays           bool        // further requests of a connection stay on its server
	end             unix.Signal // ends all of it at once
}

var threeApplications = []anApplication{
	{service: "web", daemon: "app", says: "nginx/", stays: true, end: unix.SIGTERM}, // killed, it would leave its workers
	{service: "api", daemon: "app-api", end: unix.SIGKILL},
	{service: "old", daemon: "app-old", says: "lighttpd/", end: unix.SIGKILL},
}

// Every server runs three applications, attached in three ways, each for a
// service of its own.
func TestThreeApplicationsOnEachServer(t *testing.T) {
	testnet.NeedProgram(t, "curl", "wrk")
	buildPreload(t)
	c := up(t, lab.Options{Switch: lab.SwitchOVS, Servers: 2, App: "nginx", Applications: []lab.Application{
		{Service: "api"}, {Service: "old", App: "lighttpd", Attach: lab.AttachRelay},
	}})
	c.apply(threePolicies())
	before := c.status()
	for _, a := range threeApplications {
		c.documentsOf(a)
	}
	c.peersOfApplications()
	c.loadOnAll()
	c.keptConnectionsToAll()
	for _, a := range threeApplications {
		c.headsOf(a)
	}
	if after := c.status(); after.HandoffsFailed != before.HandoffsFailed || after.RequestsProxied != before.RequestsProxied {
		t.Errorf("not every request was handed off: before %v, after %v", before, after)
	}
	for _, a := range threeApplications {
		c.oneApplicationDies(a)
	}
}

// threePolicies sends requests with ?to=N to server N, whatever the service;
// others go to any server whose application is well.
func threePolicies() string {
	var b strings.Builder
	b.WriteString("services:\n")
	for _, a := range threeApplications {
		fmt.Fprintf(&b, `- name: %s
  routes:
  - {name: first, match: {query: [{name: to, exact: "1"}]}, pool: one}
  - {name: second, match: {query: [{name: to, exact: "2"}]}, pool: two}
  defaultPool: all
  limits: {maxHeadBytes: %d, headTimeout: 1s}
`, a.service, maxHeadOfThree)
	}
	b.WriteString(`pools:
- {name: one, members: [{server: server1}]}
- {name: two, members: [{server: server2}]}
- {name: all, check: {http: {path: /whoami}, interval: 200ms}}
`)
	return b.String()
}

// maxHeadOfThree is less than what any of the applications takes, octets.
const maxHeadOfThree = 4000

// at is where a service is, as a URL without path.
func (c *cluster) at(service string) string {
	c.t.Helper()
	for _, s := range c.Services() {
		if s.Name == service {
			return fmt.Sprintf("http://%v:%d", s.VIP, s.Port)
		}
	}
	c.t.Fatalf("no service %q", service)
	return ""
}

// keeping is a client of a host that keeps its connections.
func (c *cluster) keeping(host string) *http.Client {
	h := c.client(host)
	h.Transport.(*http.Transport).DisableKeepAlives = false
	c.t.Cleanup(h.CloseIdleConnections)
	return h
}

// ask asks an application which node it is on. fresh tells whether that took a
// new connection.
func (c *cluster) ask(h *http.Client, a anApplication, query string) (node string, fresh bool, err error) {
	ctx, cancel := context.WithTimeout(httptrace.WithClientTrace(c.t.Context(), &httptrace.ClientTrace{
		GotConn: func(i httptrace.GotConnInfo) { fresh = fresh || !i.Reused },
	}), 20*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.at(a.service)+"/whoami"+query, nil)
	if err != nil {
		return "", false, err
	}
	res, err := h.Do(req)
	if err != nil {
		return "", fresh, err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return "", fresh, err
	}
	if says := res.Header.Get("Server"); res.StatusCode != http.StatusOK || !strings.HasPrefix(says, a.says) || a.says == "" && says != "" {
		return "", fresh, fmt.Errorf("%s: %s of %q: %q", req.URL, res.Status, says, body)
	}
	return strings.TrimSpace(string(body)), fresh, nil
}

// documentsOf reaches the application on each server, and gets what it should.
func (c *cluster) documentsOf(a anApplication) {
	c.t.Helper()
	h := c.client("client1")
	for _, n := range []string{"1", "2"} {
		if node, _, err := c.ask(h, a, "?to="+n); err != nil || node != "server"+n {
			c.t.Errorf("%s: server%s was asked, %q answered: %v", a.service, n, node, err)
		}
		if err := download(c.t.Context(), h, c.at(a.service)+"/bytes/1000000?to="+n, 1_000_000); err != nil {
			c.t.Errorf("%s of server%s: %v", a.service, n, err)
		}
		out := c.exec("client1", "curl", "-sS", "--fail", "--max-time", "20", c.at(a.service)+"/whoami?to="+n)
		if out != "server"+n+"\n" {
			c.t.Errorf("%s: curl asked server%s and got %q", a.service, n, out)
		}
	}
}

// peersOfApplications looks at whom each application takes for its peer: it shows
// the way in which the connection came.
func (c *cluster) peersOfApplications() {
	c.t.Helper()
	const client, server = "10.10.1.11", "10.10.2.101"
	for service, peer := range map[string]string{"web": client, "old": server} {
		log, err := c.AccessLogOf("server1", service)
		if err != nil {
			c.t.Fatal(err)
		}
		c.await(15*time.Second, func() string { // lighttpd writes its log in blocks
			b, err := os.ReadFile(log)
			if err != nil {
				return err.Error()
			}
			for line := range bytes.Lines(b) {
				if bytes.HasPrefix(line, []byte(peer+" ")) && bytes.Contains(line, []byte("/bytes/1000000?to=1")) {
					return ""
				}
			}
			return fmt.Sprintf("the log of %s on server1 shows no request of %s", service, peer)
		})
	}
	var seen app.Request
	out := c.exec("client1", "curl", "-sS", "--fail", "--max-time", "20", c.at("api")+"/headers")
	if err := json.Unmarshal([]byte(out), &seen); err != nil {
		c.t.Errorf("api: %v: %s", err, out)
	}
	if host, _, err := net.SplitHostPort(seen.Client); err != nil || host != client {
		c.t.Errorf("api takes %s for its client, not %s", seen.Client, client)
	}
}

// loadOnAll has all services under load at once.
func (c *cluster) loadOnAll() {
	c.t.Helper()
	var wg sync.WaitGroup
	for _, a := range threeApplications {
		wg.Go(func() {
			out, err := c.Exec(c.t.Context(), "client1", "wrk", "-t", "1", "-c", "4", "-d", "2s", c.at(a.service)+"/bytes/10000")
			if err != nil || bytes.Contains(out, []byte("Socket errors")) || bytes.Contains(out, []byte("Non-2xx")) || !bytes.Contains(out, []byte("requests in")) {
				c.t.Errorf("wrk to %s: %v\n%s", a.service, err, out)
			}
		})
	}
	wg.Wait()
}

// keptConnectionsToAll sends requests on one connection to each service, in turn:
// from one to the next they change applications, and servers where the
// attachment lets them.
func (c *cluster) keptConnectionsToAll() {
	c.t.Helper()
	h := c.keeping("client1")
	began := make(map[string]string) // where a service's connection is, which stays
	for k := range 200 {
		for i, a := range threeApplications {
			want := fmt.Sprintf("server%d", 1+(k+i)%2)
			node, fresh, err := c.ask(h, a, "?to="+strings.TrimPrefix(want, "server"))
			if a.stays && k > 0 {
				want = began[a.service]
			}
			if err != nil || node != want || fresh != (k == 0) {
				c.t.Fatalf("%s, request %d: %q answered, want %q; on a new connection: %v; %v", a.service, k, node, want, fresh, err)
			}
			began[a.service] = node
		}
	}
}

// headsOf has the service's limits hold for the second request of a connection as
// for the first, unless the application reads it itself.
func (c *cluster) headsOf(a anApplication) {
	c.t.Helper()
	ask := func(h *http.Client, octets int) (status int) {
		req, err := http.NewRequestWithContext(c.t.Context(), http.MethodGet, c.at(a.service)+"/whoami", nil)
		if err != nil {
			c.t.Fatal(err)
		}
		req.Header.Set("X", letters(octets))
		res, err := h.Do(req)
		if err != nil {
			c.t.Errorf("%s, a head of more than %d octets: %v", a.service, octets, err)
			return 0
		}
		defer res.Body.Close()
		io.Copy(io.Discard, res.Body)
		return res.StatusCode
	}
	const short, long, refused = maxHeadOfThree - 1000, maxHeadOfThree + 500, http.StatusRequestHeaderFieldsTooLarge
	second := refused
	if a.stays {
		second = http.StatusOK
	}
	if got := ask(c.client("client1"), long); got != refused {
		c.t.Errorf("%s: a first head that is too long: %d", a.service, got)
	}
	h := c.keeping("client1")
	if first, then, last := ask(h, short), ask(h, short), ask(h, long); first != http.StatusOK || then != http.StatusOK || last != second {
		c.t.Errorf("%s: heads of one connection: %d, %d, and one that is too long %d, want %d", a.service, first, then, last, second)
	}
	if a.service != "old" {
		return // the others' programs have the time that they give
	}
	vip := netip.AddrPortFrom(c.Service().VIP, c.Services()[2].Port)
	got, _ := c.converse(vip, func(k *talk) {
		k.send(request("GET /whoami HTTP/1.1"))
		k.until("server")
		k.send("GET /whoami HTTP/1.1\r\n")
	})
	if !strings.Contains(got, "HTTP/1.1 408 ") {
		c.t.Errorf("%s: a second head that does not end: %q", a.service, got)
	}
}

// oneApplicationDies ends an application of server1. Its service's requests go to
// server2 without an error, those of other services do not notice, and all is as
// before when it is back.
func (c *cluster) oneApplicationDies(dying anApplication) {
	c.t.Helper()
	kept := c.keeping("client1")
	var others []anApplication
	for _, a := range threeApplications {
		if a.service == dying.service {
			continue
		}
		others = append(others, a)
		if node, _, err := c.ask(kept, a, "?to=1"); err != nil || node != "server1" {
			c.t.Fatalf("%s: %q, %v", a.service, node, err)
		}
	}
	if err := c.Signal("server1", dying.daemon, dying.end); err != nil {
		c.t.Fatal(err)
	}
	if err := c.WaitExit(c.t.Context(), "server1", dying.daemon); err != nil {
		c.t.Fatal(err)
	}
	h := c.client("client1")
	for range 30 {
		if node, _, err := c.ask(h, dying, ""); err != nil || node != "server2" {
			c.t.Errorf("%s has died on server1: %q answered, %v", dying.service, node, err)
		}
	}
	for _, a := range others {
		if node, fresh, err := c.ask(kept, a, "?to=1"); err != nil || node != "server1" || fresh {
			c.t.Errorf("%s has died, and a connection to %s: %q answered, new: %v, %v", dying.service, a.service, node, fresh, err)
		}
		answered := make(map[string]int)
		for range 10 {
			node, _, err := c.ask(h, a, "")
			if err != nil {
				c.t.Errorf("%s has died, and %s: %v", dying.service, a.service, err)
			}
			answered[node]++
		}
		if answered["server1"] == 0 || answered["server2"] == 0 {
			c.t.Errorf("%s has died, and requests to %s are answered by %v", dying.service, a.service, answered)
		}
	}
	if err := c.Start("server1", dying.daemon); err != nil {
		c.t.Fatal(err)
	}
	c.await(20*time.Second, func() string { // both servers are in turn, once checks say so
		for range 2 {
			if node, _, err := c.ask(h, dying, ""); err != nil || node == "server1" {
				return text(err)
			}
		}
		return dying.service + " is back on server1, and it is not asked"
	})
}

func text(err error) string {
	if err != nil {
		return err.Error()
	}
	return ""
}
