package e2e

import (
	"bufio"
	"cmp"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shunt-sdn/shunt/internal/testnet"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

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

// restored: the database is lost, and policy and leases come back from an
// export, so that sessions which servers hold live on.
func restored(c *cluster) {
	// Addresses that a new database would give out otherwise.
	c.policy("services: [{name: web, defaultPool: one}, {name: first, vips: [10.10.0.82], port: 80}]" + onePerServer)
	c.policy("services: [{name: web, defaultPool: one}, {name: first, vips: [10.10.0.82], port: 80}, {name: second, vips: [10.10.0.83], port: 80}]" + onePerServer)
	c.policy("services: [{name: web, defaultPool: one}, {name: second, vips: [10.10.0.83], port: 80}]" + onePerServer)
	export := func() string {
		_, rest, _ := strings.Cut(c.exec("controller", binary, "export"), "\n") // the first line has the revision
		return rest
	}
	var before string
	c.await(10*time.Second, func() string {
		if before = export(); strings.Count(before, "dispatcher: dispatcher") != 4 {
			return "it exports " + before
		}
		return ""
	})
	backup := filepath.Join(c.t.TempDir(), "backup.yaml")
	if err := os.WriteFile(backup, []byte(before), 0o600); err != nil {
		c.t.Fatal(err)
	}
	slow := make(chan error, 1)
	go func() {
		_, err := answer(c.client("client1"), c.get("/slow?ms=6000")(0))
		slow <- err
	}()
	c.await(5*time.Second, func() string {
		for _, s := range c.sessions() {
			if s.Node == "server1" {
				return ""
			}
		}
		return "server1 holds no session"
	})
	if err := c.Signal("controller", "controller", unix.SIGKILL); err != nil {
		c.t.Fatal(err)
	}
	if err := c.WaitExit(c.t.Context(), "controller", "controller"); err != nil {
		c.t.Fatal(err)
	}
	dir := filepath.Join(filepath.Dir(filepath.Dir(c.Log("controller", "controller"))), "controller")
	if err := os.Remove(filepath.Join(dir, "controller.db")); err != nil {
		c.t.Fatal(err)
	}
	if out := c.exec("controller", binary, "import", backup, "--stopped", filepath.Join(dir, "config.yaml")); strings.Count(out, "created") != 9 {
		c.t.Errorf("import says\n%s", out)
	}
	if err := c.Start("controller", "controller"); err != nil {
		c.t.Fatal(err)
	}
	c.everyoneIsUp()
	if after := export(); after != before {
		c.t.Errorf("before:\n%s\nafter:\n%s", before, after)
	}
	if out := c.exec("controller", binary, "import", backup); strings.Count(out, "unchanged") != 9 {
		c.t.Errorf("import of what is there says\n%s", out)
	}
	got, failed := c.spread(20, 4, c.get("/whoami"))
	c.none(failed)
	if got["server1"] != 20 {
		c.t.Errorf("after the import: %v", got)
	}
	if err := <-slow; err != nil {
		c.t.Errorf("a session that server1 held: %v", err)
	}
}
