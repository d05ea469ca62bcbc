package config

import (
	"slices"

	conf "github.com/shunt-sdn/shunt/internal/yamlconf"
)

// check reports what is wrong between values that are right on their own.
func (r *reader) check(d *document) {
	conf.Distinct(r.Reader, d.roles, "role")
	d.security.Check(r.Reader, d.root)
	if everywhere(d.listen.V) && d.advertise.N == nil {
		r.Errorf(d.listen.N, "write advertise: host:port too, by which other agents reach this one", "listen %q names no host", d.listen.V)
	}
	if len(d.applications) > 0 && !slices.Contains(conf.Values(d.roles), Server) {
		r.Errorf(d.applicationsKey, "add the role server or remove them", "applications, but the node is no server")
	}
	if d.accessLogKey != nil && !slices.Contains(conf.Values(d.roles), Dispatcher) {
		r.Errorf(d.accessLogKey, "remove it, or add the role dispatcher", "access_log, but the node is no dispatcher")
	}
	var services, sockets []conf.At[string]
	for _, a := range d.applications {
		services = append(services, a.service)
		if a.socket.N != nil {
			sockets = append(sockets, a.socket)
		}
		r.checkAttach(a)
	}
	conf.Distinct(r.Reader, services, "service")
	conf.Distinct(r.Reader, sockets, "socket")
}

// checkAttach holds what an application says of its attachment against the kind.
func (r *reader) checkAttach(a *applicationDoc) {
	service := a.service.V
	if a.connect6.N != nil && a.attach.V != AttachPreload {
		r.Errorf(a.connect6.N, "remove it, or write attach: preload", "application of %s is attached by %s, which has no connect6", service, a.attach.V)
	}
	if a.forwarded.N != nil && a.attach.V != AttachRelay {
		r.Errorf(a.forwarded.N, "remove it: the application has the client's own connection", "application of %s is attached by %s, which changes no request", service, a.attach.V)
	}
	if a.idleTimeout.N != nil && a.attach.V != AttachRelay {
		r.Errorf(a.idleTimeout.N, "remove it: the application has its own", "application of %s is attached by %s, which has no idle_timeout", service, a.attach.V)
	}
	switch a.attach.V {
	case AttachListener:
		if a.socket.N == nil {
			r.Errorf(a.n, "write socket: /path where the program will connect", "application of %s is attached by listener, but has no socket", service)
		}
		if a.connect.N != nil {
			r.Errorf(a.connect.N, "remove it, or write attach: relay", "application of %s is attached by listener, which connects to nothing", service)
		}
		if a.proxyProtocol.V {
			r.Errorf(a.proxyProtocol.N, "remove it: the program gets the client's own connection", "application of %s is attached by listener, which has no PROXY protocol", service)
		}
	case AttachPreload:
		r.checkPreload(a)
	case AttachRelay:
		if a.connect.N == nil {
			r.Errorf(a.n, "write connect: host:port where it accepts connections", "application of %s is attached by relay, but has nothing to connect to", service)
		}
		if a.socket.N != nil {
			r.Errorf(a.socket.N, "remove it, or write attach: listener", "application of %s is attached by relay, which has no socket", service)
		}
	}
}
