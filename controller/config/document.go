package config

import (
	"net"
	"net/netip"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/shunt-sdn/shunt/internal/tlsconf"
)

// document is a configuration with the place of everything in it.
type document struct {
	root                     *yaml.Node
	grpc, operator, openflow at[string]
	tls                      *yaml.Node
	files                    tlsconf.Files
	insecure, openflowTLS    at[bool]
	state                    at[string]
	nodeGrace                at[time.Duration]
	pools                    []at[netip.Prefix]
	switches                 []*switchDoc
	services                 []*serviceDoc
	nodes                    []at[string]
}

type switchDoc struct {
	n          *yaml.Node
	dpid       at[uint64]
	connect    at[string]
	steering   at[Steering]
	interfaces []*interfaceDoc
	routes     []*routeDoc
}

type interfaceDoc struct {
	name      at[string]
	mac       at[net.HardwareAddr]
	addresses []at[netip.Prefix]
	ports     []at[string]
}

type routeDoc struct {
	to  at[netip.Prefix]
	via at[netip.Addr]
}

type serviceDoc struct {
	name                       at[string]
	vips                       []at[netip.Addr]
	port                       at[uint16]
	dispatchers, servers       []at[string]
	maxHead                    at[int]
	headTimeout, importTimeout at[time.Duration]
}

// document reads the tree's values; relations between them are check's.
func (r *reader) document(root *yaml.Node) *document {
	d := &document{root: root}
	r.mapping(root, "the configuration",
		field{"listen", "say where to accept agents: listen: {grpc: \"10.99.0.1:6640\"}", func(n *yaml.Node) {
			r.mapping(n, "listen",
				field{"grpc", "write host:port for agents", scalar(r, "listen.grpc", &d.grpc, parseListen)},
				field{"operator", "", scalar(r, "listen.operator", &d.operator, parseUnix)},
				field{"openflow", "", scalar(r, "listen.openflow", &d.openflow, parseListen)})
		}},
		field{"tls", "", func(n *yaml.Node) { r.tls(n, d) }},
		field{"insecure", "", scalar(r, "insecure", &d.insecure, parseBool)},
		field{"openflow_tls", "", scalar(r, "openflow_tls", &d.openflowTLS, parseBool)},
		field{"state", "", scalar(r, "state", &d.state, parsePath)},
		field{"node_grace", "", scalar(r, "node_grace", &d.nodeGrace, between(time.Second, time.Hour))},
		field{"pools", "write prefixes for session addresses, for example pools: [172.31.0.0/24]", scalars(r, "pool", &d.pools, parsePool)},
		field{"switches", "describe at least one switch", func(n *yaml.Node) {
			r.list(n, "switches", func(e *yaml.Node) { d.switches = append(d.switches, r.switchDoc(e)) })
		}},
		field{"services", "describe at least one service", func(n *yaml.Node) {
			r.list(n, "services", func(e *yaml.Node) { d.services = append(d.services, r.serviceDoc(e)) })
		}},
		field{"nodes", "", scalars(r, "node", &d.nodes, parseName)},
	)
	return d
}

func (r *reader) tls(n *yaml.Node, d *document) {
	d.tls = n
	var cert, key, ca at[string]
	r.mapping(n, "tls",
		field{"cert", "name the PEM file of the controller's certificate", scalar(r, "tls.cert", &cert, parsePath)},
		field{"key", "name the PEM file of the certificate's key", scalar(r, "tls.key", &key, parsePath)},
		field{"ca", "name the PEM file of the authority", scalar(r, "tls.ca", &ca, parsePath)})
	d.files = tlsconf.Files{Cert: cert.v, Key: key.v, CA: ca.v}
}

func (r *reader) switchDoc(n *yaml.Node) *switchDoc {
	s := &switchDoc{n: n}
	r.mapping(n, "switch",
		field{"dpid", "", scalar(r, "dpid", &s.dpid, parseDPID)},
		field{"connect", "", scalar(r, "connect", &s.connect, parseConnect)},
		field{"steering", "", scalar(r, "steering", &s.steering, parseSteering)},
		field{"interfaces", "describe its layer 3 interfaces", func(n *yaml.Node) {
			r.list(n, "interfaces", func(e *yaml.Node) { s.interfaces = append(s.interfaces, r.interfaceDoc(e)) })
			if n.Kind == yaml.SequenceNode && len(n.Content) == 0 {
				r.errorf(n, "describe at least one", "switch has no interface")
			}
		}},
		field{"routes", "", func(n *yaml.Node) {
			r.list(n, "routes", func(e *yaml.Node) { s.routes = append(s.routes, r.routeDoc(e)) })
		}})
	return s
}

