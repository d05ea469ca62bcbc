package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/shunt-sdn/shunt/controller"
	"github.com/shunt-sdn/shunt/controller/config"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// cluster is a controller in this process and agents that only talk.
type cluster struct {
	t    *testing.T
	dir  string
	cfg  config.Config
	conn *grpc.ClientConn
	stop func()
}

func newCluster(t *testing.T) *cluster {
	t.Helper()
	dir, err := os.MkdirTemp("", "shunt") // short: sockets are in it
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	cfg, err := config.Parse("c.yaml", []byte(fmt.Sprintf(`listen: {grpc: "%[2]v", operator: "unix:%[1]s/c"}
insecure: true
state: %[1]s/db
pools: [172.31.0.0/24]
switches:
- {connect: "unix:%[1]s/switch", interfaces: [{name: nodes, mac: "02:00:00:00:00:01", addresses: [10.10.2.1/24], ports: [p1]}]}
services:
- {name: web, vips: [10.10.0.80], port: 80}
`, dir, l.Addr())))
	if err != nil {
		t.Fatal(err)
	}
	c := &cluster{t: t, dir: dir, cfg: cfg}
	t.Cleanup(func() { c.stop() })
	c.start()
	return c
}

// start starts the controller and returns when it answers.
func (c *cluster) start() {
	c.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- controller.Run(ctx, c.cfg, "test", slog.New(slog.DiscardHandler)) }()
	c.stop = sync.OnceFunc(func() {
		if c.conn != nil {
			c.conn.Close()
		}
		cancel()
		if err := <-done; err != nil {
			c.t.Errorf("controller: %v", err)
		}
	})
	var err error
	if c.conn, err = grpc.NewClient(c.cfg.Listen.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials())); err != nil {
		c.t.Fatal(err)
	}
	poll := time.NewTicker(5 * time.Millisecond)
	defer poll.Stop()
	for deadline := time.Now().Add(20 * time.Second); ; <-poll.C {
		if _, _, status := c.shunt("", "status"); status == 0 {
			return
		}
		if time.Now().After(deadline) {
			c.t.Fatal("the controller does not answer")
		}
	}
}

// agent connects one that heeds every policy, with a number for its addresses.
func (c *cluster) agent(name string, role shuntv1.Role, number byte) {
	c.t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	stream, err := shuntv1.NewControlServiceClient(c.conn).Attach(ctx, grpc.WaitForReady(true))
	if err != nil {
		c.t.Fatal(err)
	}
	app := &shuntv1.Application{Service: "web", Ready: true, Direct: &shuntv1.Endpoint{Address: []byte{10, 10, 2, number}, Port: 80}}
	hello := &shuntv1.Hello{
		Node: name, Roles: []shuntv1.Role{role}, Mac: []byte{2, 0, 0, 0, 0, number}, Addresses: [][]byte{{10, 10, 2, number}},
		TransferEndpoint: fmt.Sprintf("10.99.0.%d:6641", number), Instance: 1, Applications: []*shuntv1.Application{app},
	}
	configured := make(chan struct{})
	var once sync.Once
	var wg sync.WaitGroup
	c.t.Cleanup(func() { cancel(); wg.Wait() })
	send := func(m *shuntv1.AttachRequest) { stream.Send(m) } // an error ends the receiver too
	wg.Go(func() {
		for {
			m, err := stream.Recv()
			switch {
			case err != nil:
				return
			case m.GetSnapshot() != nil:
				send(&shuntv1.AttachRequest{Message: &shuntv1.AttachRequest_Sync{Sync: &shuntv1.Sync{Query: m.GetSnapshot().Query}}})
			case m.GetConfig() != nil:
				send(&shuntv1.AttachRequest{Message: &shuntv1.AttachRequest_Report{Report: &shuntv1.Report{
					PolicyVersion: m.GetConfig().GetPolicy().GetVersion(), Applications: hello.Applications,
				}}})
				once.Do(func() { close(configured) })
			}
		}
	})
	send(&shuntv1.AttachRequest{Message: &shuntv1.AttachRequest_Hello{Hello: hello}})
	send(&shuntv1.AttachRequest{Message: &shuntv1.AttachRequest_Sync{Sync: &shuntv1.Sync{}}})
	select {
	case <-configured:
	case <-time.After(20 * time.Second):
		c.t.Fatalf("%s has no configuration", name)
	}
}

