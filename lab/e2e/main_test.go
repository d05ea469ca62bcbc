package e2e

import (
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shunt-sdn/shunt/internal/testnet"
	"github.com/shunt-sdn/shunt/lab"
	"github.com/shunt-sdn/shunt/lab/app"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

var binary string // the program under test

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "shunt-e2e-")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	binary = filepath.Join(dir, "shunt")
	build := exec.Command("go", "build", "-o", binary, "../../cmd/shunt")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		fmt.Fprintf(os.Stderr, "build shunt: %v\n%s", err, out)
		os.Exit(1)
	}
	code := m.Run()
	os.RemoveAll(dir)
	os.Exit(code)
}

// cluster is a lab and what tests ask of it.
type cluster struct {
	*lab.Lab
	t        *testing.T
	operator shuntv1.OperatorServiceClient
}

// up makes a lab that is gone when the test ends. The tests of this package run
// one after the other: two labs at once would share two cores.
func up(t *testing.T, o lab.Options) *cluster {
	t.Helper()
	testnet.NeedRoot(t)
	if o.Switch == lab.SwitchOVS {
		testnet.NeedProgram(t, "ovs-vswitchd", "ovsdb-server", "ovs-vsctl", "ovs-ofctl")
	}
	o.Name = fmt.Sprintf("%s%d", namePrefix, os.Getpid())
	o.Binary = binary
	removeLeftovers(t)
	l, err := lab.Up(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{Lab: l, t: t}
	t.Cleanup(func() {
		if t.Failed() {
			c.dump()
		}
		if err := l.Down(context.Background()); err != nil {
			t.Errorf("lab down: %v", err)
		}
	})
	operator, closer, err := l.Operator()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { closer.Close() })
	c.operator = operator
	return c
}

// namePrefix of the labs of these tests; the process follows.
const namePrefix = "e2e-"

// removeLeftovers removes the labs of runs that were killed.
func removeLeftovers(t *testing.T) {
	t.Helper()
	names, err := lab.List()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		pid, err := strconv.Atoi(strings.TrimPrefix(name, namePrefix))
		if err != nil || !strings.HasPrefix(name, namePrefix) || pid != os.Getpid() && unix.Kill(pid, 0) == nil {
			continue
		}
		if _, err := lab.Remove(context.Background(), name); err != nil {
			t.Fatal(err)
		}
	}
}

// dumped is how many lines of a log are shown.
const dumped = 60

// dump shows the end of every daemon's log, without the many refusals that tests
// provoke.
func (c *cluster) dump() {
	for _, h := range c.Info().Hosts {
		for name := range h.PIDs {
			b, err := os.ReadFile(c.Log(h.Name, name))
			if err != nil {
				continue
			}
			lines := slices.DeleteFunc(strings.Split(strings.TrimRight(string(b), "\n"), "\n"), func(line string) bool {
				return strings.Contains(line, "refused a request")
			})
			c.t.Logf("%s %s:\n%s", h.Name, name, strings.Join(lines[max(0, len(lines)-dumped):], "\n"))
		}
	}
}

// urls of a path by each virtual IP.
func (c *cluster) urls(path string) []string {
	var out []string
	for _, vip := range c.Service().VIPs() {
		host := vip.String()
		if vip.Is6() {
			host = "[" + host + "]"
		}
		out = append(out, fmt.Sprintf("http://%s:%d%s", host, c.Service().Port, path))
	}
	return out
}

// exec runs a command on a host and returns its output; the test fails with it.
func (c *cluster) exec(host string, command ...string) string {
	c.t.Helper()
	out, err := c.Exec(c.t.Context(), host, command...)
	if err != nil {
		c.t.Fatalf("%s: %s: %v\n%s", host, strings.Join(command, " "), err, out)
	}
	return string(out)
}

func (c *cluster) status() *shuntv1.GetStatusResponse {
	c.t.Helper()
	s, err := c.operator.GetStatus(c.t.Context(), &shuntv1.GetStatusRequest{})
	if err != nil {
		c.t.Fatalf("status: %v", err)
	}
	return s
}

func (c *cluster) sessions() []*shuntv1.SessionInfo {
	c.t.Helper()
	stream, err := c.operator.ListSessions(c.t.Context(), &shuntv1.ListSessionsRequest{})
	if err != nil {
		c.t.Fatalf("sessions: %v", err)
	}
	var all []*shuntv1.SessionInfo
	for {
		part, err := stream.Recv()
		if err == io.EOF {
			return all
		}
		if err != nil {
			c.t.Fatalf("sessions: %v", err)
		}
		all = append(all, part.Sessions...)
	}
}

// await waits until f returns "", and fails with what it returned last.
func (c *cluster) await(within time.Duration, f func() string) {
	c.t.Helper()
	var last string
	for end := time.Now().Add(within); time.Now().Before(end); {
		if last = f(); last == "" {
			return
		}
		select {
		case <-time.After(20 * time.Millisecond):
		case <-c.t.Context().Done():
			c.t.Fatal(c.t.Context().Err())
		}
	}
	c.t.Fatalf("not within %v: %s", within, last)
}

// client returns a client on a host that makes a connection for each request.
func (c *cluster) client(host string) *http.Client {
	h := c.Client(host)
	h.Timeout = 2 * time.Minute
	return h
}

// download fetches /bytes/n and compares every byte.
func download(ctx context.Context, h *http.Client, url string, n int64) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	resp, err := h.Do(req)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, resp.Status)
	}
	v := app.NewVerifier(n)
	if _, err := io.Copy(v, resp.Body); err != nil {
		return fmt.Errorf("%s: %w", url, err)
	}
	return v.Close()
}

// digest is the SHA-256 of /bytes/n.
func digest(n int64) string {
	h := sha256.New()
	io.Copy(h, app.NewContent(n))
	return fmt.Sprintf("%x", h.Sum(nil))
}
