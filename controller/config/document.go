package config

import (
	"net"
	"net/netip"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/shunt-sdn/shunt/internal/logconf"
	"github.com/shunt-sdn/shunt/internal/metrics"
	"github.com/shunt-sdn/shunt/internal/tracing"
	conf "github.com/shunt-sdn/shunt/internal/yamlconf"
)

// reader reads the controller's configuration.
type reader struct{ *conf.Reader }

// document is a configuration with the place of everything in it.
type document struct {
	root                     *yaml.Node
	grpc, operator, openflow conf.At[string]
	security                 conf.Security
	openflowTLS              conf.At[bool]
	state                    conf.At[string]
	nodeGrace, nodeSilence   conf.At[time.Duration]
	pools                    []conf.At[netip.Prefix]
	switches                 []*switchDoc
	services                 []*serviceDoc
	nodes, operators         []conf.At[string]
	log                      logconf.Config
	metrics                  metrics.Config
	tracing                  tracing.Config
}

type switchDoc struct {
	n          *yaml.Node
	dpid       conf.At[uint64]
	connect    conf.At[string]
	steering   conf.At[Steering]
	interfaces []*interfaceDoc
	routes     []*routeDoc
}

type interfaceDoc struct {
	name      conf.At[string]
	mac       conf.At[net.HardwareAddr]
	addresses []conf.At[netip.Prefix]
	ports     []conf.At[string]
}

type routeDoc struct {
	to  conf.At[netip.Prefix]
	via conf.At[netip.Addr]
}

type serviceDoc struct {
	name                                   conf.At[string]
	vips                                   []conf.At[netip.Addr]
	port                                   conf.At[uint16]
	dispatchers, servers                   []conf.At[string]
	maxHead                                conf.At[int]
	headTimeout, importTimeout, steerAfter conf.At[time.Duration]
}

// document reads the tree's values; relations between them are check's.
func (r *reader) document(root *yaml.Node) *document {
	d := &document{root: root}
	r.Mapping(root, "the configuration",
		conf.Needed("listen", "say where to accept agents: listen: {grpc: \"10.99.0.1:6640\"}", func(n *yaml.Node) {
			r.Mapping(n, "listen",
				conf.Needed("grpc", "write host:port for agents", conf.Scalar(r.Reader, "listen.grpc", &d.grpc, conf.Listen)),
				conf.Optional("operator", conf.Scalar(r.Reader, "listen.operator", &d.operator, parseUnix)),
				conf.Optional("openflow", conf.Scalar(r.Reader, "listen.openflow", &d.openflow, conf.Listen)))
		}),
		conf.Optional("tls", d.security.ReadTLS(r.Reader, "the controller's")),
		conf.Optional("insecure", d.security.ReadInsecure(r.Reader)),
		conf.Optional("openflow_tls", conf.Scalar(r.Reader, "openflow_tls", &d.openflowTLS, conf.Bool)),
		conf.Optional("state", conf.Scalar(r.Reader, "state", &d.state, conf.Path)),
		conf.Optional("node_grace", conf.Scalar(r.Reader, "node_grace", &d.nodeGrace, conf.Between(time.Second, time.Hour))),
		conf.Optional("node_silence", conf.Scalar(r.Reader, "node_silence", &d.nodeSilence, conf.Between(2*time.Second, time.Minute))),
		conf.Needed("pools", "write prefixes for session addresses, for example pools: [172.31.0.0/24]", conf.Scalars(r.Reader, "pool", &d.pools, parsePool)),
		conf.Needed("switches", "describe at least one switch", func(n *yaml.Node) {
			r.List(n, "switches", func(e *yaml.Node) { d.switches = append(d.switches, r.switchDoc(e)) })
		}),
		conf.Needed("services", "describe at least one service", func(n *yaml.Node) {
			r.List(n, "services", func(e *yaml.Node) { d.services = append(d.services, r.serviceDoc(e)) })
		}),
		conf.Optional("nodes", conf.Scalars(r.Reader, "node", &d.nodes, conf.Name)),
		conf.Optional("operators", conf.Scalars(r.Reader, "operator", &d.operators, conf.Name)),
		conf.Optional("log", logconf.Read(r.Reader, &d.log, Subsystems)),
		conf.Optional("metrics", metrics.Read(r.Reader, &d.metrics)),
		conf.Optional("tracing", tracing.Read(r.Reader, &d.tracing)),
	)
	return d
}

func (r *reader) switchDoc(n *yaml.Node) *switchDoc {
	s := &switchDoc{n: n}
	r.Mapping(n, "switch",
		conf.Optional("dpid", conf.Scalar(r.Reader, "dpid", &s.dpid, parseDPID)),
		conf.Optional("connect", conf.Scalar(r.Reader, "connect", &s.connect, parseConnect)),
		conf.Optional("steering", conf.Scalar(r.Reader, "steering", &s.steering, parseSteering)),
		conf.Needed("interfaces", "describe its layer 3 interfaces", func(n *yaml.Node) {
			r.List(n, "interfaces", func(e *yaml.Node) { s.interfaces = append(s.interfaces, r.interfaceDoc(e)) })
			if n.Kind == yaml.SequenceNode && len(n.Content) == 0 {
				r.Errorf(n, "describe at least one", "switch has no interface")
			}
		}),
		conf.Optional("routes", func(n *yaml.Node) {
			r.List(n, "routes", func(e *yaml.Node) { s.routes = append(s.routes, r.routeDoc(e)) })
		}))
	return s
}

