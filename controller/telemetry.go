package controller

import (
	"context"
	"errors"
	"log/slog"
	"strings"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.opentelemetry.io/otel/attribute"

	"github.com/shunt-sdn/shunt/controller/config"
	"github.com/shunt-sdn/shunt/controller/registry"
	"github.com/shunt-sdn/shunt/internal/logconf"
	"github.com/shunt-sdn/shunt/internal/metrics"
	"github.com/shunt-sdn/shunt/internal/tracing"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// telemetry is what the controller lets others see of its work.
type telemetry struct {
	endpoint *metrics.Server
	spans    *tracing.Exporter // nil: no export
	book     tracing.Book      // spans of steerings, by hand-off
	warm     atomic.Bool       // every node that could be heard was heard

	handoffs     *prometheus.CounterVec
	handoffTime  *prometheus.HistogramVec
	steerings    *prometheus.CounterVec
	steeringTime *prometheus.HistogramVec
	effects      *prometheus.CounterVec
}

// other is the label of what has no name of its own: labels come from the
// configuration, the nodes and lists in this program.
const other = "other"

func newTelemetry() *telemetry {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "shunt", Subsystem: "controller", Name: name, Help: help}, labels)
	}
	histogram := func(name, help string, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "shunt", Subsystem: "controller", Name: name, Help: help, Buckets: metrics.StepBuckets}, labels)
	}
	t := &telemetry{
		handoffs:     counter("handoffs_total", "Hand-offs that agents reported, by how they ended.", "service", "target", "outcome"),
		handoffTime:  histogram("handoff_duration_seconds", "Completed hand-offs, from the complete request head to the server's confirmation.", "service"),
		steerings:    counter("steerings_total", "Requests of agents to send a session's packets elsewhere, by what came of them.", "operation", "result"),
		steeringTime: histogram("steering_duration_seconds", "Steering that the switches confirmed, from the agent's message.", "operation"),
		effects:      counter("session_effects_total", "What the rules for sessions demanded; query is an audit of what a node holds.", "effect"),
	}
	for _, op := range []string{opSteer, opUnsteer} {
		for _, result := range []string{"confirmed", "failed"} {
			t.steerings.WithLabelValues(op, result)
		}
	}
	for _, e := range effectNames {
		t.effects.WithLabelValues(e)
	}
	return t
}

// open makes the endpoint and the exporter.
func (t *telemetry) open(ctx context.Context, cfg config.Config, version string, log *slog.Logger, c *cluster) (err error) {
	t.endpoint, err = metrics.New(metrics.Options{
		Config: cfg.Metrics, Component: "controller", Version: version, Log: logconf.Of(log, "metrics"),
		Ready: []metrics.Check{{Name: "sessions", Ready: t.warmedUp}, {Name: "switches", Ready: c.switchConnected}},
	})
	if err != nil {
		return err
	}
	t.endpoint.Registry().MustRegister(t.handoffs, t.handoffTime, t.steerings, t.steeringTime, t.effects, collector{c})
	t.spans, err = tracing.NewExporter(ctx, tracing.ExporterOptions{
		Config: cfg.Tracing, Component: "shunt-controller", Node: "controller", Version: version, Log: logconf.Of(log, "tracing"),
	})
	if err != nil {
		return errors.Join(err, t.endpoint.Close())
	}
	return nil
}

// close ends what the stages do not, and sends the last spans.
func (t *telemetry) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	return errors.Join(t.spans.Close(ctx), t.endpoint.Close())
}

func (t *telemetry) warmedUp() error {
	if !t.warm.Load() {
		return errors.New("waiting for nodes that were up before")
	}
	return nil
}

func (c *cluster) switchConnected() error {
	for _, s := range c.switches.Status() {
		if s.Connected {
			return nil
		}
	}
	return errors.New("none is connected")
}

// Operations of agents on the steering.
const (
	opSteer   = "steer"
	opUnsteer = "unsteer"
)

// steering looks on while a session is steered: it returns what is to be told
// instead of done.
func (t *telemetry) steering(m *shuntv1.Steer, done func(error)) func(error) {
	begun := time.Now()
	parent, ok := tracing.Parse(m.GetTraceparent())
	var span tracing.Context
	if ok {
		span = parent.Child()
		t.book.Put(m.Id, span)
	}
	done = t.timed(opSteer, begun, done)
	return func(err error) {
		s := tracing.Span{Name: "switch", Context: span, Parent: parent, Start: begun, End: time.Now(),
			Attributes: []attribute.KeyValue{attribute.String("shunt.handoff.id", m.Id), attribute.String("shunt.server", m.ToNode)}}
		if err != nil {
			s.Err = err.Error()
		}
		t.spans.Export(s)
		done(err)
	}
}

// timed counts an operation and how long it took.
func (t *telemetry) timed(operation string, begun time.Time, done func(error)) func(error) {
	return func(err error) {
		result := "failed"
		if err == nil {
			result = "confirmed"
			t.steeringTime.WithLabelValues(operation).Observe(time.Since(begun).Seconds())
		}
		t.steerings.WithLabelValues(operation, result).Inc()
		done(err)
	}
}

// recorded takes the record of a hand-off. Names that the cluster does not know
// are no labels.
func (t *telemetry) recorded(c *cluster, h *shuntv1.Handoff) {
	if !t.book.Get(h.Id).Valid() {
		if span, ok := tracing.OfTrace(h.TraceId); ok {
			t.book.Put(h.Id, span)
		}
	}
	service, target := other, other
	for _, s := range c.view.Load().config.Services {
		if s.Name == h.Service {
			service = h.Service
		}
	}
	if _, ok := c.nodes.Get(h.ToNode); ok {
		target = h.ToNode
	}
	outcome := strings.ToLower(strings.TrimPrefix(h.Outcome.String(), "OUTCOME_"))
	t.handoffs.WithLabelValues(service, target, outcome).Inc()
	if h.Outcome == shuntv1.Outcome_OUTCOME_COMPLETED {
		t.handoffTime.WithLabelValues(service).Observe(float64(h.TotalUs) / 1e6)
	}
}

var effectNames = map[registry.Action]string{
	registry.Steer: "steer", registry.Unsteer: "unsteer", registry.End: "end", registry.Release: "release", registry.Query: "query",
}

func (t *telemetry) effect(a registry.Action) { t.effects.WithLabelValues(effectNames[a]).Inc() }
