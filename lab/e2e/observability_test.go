package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"golang.org/x/sys/unix"
	"google.golang.org/grpc"

	"github.com/shunt-sdn/shunt/internal/testnet"
	"github.com/shunt-sdn/shunt/lab"
)

// receiver is a tiny OTLP receiver.
type receiver struct {
	v1.UnimplementedTraceServiceServer
	mu    sync.Mutex
	spans []span
}

type span struct {
	service, node string
	*tracev1.Span
}

func (r *receiver) Export(_ context.Context, m *v1.ExportTraceServiceRequest) (*v1.ExportTraceServiceResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rs := range m.ResourceSpans {
		from := make(map[string]string)
		for _, a := range rs.GetResource().GetAttributes() {
			from[a.Key] = a.GetValue().GetStringValue()
		}
		for _, ss := range rs.ScopeSpans {
			for _, s := range ss.Spans {
				r.spans = append(r.spans, span{from["service.name"], from["service.instance.id"], s})
			}
		}
	}
	return &v1.ExportTraceServiceResponse{}, nil
}

// of returns the spans of a trace.
func (r *receiver) of(trace string) (out []span) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, s := range r.spans {
		if fmt.Sprintf("%x", s.TraceId) == trace {
			out = append(out, s)
		}
	}
	return out
}

const (
	otlp    = "10.99.0.1:4317" // the controller's host
	metrics = 9641
)

// observed is a lab whose daemons tell all that they can.
type observed struct {
	*cluster
	receiver *receiver
	access   string            // the dispatcher's access log
	daemons  map[string]string // names by host
	address  map[string]string // of the endpoint, by host
}

func observe(t *testing.T, o lab.Options) *observed {
	x := &observed{cluster: up(t, o), receiver: &receiver{}, daemons: map[string]string{lab.ControllerHost: "controller"}, address: map[string]string{}}
	var l net.Listener
	err := x.Do(lab.ControllerHost, func() (err error) {
		l, err = net.Listen("tcp", otlp)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer()
	v1.RegisterTraceServiceServer(s, x.receiver)
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Stop()
		<-done
	})
	x.access = filepath.Join(t.TempDir(), "access.log")
	for _, h := range x.Info().Hosts {
		if h.Role == lab.RoleDispatcher || h.Role == lab.RoleServer {
			x.daemons[h.Name] = "agent"
		}
		x.address[h.Name] = fmt.Sprintf("%s:%d", h.Management, metrics)
	}
	for host := range x.daemons {
		x.configure(host, func(c map[string]any) {
			c["metrics"] = map[string]any{"listen": x.address[host]}
			c["tracing"] = map[string]any{"endpoint": otlp, "insecure": true, "sample": 0}
			c["log"] = map[string]any{"format": "json", "level": "debug"}
			if strings.HasPrefix(host, "dispatcher") {
				c["access_log"] = map[string]any{"path": x.access, "format": "json"}
			}
		})
	}
	x.restart(lab.ControllerHost, "controller")
	for host := range x.daemons {
		if host != lab.ControllerHost {
			x.restart(host, x.daemons[host])
		}
	}
	for host := range x.daemons {
		x.await(20*time.Second, func() string {
			if status, body := x.get(host, "/readyz"); status != http.StatusOK {
				return fmt.Sprintf("%s is not ready: %d %s", host, status, body)
			}
			return ""
		})
	}
	x.await(20*time.Second, func() string {
		_, body := x.get("dispatcher1", "/metrics")
		for i := range o.Servers {
			if !strings.Contains(body, fmt.Sprintf("shunt_agent_link_up{peer=\"server%d\"} 1\n", i+1)) {
				return "a link is down"
			}
		}
		_, body = x.get(lab.ControllerHost, "/metrics")
		for i := range o.Servers {
			if !strings.Contains(body, fmt.Sprintf("shunt_controller_application_ready{node=\"server%d\",service=\"web\"} 1\n", i+1)) {
				return "an application is not ready"
			}
		}
		return ""
	})
	return x
}

