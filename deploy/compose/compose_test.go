//go:build compose

package compose

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/shunt-sdn/shunt/internal/testnet"
	"github.com/shunt-sdn/shunt/lab/app"
)

const (
	vip           = "http://10.10.0.80"
	vip6          = "http://[fd10::80]"
	clientAddress = "10.10.1.11"
	large         = 64 << 20 // octets of a long download, one of the files that the images have
)

var (
	dispatchers = []string{"dispatcher1", "dispatcher2"}
	servers     = []string{"server1", "server2", "server3"}
)

// TestTheLabOfContainers is one story: the parts of it need what was before.
func TestTheLabOfContainers(t *testing.T) {
	testnet.NeedRoot(t)
	testnet.NeedProgram(t, "docker", "docker-compose")
	var e *engine
	if os.Getenv("DOCKER_HOST") == "" {
		testnet.NeedProgram(t, "dockerd", "debootstrap", "unshare", "ip", "tar")
		e = startEngine(t)
		importImages(t, e)
	}
	p := newProject(t, e)
	p.up()
	story := []struct {
		name string
		tell func(*testing.T, *project)
	}{
		{"every server answers, with the same content", everyServerAnswers},
		{"servers log the client's address", serversSeeTheClient},
		{"containers have few privileges", fewPrivileges},
		{"Prometheus has everybody's metrics", metricsAreThere},
		{"a download outlives its dispatcher", downloadOutlivesItsDispatcher},
		{"requests go elsewhere when a server dies", serverDies},
		{"requests are answered without the controller", controllerDies},
		{"a download goes on when the switch is back", switchDies},
		{"the links come back with the panel", panelDies},
		{"agents can have fewer privileges", agentsCanHaveLess},
		{"what the documentation has for Docker", pagesCommands}, // the last: it takes the lab down
	}
	for _, s := range story {
		if !t.Run(s.name, func(t *testing.T) {
			defer func(outer *testing.T) { p.t = outer }(p.t)
			p.t = t
			s.tell(t, p)
		}) {
			return
		}
	}
}

// get requests a document from the client's container and returns the server's
// name. The content is checked.
func (p *project) get(base string, size int64) (server string, err error) {
	p.t.Helper()
	// The names go to standard error, so that standard output is the document.
	cmd := p.execCommand(p.t.Context(), "client", "curl", "--silent", "--show-error", "--fail", "--max-time", "20",
		"--write-out", "%{stderr}%header{x-node} %header{server}", fmt.Sprintf("%s/bytes/%d", base, size))
	v := app.NewVerifier(size)
	var stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = v, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("request: %w: %s", err, stderr.Bytes())
	}
	server, program, _ := strings.Cut(stderr.String(), " ")
	if server == "" && strings.HasPrefix(program, "mini_httpd") { // sets no header of ours
		server = "server2"
	}
	return server, v.Close()
}

func everyServerAnswers(t *testing.T, p *project) {
	for _, base := range []string{vip, vip6} {
		left := map[string]bool{}
		for _, s := range servers {
			left[s] = true
		}
		for range 40 {
			if len(left) == 0 {
				break
			}
			server, err := p.get(base, 1_000_000)
			if err != nil {
				t.Fatal(err)
			}
			delete(left, server)
		}
		if len(left) > 0 {
			t.Errorf("%s: 40 requests, none was answered by %v", base, left)
		}
	}
	s, err := p.status()
	if err != nil {
		t.Fatal(err)
	}
	if s.Handoffs.Completed == 0 || s.Handoffs.Failed != 0 || s.Requests.Proxied != 0 {
		t.Errorf("hand-offs and proxied requests: %+v, want only hand-offs", s)
	}
}

