package controller

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/shunt-sdn/shunt/controller/config"
	"github.com/shunt-sdn/shunt/internal/metrics"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// page fetches a page of the endpoint; status 0: it is not there.
func page(t *testing.T, address, path string) (int, string) {
	t.Helper()
	c := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	resp, err := c.Get("http://" + address + path)
	if err != nil {
		return 0, err.Error()
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(b)
}

func TestTheClusterInNumbers(t *testing.T) {
	cfg := testConfig(t)
	cfg.Metrics = metrics.Config{Listen: freePort(t)}
	d := start(t, cfg)
	d1, s1 := d.join(t, "dispatcher1"), d.join(t, "server1")
	local := d1.lease(t, "dispatcher1", false)
	d1.steer("h1", client, local, "server1")
	d1.got(t, `h1 ""`, &d1.answers)
	d1.steer("h2", "10.10.1.2:4001", local, "server9")
	d1.got(t, `h2 "node \"server9\" is not connected to the controller"`, &d1.answers)
	for i, h := range []*shuntv1.Handoff{
		{ToNode: "server1", Service: "web", Outcome: shuntv1.Outcome_OUTCOME_COMPLETED, TotalUs: 300},
		{ToNode: "server1", Service: "web", Outcome: shuntv1.Outcome_OUTCOME_ROLLED_BACK},
		{ToNode: "made-up", Service: "made-up", Outcome: shuntv1.Outcome_OUTCOME_FAILED, TraceId: "not a trace's id"},
	} {
		h.Id, h.Session = fmt.Sprint("r", i), shuntv1.SessionOf(netip.MustParseAddrPort(client), local)
		d1.send(&shuntv1.AttachRequest{Message: &shuntv1.AttachRequest_Handoff{Handoff: h}})
	}
	var text string
	has := func(lines ...string) func() bool {
		return func() bool {
			_, text = page(t, cfg.Metrics.Listen, "/metrics")
			for _, l := range lines {
				if !strings.Contains(text, l+"\n") {
					return false
				}
			}
			return true
		}
	}
	eventually(t, "all is counted", has(
		`shunt_controller_sessions_known 1`,
		`shunt_controller_handoffs_total{outcome="completed",service="web",target="server1"} 1`,
		`shunt_controller_handoffs_total{outcome="failed",service="other",target="other"} 1`,
		`shunt_controller_handoffs_total{outcome="rolled_back",service="web",target="server1"} 1`,
		`shunt_controller_handoff_duration_seconds_count{service="web"} 1`,
		`shunt_controller_steerings_total{operation="steer",result="confirmed"} 1`,
		`shunt_controller_steerings_total{operation="steer",result="failed"} 1`,
		`shunt_controller_steering_duration_seconds_count{operation="steer"} 1`,
		`shunt_controller_session_effects_total{effect="steer"} 1`,
		`shunt_controller_sessions{node="server1",path="switched"} 1`,
		`shunt_controller_sessions{node="server1",path="diverted"} 0`,
		`shunt_controller_node_up{node="server1",role="server"} 1`,
		`shunt_controller_application_ready{node="server1",service="web"} 1`,
		`shunt_controller_leases{family="ipv4",service="web"} 1`,
		`shunt_controller_leases{family="ipv6",service="web"} 1`,
		`shunt_controller_pool_addresses{family="ipv4"} 254`,
		`shunt_controller_pool_addresses{family="ipv6"} 254`,
		`shunt_controller_switch_connected{switch="0000000000000001"} 1`,
	))
	if problems, err := promlint.New(strings.NewReader(text)).Lint(); err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
	if strings.Contains(text, "made-up") {
		t.Error("a name that an agent made up is a label")
	}
	if status, body := page(t, cfg.Metrics.Listen, "/readyz"); status != http.StatusOK {
		t.Errorf("not ready: %d %s", status, body)
	}
	s1.cancel()
	eventually(t, "the node is down", has(
		`shunt_controller_node_up{node="server1",role="server"} 0`, `shunt_controller_application_ready{node="server1",service="web"} 0`))
	d.stop()
	if status, _ := page(t, cfg.Metrics.Listen, "/metrics"); status != 0 {
		t.Error("the endpoint outlives the controller")
	}
}

// TestEverySubsystemCanHaveALevel: what the source calls its loggers is what the
// configuration knows.
func TestEverySubsystemCanHaveALevel(t *testing.T) {
	files, err := filepath.Glob("*.go")
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]bool)
	for _, f := range files {
		b, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range regexp.MustCompile(`logconf\.Of\([\w.]+, "(\w+)"\)`).FindAllStringSubmatch(string(b), -1) {
			found[m[1]] = true
		}
	}
	if diff := cmp.Diff(slices.Sorted(slices.Values(config.Subsystems)), slices.Sorted(maps.Keys(found))); diff != "" {
		t.Errorf("config.Subsystems -, in the source +:\n%s", diff)
	}
}
