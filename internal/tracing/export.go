package tracing

import (
	"context"
	"crypto/tls"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"go.opentelemetry.io/otel/attribute"
	otelcodes "go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/exporters/otlp/otlptrace/otlptracegrpc"
	"go.opentelemetry.io/otel/sdk/resource"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/trace"
	"google.golang.org/grpc/credentials"
)

// A Span is work that is done.
type Span struct {
	Name       string
	Context    Context // its own
	Parent     Context // zero: it is the trace's first
	Start, End time.Time
	Attributes []attribute.KeyValue
	Err        string // why the work failed; empty: it did not
}

// ExporterOptions describe who exports.
type ExporterOptions struct {
	Config
	Component string // "shunt-agent" or "shunt-controller": service.name
	Node      string // service.instance.id
	Version   string
	Log       *slog.Logger
}

// An Exporter sends spans to an OTLP receiver, in batches, from a bounded queue:
// what does not fit is dropped. The nil Exporter drops everything.
type Exporter struct {
	sample   float64
	provider *sdktrace.TracerProvider
	tracer   trace.Tracer
}

const (
	maxQueue    = 8192 // spans
	exportEvery = time.Second
	exportWait  = 5 * time.Second // for one batch
)

// NewExporter returns an exporter, or nil if the configuration wants none. It
// does not wait for the receiver, which may come and go.
func NewExporter(ctx context.Context, o ExporterOptions) (*Exporter, error) {
	if o.Endpoint == "" {
		return nil, nil
	}
	options := []otlptracegrpc.Option{otlptracegrpc.WithEndpoint(o.Endpoint), otlptracegrpc.WithTimeout(exportWait)}
	if o.Insecure {
		options = append(options, otlptracegrpc.WithInsecure())
	} else {
		options = append(options, otlptracegrpc.WithTLSCredentials(credentials.NewTLS(&tls.Config{MinVersion: tls.VersionTLS12})))
	}
	client, err := otlptracegrpc.New(ctx, options...)
	if err != nil {
		return nil, fmt.Errorf("export traces to %s: %w; correct tracing.endpoint", o.Endpoint, err)
	}
	provider := sdktrace.NewTracerProvider(
		sdktrace.WithBatcher(&tolerant{SpanExporter: client, endpoint: o.Endpoint, log: o.Log},
			sdktrace.WithMaxQueueSize(maxQueue), sdktrace.WithBatchTimeout(exportEvery), sdktrace.WithExportTimeout(exportWait)),
		sdktrace.WithSampler(sdktrace.AlwaysSample()), // it was decided where the trace began
		sdktrace.WithIDGenerator(given{}),
		sdktrace.WithResource(resource.NewSchemaless(
			attribute.String("service.name", o.Component), attribute.String("service.namespace", "shunt"),
			attribute.String("service.instance.id", o.Node), attribute.String("service.version", o.Version))),
	)
	return &Exporter{o.Sample, provider, provider.Tracer("github.com/shunt-sdn/shunt")}, nil
}

// Sample is the share of the traces begun here that are recorded.
func (e *Exporter) Sample() float64 {
	if e == nil {
		return 0
	}
	return e.sample
}

// Export queues a span if its trace is recorded. It never blocks.
func (e *Exporter) Export(s Span) {
	if e == nil || !s.Context.Valid() || !s.Context.Sampled {
		return
	}
	ctx := context.WithValue(context.Background(), givenKey{}, s.Context)
	options := []trace.SpanStartOption{trace.WithTimestamp(s.Start), trace.WithAttributes(s.Attributes...)}
	if s.Parent.Valid() {
		ctx = trace.ContextWithRemoteSpanContext(ctx, trace.NewSpanContext(trace.SpanContextConfig{
			TraceID: trace.TraceID(s.Parent.Trace), SpanID: trace.SpanID(s.Parent.Span), TraceFlags: trace.FlagsSampled, Remote: true,
		}))
	} else {
		options = append(options, trace.WithNewRoot())
	}
	_, span := e.tracer.Start(ctx, s.Name, options...)
	if s.Err != "" {
		span.SetStatus(otelcodes.Error, s.Err)
	}
	span.End(trace.WithTimestamp(s.End))
}

// Close sends what is queued, for as long as ctx allows, and ends the exporter.
func (e *Exporter) Close(ctx context.Context) error {
	if e == nil {
		return nil
	}
	return e.provider.Shutdown(ctx)
}

// given generates no ids: spans come with theirs, as others know them already.
type given struct{}

type givenKey struct{}

func (given) context(ctx context.Context) Context {
	c, _ := ctx.Value(givenKey{}).(Context)
	return c
}

// NewIDs implements sdktrace.IDGenerator.
func (g given) NewIDs(ctx context.Context) (trace.TraceID, trace.SpanID) {
	c := g.context(ctx)
	return trace.TraceID(c.Trace), trace.SpanID(c.Span)
}

// NewSpanID implements sdktrace.IDGenerator.
func (g given) NewSpanID(ctx context.Context, _ trace.TraceID) trace.SpanID {
	return trace.SpanID(g.context(ctx).Span)
}

// tolerant logs what the receiver refuses, once until it takes spans again,
// instead of handing it to OpenTelemetry's global handler of errors.
type tolerant struct {
	sdktrace.SpanExporter
	endpoint string
	log      *slog.Logger
	failing  atomic.Bool
}

// ExportSpans implements sdktrace.SpanExporter.
func (t *tolerant) ExportSpans(ctx context.Context, spans []sdktrace.ReadOnlySpan) error {
	err := t.SpanExporter.ExportSpans(ctx, spans)
	if failed := err != nil; t.failing.Swap(failed) != failed {
		if failed {
			t.log.Warn("traces are lost: the receiver does not take them", "endpoint", t.endpoint, "err", err)
		} else {
			t.log.Info("traces are exported again", "endpoint", t.endpoint)
		}
	}
	return nil
}
