package dispatcher

import (
	"errors"
	"net"
	"time"

	"github.com/shunt-sdn/shunt/agent/attach"
	"github.com/shunt-sdn/shunt/agent/migration"
)

// dialTimeout bounds the proxy's connecting to one server.
const dialTimeout = 2 * time.Second

// proxy copies bytes between the client and a server until both have closed.
func (s *session) proxy() (migration.Event, bool) {
	tried := make(map[string]bool)
	for {
		name, ok := s.service.picker.Pick(s.proxyTargets(tried), nil)
		if !ok {
			return migration.ProxyRefused, true
		}
		tried[name] = true
		backend, err := s.dial(name)
		if err != nil {
			s.d.o.Log.Info("cannot proxy to a server", "server", name, "err", err)
			continue
		}
		s.proxiedTo.Store(&name)
		s.d.proxied.Add(1)
		if _, err := attach.Relay(s.d.ctx, s.conn, backend); err != nil {
			s.d.o.Log.Debug("a proxied session ended", "client", s.client, "server", name, "err", err)
		}
		return migration.Closed, true
	}
}

// proxyTargets are the servers with an address for ordinary connections that
// the proxy did not try yet: those that are up, or else any.
func (s *session) proxyTargets(tried map[string]bool) []string {
	var up, down []string
	for _, srv := range s.service.Servers {
		switch {
		case !srv.Direct.IsValid() || tried[srv.Node]:
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
