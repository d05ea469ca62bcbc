package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
	"golang.org/x/sys/unix"

	"github.com/shunt-sdn/shunt/internal/testnet"
	"github.com/shunt-sdn/shunt/lab"
)

const (
	shipped   = "../../deploy/prometheus/"
	dashboard = "../../deploy/grafana/shunt.json"
)

// TestPrometheusDashboardAndAlerts has a Prometheus look at a cluster under load, and
// then at one whose switch and a server's agent died.
func TestPrometheusDashboardAndAlerts(t *testing.T) {
	testnet.NeedRoot(t)
	testnet.NeedProgram(t, "prometheus")
	x := observe(t, lab.Options{Switch: lab.SwitchOVS, Servers: 2, TLS: true})
	m := x.monitor(t)
	stop := x.load(t)
	defer stop()
	for _, part := range []struct {
		name string
		test func(*testing.T)
	}{
		{"everybody is scraped, and every rule is evaluated", m.scrapes},
		{"every panel of the dashboard has data", m.panels},
		{"every rule compares something, and nothing alarms", m.expressions},
		{"the rules' own tests have series as they are here", m.testSeries},
		{"the switch and an agent die", func(t *testing.T) {
			stop()
			m.deaths(t)
		}},
	} {
		if !t.Run(part.name, func(t *testing.T) {
			x.t = t
			defer func(outer *testing.T) { x.t = outer }(x.t)
			part.test(t)
		}) {
			return
		}
	}
}