// file writes one and returns its path.
func (c *cluster) file(name, text string) string {
	c.t.Helper()
	path := filepath.Join(c.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		c.t.Fatal(err)
	}
	return path
}

// shunt runs the program and returns what it printed and its exit status.
func (c *cluster) shunt(stdin string, args ...string) (out, errs string, status int) {
	c.t.Helper()
	var o, e bytes.Buffer
	cmd := newRootCommand()
	cmd.SetIn(strings.NewReader(stdin))
	cmd.SetOut(&o)
	cmd.SetErr(&e)
	if args[0] == "__complete" {
		args = append([]string{args[0], args[1], "--controller", "unix:" + c.dir + "/c"}, args[2:]...)
	} else {
		args = append(args, "--controller", "unix:"+c.dir+"/c")
	}
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(c.t.Context())
	var s exitStatus
	switch {
	case errors.As(err, &s):
		status = int(s)
	case err != nil:
		status = 1
		fmt.Fprintln(&e, "shunt:", err)
	}
	return o.String(), strings.ReplaceAll(e.String(), c.dir+"/", ""), status
}

// run runs the program, which must succeed, and returns what it printed.
func (c *cluster) run(args ...string) string {
	c.t.Helper()
	out, errs, status := c.shunt("", args...)
	if status != 0 {
		c.t.Fatalf("shunt %s: exit status %d\n%s%s", strings.Join(args, " "), status, out, errs)
	}
	return out
}

const shop = `services:
  - name: web
    routes:
      - name: images
        match:
          paths:
            - prefix: /images/
        pool: static
    defaultPool: app
pools:
  - name: app
  - name: static
    algorithm: maglev
    members:
      - server: server1
`

// leased is what an export has of leases.
const leased = `leases:
  - service: web
    dispatcher: dispatcher1
    address: 172.31.0.1
`

