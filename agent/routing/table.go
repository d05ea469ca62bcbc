// Package routing applies the dispatch policy on a node: it keeps the compiled
// policy that the controller sent last, tells it what is known of servers, and
// counts what comes of it. The policy itself is package policy.
package routing

import (
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"

	"google.golang.org/protobuf/proto"

	"github.com/shunt-sdn/shunt/agent/httphead"
	"github.com/shunt-sdn/shunt/internal/policyproto"
	"github.com/shunt-sdn/shunt/policy"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// Server is a node that may answer a service.
type Server struct {
	Node string
	Up   bool // its agent is connected and its application takes sessions
}

// Service is what the policy has to know of one. A service without a policy is
// dispatched round robin.
type Service struct {
	Name    string
	Servers []Server
}

// Table is the policy as it is now. Its methods are safe for concurrent use.
type Table struct {
	log    *slog.Logger
	state  *policy.State
	engine atomic.Pointer[policy.Engine]
	drains atomic.Pointer[map[string]bool] // servers that are drained
	counts counts

	programs programs
	mu       sync.Mutex // guards what follows
	services []Service
	source   *shuntv1.Policy // that the engine was compiled from
	model    policy.Model
	version  uint64
	problem  string // of a later version, which is not applied
}

// New returns a table without services.
func New(log *slog.Logger) *Table {
	t := &Table{log: log, programs: programs{log: log}, state: policy.NewState(policy.Options{})}
	e, err := policy.Compile(&policy.Model{}, t.state)
	if err != nil {
		panic(err) // there is nothing in it that could be wrong
	}
	t.engine.Store(e)
	return t
}

// Apply makes the policy that of a snapshot, which may be nil, for these
// services. With an error, which tells every mistake, the policy stays as it
// was, and the services are dispatched by it.
func (t *Table) Apply(services []Service, s *shuntv1.PolicySnapshot) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.learn(services, s.GetStates())
	source, err := policyproto.Apply(t.source, t.version, s)
	if err == nil && t.source != nil && sameNames(t.services, services) && proto.Equal(source, t.source) {
		t.services, t.version, t.problem = services, s.GetVersion(), ""
		return nil
	}
	if err == nil {
		err = t.compile(services, source)
	}
	if err != nil {
		t.problem = err.Error()
		if e := t.compile(services, t.source); e != nil { // at least the services are these
			return fmt.Errorf("apply policy %d: %w; nor the one before: %w", s.GetVersion(), err, e)
		}
		return fmt.Errorf("apply policy %d: %w", s.GetVersion(), err)
	}
	t.source, t.version, t.problem = source, s.GetVersion(), ""
	t.programs.keep(t.model.Pools)
	return nil
}

// learn takes in what the controller knows of servers.
func (t *Table) learn(services []Service, states []*shuntv1.ServerState) {
	// A server is up that takes sessions of any service; which of them, the
	// dispatcher knows.
	up := make(map[string]bool)
	for _, svc := range services {
		for _, srv := range svc.Servers {
			up[srv.Node] = up[srv.Node] || srv.Up
		}
	}
	for node, up := range up {
		reason := ""
		if !up {
			reason = "its agent is not connected, or its application takes no sessions"
		}
		t.state.SetUp(node, up, reason)
	}
	for _, x := range states {
		// Each dispatcher ejects by what it sees itself: to follow others, and
		// they it, would keep a server out for ever. What an ejection does tell
		// is that active checks do not object: health is Unknown then.
		t.state.SetHealth(x.Pool, x.Server, health(x.Health), x.Reason)
		if x.Pool == "" {
			t.state.SetLoad(x.Server, int(x.Load))
			for _, n := range x.Answers {
				if t.engine.Load().Answered(x.Server, n.Service, n.ServerErrors, n.ServerErrorsInARow) {
					t.log.Warn("a server is ejected for its answers", "server", x.Server, "service", n.Service, "errors_in_a_row", n.ServerErrorsInARow)
				}
			}
		}
	}
}

// compile replaces the engine. t.mu is held.
func (t *Table) compile(services []Service, source *shuntv1.Policy) error {
	m, err := policyproto.Check(source)
	if err != nil {
		return err
	}
	runs := make(map[string][]string, len(services))
	for _, s := range services {
		runs[s.Name] = []string{}
		for _, srv := range s.Servers {
			runs[s.Name] = append(runs[s.Name], srv.Node)
		}
	}
	m.Complete(runs)
	e, err := policy.Compile(&m, t.state)
	if err != nil {
		return err
	}
	drains := make(map[string]bool)
	for _, s := range m.Servers {
		if s.Drain {
			drains[s.Name] = true
		}
	}
	t.drains.Store(&drains)
	t.engine.Store(e)
	t.services, t.model = services, m
	return nil
}

// Drains tells whether an operator wants that a server takes no new requests.
func (t *Table) Drains(server string) bool {
	m := t.drains.Load() // without t.mu, which is held while tables are made
	return m != nil && (*m)[server]
}

// Model is the policy in force. It must not be changed.
func (t *Table) Model() policy.Model {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.model
}

func sameNames(a, b []Service) bool {
	return slices.EqualFunc(a, b, func(x, y Service) bool {
		return x.Name == y.Name && slices.EqualFunc(x.Servers, y.Servers, func(x, y Server) bool { return x.Node == y.Node })
	})
}

func health(h shuntv1.HealthState) policy.Health {
	switch h {
	case shuntv1.HealthState_HEALTH_STATE_HEALTHY:
		return policy.Healthy
	case shuntv1.HealthState_HEALTH_STATE_UNHEALTHY:
		return policy.Unhealthy
	}
	return policy.Unknown
}

// Version is that of the policy in force, and why a later one is not; empty
// otherwise.
func (t *Table) Version() (version uint64, problem string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.version, t.problem
}

// State is what is known of servers.
func (t *Table) State() *policy.State { return t.state }

// PerRequest tells whether requests of one connection may have to go to
// different servers.
func (t *Table) PerRequest(service string) bool { return t.engine.Load().PerRequest(service) }

// Request fills in q from a request head.
func Request(q *policy.Request, head *httphead.Head, client netip.AddrPort) {
	q.Method = head.Method
	q.SetHost(head.Host)
	q.SetTarget(head.Target)
	q.Client, q.ClientPort = client.Addr(), client.Port()
	q.ContentLength = head.ContentLength
	q.Header = head
}

// Route returns what the policy says of a request; false: it does not know the
// service.
func (t *Table) Route(service string, q *policy.Request) (*policy.Rule, bool) {
	return t.engine.Load().Route(service, q)
}
