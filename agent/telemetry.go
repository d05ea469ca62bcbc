package agent

import (
	"context"
	"errors"
	"log/slog"
	"maps"
	"math/rand/v2"
	"net/netip"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shunt-sdn/shunt/agent/accesslog"
	"github.com/shunt-sdn/shunt/agent/config"
	"github.com/shunt-sdn/shunt/agent/control"
	"github.com/shunt-sdn/shunt/agent/dispatcher"
	"github.com/shunt-sdn/shunt/agent/httphead"
	"github.com/shunt-sdn/shunt/internal/logconf"
	"github.com/shunt-sdn/shunt/internal/metrics"
	"github.com/shunt-sdn/shunt/internal/tracing"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// telemetry is what the agent lets others see of its work. It looks at the
// messages about hand-offs as they come and go; the hand-off itself knows
// nothing of it.
type telemetry struct {
	away, here *slog.Logger // lines about hand-offs from here, and to here

	endpoint *metrics.Server
	counts   *counts
	spans    *tracing.Exporter // nil: no export
	access   *accesslog.Log    // nil: no log

	// book has the spans of hand-offs: from here the source's, to here the
	// target's.
	book tracing.Book
	// services by session address, as of the latest configuration.
	services atomic.Pointer[map[netip.Addr]string]
	version  atomic.Uint64 // of that configuration; 0: none yet

	mu     sync.Mutex // guards what follows
	offers map[string]*offer
	failed map[route]*offer // the last offer of sessions that were taken back
}

// offer is a hand-off from here that is not recorded yet.
type offer struct {
	span, parent tracing.Context
	attempts     int // hand-offs of the same request, with this one
	at           time.Time
	entry        accesslog.Entry // with an access log: what the head says
}

// route is a session by its ends.
type route struct{ client, local netip.AddrPort }

// Bounds of what waits for a record that may never come.
const (
	maxOffers = 8192
	maxFailed = 1024
	forgetful = 10 * time.Second // a request's next hand-off follows at once, or not at all
)

func openTelemetry(ctx context.Context, cfg config.Config, version string, log *slog.Logger, ready ...metrics.Check) (t *telemetry, err error) {
	t = &telemetry{counts: newCounts(cfg), offers: make(map[string]*offer), failed: make(map[route]*offer)}
	log = slog.New(tracing.WithTraces(log.Handler(), &t.book))
	t.away, t.here = logconf.Of(log, "dispatcher"), logconf.Of(log, "server")
	t.endpoint, err = metrics.New(metrics.Options{
		Config: cfg.Metrics, Component: "agent", Version: version, Ready: ready, Log: logconf.Of(log, "metrics"),
	})
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, t.close())
		}
	}()
	t.endpoint.Registry().MustRegister(t.counts.all()...)
	t.spans, err = tracing.NewExporter(ctx, tracing.ExporterOptions{
		Config: cfg.Tracing, Component: "shunt-agent", Node: cfg.Node, Version: version, Log: logconf.Of(log, "tracing"),
	})
	if err != nil {
		return nil, err
	}
	t.access, err = accesslog.Open(cfg.AccessLog, logconf.Of(log, "accesslog"))
	return t, err
}

// close ends what run does not, and sends the last spans.
func (t *telemetry) close() error {
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	return errors.Join(t.spans.Close(ctx), t.endpoint.Close())
}

// writeAccessLog writes until ctx ends, and opens the file anew on SIGHUP and
// SIGUSR1, as logrotate asks for it. Without a log the signals do nothing: they
// must not end the agent.
func (t *telemetry) writeAccessLog(ctx context.Context) error {
	rotated := make(chan os.Signal, 1)
	signal.Notify(rotated, unix.SIGHUP, unix.SIGUSR1)
	defer signal.Stop(rotated)
	var wg sync.WaitGroup
	defer wg.Wait()
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	wg.Go(func() {
		for {
			select {
			case <-ctx.Done():
				return
			case <-rotated:
				t.access.Reopen()
			}
		}
	})
	if t.access == nil {
		<-ctx.Done()
		return nil
	}
	return t.access.Run(ctx)
}

// know takes a configuration.
func (t *telemetry) know(c *shuntv1.NodeConfig) {
	services := make(map[netip.Addr]string)
	for _, s := range c.Services {
		for _, l := range s.Leases {
			if local, err := l.Local.AddrPort(); err == nil {
				services[local.Addr()] = s.Name
			}
		}
	}
	t.services.Store(&services)
	t.version.Store(c.Version)
}

// known lists the services of the latest configuration.
func (t *telemetry) known() (names []string) {
	if m := t.services.Load(); m != nil {
		names = slices.Compact(slices.Sorted(maps.Values(*m)))
	}
	return names
}

// serviceOf names the service of a session address.
func (t *telemetry) serviceOf(local netip.Addr) string {
	if m := t.services.Load(); m != nil && (*m)[local] != "" {
		return (*m)[local]
	}
	return other
}

