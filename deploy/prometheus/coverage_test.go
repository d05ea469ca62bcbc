package prometheus_test

import (
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// load reads a YAML file, in which there may be keys that into does not have.
func load(t *testing.T, file string, into any) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal(b, into); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

type rules struct {
	Groups []struct {
		Rules []struct{ Alert, Expr string }
	}
}

// unitTests is the part of promtool's format that is looked at here.
type unitTests struct {
	Tests []struct {
		Name        string
		InputSeries []struct{ Series string } `yaml:"input_series"`
		Alerts      []struct {
			Name     string      `yaml:"alertname"`
			Expected []yaml.Node `yaml:"exp_alerts"`
		} `yaml:"alert_rule_test"`
	}
}

func TestEveryAlertHasACaseInWhichItFiresAndOneInWhichItDoesNot(t *testing.T) {
	var r rules
	load(t, "shunt.rules.yml", &r)
	var u unitTests
	load(t, "shunt.rules.test.yml", &u)
	fires, silent := make(map[string]bool), make(map[string]bool)
	for _, c := range u.Tests {
		for _, a := range c.Alerts {
			if len(a.Expected) > 0 {
				fires[a.Name] = true
			} else {
				silent[a.Name] = true
			}
		}
	}
	for _, g := range r.Groups {
		for _, rule := range g.Rules {
			if !fires[rule.Alert] || !silent[rule.Alert] {
				t.Errorf("%s: a case in which it fires: %v, in which it does not: %v", rule.Alert, fires[rule.Alert], silent[rule.Alert])
			}
			delete(fires, rule.Alert)
			delete(silent, rule.Alert)
		}
	}
	for a := range fires {
		t.Errorf("the tests expect %s, which is no alert", a)
	}
	for a := range silent {
		t.Errorf("the tests wait in vain for %s, which is no alert", a)
	}
}

// A rule that divides one metric by another matches them by all their labels.
// Without those that a scrape adds, a test would pass where no rule ever fires.
func TestTheCasesHaveSeriesAsTheyAreScraped(t *testing.T) {
	var u unitTests
	load(t, "shunt.rules.test.yml", &u)
	seen := 0
	for _, c := range u.Tests {
		for _, s := range c.InputSeries {
			seen++
			component := "agent"
			if strings.HasPrefix(s.Series, "shunt_controller_") || strings.Contains(s.Series, `component="controller"`) {
				component = "controller"
			}
			if strings.HasPrefix(s.Series, "up{") {
				component = ""
			}
			if !strings.Contains(s.Series, `job="shunt-`+component) || !strings.Contains(s.Series, `instance="`) {
				t.Errorf("%s: %s is of no job shunt-%s", c.Name, s.Series, component)
			}
		}
	}
	if seen == 0 {
		t.Error("there are no cases")
	}
}

// The rules and the dashboard name jobs; every configuration that we ship has them.
func TestConfigurationsHaveTheJobsThatAreAskedFor(t *testing.T) {
	asked := make(map[string]bool)
	for _, file := range []string{"shunt.rules.yml", "../grafana/shunt.json"} {
		b, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`\bjob(=~?)\\?"([^"\\]+)`).FindAllStringSubmatch(string(b), -1) {
			if m[1] == "=" {
				asked[m[2]] = true
			} else if m[2] != "shunt-.*" {
				t.Errorf("%s: job=~%q", file, m[2])
			}
		}
	}
	if len(asked) < 2 {
		t.Errorf("the rules ask for the jobs %v", asked)
	}
	for _, file := range []string{"prometheus.yml", "../compose/prometheus/prometheus.yml"} {
		var c struct {
			RuleFiles []string `yaml:"rule_files"`
			Scrape    []struct {
				Job string `yaml:"job_name"`
			} `yaml:"scrape_configs"`
		}
		load(t, file, &c)
		var jobs []string
		for _, s := range c.Scrape {
			jobs = append(jobs, s.Job)
			if !strings.HasPrefix(s.Job, "shunt-") {
				t.Errorf("%s: the dashboard does not look at the job %s", file, s.Job)
			}
		}
		for job := range asked {
			if !slices.Contains(jobs, job) {
				t.Errorf("%s has no job %s", file, job)
			}
		}
		if len(c.RuleFiles) != 1 || !strings.HasSuffix(c.RuleFiles[0], "shunt.rules.yml") {
			t.Errorf("%s: rule files %q", file, c.RuleFiles)
		}
	}
}
