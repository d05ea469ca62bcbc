package e2e

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
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
	"github.com/shunt-sdn/shunt/lab/app"
)

// buildPreload puts libshunt.so beside the program, where a lab finds it.
func buildPreload(t *testing.T) {
	t.Helper()
	testnet.NeedProgram(t, "make", "cc")
	if out, err := exec.Command("make", "-s", "-C", "../../preload", "OUT="+filepath.Dir(binary)).CombinedOutput(); err != nil {
		t.Fatalf("build libshunt.so: %v\n%s", err, out)
	}
}

// Servers as Debian ships them answer sessions as if they had accepted them.
func TestUnmodifiedServersArePreloaded(t *testing.T) {
	testnet.NeedProgram(t, "curl", "wrk")
	buildPreload(t)
	for _, s := range []struct {
		app    string
		upload func(c *cluster) // nil: it takes none
	}{
		{"mini_httpd", nil},
		{"nginx", (*cluster).put},
		{"apache-event", (*cluster).put},
		{"apache-prefork", (*cluster).put},
		{"lighttpd", nil},
		{"python", nil},
		{"node", (*cluster).echo},
	} {
		t.Run(s.app, func(t *testing.T) {
			c := up(t, lab.Options{Switch: lab.SwitchOVS, App: s.app, Servers: 2})
			before := c.status()
			c.thousandsOfDocuments()
			c.loadByWrk()
			if s.upload != nil {
				c.timed("100 MB up", func() { s.upload(c) })
			}
			if after := c.status(); after.HandoffsFailed != 0 || after.RequestsProxied != before.RequestsProxied {
				t.Errorf("not every request was handed off: %v", after)
			}
			c.bigFileWhileAgentsDie()
		})
	}
}

func (c *cluster) timed(what string, f func()) {
	c.t.Helper()
	begun := time.Now()
	f()
	c.t.Logf("%s: %v", what, time.Since(begun).Round(time.Millisecond))
}

// thousandsOfDocuments fetches 5,000, each on a connection of its own, compares
// every octet, and finds all of them in the servers' own logs, from the client.
func (c *cluster) thousandsOfDocuments() {
	c.t.Helper()
	const n, concurrently = 5000, 16
	var client string
	for _, h := range c.Info().Hosts {
		if h.Role == lab.RoleClient {
			client = h.Addresses[0].String()
		}
	}
	logged := c.requestsLogged(client)
	h := c.client("client1")
	var next, failed atomic.Int64
	var wg sync.WaitGroup
	c.timed(fmt.Sprint(n, " requests"), func() {
		for range concurrently {
			wg.Go(func() {
				for i := next.Add(1); i <= n; i = next.Add(1) {
					size := []int64{100, 1000, 10_000, 100_000}[i%4]
					if err := download(c.t.Context(), h, c.urls(fmt.Sprintf("/bytes/%d", size))[0], size); err != nil && failed.Add(1) < 5 {
						c.t.Error(err)
					}
				}
			})
		}
		wg.Wait()
	})
	if f := failed.Load(); f > 0 {
		c.t.Errorf("%d of %d requests failed", f, n)
	}
	c.await(15*time.Second, func() string { // lighttpd writes its log in blocks
		if got := c.requestsLogged(client) - logged; got != n {
			return fmt.Sprintf("the servers' logs show %d requests of %s, not %d", got, client, n)
		}
		return ""
	})
}

// requestsLogged counts the requests for documents by a client's address.
func (c *cluster) requestsLogged(client string) (n int) {
	c.t.Helper()
	for _, h := range c.Info().Hosts {
		if h.Role != lab.RoleServer {
			continue
		}
		b, err := os.ReadFile(c.AccessLog(h.Name))
		if err != nil {
			c.t.Fatal(err)
		}
		for line := range bytes.Lines(b) {
			if bytes.HasPrefix(line, []byte(client+" ")) && bytes.Contains(line, []byte("/bytes/")) {
				n++
			}
		}
	}
	return n
}

// loadByWrk has a real client keep connections open where the server does.
func (c *cluster) loadByWrk() {
	c.t.Helper()
	out := c.exec("client1", "wrk", "-t", "1", "-c", "8", "-d", "2s", c.urls("/bytes/10000")[0])
	if strings.Contains(out, "Socket errors") || strings.Contains(out, "Non-2xx") || !strings.Contains(out, "requests in") {
		c.t.Errorf("wrk: %s", out)
	}
}

// eachAnswers wants an answer from each server by the service.
func (c *cluster) eachAnswers(servers ...string) {
	c.t.Helper()
	c.await(20*time.Second, func() string {
		answered := make(map[string]bool)
		for range servers {
			answered[strings.TrimSpace(c.exec("client1", "curl", "-sS", "--fail", "--max-time", "20", c.urls("/whoami")[0]))] = true
		}
		if len(answered) < len(servers) {
			return fmt.Sprintf("only %v answer", answered)
		}
		return ""
	})
}