// offering gives a hand-off that is about to be sent its span. The trace is the
// request's own, or that of an earlier attempt, or a new one.
func (t *telemetry) offering(m *shuntv1.Import) {
	head := m.GetConnection().GetReceived()
	o := &offer{at: time.Now(), attempts: 1}
	client, local, err := m.GetConnection().GetSession().Ends()
	if err == nil {
		if before := t.earlier(route{client, local}, o.at); before != nil {
			o.attempts, o.parent, o.span = before.attempts+1, before.parent, before.span.Child()
		}
	}
	if o.attempts == 1 {
		if o.parent, _ = tracing.FromRequest(head); o.parent.Valid() {
			o.span = o.parent.Child()
		} else {
			o.span = tracing.NewTrace(rand.Float64() < t.spans.Sample())
		}
	}
	if t.access != nil {
		o.entry = entryOf(head)
		o.entry.Client = client
		o.entry.VIP, _ = m.GetVip().AddrPort()
	}
	m.Traceparent = o.span.String()
	t.book.Put(m.Id, o.span)
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.offers) >= maxOffers {
		for id := range t.offers { // any: their records are overdue
			delete(t.offers, id)
			break
		}
	}
	t.offers[m.Id] = o
}

// earlier takes out the offer of the session that was just taken back.
func (t *telemetry) earlier(r route, now time.Time) *offer {
	t.mu.Lock()
	defer t.mu.Unlock()
	o := t.failed[r]
	delete(t.failed, r)
	if o == nil || now.Sub(o.at) > forgetful {
		return nil
	}
	return o
}

// recorded takes the record of a hand-off from here.
func (t *telemetry) recorded(h *shuntv1.Handoff) {
	t.counts.handoff(h)
	if t.away.Enabled(context.Background(), slog.LevelDebug) {
		t.away.Debug("hand-off", "id", h.Id, "service", h.Service, "to", h.ToNode,
			"outcome", outcomeOf(h.Outcome), "total_us", h.TotalUs, "reason", h.Reason)
	}
	t.mu.Lock()
	o := t.offers[h.Id]
	delete(t.offers, h.Id)
	client, local, err := h.GetSession().Ends()
	if o != nil && err == nil && h.Outcome == shuntv1.Outcome_OUTCOME_ROLLED_BACK && len(t.failed) < maxFailed {
		t.failed[route{client, local}] = o
	}
	for r, f := range t.failed {
		if time.Since(f.at) > forgetful {
			delete(t.failed, r)
		}
	}
	t.mu.Unlock()
	if o == nil {
		return
	}
	h.TraceId = o.span.TraceID()
	exportHandoff(t.spans, h, o)
	if t.access != nil && h.Outcome != shuntv1.Outcome_OUTCOME_ROLLED_BACK {
		t.access.Write(o.finished(h))
	}
}

// seen takes a request that was not handed off.
func (t *telemetry) seen(r dispatcher.Request) {
	if r.How == dispatcher.Refused {
		t.counts.refused.WithLabelValues(r.Service, strconv.Itoa(r.Status)).Inc()
	}
	if t.access == nil {
		return
	}
	e := accesslog.Entry{
		Time: r.At, Client: r.Client, VIP: r.VIP, Service: r.Service, Server: r.Server, Status: r.Status, Octets: -1, Attempts: r.Attempts,
		Method: r.Head.Method, Target: r.Head.Target, Proto: r.Head.Proto, Host: r.Head.Host,
		Path: map[dispatcher.How]accesslog.Path{dispatcher.Proxied: accesslog.Proxied, dispatcher.Local: accesslog.Local, dispatcher.Refused: accesslog.Refused}[r.How],
	}
	if r.Head.Method != "" {
		e.Referer, e.Agent = r.Head.Get("Referer"), r.Head.Get("User-Agent")
	}
	if before := t.earlier(route{r.Client, r.Local}, r.At); before != nil {
		e.Trace = before.span.TraceID()
	} else if c, ok := tracing.Parse(r.Head.Get("Traceparent")); ok {
		e.Trace = c.TraceID()
	}
	t.access.Write(e)
}

// finished is the request's line.
func (o *offer) finished(h *shuntv1.Handoff) accesslog.Entry {
	e := o.entry
	e.Time, e.Service, e.Server = time.Unix(0, h.StartedUnixNano), h.Service, h.ToNode
	e.Octets, e.Attempts, e.Handoff, e.Trace = -1, o.attempts, h.Id, h.TraceId
	e.Cost = time.Duration(h.TotalUs) * time.Microsecond
	if e.Path = accesslog.HandedOff; h.Outcome == shuntv1.Outcome_OUTCOME_FAILED {
		e.Path = accesslog.Failed
	}
	return e
}

// entryOf reads what a line says of a request from its head.
func entryOf(b []byte) (e accesslog.Entry) {
	head, done, err := httphead.NewParser(len(b)).Parse(b)
	if err != nil || !done {
		return e
	}
	return accesslog.Entry{
		Method: head.Method, Target: head.Target, Proto: head.Proto, Host: head.Host,
		Referer: head.Get("Referer"), Agent: head.Get("User-Agent"),
	}
}

// watchedControl is the stream to the controller with telemetry looking on.
type watchedControl struct {
	*control.Client
	t *telemetry
}

// Steer is control.Client's.
func (c watchedControl) Steer(m *shuntv1.Steer, done func(error)) {
	if span := c.t.book.Get(m.Id); span.Valid() {
		m.Traceparent = span.String()
	}
	c.Client.Steer(m, done)
}

// Handoff is control.Client's.
func (c watchedControl) Handoff(h *shuntv1.Handoff) {
	c.t.recorded(h)
	c.Client.Handoff(h)
}
