package agent

import (
	"context"
	"encoding/json"
	"log/slog"
	"maps"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"

	"github.com/shunt-sdn/shunt/agent/accesslog"
	"github.com/shunt-sdn/shunt/agent/config"
	"github.com/shunt-sdn/shunt/internal/tracing"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

const traceparent = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"

var (
	client  = netip.MustParseAddrPort("10.10.1.11:40000")
	session = netip.MustParseAddrPort("172.31.0.1:80")
)

// watched is telemetry with an access log, whose lines stop returns.
func watched(t *testing.T, cfg config.Config) (*telemetry, func() []map[string]any) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "access.log")
	cfg.AccessLog = accesslog.Config{Path: path, Format: accesslog.JSON}
	x, err := openTelemetry(t.Context(), cfg, "test", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- x.writeAccessLog(ctx) }()
	return x, func() (lines []map[string]any) {
		t.Helper()
		cancel()
		if err := <-done; err != nil {
			t.Fatal(err)
		}
		if err := x.close(); err != nil {
			t.Fatal(err)
		}
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		for l := range strings.Lines(string(b)) {
			e := make(map[string]any)
			if err := json.Unmarshal([]byte(l), &e); err != nil {
				t.Fatal(err)
			}
			lines = append(lines, e)
		}
		return lines
	}
}

// offered is a hand-off of a request with these fields.
func offered(id, fields string) *shuntv1.Import {
	return &shuntv1.Import{
		Id: id, Service: "web", Vip: shuntv1.EndpointOf(netip.MustParseAddrPort("10.10.0.80:80")),
		Connection: &shuntv1.Connection{
			Session:  shuntv1.SessionOf(client, session),
			Received: []byte("GET /a HTTP/1.1\r\nHost: x\r\n" + fields + "\r\nGET /pipelined HTTP/1.1\r\nHost: y\r\n\r\n"),
		},
	}
}

func record(id, to string, o shuntv1.Outcome, steps ...*shuntv1.Step) *shuntv1.Handoff {
	return &shuntv1.Handoff{
		Id: id, Session: shuntv1.SessionOf(client, session), Service: "web", FromNode: "d1", ToNode: to, Outcome: o,
		StartedUnixNano: time.Now().UnixNano(), TotalUs: 312, Steps: steps,
	}
}

func TestARequestsTraceGoesOnInItsHandOffs(t *testing.T) {
	x, stop := watched(t, config.Config{})
	defer stop()
	parent, _ := tracing.Parse(traceparent)
	first := offered("h1", "Traceparent: "+traceparent+"\r\n")
	x.offering(first)
	span, ok := tracing.Parse(first.Traceparent)
	if !ok || span.Trace != parent.Trace || span.Span == parent.Span || !span.Sampled || x.book.Get("h1") != span {
		t.Errorf("%q of the parent %q", first.Traceparent, traceparent)
	}
	without := offered("h2", "")
	x.offering(without)
	if own, ok := tracing.Parse(without.Traceparent); !ok || own.Trace == parent.Trace || own.Sampled {
		t.Errorf("a trace of its own: %q", without.Traceparent)
	}
}

func TestTheNextAttemptIsInTheSameTraceAndTheSameLine(t *testing.T) {
	x, stop := watched(t, config.Config{})
	first, second, later := offered("h1", "User-Agent: curl\r\n"), offered("h2", "User-Agent: curl\r\n"), offered("h3", "")
	x.offering(first)
	x.recorded(record("h1", "server1", shuntv1.Outcome_OUTCOME_ROLLED_BACK))
	x.offering(second)
	h := record("h2", "server2", shuntv1.Outcome_OUTCOME_COMPLETED)
	x.recorded(h)
	x.offering(later) // another request on the same connection
	a, _ := tracing.Parse(first.Traceparent)
	b, _ := tracing.Parse(second.Traceparent)
	c, _ := tracing.Parse(later.Traceparent)
	if a.Trace != b.Trace || a.Span == b.Span || c.Trace == a.Trace {
		t.Errorf("traces %s, %s and %s", first.Traceparent, second.Traceparent, later.Traceparent)
	}
	if h.TraceId != a.TraceID() {
		t.Errorf("the record's trace is %q", h.TraceId)
	}
	lines := stop()
	if len(lines) != 1 {
		t.Fatalf("%d lines: %v", len(lines), lines)
	}
	for key, want := range map[string]any{
		"client": "10.10.1.11", "vip": "10.10.0.80:80", "method": "GET", "target": "/a", "host": "x", "user_agent": "curl", "service": "web",
		"server": "server2", "path": "handed_off", "attempts": 2.0, "cost_us": 312.0, "handoff": "h2", "trace_id": a.TraceID(), "status": nil,
	} {
		if lines[0][key] != want {
			t.Errorf("%s is %v, want %v", key, lines[0][key], want)
		}
	}
}

