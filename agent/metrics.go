package agent

import (
	"cmp"
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/shunt-sdn/shunt/agent/config"
	"github.com/shunt-sdn/shunt/internal/metrics"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// other is the label of what has no name of its own: labels come from
// configurations and from lists in this program, never from peers or clients.
const other = "other"

// counts are the metrics that grow as messages pass.
type counts struct {
	handoffs       *prometheus.CounterVec
	handoffTime    *prometheus.HistogramVec
	stepTime       *prometheus.HistogramVec
	imports        *prometheus.CounterVec
	importTime     *prometheus.HistogramVec
	attachFailures *prometheus.CounterVec
	refused        *prometheus.CounterVec

	steps      map[string]prometheus.Observer // of stepTime
	directions sync.Map                       // of handoffs: direction to map[shuntv1.Outcome]prometheus.Counter

	own []string // services that applications of this node answer
}

// direction is a service and the node that its sessions are handed to.
type direction struct{ service, target string }

func newCounts(cfg config.Config) *counts {
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: "shunt", Subsystem: "agent", Name: name, Help: help}, labels)
	}
	histogram := func(name, help string, labels ...string) *prometheus.HistogramVec {
		return prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Namespace: "shunt", Subsystem: "agent", Name: name, Help: help, Buckets: metrics.StepBuckets}, labels)
	}
	c := &counts{
		handoffs:       counter("handoffs_total", "Hand-offs that this node began, by how they ended.", "service", "target", "outcome"),
		handoffTime:    histogram("handoff_duration_seconds", "Completed hand-offs, from the complete request head to the server's confirmation.", "service"),
		stepTime:       histogram("handoff_step_duration_seconds", "Steps of the hand-offs that this node began; restore and attach are the server's.", "step"),
		imports:        counter("imports_total", "Sessions that other nodes handed to this one.", "service", "outcome"),
		importTime:     histogram("import_duration_seconds", "Imports, from the message to the answer.", "service"),
		attachFailures: counter("attach_failures_total", "Imports that the application did not take.", "service"),
		refused:        counter("requests_refused_total", "Requests that were answered with an error.", "service", "status"),
	}
	c.steps = make(map[string]prometheus.Observer)
	for _, name := range append([]string{other}, steps...) {
		c.steps[name] = c.stepTime.WithLabelValues(name)
	}
	// Series of what may happen are there from the start, so that the first
	// failure is an increase.
	for _, app := range cfg.Applications {
		c.own = append(c.own, app.Service)
		for _, outcome := range []string{imported, refused} {
			c.imports.WithLabelValues(app.Service, outcome)
		}
		c.attachFailures.WithLabelValues(app.Service)
	}
	return c
}

// Outcomes of imports.
const (
	imported = "imported"
	refused  = "refused"
)

func (c *counts) all() []prometheus.Collector {
	return []prometheus.Collector{c.handoffs, c.handoffTime, c.stepTime, c.imports, c.importTime, c.attachFailures, c.refused}
}

// steps of a hand-off, as common.proto names them.
var steps = []string{"choose", "divert", "freeze", "dump", "send", "restore", "attach", "imported", "steer", "close"}

// outcomes of hand-offs.
var outcomes = map[shuntv1.Outcome]string{
	shuntv1.Outcome_OUTCOME_COMPLETED: "completed", shuntv1.Outcome_OUTCOME_ROLLED_BACK: "rolled_back", shuntv1.Outcome_OUTCOME_FAILED: "failed",
}

func outcomeOf(o shuntv1.Outcome) string { return cmp.Or(outcomes[o], other) }

func (c *counts) handoff(h *shuntv1.Handoff) {
	key := direction{h.Service, h.ToNode}
	series, ok := c.directions.Load(key)
	if !ok { // with the first hand-off to a server come all its series
		m := make(map[shuntv1.Outcome]prometheus.Counter, len(outcomes))
		for o, label := range outcomes {
			m[o] = c.handoffs.WithLabelValues(h.Service, h.ToNode, label)
		}
		series, _ = c.directions.LoadOrStore(key, m)
	}
	if n := series.(map[shuntv1.Outcome]prometheus.Counter)[h.Outcome]; n != nil {
		n.Inc()
	}
	if h.Outcome == shuntv1.Outcome_OUTCOME_COMPLETED {
		c.handoffTime.WithLabelValues(h.Service).Observe(float64(h.TotalUs) / 1e6)
	}
	for _, s := range h.Steps {
		step := c.steps[s.Name]
		if step == nil {
			step = c.steps[other]
		}
		step.Observe(float64(s.DurationUs) / 1e6)
	}
}

func importOutcomeOf(o shuntv1.ImportOutcome) string {
	if o == shuntv1.ImportOutcome_IMPORT_OUTCOME_IMPORTED {
		return imported
	}
	return refused
}

// answered counts an import.
func (c *counts) answered(service string, r *shuntv1.ImportResult, took time.Duration) {
	if !slices.Contains(c.own, service) {
		service = other
	}
	outcome := importOutcomeOf(r.Outcome)
	if outcome == imported {
		c.importTime.WithLabelValues(service).Observe(took.Seconds())
	} else if strings.HasPrefix(r.Reason, "attach: ") { // agent/server's word for it
		c.attachFailures.WithLabelValues(service).Inc()
	}
	c.imports.WithLabelValues(service, outcome).Inc()
}

