// Package prometheus_test checks the alert rules and the configuration beside it.
package prometheus_test

import (
	"os"
	"os/exec"
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