func (r *reader) interfaceDoc(n *yaml.Node) *interfaceDoc {
	i := &interfaceDoc{}
	r.Mapping(n, "interface",
		conf.Needed("name", "name it", conf.Scalar(r.Reader, "interface name", &i.name, conf.Name)),
		conf.Needed("mac", "give it a MAC address of its own, for example 02:00:00:00:00:01", conf.Scalar(r.Reader, "mac", &i.mac, parseMAC)),
		conf.Needed("addresses", "write the gateway's addresses, for example [10.10.1.1/24]", conf.Scalars(r.Reader, "address", &i.addresses, parseGateway)),
		conf.Needed("ports", "name the OpenFlow ports that belong to it", conf.Scalars(r.Reader, "port", &i.ports, conf.Text)))
	return i
}

func (r *reader) routeDoc(n *yaml.Node) *routeDoc {
	d := &routeDoc{}
	r.Mapping(n, "route",
		conf.Needed("to", "write the destination's prefix", conf.Scalar(r.Reader, "to", &d.to, parsePrefix)),
		conf.Needed("via", "write the next hop's address", conf.Scalar(r.Reader, "via", &d.via, parseAddr)))
	return d
}

func (r *reader) serviceDoc(n *yaml.Node) *serviceDoc {
	s := &serviceDoc{}
	r.Mapping(n, "service",
		conf.Needed("name", "name it", conf.Scalar(r.Reader, "service name", &s.name, conf.Name)),
		conf.Needed("vips", "write the virtual IPs, at most one per family", conf.Scalars(r.Reader, "vip", &s.vips, parseAddr)),
		conf.Needed("port", "write the TCP port that clients connect to", conf.Scalar(r.Reader, "port", &s.port, conf.Port)),
		conf.Optional("dispatchers", conf.Scalars(r.Reader, "dispatcher", &s.dispatchers, conf.Name)),
		conf.Optional("servers", conf.Scalars(r.Reader, "server", &s.servers, conf.Name)),
		conf.Optional("max_head", conf.Scalar(r.Reader, "max_head", &s.maxHead, parseMaxHead)),
		conf.Optional("head_timeout", conf.Scalar(r.Reader, "head_timeout", &s.headTimeout, conf.Between(10*time.Millisecond, 10*time.Minute))),
		conf.Optional("import_timeout", conf.Scalar(r.Reader, "import_timeout", &s.importTimeout, conf.Between(10*time.Millisecond, time.Minute))),
		conf.Optional("steer_after", conf.Scalar(r.Reader, "steer_after", &s.steerAfter, conf.Between(0, time.Minute))))
	return s
}

// config strips the places and fills in defaults. The document has passed check.
func (d *document) config() Config {
	c := Config{
		Listen:      Listen{GRPC: d.grpc.V, Operator: d.operator.Or(DefaultOperator), OpenFlow: d.openflow.V},
		TLS:         d.security.Files,
		Insecure:    d.security.Insecure.V,
		OpenFlowTLS: d.openflowTLS.V,
		State:       d.state.Or(DefaultState),
		NodeGrace:   d.nodeGrace.Or(DefaultNodeGrace),
		NodeSilence: d.nodeSilence.Or(DefaultNodeSilence),
		Pools:       conf.Values(d.pools),
		Nodes:       conf.Values(d.nodes),
		Operators:   conf.Values(d.operators),
		Log:         d.log,
		Metrics:     d.metrics,
		Tracing:     d.tracing,
	}
	for _, s := range d.switches {
		if s.connect.N == nil && c.Listen.OpenFlow == "" {
			c.Listen.OpenFlow = DefaultOpenFlow
		}
		c.Switches = append(c.Switches, s.config())
	}
	for _, s := range d.services {
		c.Services = append(c.Services, Service{
			Name: s.name.V, VIPs: conf.Values(s.vips), Port: s.port.V,
			Dispatchers: conf.Values(s.dispatchers), Servers: conf.Values(s.servers),
			MaxHead:       s.maxHead.Or(DefaultMaxHead),
			HeadTimeout:   s.headTimeout.Or(DefaultHeadTimeout),
			ImportTimeout: s.importTimeout.Or(DefaultImportTimeout),
			SteerAfter:    s.steerAfter.Or(DefaultSteerAfter),
		})
	}
	return c
}

func (s *switchDoc) config() Switch {
	out := Switch{DPID: s.dpid.V, Connect: s.connect.V, Steering: s.steering.Or(SteeringAuto)}
	for _, i := range s.interfaces {
		out.Interfaces = append(out.Interfaces, Interface{i.name.V, i.mac.V, conf.Values(i.addresses), conf.Values(i.ports)})
	}
	for _, route := range s.routes {
		out.Routes = append(out.Routes, Route{route.to.V, route.via.V})
	}
	return out
}
