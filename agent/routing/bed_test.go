package routing

import (
	"log/slog"
	"net/netip"
	"testing"

	"go.uber.org/goleak"

	"github.com/shunt-sdn/shunt/agent/httphead"
	"github.com/shunt-sdn/shunt/internal/policyyaml"
	"github.com/shunt-sdn/shunt/policy"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// table is a Table and the service "web" of three servers.
type table struct {
	*Table
	t *testing.T
}

func newTable(t *testing.T) table {
	t.Helper()
	x := table{New(slog.New(slog.DiscardHandler)), t}
	t.Cleanup(func() {
		if err := x.Close(); err != nil {
			t.Error(err)
		}
	})
	return x
}

// web is the service with the servers that are up.
func web(up ...string) []Service {
	s := Service{Name: "web"}
	for _, n := range up {
		s.Servers = append(s.Servers, Server{Node: n, Up: true})
	}
	return []Service{s}
}

var all = web("server1", "server2", "server3")

func parsed(t *testing.T, yaml string) *shuntv1.Policy {
	t.Helper()
	d, err := policyyaml.Read(policyyaml.Source{Name: "p.yaml", Data: []byte(yaml)})
	if err != nil {
		t.Fatal(err)
	}
	return d.Policy
}

// whole is a snapshot of everything.
func whole(t *testing.T, version uint64, yaml string) *shuntv1.PolicySnapshot {
	t.Helper()
	return &shuntv1.PolicySnapshot{Version: version, Policy: parsed(t, yaml)}
}

func (x table) apply(services []Service, s *shuntv1.PolicySnapshot) {
	x.t.Helper()
	if err := x.Apply(services, s); err != nil {
		x.t.Fatal(err)
	}
}

// request is a head as a dispatcher reads it.
func head(t *testing.T, target string, fields string) *httphead.Head {
	t.Helper()
	h, done, err := httphead.Parse([]byte("GET "+target+" HTTP/1.1\r\nHost: Example.org\r\n"+fields+"\r\n"), 4096)
	if err != nil || !done {
		t.Fatal(done, err)
	}
	return &h
}

var client = netip.MustParseAddrPort("192.0.2.7:4321")

// choose returns the choice for a request and what it was made by.
func (x table) choose(target string) (*policy.Rule, policy.Choice, *policy.Request) {
	x.t.Helper()
	q := new(policy.Request)
	Request(q, head(x.t, target, ""), client)
	rule, ok := x.Route("web", q)
	if !ok {
		x.t.Fatal("the service is not known")
	}
	c, _ := rule.Choose(q, nil)
	return rule, c, q
}

// servers that n requests go to, and how many to each.
func (x table) servers(n int, target string) map[string]int {
	x.t.Helper()
	m := make(map[string]int)
	for range n {
		_, c, _ := x.choose(target)
		m[c.Server]++
	}
	return m
}