// get fetches a page of a daemon's endpoint; status 0: it cannot be reached.
func (x *observed) get(host, path string) (status int, body string) {
	x.t.Helper()
	transport := &http.Transport{DisableKeepAlives: true, DialContext: x.Dial(host)}
	c := http.Client{Transport: transport, Timeout: 10 * time.Second}
	resp, err := c.Get("http://" + x.address[host] + path)
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

// request sends one with a traceparent and returns its open connection.
func (x *observed) request(trace, extra string) net.Conn {
	x.t.Helper()
	vip := net.JoinHostPort(x.Service().VIPs()[0].String(), fmt.Sprint(x.Service().Port))
	conn, err := x.Dial("client1")(x.t.Context(), "tcp", vip)
	if err != nil {
		x.t.Fatal(err)
	}
	x.t.Cleanup(func() { conn.Close() })
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	fmt.Fprintf(conn, "GET /bytes/100 HTTP/1.1\r\nHost: x\r\nUser-Agent: test/1 \"quoted\"\r\nTraceparent: 00-%s-b7ad6b7169203331-01\r\n%s\r\n", trace, extra)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		x.t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, resp.Body); err != nil || resp.StatusCode != http.StatusOK {
		x.t.Fatalf("%s: %v", resp.Status, err)
	}
	return conn
}

func TestWhatOperatorsSee(t *testing.T) {
	testnet.NeedRoot(t)
	testnet.NeedProgram(t, "promtool")
	x := observe(t, lab.Options{Servers: 2, TLS: true})
	whole := t
	for _, part := range []struct {
		name string
		test func(*testing.T)
	}{
		{"one trace through dispatcher, server and controller", x.trace},
		{"access log", x.accessLog},
		{"metrics", x.metrics},
		{"health and profiles", x.health},
		{"levels change on SIGHUP", x.levels},
	} {
		t.Run(part.name, func(t *testing.T) {
			x.t = t
			defer func() { x.t = whole }()
			part.test(t)
		})
	}
}

func (x *observed) trace(t *testing.T) {
	const id = "0af7651916cd43dd8448eb211c80319c"
	x.request(id, "") // stays open: it is steered once it has lived a while
	want := []string{
		"shunt-agent dispatcher1 hand-off", "shunt-agent dispatcher1 dump", "shunt-agent dispatcher1 imported",
		"shunt-agent server import", "shunt-agent server restore", "shunt-agent server attach", "shunt-controller controller switch",
	}
	var spans []span
	x.await(20*time.Second, func() string {
		spans = x.receiver.of(id)
		var got []string
		for _, s := range spans {
			got = append(got, s.service+" "+strings.TrimRight(s.node, "0123456789")+" "+s.Name)
			got = append(got, s.service+" "+s.node+" "+s.Name)
		}
		for _, w := range want {
			if !slices.Contains(got, w) {
				return fmt.Sprintf("no span %q in %q", w, got)
			}
		}
		return ""
	})
	byID := make(map[string]span)
	for _, s := range spans {
		byID[string(s.SpanId)] = s
	}
	parents := map[string]string{"hand-off": "", "import": "hand-off", "dump": "hand-off", "restore": "import", "switch": "import|hand-off"}
	for _, s := range spans {
		if want, ok := parents[s.Name]; ok && !strings.Contains(want, byID[string(s.ParentSpanId)].GetName()) {
			t.Errorf("%s's parent is %q, want %q", s.Name, byID[string(s.ParentSpanId)].GetName(), want)
		}
		if s.Name == "hand-off" && fmt.Sprintf("%x", s.ParentSpanId) != "b7ad6b7169203331" {
			t.Errorf("the hand-off's parent is %x, not the client's span", s.ParentSpanId)
		}
		if s.EndTimeUnixNano < s.StartTimeUnixNano || s.EndTimeUnixNano-s.StartTimeUnixNano > uint64(5*time.Second) {
			t.Errorf("%s took from %d to %d", s.Name, s.StartTimeUnixNano, s.EndTimeUnixNano)
		}
	}
	for _, host := range []string{"dispatcher1", "server", lab.ControllerHost} {
		x.await(10*time.Second, func() string {
			for name, daemon := range x.daemons {
				if strings.HasPrefix(name, host) && strings.Contains(x.lines(name, daemon), `"trace_id":"`+id+`"`) {
					return ""
				}
			}
			return "no line of " + host + " has the trace"
		})
	}
}