func serversSeeTheClient(t *testing.T, p *project) {
	for _, server := range []string{"server1", "server2"} { // the Go server writes no log
		wait(t, 10*time.Second, server+" to log a request of "+clientAddress, func(context.Context) error {
			log := p.logs(server)
			for line := range strings.Lines(log) {
				if strings.HasPrefix(line, clientAddress+" ") && strings.Contains(line, "GET /bytes/1000000") {
					return nil
				}
			}
			return fmt.Errorf("its log:\n%s", log)
		})
	}
	// The Go server says what it sees.
	wait(t, 20*time.Second, "server3 to answer /headers", func(context.Context) error {
		out, err := p.exec("client", "curl", "--silent", "--max-time", "5", vip+"/headers")
		if err != nil || !strings.Contains(out, `"node":"server3"`) {
			return fmt.Errorf("%q, %v", out, err)
		}
		if !strings.Contains(out, `"client":"`+clientAddress+":") {
			t.Errorf("server3 sees %s", out)
		}
		return nil
	})
}

// Prometheus gets metrics of every daemon, by the jobs that its rules name, and
// evaluates the rules.
func metricsAreThere(t *testing.T, p *project) {
	p.healthy("prometheus")
	const query = `count(up{job=~"shunt-controller|shunt-agent"} == 1)`
	wait(t, 30*time.Second, "Prometheus to reach six daemons", func(context.Context) error {
		out, err := p.exec("prometheus", "promtool", "query", "instant", "http://127.0.0.1:9090", query)
		if err == nil && !strings.Contains(out, "=> 6 @") {
			err = fmt.Errorf("%s is %s", query, out)
		}
		return err
	})
	written, err := os.ReadFile("../prometheus/shunt.rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Count(string(written), "- alert: ")
	wait(t, 20*time.Second, "Prometheus to evaluate the rules", func(context.Context) error {
		out, err := p.exec("client", "curl", "--silent", "--show-error", "--fail", "--max-time", "5", "http://prometheus:9090/api/v1/rules")
		if err != nil {
			return err
		}
		var answer struct {
			Data struct {
				Groups []struct {
					Rules []struct{ Name, Health, State string }
				}
			}
		}
		if err := json.Unmarshal([]byte(out), &answer); err != nil {
			return err
		}
		well := 0
		for _, g := range answer.Data.Groups {
			for _, r := range g.Rules {
				if r.State == "firing" {
					return fmt.Errorf("%s fires in a healthy lab", r.Name)
				}
				if r.Health == "ok" {
					well++
				}
			}
		}
		if well != want {
			return fmt.Errorf("%d of %d rules are evaluated: %s", well, want, out)
		}
		return nil
	})
}

func fewPrivileges(t *testing.T, p *project) {
	const dacOverride, kill, setgid, setuid, netAdmin, netRaw, sysAdmin = 1 << 1, 1 << 5, 1 << 6, 1 << 7, 1 << 12, 1 << 13, 1 << 21
	for service, want := range map[string]uint64{
		"controller":  0,
		"panel":       netAdmin,
		"switch":      netAdmin | netRaw,
		"dispatcher1": netAdmin | netRaw | sysAdmin,
		"server1":     netAdmin | netRaw | sysAdmin | kill | setgid | setuid | dacOverride,
		"server3":     netAdmin | netRaw | sysAdmin | kill | setgid | setuid,
		"prometheus":  0,
		"client":      netAdmin | netRaw | kill | setgid | setuid,
	} {
		out, err := p.exec(service, "sed", "-n", `s/^CapBnd:\s*//p`, "/proc/1/status")
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.TrimSpace(out); got != fmt.Sprintf("%016x", want) {
			t.Errorf("%s has capabilities %s, want %016x", service, got, want)
		}
	}
	// Web servers have none at all.
	for _, service := range servers {
		out, err := p.exec(service, "sh", "-c", `for s in /proc/[0-9]*/status; do
			grep -q '^Name:.\(nginx\|mini_httpd\)' $s && sed -n 's/^CapEff:\s*//p' $s; done; true`)
		if err != nil {
			t.Fatal(err)
		}
		for _, eff := range strings.Fields(out) {
			if eff != "0000000000000000" {
				t.Errorf("a web server in %s has capabilities %s", service, eff)
			}
		}
	}
}
