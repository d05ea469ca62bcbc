// Package config reads the controller's configuration file: strict YAML in, a
// checked Config out. What is wrong is reported all at once, each as
// "file:line:col: what; remedy".
package config

import (
	"net"
	"net/netip"
	"time"

	"github.com/shunt-sdn/shunt/internal/logconf"
	"github.com/shunt-sdn/shunt/internal/metrics"
	"github.com/shunt-sdn/shunt/internal/tlsconf"
	"github.com/shunt-sdn/shunt/internal/tracing"
	conf "github.com/shunt-sdn/shunt/internal/yamlconf"
)

// Config is a valid configuration: defaults filled in, prefixes masked,
// references resolved.
type Config struct {
	Listen Listen
	// TLS names the certificate files; empty if Insecure.
	TLS tlsconf.Files
	// Insecure means no TLS at all: for a management network that is trusted.
	Insecure bool
	// OpenFlowTLS makes switches that dial in use TLS too.
	OpenFlowTLS bool
	// State is the path of the database that survives restarts.
	State string
	// NodeGrace is how long the sessions of a server whose agent is gone keep
	// their steering: the applications may be alive without their agent.
	NodeGrace time.Duration
	// NodeSilence is how long a node may say nothing at all before it is asked
	// over the switches whether it is alive; if it does not answer there either,
	// its sessions are reset at once. A node whose agent died or hangs is not
	// silent: its kernel speaks.
	NodeSilence time.Duration
	// Pools are the prefixes that session addresses are leased from.
	Pools    []netip.Prefix
	Switches []Switch
	Services []Service
	// Nodes are the only names that agents may have; nil: any.
	Nodes []string
	// Operators are the only names whose certificates may change the policy from
	// elsewhere; nil: any that are no node's. Others may read. The unix socket
	// asks for none.
	Operators []string
	Log       logconf.Config
	// Metrics is the endpoint for Prometheus; zero: none.
	Metrics metrics.Config
	// Tracing is where spans go; zero: nowhere.
	Tracing tracing.Config
}

// Subsystems are the parts of the controller that can have a log level of their
// own.
var Subsystems = []string{"api", "switches", "metrics", "tracing"}

// Listen says where the controller accepts connections.
type Listen struct {
	// GRPC is host:port, for agents and for operators elsewhere.
	GRPC string
	// Operator is the path of a unix socket, for operators on this host.
	Operator string
	// OpenFlow is host:port for switches that dial in; empty: none do.
	OpenFlow string
}

// Switch is one OpenFlow switch and its layer 3 interfaces.
type Switch struct {
	// DPID is the datapath id; 0: whichever connects.
	DPID uint64
	// Connect is where the controller dials (tcp:host:port, ssl:host:port,
	// unix:path); empty: the switch dials in.
	Connect    string
	Steering   Steering
	Interfaces []Interface
	Routes     []Route
}

// Steering is how a switch is told where sessions are.
type Steering string

const (
	// SteeringAuto lets the controller find out what the switch can do.
	SteeringAuto Steering = "auto"
	// SteeringFlows is one exact flow per session.
	SteeringFlows Steering = "flows"
	// SteeringConntrack is conntrack marks.
	SteeringConntrack Steering = "conntrack"
)

// Interface is one of the switch's layer 3 interfaces.
type Interface struct {
	Name string
	MAC  net.HardwareAddr
	// Addresses are the gateway's own, each with its prefix length.
	Addresses []netip.Prefix
	// Ports are names of OpenFlow ports.
	Ports []string
}

// Route is a static route.
type Route struct {
	To  netip.Prefix
	Via netip.Addr
}

// Service is a virtual IP and port that clients connect to.
type Service struct {
	Name string
	// VIPs has at most one address per family.
	VIPs []netip.Addr
	Port uint16
	// Dispatchers and Servers name nodes; nil: every node with the role.
	Dispatchers, Servers []string
	// MaxHead limits the request head, octets.
	MaxHead int
	// HeadTimeout is from accept to a complete head.
	HeadTimeout time.Duration
	// ImportTimeout is what a server has to import a session.
	ImportTimeout time.Duration
	// SteerAfter is how long a session must have lived on its server before the
	// switch is told of it; 0: it is told at once.
	SteerAfter time.Duration
}

// Defaults of what a file may leave out.
const (
	DefaultOperator      = "/run/shunt/controller.sock"
	DefaultOpenFlow      = ":6653"
	DefaultState         = "/var/lib/shunt/controller.db"
	DefaultNodeGrace     = 30 * time.Second
	DefaultNodeSilence   = 4 * time.Second
	DefaultMaxHead       = 16384
	DefaultHeadTimeout   = 10 * time.Second
	DefaultImportTimeout = time.Second
	DefaultSteerAfter    = 20 * time.Millisecond
)

// Load reads the file at path. The error is a yamlconf.Errors unless the file
// cannot be read.
func Load(path string) (Config, error) {
	text, err := conf.ReadFile(path)
	if err != nil {
		return Config{}, err
	}
	return Parse(path, text)
}

// Parse reads a configuration. The name stands in errors, which are a
// yamlconf.Errors.
func Parse(name string, text []byte) (Config, error) {
	r := &reader{conf.NewReader(name)}
	root := r.Root(text)
	if err := r.Err(); err != nil {
		return Config{}, err
	}
	d := r.document(root)
	if err := r.Err(); err != nil {
		return Config{}, err
	}
	r.check(d)
	if err := r.Err(); err != nil {
		return Config{}, err
	}
	return d.config(), nil
}