func (x *observed) lines(host, daemon string) string {
	b, err := os.ReadFile(x.Log(host, daemon))
	if err != nil {
		x.t.Fatal(err)
	}
	return string(b)
}

func (x *observed) accessLog(t *testing.T) {
	const before, after = "11111111111111111111111111111111", "22222222222222222222222222222222"
	x.request(before, "").Close()
	e := x.line(before)
	if e["method"] != "GET" || e["target"] != "/bytes/100" || e["path"] != "handed_off" || e["service"] != "web" || e["client"] != "10.10.1.11" ||
		e["vip"] != "10.10.0.80:80" || e["status"] != nil || e["user_agent"] != `test/1 "quoted"` {
		t.Errorf("line %v", e)
	}
	if cost, ok := e["cost_us"].(float64); !ok || cost <= 0 {
		t.Errorf("cost %v", e["cost_us"])
	}
	if s, ok := e["server"].(string); !ok || !strings.HasPrefix(s, "server") {
		t.Errorf("server %v", e["server"])
	}
	bad, err := x.Dial("client1")(t.Context(), "tcp", net.JoinHostPort(x.Service().VIPs()[0].String(), fmt.Sprint(x.Service().Port)))
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(bad, "GET / HTTP/1.1\r\n\r\n")
	io.Copy(io.Discard, bad)
	bad.Close()
	x.await(10*time.Second, func() string {
		b, _ := os.ReadFile(x.access)
		if !strings.Contains(string(b), `"path":"refused","status":400`) {
			return fmt.Sprintf("no line of a refused request in %q", b)
		}
		return ""
	})
	if err := os.Rename(x.access, x.access+".1"); err != nil {
		t.Fatal(err)
	}
	if err := x.Signal("dispatcher1", "agent", unix.SIGUSR1); err != nil {
		t.Fatal(err)
	}
	x.await(10*time.Second, func() string {
		if _, err := os.Stat(x.access); err != nil {
			return err.Error()
		}
		return ""
	})
	x.request(after, "").Close()
	x.line(after)
}

// line waits for the access log's line of a request.
func (x *observed) line(trace string) (found map[string]any) {
	x.await(10*time.Second, func() string {
		b, _ := os.ReadFile(x.access)
		for l := range strings.Lines(string(b)) {
			e := make(map[string]any)
			if err := json.Unmarshal([]byte(l), &e); err != nil {
				x.t.Fatalf("%v: %q", err, l)
			}
			if e["trace_id"] == trace {
				found = e
				return ""
			}
		}
		return fmt.Sprintf("no line with trace %s in %q", trace, b)
	})
	return found
}

// named is what a page of metrics has: names of series, histograms' parts
// included.
func named(page string) map[string]bool {
	names := make(map[string]bool)
	for l := range strings.Lines(page) {
		if i := strings.IndexAny(l, "{ "); i > 0 && l[0] != '#' {
			names[l[:i]] = true
		}
	}
	return names
}

