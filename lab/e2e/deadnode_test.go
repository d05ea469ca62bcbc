package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shunt-sdn/shunt/lab"
	"github.com/shunt-sdn/shunt/lab/app"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// A server that dies is noticed in seconds; a client of one learns it by a RST.
// One that only the management network has lost serves its sessions to the end.
func TestAServersDeathIsNoticedAndTheLossOfItsManagementNetworkIsBorne(t *testing.T) {
	t.Run("sessions are steered", func(t *testing.T) {
		c := up(t, lab.Options{Switch: lab.SwitchOVS, Steering: "flows", IPv6: true})
		c.loseController()
		c.loseManagement("server2")
		c.die("server3")
	})
	// Nor does it matter that the controller has not heard of them.
	t.Run("sessions are diverted", func(t *testing.T) {
		never := time.Minute
		c := up(t, lab.Options{Switch: lab.SwitchOVS, Steering: "conntrack", IPv6: true, SteerAfter: &never})
		c.die("server3")
	})
}

// stream is an answer that goes on for a while, a line every 100 ms.
type stream struct {
	server string
	lines  int
	err    error // why it ended; nil: it came to its end
	at     time.Time
	over   chan struct{} // closed when the three above are set
}

// streams begins answers of so many lines, by each virtual IP in turn.
func (c *cluster) streams(ctx context.Context, n, lines int) []*stream {
	c.t.Helper()
	client, urls := c.client("client1"), c.urls(fmt.Sprintf("/sse?n=%d&ms=100", lines))
	all := make([]*stream, n)
	for i := range all {
		req, err := http.NewRequestWithContext(ctx, http.MethodGet, urls[i/3%len(urls)], nil)
		if err != nil {
			c.t.Fatal(err)
		}
		resp, err := client.Do(req)
		if err != nil {
			c.t.Fatalf("stream %d: %v", i, err)
		}
		s := &stream{server: resp.Header.Get(app.NodeHeader), over: make(chan struct{})}
		all[i] = s
		go func() {
			defer close(s.over)
			defer resp.Body.Close()
			text := bufio.NewScanner(resp.Body)
			for text.Scan() {
				if strings.HasPrefix(text.Text(), "data:") {
					s.lines++
				}
			}
			if s.err, s.at = text.Err(), time.Now(); s.err == nil && s.lines != lines {
				s.err = fmt.Errorf("it ended after %d of %d lines: %w", s.lines, lines, io.ErrUnexpectedEOF)
			}
		}()
	}
	return all
}

func (c *cluster) link(host, name, state string) {
	c.t.Helper()
	c.exec(host, "ip", "link", "set", name, state)
}

// node is what the controller says of a node; nil if it does not know it.
func (c *cluster) node(name string) *shuntv1.Node {
	c.t.Helper()
	for _, n := range c.status().Nodes {
		if n.Name == name {
			return n
		}
	}
	return nil
}

// isUp tells whether the controller says that a node is up.
func (c *cluster) isUp(node string) bool {
	c.t.Helper()
	return c.node(node).GetUp()
}

// loseManagement takes a server's management link down while it answers.
func (c *cluster) loseManagement(server string) {
	c.t.Helper()
	all := c.streams(c.t.Context(), 12, 130)
	c.link(server, lab.ManagementLink, "down")
	c.await(15*time.Second, func() string {
		said, err := os.ReadFile(c.Log("controller", "controller"))
		if err != nil || !strings.Contains(string(said), "the management network does not lead to it") {
			return fmt.Sprintf("the controller has not found out what is the matter, %v", err)
		}
		return ""
	})
	if c.isUp(server) {
		c.t.Errorf("%s is up without its management network", server)
	}
	for range 6 {
		if node, err := c.fetch(c.t.Context(), c.urls("/whoami")[0]); err != nil || node == server {
			c.t.Errorf("a new request is answered by %q, %v", node, err)
		}
	}
	there := 0
	for i, s := range all {
		<-s.over
		if s.err != nil {
			c.t.Errorf("stream %d, of %s, after %d lines: %v", i, s.server, s.lines, s.err)
		}
		if s.server == server {
			there++
		}
	}
	c.t.Logf("%d streams of %s came to their end", there, server)
	if there == 0 {
		c.t.Errorf("%s has answered none of the streams", server)
	}
	c.link(server, lab.ManagementLink, "up")
	c.await(20*time.Second, func() string {
		if !c.isUp(server) {
			return server + " is not up again"
		}
		return ""
	})
}

// loseController cuts the controller off from all that it speaks to: it is not
// the whole world that has died.
func (c *cluster) loseController() {
	c.t.Helper()
	all := c.streams(c.t.Context(), 6, 110)
	c.link("controller", lab.ManagementLink, "down")
	const cannotTell = "the switches cannot tell whether it is alive"
	c.await(15*time.Second, func() string {
		said, err := os.ReadFile(c.Log("controller", "controller"))
		if n := strings.Count(string(said), cannotTell); err != nil || n < 4 {
			return fmt.Sprintf("the controller has said of %d nodes that %s, %v", n, cannotTell, err)
		}
		return ""
	})
	c.link("controller", lab.ManagementLink, "up")
	for i, s := range all {
		<-s.over
		if s.err != nil {
			c.t.Errorf("stream %d, of %s, after %d lines: %v", i, s.server, s.lines, s.err)
		}
	}
	c.await(30*time.Second, func() string {
		status := c.status()
		for _, n := range status.Nodes {
			if !n.Up {
				return n.Name + " is not up again"
			}
		}
		if !status.Switches[0].Connected {
			return "the switch is not connected"
		}
		return ""
	})
}

