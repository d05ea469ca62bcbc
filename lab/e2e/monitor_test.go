package e2e

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shunt-sdn/shunt/lab"
)

// A monitor is a Prometheus on the controller's host, with the configuration and
// the rules that we ship.
type monitor struct {
	*observed
	api *http.Client
}

// monitorAddress is where the monitor answers, on the controller's host.
const monitorAddress = "127.0.0.1:9090"

// monitor starts one. Only how often it scrapes and evaluates is not as shipped.
func (x *observed) monitor(t *testing.T) *monitor {
	t.Helper()
	dir := t.TempDir()
	for _, file := range []string{"prometheus.yml", "shunt.rules.yml"} {
		b, err := os.ReadFile(shipped + file)
		if err != nil {
			t.Fatal(err)
		}
		s := string(b)
		if file == "prometheus.yml" {
			s = strings.ReplaceAll(s, "_interval: 15s", "_interval: 1s")
			for host, address := range x.address {
				if _, scraped := x.daemons[host]; scraped && !strings.Contains(s, `"`+address+`"`) {
					t.Fatalf("%s does not scrape %s of %s", file, address, host)
				}
			}
		}
		if err := os.WriteFile(filepath.Join(dir, file), []byte(s), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command("prometheus", "--config.file="+filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path="+filepath.Join(dir, "data"),
		"--web.listen-address="+monitorAddress, "--log.level=warn")
	cmd.Stdout, cmd.Stderr = log, log
	if err := x.StartCommand(lab.ControllerHost, cmd); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(unix.SIGTERM)
		cmd.Wait()
		if b, err := os.ReadFile(log.Name()); t.Failed() || err != nil {
			t.Logf("Prometheus says: %s, %v", b, err)
		}
	})
	transport := &http.Transport{DialContext: x.Dial(lab.ControllerHost)}
	t.Cleanup(transport.CloseIdleConnections)
	return &monitor{observed: x, api: &http.Client{Transport: transport, Timeout: 10 * time.Second}}
}

// ask asks Prometheus's HTTP API.
func (m *monitor) ask(path string, q url.Values, into any) error {
	resp, err := m.api.Get("http://" + monitorAddress + "/api/v1/" + path + "?" + q.Encode())
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var answer struct {
		Status, Error string
		Warnings      []string
		Data          json.RawMessage
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return fmt.Errorf("%s: %s: %w", path, resp.Status, err)
	}
	if answer.Status != "success" || len(answer.Warnings) > 0 {
		return fmt.Errorf("%s %v: %s %s %v", path, q, answer.Status, answer.Error, answer.Warnings)
	}
	return json.Unmarshal(answer.Data, into)
}

// A series is part of an answer: one of Value and Values, by the query.
type series struct {
	Metric map[string]string
	Value  [2]any
	Values [][2]any // of a time in seconds and a number as text
}

// query evaluates an expression now.
func (m *monitor) query(expr string) ([]series, error) {
	var answer struct{ Result []series }
	err := m.ask("query", url.Values{"query": {expr}}, &answer)
	return answer.Result, err
}

// since evaluates an expression at every second since a time, as a graph does,
// and tells whether there is any number.
func (m *monitor) since(begun time.Time, expr string) (some bool, err error) {
	var answer struct{ Result []series }
	err = m.ask("query_range", url.Values{"query": {expr}, "start": {fmt.Sprint(begun.Unix())}, "end": {fmt.Sprint(time.Now().Unix())}, "step": {"1"}}, &answer)
	for _, s := range answer.Result {
		some = some || slices.ContainsFunc(s.Values, func(v [2]any) bool { return v[1] != "NaN" })
	}
	return some, err
}

// A rule is one of shunt.rules.yml, as Prometheus has it.
type rule struct {
	Name, Query, State, Health, LastError string
	LastEvaluation                        time.Time
	Labels                                map[string]string
}

func (m *monitor) rules() (rules []rule, err error) {
	var answer struct{ Groups []struct{ Rules []rule } }
	err = m.ask("rules", nil, &answer)
	for _, g := range answer.Groups {
		rules = append(rules, g.Rules...)
	}
	return rules, err
}

// An alert is pending or firing.
type alert struct {
	State               string
	Labels, Annotations map[string]string
}

func (a alert) has(labels map[string]string) bool {
	for l, v := range labels {
		if a.Labels[l] != v {
			return false
		}
	}
	return true
}

// alerts lists those of a name.
func (m *monitor) alerts(name string) (of []alert, err error) {
	var answer struct{ Alerts []alert }
	err = m.ask("alerts", nil, &answer)
	for _, a := range answer.Alerts {
		if a.Labels["alertname"] == name {
			of = append(of, a)
		}
	}
	return of, err
}
