package metrics

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
	"go.uber.org/goleak"

	conf "github.com/shunt-sdn/shunt/internal/yamlconf"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// serve runs an endpoint on a free port and returns how to fetch its pages.
func serve(t *testing.T, o Options, c ...prometheus.Collector) (get func(path string) (int, string)) {
	t.Helper()
	o.Listen, o.Log = "127.0.0.1:0", slog.New(slog.DiscardHandler)
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	s.Registry().MustRegister(c...)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := errors.Join(<-done, s.Close()); err != nil {
			t.Errorf("run, close: %v", err)
		}
	})
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	return func(path string) (int, string) {
		t.Helper()
		resp, err := client.Get("http://" + s.Addr().String() + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(b)
	}
}

func TestMetricsAreServedByConvention(t *testing.T) {
	get := serve(t, Options{Component: "agent", Version: "v1.2.3"},
		prometheus.NewCounter(prometheus.CounterOpts{Name: "shunt_test_events_total", Help: "Events."}))
	status, page := get("/metrics")
	if status != 200 {
		t.Fatalf("status %d", status)
	}
	for _, want := range []string{`shunt_build_info{component="agent",goversion="go`, `version="v1.2.3"} 1`, "shunt_test_events_total 0", "go_goroutines", "process_open_fds"} {
		if !strings.Contains(page, want) {
			t.Errorf("no %s in\n%s", want, page)
		}
	}
	problems, err := promlint.New(strings.NewReader(page)).Lint()
	if err != nil || len(problems) > 0 {
		t.Errorf("promlint: %v, %v", problems, err)
	}
}

type broken struct{ desc *prometheus.Desc }

func (b broken) Describe(out chan<- *prometheus.Desc) { out <- b.desc }
func (b broken) Collect(out chan<- prometheus.Metric) {
	out <- prometheus.NewInvalidMetric(b.desc, errors.New("broken"))
}

func TestABrokenCollectorDoesNotHideTheOthers(t *testing.T) {
	get := serve(t, Options{Component: "agent"}, broken{prometheus.NewDesc("shunt_test_sessions", "Sessions.", nil, nil)})
	status, page := get("/metrics")
	if status != 200 || !strings.Contains(page, "shunt_build_info") || strings.Contains(page, "\nshunt_test_sessions") ||
		!strings.Contains(page, `promhttp_metric_handler_errors_total{cause="gathering"}`) {
		t.Errorf("%d %s", status, page)
	}
}

func TestReadinessNamesWhatIsMissing(t *testing.T) {
	var missing error
	get := serve(t, Options{Ready: []Check{{"sessions", func() error { return missing }}, {"switches", func() error { return nil }}}})
	if status, page := get("/readyz"); status != 200 || page != "ok\n" {
		t.Errorf("ready: %d %q", status, page)
	}
	missing = errors.New("not heard of")
	if status, page := get("/readyz"); status != 503 || page != "sessions: not heard of\n" {
		t.Errorf("not ready: %d %q", status, page)
	}
	if status, page := get("/healthz"); status != 200 || page != "ok\n" {
		t.Errorf("health: %d %q", status, page)
	}
}

func TestProfilesAreServedOnlyOnRequest(t *testing.T) {
	for on, want := range map[bool]int{false: 404, true: 200} {
		get := serve(t, Options{Config: Config{PProf: on}})
		for _, path := range []string{"/debug/pprof/", "/debug/pprof/goroutine?debug=1", "/debug/pprof/cmdline"} {
			if status, _ := get(path); status != want {
				t.Errorf("pprof %v: %s: %d, want %d", on, path, status, want)
			}
		}
	}
}

func TestAnAddressThatIsTakenIsAnErrorAtOnce(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, err = New(Options{Config: Config{Listen: l.Addr().String()}})
	if err == nil || !strings.Contains(err.Error(), "address already in use; correct metrics.listen") {
		t.Errorf("got %v", err)
	}
}

func TestWithoutAnAddressNothingIsServed(t *testing.T) {
	s, err := New(Options{})
	if err != nil || s.Addr() != nil || s.Close() != nil {
		t.Fatalf("%v, %v", s.Addr(), err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := s.Run(ctx); err != nil {
		t.Error(err)
	}
}

func TestTheKeyIsReadStrictly(t *testing.T) {
	read := func(text string) (c Config, err error) {
		r := conf.NewReader("a.yaml")
		if root := r.Root([]byte(text)); root != nil {
			r.Mapping(root, "the configuration", conf.Optional("metrics", Read(r, &c)))
		}
		return c, r.Err()
	}
	if got, err := read(`metrics: {listen: "127.0.0.1:9641", pprof: true}`); err != nil || got != (Config{"127.0.0.1:9641", true}) {
		t.Errorf("%+v, %v", got, err)
	}
	for text, want := range map[string]string{
		"metrics: {pprof: true}":                `a.yaml:1:10: metrics has no "listen"; write host:port for Prometheus, for example 127.0.0.1:9641`,
		"metrics: {listen: 9641}":               `a.yaml:1:19: metrics.listen "9641" is not host:port; write for example 10.99.0.1:6640`,
		"metrics: {listen: ':1', prof: true}":   `a.yaml:1:25: metrics has an unknown field "prof"; did you mean "pprof"?`,
		"metrics: {listen: ':1', pprof: maybe}": `a.yaml:1:32: metrics.pprof "maybe" is neither true nor false; write one of the two`,
	} {
		if _, err := read(text); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}
