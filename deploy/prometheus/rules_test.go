// Package prometheus_test checks the alert rules and the configuration beside it.
package prometheus_test

import (
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/shunt-sdn/shunt/internal/testnet"
)

func promtool(t *testing.T, args ...string) {
	t.Helper()
	testnet.NeedProgram(t, "promtool")
	if out, err := exec.Command("promtool", args...).CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

func TestAlertsFireWhenTheyShould(t *testing.T) {
	promtool(t, "check", "config", "prometheus.yml") // the rules too
	promtool(t, "test", "rules", "shunt.rules.test.yml")
}

// TestTheDashboardAsksWhatPrometheusUnderstands has every query of the dashboard
// parsed, as a rule.
func TestTheDashboardAsksWhatPrometheusUnderstands(t *testing.T) {
	b, err := os.ReadFile("../grafana/shunt.json")
	if err != nil {
		t.Fatal(err)
	}
	var dashboard struct {
		Panels []struct {
			ID      int
			Title   string
			Targets []struct{ Expr string }
			GridPos struct{ X, Y, W, H int }
		}
	}
	if err := json.Unmarshal(b, &dashboard); err != nil {
		t.Fatal(err)
	}
	variables := strings.NewReplacer("$__rate_interval", "5m", "$__range", "1h", "$service", ".*")
	rules := "groups:\n- name: dashboard\n  rules:\n"
	ids := make(map[int]string)
	for _, p := range dashboard.Panels {
		if ids[p.ID] != "" || p.GridPos.X+p.GridPos.W > 24 {
			t.Errorf("panel %q: id %d of %q, at %+v", p.Title, p.ID, ids[p.ID], p.GridPos)
		}
		ids[p.ID] = p.Title
		for i, q := range p.Targets {
			rules += fmt.Sprintf("  - {record: 'panel_%d_%d', expr: %q}\n", p.ID, i, variables.Replace(q.Expr))
		}
	}
	if len(ids) < 20 {
		t.Errorf("%d panels", len(ids))
	}
	file := filepath.Join(t.TempDir(), "dashboard.rules.yml")
	if err := os.WriteFile(file, []byte(rules), 0o644); err != nil {
		t.Fatal(err)
	}
	promtool(t, "check", "rules", file)
}

func TestEveryAlertIsExplained(t *testing.T) {
	rules, err := os.ReadFile("shunt.rules.yml")
	if err != nil {
		t.Fatal(err)
	}
	docs, err := os.ReadFile("../../docs/observability.md")
	if err != nil {
		t.Fatal(err)
	}
	alerts := regexp.MustCompile(`(?m)^ +- alert: (\w+)$`).FindAllStringSubmatch(string(rules), -1)
	if len(alerts) < 10 {
		t.Errorf("%d alerts", len(alerts))
	}
	for _, a := range alerts {
		if !strings.Contains(string(docs), "\n### "+a[1]+"\n") {
			t.Errorf("docs/observability.md does not say what %s means", a[1])
		}
	}
	for _, h := range regexp.MustCompile(`(?m)^### (Shunt\w+)$`).FindAllStringSubmatch(string(docs), -1) {
		if !strings.Contains(string(rules), "alert: "+h[1]+"\n") {
			t.Errorf("docs/observability.md explains %s, which is no alert", h[1])
		}
	}
}
