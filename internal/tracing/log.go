package tracing

import (
	"context"
	"log/slog"
)

// TraceID is the key that log lines carry a trace's id under.
const TraceID = "trace_id"

// WithTraces returns a handler that adds the trace's id to every line that names
// a hand-off of the book: one that has its id as the attribute "id" or "handoff".
func WithTraces(next slog.Handler, book *Book) slog.Handler { return handler{next, book} }

type handler struct {
	slog.Handler
	book *Book
}

// Handle implements slog.Handler.
func (h handler) Handle(ctx context.Context, r slog.Record) error {
	var c Context
	r.Attrs(func(a slog.Attr) bool {
		if (a.Key == "id" || a.Key == "handoff") && a.Value.Kind() == slog.KindString {
			c = h.book.Get(a.Value.String())
		}
		return !c.Valid()
	})
	if c.Valid() {
		r = r.Clone()
		r.AddAttrs(slog.String(TraceID, c.TraceID()))
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return handler{h.Handler.WithAttrs(attrs), h.book}
}

// WithGroup implements slog.Handler.
func (h handler) WithGroup(name string) slog.Handler {
	return handler{h.Handler.WithGroup(name), h.book}
}