func TestAnOperatorsDay(t *testing.T) {
	c := newCluster(t)
	c.agent("dispatcher1", shuntv1.Role_ROLE_DISPATCHER, 11)
	c.agent("server1", shuntv1.Role_ROLE_SERVER, 101)
	c.agent("server2", shuntv1.Role_ROLE_SERVER, 102)
	path := c.file("shop.yaml", shop)

	if got := c.run("apply", "-f", path, "--dry-run"); got != "service/web created (dry run)\npool/app created (dry run)\npool/static created (dry run)\n" {
		t.Errorf("dry run: %s", got)
	}
	if got := c.run("apply", "-f", path, "--wait"); got != "service/web created\npool/app created\npool/static created\n" {
		t.Errorf("apply: %s", got)
	}
	if got := c.run("export"); got != "# The dispatch policy, revision 1.\n"+shop+leased {
		t.Errorf("export: %s", got)
	}
	changed := c.file("changed.yaml", strings.Replace(shop, "algorithm: maglev", "algorithm: ring_hash", 1))
	want := "service/web unchanged\npool/app unchanged\npool/static updated\n@@ -1,5 +1,5 @@\n pools:\n   - name: static\n-    algorithm: maglev\n+    algorithm: ring_hash\n     members:\n       - server: server1\n"
	if got := c.run("apply", "-f", changed, "--diff"); got != want {
		t.Errorf("diff:\n%s", got)
	}

	// What get prints can be edited and applied; not if somebody was faster.
	mine := c.run("get", "pools", "static", "-o", "yaml")
	c.run("apply", "-f", path, "--wait")
	if out, errs, status := c.shunt(mine, "apply", "-f", "-"); status != exitConflict || !strings.Contains(errs, "pool static has version 3, the change is based on 2") {
		t.Errorf("a conflict: status %d\n%s%s", status, out, errs)
	}

	for _, x := range []struct{ args, want string }{
		{"get services", "web"}, {"get svc web", "10.10.0.80:80"}, {"get routes", "path /images/…"}, {"get pools", "server1"}, {"get servers", "server2"},
		{"get servers server2", "up"}, {"get routes web/images", "static"}, {"get pool/app", "round_robin"},
		{"describe service web", "revision 3"}, {"describe pool static", "route images of service web"}, {"describe server server1", "10.10.2.101"}, {"describe route images", "number 1 of service web"},
		{"explain /images/a.png", "server1"}, {"explain GET http://10.10.0.80/images/a.png", "route images"}, {"top --once", "HAND-OFF P50"}, {"nodes", "dispatcher1"},
	} {
		if got := c.run(strings.Fields(x.args)...); !strings.Contains(got, x.want) {
			t.Errorf("%s: %q is not in\n%s", x.args, x.want, got)
		}
	}
	for _, args := range []string{"get services", "get routes", "get pools", "get servers", "explain /", "top --once", "describe pool app"} {
		out := c.run(append(strings.Fields(args), "-o", "json")...)
		var v any
		if err := json.Unmarshal([]byte(out), &v); err != nil || strings.Contains(out, "null") {
			t.Errorf("%s -o json: %v\n%s", args, err, out)
		}
	}

	if got := c.run("drain", "server1", "--wait"); !strings.HasSuffix(got, "server1 is drained\n") {
		t.Errorf("drain: %s", got)
	}
	if got := c.run("get", "servers"); !strings.Contains(got, "drained") {
		t.Errorf("drained: %s", got)
	}
	if got := c.run("explain", "/images/a.png"); !strings.Contains(got, "server1 is drained") {
		t.Errorf("explain during a drain: %s", got)
	}
	if got := c.run("undrain", "server1"); got != "server1 takes new requests\n" {
		t.Errorf("undrain: %s", got)
	}

	exported := c.file("export.yaml", c.run("export"))
	if got := c.run("delete", "service", "web"); got != "service/web deleted\n" {
		t.Errorf("delete: %s", got)
	}
	if got := c.run("import", exported); got != "service/web created\npool/app unchanged\npool/static unchanged\nlease/web/dispatcher1 172.31.0.1 unchanged\n" {
		t.Errorf("import: %s", got)
	}
	if got := c.run("apply", "-f", c.file("less.yaml", "services: [{name: web, defaultPool: app}]\npools: [{name: app}]"), "--prune"); !strings.Contains(got, "pool/static deleted") {
		t.Errorf("prune: %s", got)
	}
	if got := c.run("delete", "-f", c.file("rest.yaml", "services: [{name: web}]\npools: [{name: app}]")); got != "service/web deleted\npool/app deleted\n" {
		t.Errorf("delete -f: %s", got)
	}
	if got := c.run("export"); !strings.HasSuffix(got, ".\n"+leased) {
		t.Errorf("in the end: %s", got)
	}
}