// fetch returns the body of an answer.
func (c *cluster) fetch(ctx context.Context, url string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	client := c.Client("client1")
	client.Timeout = 40 * time.Second
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	return strings.TrimSpace(string(b)), err
}

const (
	// toldWithin is when the last client of a dead node has been told, or answered by
	// another: most are after 7 s.
	toldWithin = 15 * time.Second
	// shunnedAfter is when no request is sent to a dead node any more.
	shunnedAfter = 5 * time.Second
)

// die has a server's host die: from one moment to the next nothing comes from it.
func (c *cluster) die(server string) {
	c.t.Helper()
	ctx, cancel := context.WithCancel(c.t.Context())
	defer cancel()
	all := c.streams(ctx, 12, 1000)
	held := c.heldBy(server)
	// Some of its clients wait for an answer, and say nothing by themselves.
	var waiting sync.WaitGroup
	var mu sync.Mutex
	lost, last := 0, time.Duration(0)
	var begun time.Time
	for i := range 6 {
		waiting.Go(func() {
			_, err := c.fetch(ctx, c.urls("/slow?ms=11000")[i/3])
			mu.Lock()
			defer mu.Unlock()
			if errors.Is(err, syscall.ECONNRESET) {
				lost, last = lost+1, max(last, time.Since(begun))
			} else if err != nil {
				c.t.Errorf("a slow request: %v", err)
			}
		})
	}
	c.await(5*time.Second, func() string {
		if n := c.heldBy("server1") + c.heldBy("server2") + c.heldBy("server3"); n != len(all)+6 {
			return fmt.Sprintf("the servers hold %d sessions", n)
		}
		return ""
	})
	idle := c.heldBy(server) - held
	if held == 0 || idle == 0 {
		c.t.Fatalf("%s has %d streams and %d slow requests", server, held, idle)
	}

	mu.Lock()
	begun = time.Now()
	mu.Unlock()
	for _, link := range []string{lab.DataLink, lab.ManagementLink} {
		c.link(server, link, "down")
	}
	for _, h := range c.Info().Hosts {
		for name := range h.PIDs {
			if h.Name == server {
				if err := c.Signal(server, name, unix.SIGKILL); err != nil {
					c.t.Error(err)
				}
			}
		}
	}
	caught := c.askUntil(ctx, begun.Add(shunnedAfter+3*time.Second), begun)
	there := 0
	for i, s := range all {
		if s.server != server {
			continue
		}
		there++
		select {
		case <-s.over:
			if took := s.at.Sub(begun); !errors.Is(s.err, syscall.ECONNRESET) || took > toldWithin {
				c.t.Errorf("stream %d ended after %v: %v", i, took, s.err)
			} else {
				last = max(last, took)
			}
		case <-time.After(time.Until(begun.Add(toldWithin))):
			c.t.Errorf("the client of stream %d was not told within %v", i, toldWithin)
		}
	}
	c.await(time.Until(begun.Add(toldWithin)), func() string {
		mu.Lock()
		defer mu.Unlock()
		if lost != idle {
			return fmt.Sprintf("%d clients that waited were told, not %d", lost, idle)
		}
		return ""
	})
	c.t.Logf("%d streams and %d waiting clients of %s were told within %v; %d new requests waited for it", there, idle, server, last.Round(time.Millisecond), caught)
	if n := c.heldBy(server); n != 0 {
		c.t.Errorf("%s still has %d sessions", server, n)
	}
	for i, s := range all {
		select {
		case <-s.over:
			if s.server != server {
				c.t.Errorf("stream %d, of %s, ended after %d lines: %v", i, s.server, s.lines, s.err)
			}
		default:
		}
	}
	waiting.Wait()
	cancel()
	for _, s := range all {
		<-s.over
	}
}

// askUntil sends requests, and returns how many of them waited for a server that died
// at begun. None may be lost: nobody has answered them, and another can.
func (c *cluster) askUntil(ctx context.Context, end, begun time.Time) (caught int) {
	var asked sync.WaitGroup
	var mu sync.Mutex
	for i := 0; time.Now().Before(end); i++ {
		asked.Go(func() {
			at := time.Now()
			_, err := c.fetch(ctx, c.urls("/whoami")[i%2])
			took := time.Since(at)
			mu.Lock()
			defer mu.Unlock()
			if took > time.Second {
				caught++
			}
			if err != nil || took > time.Second && at.Sub(begun) > shunnedAfter || at.Add(took).Sub(begun) > toldWithin {
				c.t.Errorf("a request %v after the death took %v: %v", at.Sub(begun).Round(time.Millisecond), took.Round(time.Millisecond), err)
			}
		})
		<-time.After(25 * time.Millisecond)
	}
	asked.Wait()
	return caught
}