// collector reads the agent's state when it is scraped.
type collector struct{ a *agent }

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(prometheus.BuildFQName("shunt", "agent", name), help, labels, nil)
}

var (
	descInfo      = desc("info", "Always 1; the node's name, data interface and roles are in the labels.", "node", "interface", "roles")
	descControl   = desc("controller_up", "1 while the stream to the controller is up.")
	descConfig    = desc("config_version", "Version of the cluster's configuration that is applied; 0: none yet.")
	descProxied   = desc("requests_proxied_total", "Requests that were proxied because no hand-off was possible.")
	descSessions  = desc("sessions", "Sessions whose socket is on this node: imported from elsewhere, or at home and with the dispatcher, proxied, or with a local application.", "service", "place")
	descSockets   = desc("session_sockets", "Session sockets on this node by TCP state.", "state")
	descLinkUp    = desc("link_up", "1 while hand-offs can be sent to the server's agent.", "peer")
	descLinkRTT   = desc("link_rtt_seconds", "Round trip of the last ping to the server's agent.", "peer")
	descLinkClock = desc("link_clock_offset_seconds", "How far the peer's monotonic clock is ahead of this node's. The zeros are arbitrary: look at its changes, which are the drift that deadlines have to allow for.", "peer")
	descApp       = desc("application_ready", "1 while sessions can be attached to the application.", "service")
	descGuard     = desc("guard_packets_total", "Packets to session addresses by the guard's decision.", "decision")
	descLines     = desc("access_log_lines_total", "Lines written to the access log.")
	descLost      = desc("access_log_lines_dropped_total", "Lines of the access log that were lost: too many waited, or the file could not be written.")
)

// Describe implements prometheus.Collector.
func (c collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descInfo, descControl, descConfig, descProxied, descSessions, descSockets,
		descLinkUp, descLinkRTT, descLinkClock, descApp, descGuard, descLines, descLost} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (c collector) Collect(out chan<- prometheus.Metric) {
	a := c.a
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	var roles []string
	for _, r := range a.cfg.Roles {
		roles = append(roles, string(r))
	}
	slices.Sort(roles)
	gauge(descInfo, 1, a.cfg.Node, a.cfg.Interface, strings.Join(roles, ","))
	gauge(descControl, flag(a.control.Connected()))
	gauge(descConfig, float64(a.telemetry.version.Load()))
	report := a.report()
	counter(descProxied, report.RequestsProxied)
	for decision, n := range report.Guard {
		counter(descGuard, n, decision)
	}
	for _, app := range report.Applications {
		gauge(descApp, flag(app.Ready), app.Service)
	}
	for _, l := range a.peers.Status() {
		gauge(descLinkUp, flag(l.Up), l.Node)
		if l.Up {
			gauge(descLinkRTT, l.RTT.Seconds(), l.Node)
			gauge(descLinkClock, l.Ahead.Seconds(), l.Node)
		}
	}
	if a.telemetry.access != nil {
		written, lost := a.telemetry.access.Counters()
		counter(descLines, written)
		counter(descLost, lost)
	}
	c.sessions(out, gauge)
}

// sessionsWait bounds the listing of sockets for one scrape.
const sessionsWait = 5 * time.Second

func (c collector) sessions(out chan<- prometheus.Metric, gauge func(*prometheus.Desc, float64, ...string)) {
	a := c.a
	ctx, cancel := context.WithTimeout(context.Background(), sessionsWait)
	defer cancel()
	sockets, err := a.sockets(ctx)
	if err != nil {
		out <- prometheus.NewInvalidMetric(descSessions, err)
		return
	}
	places := make(map[route]string)
	for _, h := range a.dispatcher.Held() {
		if client, local, err := h.Session.Ends(); err == nil {
			places[route{client, local}] = strings.ToLower(strings.TrimPrefix(h.Path.String(), "PATH_"))
		}
	}
	v, _ := a.view()
	byPlace := make(map[[2]string]int)
	for _, service := range a.telemetry.known() {
		for _, place := range []string{imported, "dispatcher", "proxied", "local"} {
			byPlace[[2]string{service, place}] = 0
		}
	}
	byState := make(map[string]int)
	for _, name := range tcpStates {
		if name != "" {
			byState[name] = 0
		}
	}
	for _, s := range sockets {
		place := places[route{s.Remote, s.Local}]
		switch {
		case place != "":
		case v.homes[s.Local.Addr()].Self:
			place = "local"
		default:
			place = imported
		}
		byPlace[[2]string{a.telemetry.serviceOf(s.Local.Addr()), place}]++
		byState[stateOf(s.State)]++
	}
	for labels, n := range byPlace {
		gauge(descSessions, float64(n), labels[:]...)
	}
	for state, n := range byState {
		gauge(descSockets, float64(n), state)
	}
}

// tcpStates that a session's socket can have, by number. Source:
// include/net/tcp_states.h.
var tcpStates = [...]string{
	1: "established", 2: "syn_sent", 3: "syn_recv", 4: "fin_wait1", 5: "fin_wait2", 7: "close", 8: "close_wait", 9: "last_ack", 11: "closing",
}

func stateOf(s uint8) string {
	if int(s) < len(tcpStates) && tcpStates[s] != "" {
		return tcpStates[s]
	}
	return other
}

func flag(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
