package controller

import (
	"fmt"
	"strings"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/shunt-sdn/shunt/controller/openflow"
	"github.com/shunt-sdn/shunt/controller/registry"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// collector reads the cluster's state when it is scraped. It asks no agent: the
// sessions are those that the controller tracks, which are elsewhere than at
// home; agents count the others.
type collector struct{ c *cluster }

func desc(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(prometheus.BuildFQName("shunt", "controller", name), help, labels, nil)
}

var (
	descWarm      = desc("sessions_known", "1 once the nodes that were up before a restart have listed their sessions.")
	descConfig    = desc("config_version", "Version of the configuration that agents are told.")
	descProxied   = desc("requests_proxied_total", "Requests that agents proxied, since the controller's start.")
	descNodeUp    = desc("node_up", "1 while the node's agent is connected and the node in use.", "node", "role")
	descAppReady  = desc("application_ready", "1 while the node's application takes sessions of the service.", "node", "service")
	descSessions  = desc("sessions", "Sessions on servers: switched, or diverted by their home's guard.", "node", "path")
	descLeases    = desc("leases", "Session addresses that are leased.", "service", "family")
	descPool      = desc("pool_addresses", "Session addresses that the pools have.", "family")
	descConnected = desc("switch_connected", "1 while the switch is connected.", "switch")
	descFlows     = desc("switch_flows", "Flows that the switch should hold.", "switch")
	descMethod    = desc("switch_info", "Always 1; how sessions are steered is in the labels.", "switch", "steering")
	descMessages  = desc("openflow_messages_total", "OpenFlow messages after the handshakes.", "direction", "type")
	descErrors    = desc("openflow_errors_total", "Errors that switches sent.", "type")
)

// Describe implements prometheus.Collector.
func (collector) Describe(out chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{descWarm, descConfig, descProxied, descNodeUp, descAppReady, descSessions, descLeases,
		descPool, descConnected, descFlows, descMethod, descMessages, descErrors} {
		out <- d
	}
}

// Collect implements prometheus.Collector.
func (x collector) Collect(out chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	counter := func(d *prometheus.Desc, v uint64, labels ...string) {
		out <- prometheus.MustNewConstMetric(d, prometheus.CounterValue, float64(v), labels...)
	}
	c := x.c
	gauge(descWarm, flag(c.telemetry.warm.Load()))
	counter(descProxied, c.nodes.Proxied())
	x.nodes(gauge)
	x.addresses(gauge)
	x.sessions(gauge)
	for _, s := range c.switches.Status() {
		name := fmt.Sprintf("%016x", s.DPID)
		if s.DPID == 0 { // it has not connected yet
			name = s.Address
		}
		gauge(descConnected, flag(s.Connected), name)
		gauge(descFlows, float64(s.Flows), name)
		if s.Steering != "" {
			gauge(descMethod, 1, name, s.Steering)
		}
	}
	if m, ok := c.switches.(interface{ Messages() *openflow.Counts }); ok {
		for kind, n := range m.Messages().Sent() {
			counter(descMessages, n, "sent", kind)
		}
		for kind, n := range m.Messages().Received() {
			counter(descMessages, n, "received", kind)
		}
		for kind, n := range m.Messages().Errors() {
			counter(descErrors, n, kind)
		}
	}
}

func (x collector) nodes(gauge func(*prometheus.Desc, float64, ...string)) {
	for _, n := range x.c.nodes.List() {
		for _, r := range n.Roles {
			gauge(descNodeUp, flag(n.InUse()), n.Name, strings.ToLower(strings.TrimPrefix(r.String(), "ROLE_")))
		}
		known := make(map[string]bool)
		for _, app := range n.Applications {
			known[app.Service] = known[app.Service] || n.InUse() && app.Ready
		}
		for _, s := range x.c.view.Load().config.Services {
			if ready, ok := known[s.Name]; ok {
				gauge(descAppReady, flag(ready), n.Name, s.Name)
			}
		}
	}
}

// families of addresses, as labels have them.
var families = map[bool]string{true: "ipv4", false: "ipv6"}

func (x collector) addresses(gauge func(*prometheus.Desc, float64, ...string)) {
	v := x.c.view.Load()
	gauge(descConfig, float64(v.config.Version))
	for _, s := range v.config.Services {
		byFamily := map[bool]int{true: 0, false: 0}
		for _, l := range s.Leases {
			byFamily[len(l.GetLocal().GetAddress()) == 4]++
		}
		for v4, n := range byFamily {
			gauge(descLeases, float64(n), s.Name, families[v4])
		}
	}
	room := map[bool]float64{}
	for _, p := range x.c.cfg.Pools {
		v4 := p.Addr().Is4()
		n := 1.0
		for range p.Addr().BitLen() - p.Bits() {
			n *= 2
		}
		room[v4] += n - 2 // neither the first nor the last is leased
	}
	for v4, n := range room {
		gauge(descPool, n, families[v4])
	}
}

func (x collector) sessions(gauge func(*prometheus.Desc, float64, ...string)) {
	type place struct{ node, path string }
	const switched, diverted = "switched", "diverted"
	counts := make(map[place]int)
	for _, n := range x.c.nodes.List() {
		if n.Has(shuntv1.Role_ROLE_SERVER) {
			counts[place{n.Name, switched}], counts[place{n.Name, diverted}] = 0, 0
		}
	}
	confirmed := make(map[registry.Key]string)
	for _, p := range x.c.switches.Sessions() {
		if p.Confirmed {
			confirmed[registry.Key{Client: p.Client, VIP: p.VIP}] = p.Node
		}
	}
	x.c.mu.Lock()
	for t := range x.c.sessions.All() {
		switch {
		case t.Ending:
		case confirmed[t.Key()] == t.Node:
			counts[place{t.Node, switched}]++
		default:
			counts[place{t.Node, diverted}]++
		}
	}
	x.c.mu.Unlock()
	for p, n := range counts {
		gauge(descSessions, float64(n), p.node, p.path)
	}
}

func flag(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