func TestMistakesAreToldWithTheirPlace(t *testing.T) {
	c := newCluster(t)
	c.run("apply", "-f", c.file("shop.yaml", shop))
	for _, x := range []struct {
		name, yaml, want string
	}{
		{"unknown field", "pools:\n- name: app\n  algoritm: random\n", `p.yaml:3:3: `},
		{"unknown pool", "services:\n- name: web\n  routes:\n  - name: r\n    pool: statik\n  defaultPool: app\n", `p.yaml:5:11: `},
		{"unknown service", "services:\n- name: wep\n  defaultPool: app\n", `p.yaml:2:9: the controller's configuration has no service "wep"; did you mean "web"?`},
		{"a lease of no pool", "leases:\n- service: web\n  dispatcher: dispatcher1\n  address: 10.9.9.9\n", `p.yaml:4:12: 10.9.9.9 is no session address of a configured pool`},
		{"stored ones suffer", "pools:\n- name: app\n  members: []\n  backup: app\n", `p.yaml:4:`},
	} {
		out, errs, status := c.shunt("", "apply", "-f", c.file("p.yaml", x.yaml))
		if status != 1 || !strings.Contains(errs, x.want) || out != "" {
			t.Errorf("%s: status %d\n%s%s", x.name, status, out, errs)
		}
	}
	for _, x := range []struct{ args, want string }{
		{"get thing", "write services, routes, pools or servers"},
		{"get pools nowhere", `the policy has no pool "nowhere"`},
		{"get servers nowhere", `there is no server "nowhere"`},
		{"get servers -o xml", "write -o json, -o yaml or -o table"},
		{"get routes -o yaml", "has no YAML"},
		{"describe pool", "name one to describe"},
		{"delete pool static", "still in use"},
		{"delete route images", "applying its service without it"},
		{"delete", "say what to delete"},
		{"drain server9", `server "server9": not found`},
		{"explain /a /b /c", "accepts between 1 and 2"},
		{"explain nonsense", "is no URL of HTTP and no path"},
		{"explain / -H nonsense", `write "Name: value"`},
		{"apply -f nowhere.yaml", "no such file"},
		{"apply", "filename"},
		{"top web2 --once", `service "web2": not found`},
	} {
		if out, errs, status := c.shunt("", strings.Fields(x.args)...); status != 1 || !strings.Contains(errs, x.want) {
			t.Errorf("%s: status %d, want %q\n%s%s", x.args, status, x.want, out, errs)
		}
	}
}

func TestADrainThatTakesTooLongHasAStatusOfItsOwn(t *testing.T) {
	c := newCluster(t)
	c.agent("server1", shuntv1.Role_ROLE_SERVER, 101)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	// A dispatcher that heeds nothing.
	stream, err := shuntv1.NewControlServiceClient(c.conn).Attach(ctx, grpc.WaitForReady(true))
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&shuntv1.AttachRequest{Message: &shuntv1.AttachRequest_Hello{Hello: &shuntv1.Hello{
		Node: "dispatcher1", Roles: []shuntv1.Role{shuntv1.Role_ROLE_DISPATCHER}, Mac: []byte{2, 0, 0, 0, 0, 1}, Addresses: [][]byte{{10, 10, 2, 11}},
		TransferEndpoint: "10.99.0.11:6641", Instance: 1,
	}}}); err != nil {
		t.Fatal(err)
	}
	if _, err := stream.Recv(); err != nil {
		t.Fatal(err)
	}
	out, errs, status := c.shunt("", "drain", "server1", "--wait", "--timeout", "3s")
	if status != exitTimeout || !strings.Contains(out, "server1 drains: 0 sessions left") || !strings.Contains(errs, "it goes on") {
		t.Errorf("status %d\n%s%s", status, out, errs)
	}
	_, errs, status = c.shunt("", "apply", "-f", c.file("shop.yaml", shop), "--wait", "--timeout", "3s")
	if status != exitTimeout || !strings.Contains(errs, "not yet applied by dispatcher1") {
		t.Errorf("apply --wait: status %d\n%s", status, errs)
	}
}

func TestShellsCompleteNames(t *testing.T) {
	c := newCluster(t)
	c.agent("server1", shuntv1.Role_ROLE_SERVER, 101)
	c.run("apply", "-f", c.file("shop.yaml", shop))
	for _, x := range []struct{ line, want string }{
		{"get|", "pools"}, {"get|pools|", "static"}, {"get|routes|", "images"}, {"describe|service|", "web"},
		{"drain|", "server1"}, {"top|", "web"}, {"delete|pool|", "app"}, {"explain|--service|", "web"},
	} {
		out, _, _ := c.shunt("", append([]string{"__complete"}, strings.Split(x.line, "|")...)...)
		if !strings.Contains("\n"+out, "\n"+x.want+"\n") {
			t.Errorf("%s completes to\n%s", x.line, out)
		}
	}
}
