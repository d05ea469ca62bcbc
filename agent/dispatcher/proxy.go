package dispatcher

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/shunt-sdn/shunt/agent/attach"
	"github.com/shunt-sdn/shunt/agent/httphead"
	"github.com/shunt-sdn/shunt/agent/migration"
	"github.com/shunt-sdn/shunt/agent/routing"
	"github.com/shunt-sdn/shunt/policy"
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
		to, ok := s.proxyTo, s.proxyTo.Server != ""
		if !ok {
			to, ok = s.proxyTarget(tried)
		}
		s.proxyTo = policy.Choice{}
		if !ok {
			return migration.ProxyRefused, true
		}
		name := to.Server
		tried[name] = true
		dialled := time.Now()
		backend, err := s.dial(name)
		connecting := time.Since(dialled)
		if err != nil {
			s.d.o.Log.Info("cannot proxy to a server", "server", name, "err", err)
			s.observe(to, routing.Proxied, err.Error())
			continue
		}
		s.proxiedTo.Store(&name)
		s.d.proxied.Add(1)
		s.tell(Proxied, name, 0)
		if s.rule.ServerErrors(to) { // by what it answers: see relay
			s.count(to, routing.Proxied, "")
		} else {
			s.observe(to, routing.Proxied, "")
		}
		learns := to.Mode == policy.Proxy && s.rule.Learns()
		release := s.d.o.Policy.State().Hold(name)
		var stats attach.Stats
		copying := processorTime(learns, func() { stats, err = s.relay(backend, to) })
		release()
		if err != nil {
			s.d.o.Log.Debug("a proxied session ended", "client", s.client, "server", name, "err", err)
		}
		if learns {
			s.rule.Learn(to, uint64(stats.ToClient), connecting+copying)
		}
		return migration.Closed, true
	}
}

// relay copies between the client and the server. Where the policy tells the
// requests of a connection apart, each further one falls under it.
func (s *session) relay(backend *net.TCPConn, to policy.Choice) (attach.Stats, error) {
	cfg := attach.RelayConfig{Router: proxied{s, to.Server}, MaxHead: s.service.MaxHead, HeadTimeout: s.service.HeadTimeout}
	if s.rule.ServerErrors(to) {
		cfg.Answered = func(status int) { s.judgeAnswer(to, status) }
	} else if !s.d.o.Policy.PerRequest(s.service.Name) {
		return attach.Relay(s.d.ctx, s.conn, backend)
	}
	return attach.RelayRequests(s.d.ctx, s.conn, backend, cfg, attach.Meta{Service: s.service.Name, Client: s.client, Local: s.local, VIP: s.service.vip}, s.d.o.Log)
}

// judgeAnswer tells the policy how a server answered.
func (s *session) judgeAnswer(c policy.Choice, status int) {
	failure := ""
	if status >= 500 && status <= 599 {
		failure = fmt.Sprint("an answer with status ", status)
	}
	s.judge(c, failure)
}

// proxied is the attach.Router of a session that is copied to a server. A
// request that shall not go there is dispatched anew.
type proxied struct {
	s      *session
	server string
}

// anew is where requests go that the server may not answer.
const anew = "the dispatcher"

// PerRequest implements attach.Router.
func (p proxied) PerRequest(service string) bool { return p.s.d.o.Policy.PerRequest(service) }

// Route implements attach.Router.
func (p proxied) Route(m attach.Meta, head *httphead.Head) string {
	var q policy.Request
	routing.Request(&q, head, m.Client)
	rule, ok := p.s.d.o.Policy.Route(m.Service, &q)
	if ok && rule.Proxies() && rule.Accepts(&q, p.server) {
		return ""
	}
	return anew
}

// Move implements attach.Router.
func (p proxied) Move(ctx context.Context, fd int, m attach.Meta, _ string) error {
	return p.s.d.Returned().Attach(ctx, fd, m)
}

// proxyTarget is the policy's choice of the servers that have an address for
// ordinary connections and that the proxy did not try yet. The last resort are
// those that the policy leaves out only because their agents or the controller
// say that they take no sessions: the application may serve all the same.
func (s *session) proxyTarget(tried map[string]bool) (policy.Choice, bool) {
	usable := func(srv Server) bool {
		return srv.Direct.IsValid() && !tried[srv.Node] && !s.d.o.Policy.Drains(srv.Node)
	}
	c, ok := s.rule.Choose(&s.request, func(name string) bool {
		srv := s.service.byName[name]
		return srv.Up && srv.Ready && usable(srv)
	})
	if ok {
		return c, true
	}
	var up, down []string
	for _, name := range s.rule.Servers() {
		switch srv := s.service.byName[name]; {
		case !usable(srv) || srv.Up && srv.Ready:
		case srv.Up:
			up = append(up, name)
		default:
			down = append(down, name)
		}
	}
	for _, rest := range [][]string{up, down} {
		if !ok {
			c.Server, ok = s.service.rest.Pick(rest, nil)
		}
	}
	return c, ok
}

func (s *session) dial(name string) (*net.TCPConn, error) {
	srv, ok := s.service.byName[name]
	if !ok {
		return nil, errors.New("the server left the service")
	}
	dialer := net.Dialer{Timeout: dialTimeout}
	dialer.SetMultipathTCP(false)
	c, err := dialer.DialContext(s.d.ctx, "tcp", srv.Direct.String())
	if err != nil {
		return nil, err
	}
	return c.(*net.TCPConn), nil
}
