// Package config reads an agent's configuration file: strict YAML in, a checked
// Config out. What is wrong is reported all at once, each as
// "file:line:col: what; remedy".
package config

import (
	"net/netip"
	"time"

	"github.com/shunt-sdn/shunt/agent/accesslog"
	"github.com/shunt-sdn/shunt/internal/logconf"
	"github.com/shunt-sdn/shunt/internal/metrics"
	"github.com/shunt-sdn/shunt/internal/tlsconf"
	"github.com/shunt-sdn/shunt/internal/tracing"
)

// Role is what a node can be: "dispatcher" or "server".
type Role string

const (
	Dispatcher Role = "dispatcher"
	Server     Role = "server"
)

// Attach is how sessions reach an application.
type Attach string

const (
	// AttachListener passes descriptors to programs that use the package handoff.
	AttachListener Attach = "listener"
	// AttachPreload passes descriptors to an unmodified server that has
	// libshunt.so loaded.
	AttachPreload Attach = "preload"
	// AttachRelay copies bytes to and from a local address.
	AttachRelay Attach = "relay"
)

// Config is a valid configuration.
type Config struct {
	Node         string // unique in the cluster
	Roles        []Role // at least one
	Interface    string // the data interface
	Controller   string // host:port of its gRPC service
	Listen       string // host:port of this agent's own gRPC service
	Advertise    string // host:port by which other agents reach it; Listen unless given
	TLS          tlsconf.Files
	Insecure     bool // no TLS; then TLS is empty
	Applications []Application
	MaxDiverted  int // diversions that the guard remembers; 0: its default

	Log       logconf.Config
	Metrics   metrics.Config   // zero: no endpoint
	Tracing   tracing.Config   // zero: nothing is exported
	AccessLog accesslog.Config // zero: none; only a dispatcher has one
}

// Subsystems are the parts of the agent that can have a log level of their own.
var Subsystems = []string{"dispatcher", "policy", "server", "attach", "control", "peer", "guard", "health", "hostaddr", "metrics", "tracing", "accesslog"}

// Application is a local program that answers a service.
type Application struct {
	Service       string
	Attach        Attach
	Socket        string         // AttachListener: where programs connect; AttachPreload: the path in the server's SHUNT_PRELOAD
	Connect       string         // AttachRelay: host:port; AttachPreload: address:port of the server's own listener
	Connect6      netip.AddrPort // AttachPreload: its IPv6 listener, if Connect is not it; invalid: none
	ProxyProtocol bool           // AttachRelay: begin with a PROXY protocol v2 header
	Forwarded     string         // AttachRelay: "x-forwarded-for" or "forwarded": the field that names the client; empty: none
	IdleTimeout   time.Duration  // AttachRelay: ends a connection on which nothing moves; 0: never
	Direct        netip.AddrPort // where it takes ordinary connections; invalid: nowhere
}

// Has tells whether the node has a role.
func (c Config) Has(r Role) bool {
	for _, have := range c.Roles {
		if have == r {
			return true
		}
	}
	return false
}