func (r *reader) interfaceDoc(n *yaml.Node) *interfaceDoc {
	i := &interfaceDoc{}
	r.mapping(n, "interface",
		field{"name", "name it", scalar(r, "interface name", &i.name, parseName)},
		field{"mac", "give it a MAC address of its own, for example 02:00:00:00:00:01", scalar(r, "mac", &i.mac, parseMAC)},
		field{"addresses", "write the gateway's addresses, for example [10.10.1.1/24]", scalars(r, "address", &i.addresses, parseGateway)},
		field{"ports", "name the OpenFlow ports that belong to it", scalars(r, "port", &i.ports, parseText)})
	return i
}

func (r *reader) routeDoc(n *yaml.Node) *routeDoc {
	d := &routeDoc{}
	r.mapping(n, "route",
		field{"to", "write the destination's prefix", scalar(r, "to", &d.to, parsePrefix)},
		field{"via", "write the next hop's address", scalar(r, "via", &d.via, parseAddr)})
	return d
}

func (r *reader) serviceDoc(n *yaml.Node) *serviceDoc {
	s := &serviceDoc{}
	r.mapping(n, "service",
		field{"name", "name it", scalar(r, "service name", &s.name, parseName)},
		field{"vips", "write the virtual IPs, at most one per family", scalars(r, "vip", &s.vips, parseAddr)},
		field{"port", "write the TCP port that clients connect to", scalar(r, "port", &s.port, parsePort)},
		field{"dispatchers", "", scalars(r, "dispatcher", &s.dispatchers, parseName)},
		field{"servers", "", scalars(r, "server", &s.servers, parseName)},
		field{"max_head", "", scalar(r, "max_head", &s.maxHead, parseMaxHead)},
		field{"head_timeout", "", scalar(r, "head_timeout", &s.headTimeout, between(10*time.Millisecond, 10*time.Minute))},
		field{"import_timeout", "", scalar(r, "import_timeout", &s.importTimeout, between(10*time.Millisecond, time.Minute))})
	return s
}

// or returns the value, or the default if the key was absent.
func or[T any](a at[T], standard T) T {
	if a.n == nil {
		return standard
	}
	return a.v
}

// config strips the places and fills in defaults. The document has passed check.
func (d *document) config() Config {
	c := Config{
		Listen:      Listen{GRPC: d.grpc.v, Operator: or(d.operator, DefaultOperator), OpenFlow: d.openflow.v},
		TLS:         d.files,
		Insecure:    d.insecure.v,
		OpenFlowTLS: d.openflowTLS.v,
		State:       or(d.state, DefaultState),
		NodeGrace:   or(d.nodeGrace, DefaultNodeGrace),
		Pools:       values(d.pools),
		Nodes:       values(d.nodes),
	}
	for _, s := range d.switches {
		if s.connect.n == nil && c.Listen.OpenFlow == "" {
			c.Listen.OpenFlow = DefaultOpenFlow
		}
		c.Switches = append(c.Switches, s.config())
	}
	for _, s := range d.services {
		c.Services = append(c.Services, Service{
			Name: s.name.v, VIPs: values(s.vips), Port: s.port.v,
			Dispatchers: values(s.dispatchers), Servers: values(s.servers),
			MaxHead:       or(s.maxHead, DefaultMaxHead),
			HeadTimeout:   or(s.headTimeout, DefaultHeadTimeout),
			ImportTimeout: or(s.importTimeout, DefaultImportTimeout),
		})
	}
	return c
}

func (s *switchDoc) config() Switch {
	out := Switch{DPID: s.dpid.v, Connect: s.connect.v, Steering: or(s.steering, SteeringAuto)}
	for _, i := range s.interfaces {
		out.Interfaces = append(out.Interfaces, Interface{i.name.v, i.mac.v, values(i.addresses), values(i.ports)})
	}
	for _, route := range s.routes {
		out.Routes = append(out.Routes, Route{route.to.v, route.via.v})
	}
	return out
}
