package config

import (
	"net/netip"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/shunt-sdn/shunt/agent/accesslog"
	"github.com/shunt-sdn/shunt/internal/logconf"
	"github.com/shunt-sdn/shunt/internal/metrics"
	"github.com/shunt-sdn/shunt/internal/tracing"
	conf "github.com/shunt-sdn/shunt/internal/yamlconf"
)

// reader reads an agent's configuration.
type reader struct{ *conf.Reader }

// document is a configuration with the place of everything in it.
type document struct {
	root                          *yaml.Node
	node, iface                   conf.At[string]
	roles                         []conf.At[Role]
	controller, listen, advertise conf.At[string]
	security                      conf.Security
	applications                  []*applicationDoc
	applicationsKey               *yaml.Node // nil: absent
	maxDiverted                   conf.At[int]
	log                           logconf.Config
	metrics                       metrics.Config
	tracing                       tracing.Config
	accessLog                     accesslog.Config
	accessLogKey                  *yaml.Node // nil: absent
}

type applicationDoc struct {
	n               *yaml.Node
	service         conf.At[string]
	attach          conf.At[Attach]
	socket, connect conf.At[string]
	connect6        conf.At[netip.AddrPort]
	proxyProtocol   conf.At[bool]
	forwarded       conf.At[string]
	idleTimeout     conf.At[time.Duration]
	direct          conf.At[netip.AddrPort]
}

// document reads the tree's values; relations between them are check's.
func (r *reader) document(root *yaml.Node) *document {
	d := &document{root: root}
	r.Mapping(root, "the configuration",
		conf.Needed("node", "name the node as the controller shall know it", conf.Scalar(r.Reader, "node", &d.node, conf.Name)),
		conf.Needed("roles", "write roles: [dispatcher], [server] or both", conf.Scalars(r.Reader, "role", &d.roles, parseRole)),
		conf.Needed("interface", "name the data interface, for example eth0", conf.Scalar(r.Reader, "interface", &d.iface, parseInterface)),
		conf.Needed("controller", "write host:port of the controller, its listen.grpc", conf.Scalar(r.Reader, "controller", &d.controller, parseEndpoint)),
		conf.Needed("listen", "write host:port for other agents", conf.Scalar(r.Reader, "listen", &d.listen, conf.Listen)),
		conf.Optional("advertise", conf.Scalar(r.Reader, "advertise", &d.advertise, parseEndpoint)),
		conf.Optional("tls", d.security.ReadTLS(r.Reader, "this node's")),
		conf.Optional("insecure", d.security.ReadInsecure(r.Reader)),
		conf.Optional("applications", func(n *yaml.Node) {
			d.applicationsKey = n
			r.List(n, "applications", func(e *yaml.Node) { d.applications = append(d.applications, r.application(e)) })
		}),
		conf.Optional("max_diverted", conf.Scalar(r.Reader, "max_diverted", &d.maxDiverted, parseMaxDiverted)),
		conf.Optional("log", logconf.Read(r.Reader, &d.log, Subsystems)),
		conf.Optional("metrics", metrics.Read(r.Reader, &d.metrics)),
		conf.Optional("tracing", tracing.Read(r.Reader, &d.tracing)),
		conf.Optional("access_log", func(n *yaml.Node) {
			d.accessLogKey = n
			accesslog.Read(r.Reader, &d.accessLog)(n)
		}),
	)
	return d
}

func (r *reader) application(n *yaml.Node) *applicationDoc {
	a := &applicationDoc{n: n}
	r.Mapping(n, "application",
		conf.Needed("service", "name the service that it answers", conf.Scalar(r.Reader, "service", &a.service, conf.Name)),
		conf.Needed("attach", "write listener for programs that use the package handoff, preload for servers that run with libshunt.so, or relay for any other", conf.Scalar(r.Reader, "attach", &a.attach, parseAttach)),
		conf.Optional("socket", conf.Scalar(r.Reader, "socket", &a.socket, parseSocket)),
		conf.Optional("connect", conf.Scalar(r.Reader, "connect", &a.connect, parseEndpoint)),
		conf.Optional("connect6", conf.Scalar(r.Reader, "connect6", &a.connect6, parseDirect)),
		conf.Optional("proxy_protocol", conf.Scalar(r.Reader, "proxy_protocol", &a.proxyProtocol, conf.Bool)),
		conf.Optional("forwarded", conf.Scalar(r.Reader, "forwarded", &a.forwarded, parseForwarded)),
		conf.Optional("idle_timeout", conf.Scalar(r.Reader, "idle_timeout", &a.idleTimeout, conf.Between(time.Second, 7*24*time.Hour))),
		conf.Optional("direct", conf.Scalar(r.Reader, "direct", &a.direct, parseDirect)))
	return a
}

// config strips the places and fills in defaults. The document has passed check.
func (d *document) config() Config {
	c := Config{
		Node: d.node.V, Roles: conf.Values(d.roles), Interface: d.iface.V,
		Controller: d.controller.V, Listen: d.listen.V, Advertise: d.advertise.Or(d.listen.V),
		TLS: d.security.Files, Insecure: d.security.Insecure.V, MaxDiverted: d.maxDiverted.V,
		Log: d.log, Metrics: d.metrics, Tracing: d.tracing, AccessLog: d.accessLog,
	}
	for _, a := range d.applications {
		c.Applications = append(c.Applications, Application{
			Service: a.service.V, Attach: a.attach.V, Socket: a.socket.V, Connect: a.connect.V, Connect6: a.connect6.V,
			ProxyProtocol: a.proxyProtocol.V, Forwarded: a.forwarded.V, IdleTimeout: a.idleTimeout.V, Direct: a.direct.V,
		})
	}
	return c
}