func TestRecordsThatNeverComeAreForgotten(t *testing.T) {
	x, stop := watched(t, config.Config{})
	defer stop()
	for i := range maxOffers + 100 {
		x.offering(offered(string(rune(i))+"-"+time.Duration(i).String(), ""))
	}
	if len(x.offers) > maxOffers {
		t.Errorf("%d offers are remembered", len(x.offers))
	}
}

func TestLabelsComeFromListsAndConfigurations(t *testing.T) {
	x, stop := watched(t, config.Config{Applications: []config.Application{{Service: "web"}}})
	defer stop()
	x.counts.handoff(record("h1", "server1", shuntv1.Outcome_OUTCOME_COMPLETED, &shuntv1.Step{Name: "dump", DurationUs: 12}, &shuntv1.Step{Name: "surprise"}))
	taken, refusedByApp := &shuntv1.ImportResult{Outcome: shuntv1.ImportOutcome_IMPORT_OUTCOME_IMPORTED},
		&shuntv1.ImportResult{Outcome: shuntv1.ImportOutcome_IMPORT_OUTCOME_REFUSED, Reason: "attach: the queue is full"}
	x.counts.answered("web", taken, time.Millisecond)
	x.counts.answered("web", refusedByApp, time.Millisecond)
	x.counts.answered("a service that a peer made up", refusedByApp, time.Millisecond)
	page := scrape(t, x)
	for _, want := range []string{
		`shunt_agent_attach_failures_total{service="other"} 1`,
		`shunt_agent_attach_failures_total{service="web"} 1`,
		`shunt_agent_handoffs_total{outcome="completed",service="web",target="server1"} 1`,
		`shunt_agent_handoffs_total{outcome="failed",service="web",target="server1"} 0`,
		`shunt_agent_handoffs_total{outcome="rolled_back",service="web",target="server1"} 0`,
		`shunt_agent_imports_total{outcome="imported",service="web"} 1`,
		`shunt_agent_imports_total{outcome="refused",service="other"} 1`,
		`shunt_agent_imports_total{outcome="refused",service="web"} 1`,
		`shunt_agent_handoff_step_duration_seconds_bucket{step="dump",le="2.5e-05"} 1`,
		`shunt_agent_handoff_step_duration_seconds_count{step="other"} 1`,
	} {
		if !strings.Contains(page, want+"\n") {
			t.Errorf("no %s in\n%s", want, page)
		}
	}
	if strings.Contains(page, "surprise") || strings.Contains(page, "made up") {
		t.Error("a name from outside is a label")
	}
	if problems, err := promlint.New(strings.NewReader(page)).Lint(); err != nil || len(problems) > 0 {
		t.Errorf("%v, %v", problems, err)
	}
}

// scrape returns what the registry has, in Prometheus's text format.
func scrape(t *testing.T, x *telemetry) string {
	t.Helper()
	w := httptest.NewRecorder()
	promhttp.HandlerFor(x.endpoint.Registry(), promhttp.HandlerOpts{}).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	return w.Body.String()
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

func BenchmarkOffering(b *testing.B) {
	x := &telemetry{offers: make(map[string]*offer), failed: make(map[route]*offer)}
	m := offered("h", "User-Agent: Mozilla/5.0\r\nAccept: */*\r\nAccept-Language: en\r\n")
	b.ReportAllocs()
	for b.Loop() {
		x.offering(m)
	}
}
