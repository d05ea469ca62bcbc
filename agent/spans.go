package agent

import (
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"google.golang.org/grpc"

	"github.com/shunt-sdn/shunt/internal/tracing"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// exportHandoff makes spans of a hand-off's record: one for the whole, and one
// for each step. restore and attach are the target's to tell.
func exportHandoff(x *tracing.Exporter, h *shuntv1.Handoff, o *offer) {
	if x == nil || !o.span.Sampled {
		return
	}
	begun := time.Unix(0, h.StartedUnixNano)
	at, sent := begun, begun
	for _, s := range h.Steps {
		d := time.Duration(s.DurationUs) * time.Microsecond
		from := at
		switch s.Name {
		case "restore", "attach":
			continue
		case "steer": // goes on beside the others, from when the state was sent
			from = sent
		default:
			at = at.Add(d)
		}
		if s.Name == "send" {
			sent = at
		}
		x.Export(tracing.Span{Name: s.Name, Context: o.span.Child(), Parent: o.span, Start: from, End: from.Add(d)})
		if s.Name == "imported" {
			at = at.Add(time.Duration(h.AnswerHeldUs) * time.Microsecond)
		}
	}
	end := begun.Add(time.Duration(h.TotalUs) * time.Microsecond)
	if at.After(end) {
		end = at
	}
	x.Export(tracing.Span{
		Name: "hand-off", Context: o.span, Parent: o.parent, Start: begun, End: end, Err: h.Reason,
		Attributes: []attribute.KeyValue{
			attribute.String("shunt.handoff.id", h.Id), attribute.String("shunt.handoff.outcome", outcomeOf(h.Outcome)),
			attribute.String("shunt.service", h.Service), attribute.String("shunt.server", h.ToNode), attribute.Int("shunt.handoff.attempt", o.attempts),
		},
	})
}

// watchImports looks at the imports that other agents ask for, and at the
// answers.
func (t *telemetry) watchImports(srv any, s grpc.ServerStream, info *grpc.StreamServerInfo, next grpc.StreamHandler) error {
	if info.FullMethod != shuntv1.TransferService_Transfer_FullMethodName {
		return next(srv, s)
	}
	return next(srv, &watchedStream{ServerStream: s, t: t, open: make(map[string]arrival)})
}

type watchedStream struct {
	grpc.ServerStream
	t *telemetry

	mu   sync.Mutex // guards open
	open map[string]arrival
}

// arrival is an import that is not answered yet. The stream's handler bounds how
// many there are.
type arrival struct {
	at           time.Time
	service      string
	span, parent tracing.Context
}

// RecvMsg implements grpc.ServerStream.
func (w *watchedStream) RecvMsg(m any) error {
	if err := w.ServerStream.RecvMsg(m); err != nil {
		return err
	}
	if r, ok := m.(*shuntv1.TransferRequest); ok && r.GetImport() != nil {
		i := r.GetImport()
		a := arrival{at: time.Now(), service: i.Service}
		if a.parent, ok = tracing.Parse(i.Traceparent); ok {
			a.span = a.parent.Child()
			w.t.book.Put(i.Id, a.span)
		}
		w.mu.Lock()
		w.open[i.Id] = a
		w.mu.Unlock()
	}
	return nil
}

// SendMsg implements grpc.ServerStream.
func (w *watchedStream) SendMsg(m any) error {
	if r, ok := m.(*shuntv1.TransferResponse); ok && r.GetResult() != nil {
		w.mu.Lock()
		a, known := w.open[r.GetResult().Id]
		delete(w.open, r.GetResult().Id)
		w.mu.Unlock()
		if known {
			w.t.imported(a, r.GetResult(), time.Duration(r.HeldUs)*time.Microsecond)
		}
	}
	return w.ServerStream.SendMsg(m)
}

// imported takes the answer to an import, which was kept back for so long.
func (t *telemetry) imported(a arrival, r *shuntv1.ImportResult, held time.Duration) {
	now := time.Now().Add(-held)
	t.counts.answered(a.service, r, now.Sub(a.at))
	t.here.Debug("import", "id", r.Id, "service", a.service, "outcome", importOutcomeOf(r.Outcome), "us", now.Sub(a.at).Microseconds(), "reason", r.Reason)
	if !a.span.Sampled || t.spans == nil {
		return
	}
	// The steps are the last that happened, one after the other.
	attach := now.Add(-time.Duration(r.AttachUs) * time.Microsecond)
	restore := attach.Add(-time.Duration(r.RestoreUs) * time.Microsecond)
	if r.Outcome == shuntv1.ImportOutcome_IMPORT_OUTCOME_IMPORTED {
		t.spans.Export(tracing.Span{Name: "restore", Context: a.span.Child(), Parent: a.span, Start: restore, End: attach})
		t.spans.Export(tracing.Span{Name: "attach", Context: a.span.Child(), Parent: a.span, Start: attach, End: now})
	}
	t.spans.Export(tracing.Span{
		Name: "import", Context: a.span, Parent: a.parent, Start: a.at, End: now, Err: r.Reason,
		Attributes: []attribute.KeyValue{attribute.String("shunt.handoff.id", r.Id), attribute.String("shunt.service", a.service)},
	})
}
