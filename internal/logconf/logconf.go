package logconf

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"maps"
	"reflect"
	"sync/atomic"
)

// Subsystem is the key of the attribute that names a logger's subsystem.
const Subsystem = "subsystem"

// Format of the lines.
type Format string

// Formats.
const (
	Text Format = "text" // key=value, as slog.TextHandler writes it
	JSON Format = "json" // one object a line
)

// Config says what is logged and how. The zero value is text from level info.
type Config struct {
	Level  slog.Level            // of what has no level of its own
	Format Format                // of the lines
	Levels map[string]slog.Level // by subsystem; others have Level
}

// For returns a subsystem's level.
func (c Config) For(subsystem string) slog.Level {
	if l, ok := c.Levels[subsystem]; ok {
		return l
	}
	return c.Level
}

// Of returns the logger of a subsystem.
func Of(log *slog.Logger, subsystem string) *slog.Logger {
	return log.With(Subsystem, subsystem)
}

// Handler is a slog.Handler that drops what is below the level of its
// subsystem. Handlers that come from it by WithAttrs and WithGroup share its
// levels.
type Handler struct {
	levels    *atomic.Pointer[Config] // shared; never nil inside
	subsystem string
	next      slog.Handler
}

// New returns a handler that writes to w.
func New(w io.Writer, c Config) *Handler {
	all := &slog.HandlerOptions{Level: slog.Level(-1 << 20), ReplaceAttr: readable} // this handler decides
	var next slog.Handler = slog.NewTextHandler(w, all)
	if c.Format == JSON {
		next = slog.NewJSONHandler(w, all)
	}
	h := &Handler{levels: new(atomic.Pointer[Config]), next: next}
	h.Set(c)
	return h
}

// readable has addresses and the like written as people write them: the
// standard handlers go by their structure.
func readable(_ []string, a slog.Attr) slog.Attr {
	if a.Value.Kind() == slog.KindAny {
		switch v := a.Value.Any().(type) {
		case error:
		case fmt.Stringer:
			if p := reflect.ValueOf(v); p.Kind() != reflect.Pointer || !p.IsNil() {
				return slog.String(a.Key, v.String())
			}
		}
	}
	return a
}

// Set changes the levels of all loggers of this handler. The format stays.
func (h *Handler) Set(c Config) {
	c.Levels = maps.Clone(c.Levels)
	h.levels.Store(&c)
}

// Enabled implements slog.Handler.
func (h *Handler) Enabled(_ context.Context, l slog.Level) bool {
	return l >= h.levels.Load().For(h.subsystem)
}

// Handle implements slog.Handler.
func (h *Handler) Handle(ctx context.Context, r slog.Record) error { return h.next.Handle(ctx, r) }

// WithAttrs implements slog.Handler.
func (h *Handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	c := *h
	for _, a := range attrs {
		if a.Key == Subsystem {
			c.subsystem = a.Value.String()
		}
	}
	c.next = h.next.WithAttrs(attrs)
	return &c
}

// WithGroup implements slog.Handler.
func (h *Handler) WithGroup(name string) slog.Handler {
	c := *h
	c.next = h.next.WithGroup(name)
	return &c
}
