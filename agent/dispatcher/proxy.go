package dispatcher

import (
	"errors"
	"net"
	"slices"
	"time"

	"github.com/shunt-sdn/shunt/agent/attach"
	"github.com/shunt-sdn/shunt/agent/migration"
	"github.com/shunt-sdn/shunt/agent/routing"
)

// dialTimeout bounds the proxy's connecting to one server.
const dialTimeout = 2 * time.Second

// proxy copies bytes between the client and a server until both have closed.
func (s *session) proxy() (migration.Event, bool) {
	if s.refusal != nil {
		s.refuse(s.refusal)
		return migration.Closed, true
	}
	tried := make(map[string]bool)
	for {
		name, ok := s.proxyTo, s.proxyTo != ""
		if !ok {
			name, ok = s.service.rest.Pick(s.proxyTargets(tried), nil)
		}
		s.proxyTo = ""
		if !ok {
			return migration.ProxyRefused, true
		}
		tried[name] = true
		backend, err := s.dial(name)
		if err != nil {
			s.d.o.Log.Info("cannot proxy to a server", "server", name, "err", err)
			s.d.o.Policy.CountServer(name, true)
			continue
		}
		s.proxiedTo.Store(&name)
		s.d.proxied.Add(1)
		s.tell(Proxied, name, 0)
		s.d.o.Policy.Count(s.rule.Service, s.rule.Name, routing.Proxied)
		s.d.o.Policy.CountServer(name, false)
		if _, err := attach.Relay(s.d.ctx, s.conn, backend); err != nil {
			s.d.o.Log.Debug("a proxied session ended", "client", s.client, "server", name, "err", err)
		}
		return migration.Closed, true
	}
}

// proxyTargets are the servers that the policy allows, with an address for
// ordinary connections, and that the proxy did not try yet: those that are up,
// or else any.
func (s *session) proxyTargets(tried map[string]bool) []string {
	var up, down []string
	allowed := s.rule.Servers()
	for _, srv := range s.service.Servers {
		switch {
		case !srv.Direct.IsValid() || tried[srv.Node] || !slices.Contains(allowed, srv.Node):
		case srv.Up:
			up = append(up, srv.Node)
		default:
			down = append(down, srv.Node)
		}
	}
	if len(up) > 0 {
		return up
	}
	return down
}

func (s *session) dial(name string) (*net.TCPConn, error) {
	for _, srv := range s.service.Servers {
		if srv.Node != name {
			continue
		}
		dialer := net.Dialer{Timeout: dialTimeout}
		dialer.SetMultipathTCP(false)
		c, err := dialer.DialContext(s.d.ctx, "tcp", srv.Direct.String())
		if err != nil {
			return nil, err
		}
		return c.(*net.TCPConn), nil
	}
	return nil, errors.New("the server left the service")
}
