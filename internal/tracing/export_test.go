package tracing

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"go.opentelemetry.io/otel/attribute"
	collectorv1 "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracev1 "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"

	conf "github.com/shunt-sdn/shunt/internal/yamlconf"
)

// receiver collects what it is sent.
type receiver struct {
	collectorv1.UnimplementedTraceServiceServer
	mu    sync.Mutex
	spans []*tracev1.Span
	names []string // of services
}

func (r *receiver) Export(_ context.Context, m *collectorv1.ExportTraceServiceRequest) (*collectorv1.ExportTraceServiceResponse, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, rs := range m.ResourceSpans {
		for _, a := range rs.Resource.Attributes {
			if a.Key == "service.name" {
				r.names = append(r.names, a.Value.GetStringValue())
			}
		}
		for _, ss := range rs.ScopeSpans {
			r.spans = append(r.spans, ss.Spans...)
		}
	}
	return &collectorv1.ExportTraceServiceResponse{}, nil
}

func receive(t *testing.T) (*receiver, string) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	r, s := &receiver{}, grpc.NewServer()
	collectorv1.RegisterTraceServiceServer(s, r)
	done := make(chan error, 1)
	go func() { done <- s.Serve(l) }()
	t.Cleanup(func() { s.Stop(); <-done })
	return r, l.Addr().String()
}

func TestSpansKeepTheirIdsAndTimes(t *testing.T) {
	r, address := receive(t)
	x, err := NewExporter(t.Context(), ExporterOptions{
		Config:    Config{Endpoint: address, Insecure: true, Sample: 0.5},
		Component: "shunt-agent", Node: "d1", Version: "v1", Log: slog.New(slog.DiscardHandler),
	})
	if err != nil || x.Sample() != 0.5 {
		t.Fatalf("%v, %v", x.Sample(), err)
	}
	from, _ := Parse(parent)
	root, child := NewTrace(true), from.Child()
	begun := time.Unix(1_700_000_000, 1000)
	x.Export(Span{Name: "root", Context: root, Start: begun, End: begun.Add(time.Millisecond), Err: "refused"})
	x.Export(Span{Name: "child", Context: child, Parent: from, Start: begun, End: begun.Add(time.Second), Attributes: []attribute.KeyValue{attribute.String("k", "v")}})
	x.Export(Span{Name: "not recorded", Context: NewTrace(false), Start: begun, End: begun})
	x.Export(Span{Name: "no context", Start: begun, End: begun})
	if err := x.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	if len(r.spans) != 2 || r.names[0] != "shunt-agent" {
		t.Fatalf("%d spans of %v", len(r.spans), r.names)
	}
	for _, s := range r.spans {
		switch s.Name {
		case "root":
			if fmt.Sprintf("%x", s.TraceId) != root.TraceID() || !bytes.Equal(s.SpanId, root.Span[:]) || len(s.ParentSpanId) != 0 || s.Status.Message != "refused" {
				t.Errorf("root: %v", s)
			}
		case "child":
			if fmt.Sprintf("%x", s.TraceId) != traceID || !bytes.Equal(s.SpanId, child.Span[:]) || fmt.Sprintf("%x", s.ParentSpanId) != spanID ||
				s.StartTimeUnixNano != uint64(begun.UnixNano()) || s.EndTimeUnixNano-s.StartTimeUnixNano != uint64(time.Second) || s.Attributes[0].Key != "k" {
				t.Errorf("child: %v", s)
			}
		default:
			t.Errorf("span %q", s.Name)
		}
	}
}

func TestAReceiverThatIsAwayHoldsNobodyUp(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close() // nobody is there
	var log bytes.Buffer
	x, err := NewExporter(t.Context(), ExporterOptions{Config: Config{Endpoint: l.Addr().String(), Insecure: true, Sample: 1}, Log: slog.New(slog.NewTextHandler(&log, nil))})
	if err != nil {
		t.Fatal(err)
	}
	for range 3 * maxQueue { // more than are kept
		x.Export(Span{Name: "s", Context: NewTrace(true), Start: time.Now(), End: time.Now()})
	}
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	_ = x.Close(ctx) // how far it came by then is its own business
	if strings.Count(log.String(), "traces are lost") > 1 {
		t.Errorf("logged more than once: %s", &log)
	}
}

func TestWithoutAnEndpointNothingIsExported(t *testing.T) {
	x, err := NewExporter(t.Context(), ExporterOptions{})
	if x != nil || err != nil {
		t.Fatalf("%v, %v", x, err)
	}
	x.Export(Span{Name: "s", Context: NewTrace(true)})
	if x.Sample() != 0 || x.Close(t.Context()) != nil {
		t.Error("the nil exporter does something")
	}
}

func TestTheKeyIsReadStrictly(t *testing.T) {
	read := func(text string) (c Config, err error) {
		r := conf.NewReader("a.yaml")
		if root := r.Root([]byte(text)); root != nil {
			r.Mapping(root, "the configuration", conf.Optional("tracing", Read(r, &c)))
		}
		return c, r.Err()
	}
	for text, want := range map[string]Config{
		`tracing: {endpoint: "h:4317"}`:                               {"h:4317", false, 1},
		`tracing: {endpoint: "h:4317", insecure: true, sample: 0.01}`: {"h:4317", true, 0.01},
		`tracing: {endpoint: "h:4317", sample: 0}`:                    {"h:4317", false, 0},
	} {
		if got, err := read(text); err != nil || got != want {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	for text, want := range map[string]string{
		"tracing: {sample: 1}":                     `a.yaml:1:10: tracing has no "endpoint"; write host:port of an OTLP/gRPC receiver, for example 127.0.0.1:4317`,
		"tracing: {endpoint: 'h:4317', sample: 2}": `a.yaml:1:39: tracing.sample "2" is no share; write a number from 0 to 1`,
		"tracing: {endpoint: 'http://h'}":          `a.yaml:1:21: tracing.endpoint "http://h" has the port "//h"; write 1 to 65535`,
		"tracing: {endpoint: 'h:1', sample: NaN}":  `a.yaml:1:36: tracing.sample "NaN" is no share; write a number from 0 to 1`,
	} {
		if _, err := read(text); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}