const uploadSize = 100_000_000

// put uploads with PUT, and looks at what the server has stored.
func (c *cluster) put() {
	c.t.Helper()
	c.exec("client1", "curl", "-sS", "--fail", "--max-time", "60", "-o", "/dev/null", "-T", filepath.Join(c.Root("server1"), "bytes", fmt.Sprint(uploadSize)), c.urls("/upload/stored")[0])
	for _, host := range []string{"server1", "server2"} {
		if file := filepath.Join(c.Root(host), "upload", "stored"); exists(file) {
			c.sameContent(file, uploadSize)
			return
		}
	}
	c.t.Error("no server has stored the upload")
}

func exists(file string) bool {
	_, err := os.Stat(file)
	return err == nil
}

// echo uploads with POST, and compares the digest in the answer.
func (c *cluster) echo() {
	c.t.Helper()
	out := c.exec("client1", "curl", "-sS", "--fail", "--max-time", "60", "--data-binary", "@"+filepath.Join(c.Root("server1"), "bytes", fmt.Sprint(uploadSize)), c.urls("/echo")[0])
	var got app.Echo
	if err := json.Unmarshal([]byte(out), &got); err != nil || got != (app.Echo{Length: uploadSize, SHA256: digest(uploadSize)}) {
		c.t.Errorf("the server got %s, %v", out, err)
	}
}

// bigFileWhileAgentsDie downloads 1 GB from each server. Meanwhile the servers'
// agents are killed: the servers go on, also for direct clients, and take
// sessions again when the agents are back.
func (c *cluster) bigFileWhileAgentsDie() {
	c.t.Helper()
	begun := make(chan struct{}, 2)
	errs := make(chan error, 2)
	start := time.Now()
	for range 2 {
		go func() { errs <- c.zeros(1_000_000_000, begun) }()
	}
	<-begun
	<-begun
	servers := []string{"server1", "server2"}
	for _, host := range servers {
		if err := c.Signal(host, "agent", unix.SIGKILL); err != nil {
			c.t.Fatal(err)
		}
	}
	for _, host := range servers {
		if err := c.WaitExit(c.t.Context(), host, "agent"); err != nil {
			c.t.Fatal(err)
		}
		c.direct(host)
	}
	for _, host := range servers {
		if err := c.Start(host, "agent"); err != nil {
			c.t.Fatal(err)
		}
	}
	for range servers {
		if err := <-errs; err != nil {
			c.t.Errorf("1 GB: %v", err)
		}
	}
	c.t.Logf("2 times 1 GB at once: %v", time.Since(start).Round(time.Millisecond))
	for _, host := range servers {
		c.direct(host)
	}
	c.await(20*time.Second, func() string {
		before := c.status()
		c.eachAnswers(servers...)
		for range 50 { // the agents report after the fact
			if c.status().HandoffsCompleted >= before.HandoffsCompleted+uint64(len(servers)) {
				return ""
			}
			<-time.After(10 * time.Millisecond)
		}
		return "requests succeed, but are not handed off"
	})
}

// direct asks a server itself, past the service.
func (c *cluster) direct(host string) {
	c.t.Helper()
	for _, h := range c.Info().Hosts {
		if h.Name == host {
			if got := c.exec("dispatcher1", "curl", "-sS", "--fail", "--max-time", "20", fmt.Sprintf("http://%v/whoami", h.Addresses[0])); got != host+"\n" {
				c.t.Errorf("%s answers %q to a direct request", host, got)
			}
		}
	}
}

// zeros downloads /zero/n, and says when it has begun.
func (c *cluster) zeros(n int64, begun chan<- struct{}) error {
	var once sync.Once
	started := func() { once.Do(func() { begun <- struct{}{} }) }
	defer started()
	ctx, cancel := context.WithTimeout(c.t.Context(), 2*time.Minute)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.urls(fmt.Sprintf("/zero/%d", n))[0], nil)
	if err != nil {
		return err
	}
	resp, err := c.client("client1").Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s", resp.Status)
	}
	b, zero := make([]byte, 256<<10), make([]byte, 256<<10)
	var got int64
	for {
		m, err := resp.Body.Read(b)
		if !bytes.Equal(b[:m], zero[:m]) {
			return fmt.Errorf("an octet after %d is not zero", got)
		}
		if got += int64(m); got > n/100 {
			started()
		}
		if err == io.EOF {
			break
		}
		if err != nil {
			return fmt.Errorf("after %d octets: %w", got, err)
		}
	}
	if got != n {
		return fmt.Errorf("%d octets, want %d", got, n)
	}
	return nil
}