func (m *monitor) scrapes(t *testing.T) {
	b, err := os.ReadFile(shipped + "shunt.rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	want := strings.Count(string(b), "- alert: ")
	m.await(30*time.Second, func() string {
		rules, err := m.rules()
		if err != nil || len(rules) != want {
			return fmt.Sprintf("%d rules, want %d: %v", len(rules), want, err)
		}
		for _, r := range rules {
			if r.Health != "ok" || r.LastError != "" || r.LastEvaluation.IsZero() {
				return fmt.Sprintf("rule %+v", r)
			}
		}
		up, err := m.query(`up{job=~"shunt-controller|shunt-agent"} == 1`)
		if err != nil || len(up) != len(m.daemons) {
			return fmt.Sprintf("%d of %d daemons are scraped: %v, %v", len(up), len(m.daemons), up, err)
		}
		return ""
	})
}

// quiet are the metrics that have no series until something has gone wrong, and
// cannot be made to go wrong here.
var quiet = []string{"shunt_controller_openflow_errors_total"}

func isQuiet(expr string) bool {
	return slices.ContainsFunc(quiet, func(name string) bool { return strings.Contains(expr, name) })
}

func (m *monitor) panels(t *testing.T) {
	b, err := os.ReadFile(dashboard)
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(b, &d); err != nil {
		t.Fatal(err)
	}
	// What Grafana puts in: at least four scrapes, the time that is looked at,
	// all services.
	variables := strings.NewReplacer("$__rate_interval", "5s", "$__range", "1m", "$service", ".*")
	begun, queries := time.Now(), 0
	m.await(30*time.Second, func() string {
		var empty []string
		queries = 0
		for _, p := range d.Panels {
			for _, target := range p.Targets {
				expr := variables.Replace(target.Expr)
				queries++
				some, err := m.since(begun, expr)
				if err != nil {
					t.Fatalf("panel %q: %v", p.Title, err)
				}
				if !some && !isQuiet(expr) {
					empty = append(empty, fmt.Sprintf("%q: %s", p.Title, expr))
				}
			}
		}
		if len(empty) > 0 {
			return fmt.Sprintf("%d of %d queries have no data:\n%s", len(empty), queries, strings.Join(empty, "\n"))
		}
		return ""
	})
	t.Logf("%d queries; all that must have data have it after %v", queries, time.Since(begun).Round(time.Second/10))
	var services []string // of the dashboard's variable
	if err := m.ask("label/service/values", url.Values{"match[]": {"shunt_agent_sessions"}}, &services); err != nil || !slices.Contains(services, "web") {
		t.Errorf("services %v, %v", services, err)
	}
}

// An expression that selects nothing never alarms, whatever happens. So either
// it holds, or its opposite does.
func (m *monitor) expressions(t *testing.T) {
	opposite := strings.NewReplacer(" > ", " <= ", " < ", " >= ", " == ", " != ")
	rules, err := m.rules()
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range rules {
		holds, err := m.query(r.Query)
		if err != nil {
			t.Errorf("%s: %v", r.Name, err)
		}
		not, err := m.query(opposite.Replace(r.Query))
		if err != nil || len(holds)+len(not) == 0 && !isQuiet(r.Query) {
			t.Errorf("%s: neither %s nor its opposite has data: %v", r.Name, r.Query, err)
		}
	}
	m.await(10*time.Second, func() string { // a scrape may come too late on a busy machine
		rules, err := m.rules()
		for _, r := range rules {
			if r.State == "firing" || r.State == "pending" && r.Labels["severity"] == "critical" {
				return fmt.Sprintf("%s is %s", r.Name, r.State)
			}
		}
		if err != nil {
			return err.Error()
		}
		return ""
	})
}

// testSeries compares the series of the rules' unit tests with the real ones:
// the names of labels, and the values of those that have a fixed list.
func (m *monitor) testSeries(t *testing.T) {
	var u struct {
		Tests []struct {
			Series []struct{ Series string } `yaml:"input_series"`
		}
	}
	b, err := os.ReadFile(shipped + "shunt.rules.test.yml")
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(b, &u); err != nil {
		t.Fatal(err)
	}
	fixed := []string{"outcome", "decision", "path", "role", "operation", "result", "family", "component", "job"}
	seen := make(map[string]bool)
	for _, c := range u.Tests {
		for _, s := range c.Series {
			name, rest, _ := strings.Cut(strings.TrimSuffix(s.Series, "}"), "{")
			var labels, values []string
			for part := range strings.SplitSeq(rest, ",") {
				label, _, _ := strings.Cut(part, "=")
				labels = append(labels, label)
				if slices.Contains(fixed, label) {
					values = append(values, part)
				}
			}
			slices.Sort(labels)
			selector := name + "{" + strings.Join(values, ",") + "}"
			if key := selector + strings.Join(labels, ","); seen[key] || isQuiet(name) {
				continue
			} else {
				seen[key] = true
			}
			real, err := m.query(selector)
			if err != nil || len(real) == 0 {
				t.Errorf("nobody exports %s, %v", selector, err)
				continue
			}
			var have []string
			for label := range real[0].Metric {
				if label != "__name__" {
					have = append(have, label)
				}
			}
			slices.Sort(have)
			if !slices.Equal(have, labels) {
				t.Errorf("%s has the labels %v, in the unit tests %v", name, have, labels)
			}
		}
	}
	if len(seen) < 20 {
		t.Errorf("%d series were compared", len(seen))
	}
}

// deaths kills the switch and an agent. What is said of the switch is waited
// for as long as its rule says, of the others only that it will be.
func (m *monitor) deaths(t *testing.T) {
	killed := map[string]string{lab.SwitchHost: "ovs-vswitchd", "server2": "agent"}
	for host, daemon := range killed {
		if err := m.Signal(host, daemon, unix.SIGKILL); err != nil {
			t.Fatal(err)
		}
	}
	begun := time.Now()
	expected := map[string]map[string]string{
		"ShuntAgentDown":          {"job": "shunt-agent", "instance": m.address["server2"]},
		"ShuntNodeDown":           {"node": "server2", "role": "server"},
		"ShuntLinkDown":           {"instance": m.address["dispatcher1"], "peer": "server2"},
		"ShuntSwitchDisconnected": {"job": "shunt-controller", "severity": "critical"},
	}
	m.await(20*time.Second, func() string {
		for name, labels := range expected {
			alerts, err := m.alerts(name)
			if err != nil || !slices.ContainsFunc(alerts, func(a alert) bool { return a.has(labels) }) {
				return fmt.Sprintf("%s: %+v, want %v, %v", name, alerts, labels, err)
			}
		}
		return ""
	})
	t.Logf("all four are pending after %v", time.Since(begun).Round(time.Second/10))
	m.await(50*time.Second, func() string {
		alerts, err := m.alerts("ShuntSwitchDisconnected")
		if err != nil || len(alerts) != 1 || alerts[0].State != "firing" || !strings.Contains(alerts[0].Annotations["summary"], "is not connected to the controller") {
			return fmt.Sprintf("%+v, %v", alerts, err)
		}
		return ""
	})
	t.Logf("ShuntSwitchDisconnected fires after %v", time.Since(begun).Round(time.Second/10))
	for host, daemon := range killed {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		if err := m.WaitExit(ctx, host, daemon); err != nil {
			t.Fatal(err)
		}
		if err := m.Start(host, daemon); err != nil {
			t.Fatal(err)
		}
	}
	m.await(30*time.Second, func() string {
		for name := range expected {
			if alerts, err := m.alerts(name); err != nil || len(alerts) > 0 {
				return fmt.Sprintf("%s does not end: %+v, %v", name, alerts, err)
			}
		}
		return ""
	})
}