func (x *observed) metrics(t *testing.T) {
	client := x.client("client1")
	for range 20 {
		if err := download(t.Context(), client, x.urls("/bytes/1000")[0], 1000); err != nil {
			t.Fatal(err)
		}
	}
	exported := make(map[string]bool)
	for host := range x.daemons {
		status, page := x.get(host, "/metrics")
		if status != http.StatusOK {
			t.Fatalf("%s: %d %s", host, status, page)
		}
		problems, err := promlint.New(strings.NewReader(page)).Lint()
		if err != nil || len(problems) > 0 {
			t.Errorf("%s: %v, %v", host, problems, err)
		}
		check := exec.Command("promtool", "check", "metrics")
		check.Stdin = strings.NewReader(page)
		if out, err := check.CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%s: promtool: %v\n%s", host, err, out)
		}
		for n := range named(page) {
			exported[n] = true
		}
		for _, secret := range []string{"10.10.1.11", "172.31.", "dispatcher1-"} { // clients, sessions, hand-offs
			for l := range strings.Lines(page) {
				if strings.Contains(l, secret) && strings.HasPrefix(l, "shunt_") {
					t.Errorf("%s: %s", host, l)
				}
			}
		}
	}
	_, page := x.get("dispatcher1", "/metrics")
	for _, want := range []string{
		`shunt_agent_handoffs_total{outcome="completed",service="web",target="server1"}`, `shunt_agent_handoff_step_duration_seconds_count{step="dump"}`,
		`shunt_agent_requests_refused_total{service="web",status="400"} 1`, `shunt_agent_controller_up 1`, `shunt_agent_guard_packets_total{decision="diverted"}`, `shunt_agent_access_log_lines_dropped_total 0`,
		`shunt_build_info{component="agent",`, `shunt_agent_info{interface=`,
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the dispatcher has no %s", want)
		}
	}
	_, page = x.get(lab.ControllerHost, "/metrics")
	for _, want := range []string{
		`shunt_controller_handoffs_total{outcome="completed",service="web",target="server2"}`, `shunt_controller_steerings_total{operation="steer",result="confirmed"}`,
		`shunt_controller_node_up{node="server2",role="server"} 1`, `shunt_controller_leases{family="ipv4",service="web"} 1`,
		`shunt_controller_openflow_messages_total{direction="received",type="barrier_reply"}`, `shunt_controller_sessions_known 1`,
	} {
		if !strings.Contains(page, want) {
			t.Errorf("the controller has no %s", want)
		}
	}
	for _, file := range []string{"../../deploy/grafana/shunt.json", "../../deploy/prometheus/shunt.rules.yml"} {
		for _, name := range metricNames(t, file) {
			if !exported[name] {
				t.Errorf("%s asks for %s, which nobody exports", filepath.Base(file), name)
			}
		}
	}
}

// metricNames lists the metrics that a dashboard or rules refer to.
func metricNames(t *testing.T, file string) []string {
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	names := regexp.MustCompile(`\bshunt_[a-z0-9_]+`).FindAllString(string(b), -1)
	if len(names) < 5 {
		t.Errorf("%s refers to %d metrics", file, len(names))
	}
	slices.Sort(names)
	return slices.Compact(names)
}

func (x *observed) health(t *testing.T) {
	for host := range x.daemons {
		for path, want := range map[string]int{"/healthz": 200, "/readyz": 200, "/debug/pprof/": 404, "/": 404} {
			if status, body := x.get(host, path); status != want {
				t.Errorf("%s%s: %d %s, want %d", host, path, status, body, want)
			}
		}
	}
}

func (x *observed) levels(t *testing.T) {
	const quiet, loud = "33333333333333333333333333333333", "44444444444444444444444444444444"
	set := func(level string) {
		x.configure("dispatcher1", func(c map[string]any) {
			c["log"] = map[string]any{"format": "json", "levels": map[string]any{"dispatcher": level}}
		})
		seen := strings.Count(x.lines("dispatcher1", "agent"), "were read anew")
		if err := x.Signal("dispatcher1", "agent", unix.SIGHUP); err != nil {
			t.Fatal(err)
		}
		x.await(10*time.Second, func() string {
			if strings.Count(x.lines("dispatcher1", "agent"), "were read anew") == seen {
				return "the agent says nothing of it"
			}
			return ""
		})
	}
	set("error")
	x.request(quiet, "").Close()
	x.line(quiet) // it is written after the other log's
	set("debug")
	x.request(loud, "").Close()
	x.await(10*time.Second, func() string {
		if !strings.Contains(x.lines("dispatcher1", "agent"), loud) {
			return "the hand-off is not logged"
		}
		return ""
	})
	if strings.Contains(x.lines("dispatcher1", "agent"), quiet) {
		t.Error("a line came in spite of its subsystem's level")
	}
}
