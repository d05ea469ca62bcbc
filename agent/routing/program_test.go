package routing

import (
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"

	"github.com/shunt-sdn/shunt/internal/tlsconf/tlstest"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// program is an operator's.
type program struct {
	shuntv1.UnimplementedExternalPolicyServiceServer

	mu     sync.Mutex
	answer func(context.Context) (*shuntv1.ChooseResponse, error)
	asked  []*shuntv1.ChooseRequest
}

func (p *program) Choose(ctx context.Context, r *shuntv1.ChooseRequest) (*shuntv1.ChooseResponse, error) {
	p.mu.Lock()
	p.asked = append(p.asked, r)
	answer := p.answer
	p.mu.Unlock()
	return answer(ctx)
}

func (p *program) answers(f func(context.Context) (*shuntv1.ChooseResponse, error)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.answer = f
}

func (p *program) times() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.asked)
}

func names(server string) func(context.Context) (*shuntv1.ChooseResponse, error) {
	return func(context.Context) (*shuntv1.ChooseResponse, error) {
		return &shuntv1.ChooseResponse{Decision: &shuntv1.ChooseResponse_Server{Server: server}}, nil
	}
}

func rejects(status uint32, reason string) func(context.Context) (*shuntv1.ChooseResponse, error) {
	return func(context.Context) (*shuntv1.ChooseResponse, error) {
		return &shuntv1.ChooseResponse{Decision: &shuntv1.ChooseResponse_Reject{Reject: &shuntv1.Reject{Status: status, Reason: reason}}}, nil
	}
}

func declines(context.Context) (*shuntv1.ChooseResponse, error) {
	return &shuntv1.ChooseResponse{}, nil
}

func fails(context.Context) (*shuntv1.ChooseResponse, error) { return nil, errors.New("out of order") }

func sleeps(ctx context.Context) (*shuntv1.ChooseResponse, error) {
	<-ctx.Done()
	return nil, ctx.Err()
}

// serve starts a program; the function ends it.
func (p *program) serve(t *testing.T, network, address string, o ...grpc.ServerOption) (at string, end func()) {
	t.Helper()
	l, err := net.Listen(network, address)
	if err != nil {
		t.Fatal(err)
	}
	s := grpc.NewServer(o...)
	shuntv1.RegisterExternalPolicyServiceServer(s, p)
	served := make(chan struct{})
	go func() { defer close(served); s.Serve(l) }()
	end = sync.OnceFunc(func() { s.Stop(); <-served })
	t.Cleanup(end)
	return l.Addr().String(), end
}

// external is a policy whose only pool asks the program; the algorithm beside
// it chooses server1, as the others have no weight.
func external(t *testing.T, address, more string) *shuntv1.PolicySnapshot {
	return whole(t, 1, fmt.Sprintf(`
services: [{name: web, routes: [{name: chosen, pool: app}]}]
pools:
- name: app
  members: [{server: server1}, {server: server2, priority: 1}, {server: server3, priority: 1}]
  external: {address: %q, deadline: 5s, breaker: {failures: 3, openTime: 30s}%s}
`, address, more))
}

// ask has the choice for a request settled.
func (x table) ask(usable func(string) bool) (string, error) {
	x.t.Helper()
	rule, c, q := x.choose("/b/../a%20b?x=1")
	if c.Server != "server1" || c.Ask == nil {
		x.t.Fatalf("the fallback is %+v", c)
	}
	c, err := x.Ask(x.t.Context(), rule, c, q, head(x.t, "/b/../a%20b?x=1", "X-One: 1\r\nX-Two: 2\r\n"), usable)
	return c.Server, err
}

func TestAProgramChooses(t *testing.T) {
	for _, c := range []struct {
		name   string
		answer func(context.Context) (*shuntv1.ChooseResponse, error)
		usable func(string) bool
		server string
		err    *RejectedError
		counts bool // as a failure of the program
	}{
		{name: "another than the algorithm", answer: names("server3"), server: "server3"},
		{name: "the same", answer: names("server1"), server: "server1"},
		{name: "nothing", answer: declines, server: "server1"},
		{name: "no such server", answer: names("server9"), server: "server1", counts: true},
		{name: "an empty name", answer: names(""), server: "server1", counts: true},
		{name: "one that was tried", answer: names("server3"), usable: func(s string) bool { return s != "server3" }, server: "server1", counts: true},
		{name: "rejects", answer: rejects(451, "not here"), server: "server1", err: &RejectedError{451, "not here"}},
		{name: "rejects without a reason", answer: rejects(403, ""), server: "server1", err: &RejectedError{403, "Forbidden"}},
		{name: "rejects with success", answer: rejects(200, ""), server: "server1", counts: true},
		{name: "an error", answer: fails, server: "server1", counts: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			x, p := newTable(t), &program{answer: c.answer}
			at, _ := p.serve(t, "tcp", "127.0.0.1:0")
			x.apply(all, external(t, at, ""))
			for range 3 { // as many failures in a row open the breaker
				got, err := x.ask(c.usable)
				var rejected *RejectedError
				if errors.As(err, &rejected) != (c.err != nil) || rejected != nil && *rejected != *c.err || got != c.server {
					t.Errorf("chose %s, %v", got, err)
				}
			}
			rule, choice, _ := x.choose("/")
			if open, why := choice.Ask.Open(); open != c.counts {
				t.Errorf("the breaker is open: %v %s", open, why)
			}
			if rule.Name != "chosen" || p.times() != 3 {
				t.Errorf("route %q, asked %d times", rule.Name, p.times())
			}
			want := 4 // three requests and the choice above
			if c.err != nil || c.server != "server1" {
				want = 1 // the requests are not server1's
			}
			if n := x.State().Load("server1"); n != want {
				t.Errorf("server1 has a load of %d, want %d", n, want)
			}
		})
	}
}

func TestWhatAProgramIsTold(t *testing.T) {
	x, p := newTable(t), &program{answer: declines}
	at, _ := p.serve(t, "tcp", "127.0.0.1:0")
	x.apply(all, external(t, at, ", headers: [x-two]"))
	if _, err := x.ask(func(s string) bool { return s != "server2" }); err != nil {
		t.Fatal(err)
	}
	r := p.asked[0]
	if r.Service != "web" || r.Route != "chosen" || r.Pool != "app" || r.Method != "GET" || r.Path != "/b/../a%20b" || r.Query != "x=1" ||
		r.Host != "Example.org" || r.Client != "192.0.2.7" || r.ClientPort != 4321 {
		t.Errorf("told %v", r)
	}
	if len(r.Headers) != 1 || !strings.EqualFold(r.Headers[0].Name, "X-Two") || r.Headers[0].Value != "2" {
		t.Errorf("fields %v", r.Headers)
	}
	if len(r.Candidates) != 2 || r.Candidates[0].Server != "server1" || r.Candidates[0].Weight != 1 || r.Candidates[1].Server != "server3" {
		t.Errorf("candidates %v", r.Candidates)
	}
	x.apply(all, external(t, at, ""))
	if _, err := x.ask(nil); err != nil || len(p.asked[1].Headers) != 3 {
		t.Errorf("without a list of fields: %v, %v", p.asked[1].Headers, err)
	}
}

func TestAProgramThatIsSlowOrDeadIsNotWaitedForForEver(t *testing.T) {
	p := &program{answer: sleeps}
	at, end := p.serve(t, "tcp", "127.0.0.1:0")
	policy := external(t, at, "")
	x := newTable(t)
	policy.Policy.Pools[0].External.Deadline.Seconds, policy.Policy.Pools[0].External.Deadline.Nanos = 0, 50e6
	policy.Policy.Pools[0].External.Breaker.OpenTime.Seconds, policy.Policy.Pools[0].External.Breaker.OpenTime.Nanos = 0, 200e6
	x.apply(all, policy)
	begun := time.Now()
	for i := range 20 {
		if got, err := x.ask(nil); got != "server1" || err != nil {
			t.Fatalf("request %d: %s, %v", i, got, err)
		}
	}
	if took := time.Since(begun); took > 10*time.Second || p.times() >= 20 {
		t.Errorf("asked %d times, %v", p.times(), took)
	}
	choosesAgain := func() {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); ; <-time.After(20 * time.Millisecond) {
			if got, _ := x.ask(nil); got == "server2" {
				return
			}
			if time.Now().After(end) {
				t.Fatal("the program is not asked again")
			}
		}
	}
	p.answers(names("server2"))
	choosesAgain()
	// The same with one that is gone, and comes back at its address.
	end()
	for range 20 {
		if got, err := x.ask(nil); got != "server1" || err != nil {
			t.Fatalf("the program is dead: %s, %v", got, err)
		}
	}
	p.serve(t, "tcp", at)
	choosesAgain()
}

func TestWaysToAProgram(t *testing.T) {
	ca := tlstest.NewCA(t)
	files := ca.Files(t, "policy", "127.0.0.1", "policy.example")
	config, err := files.Server() // wants a client's certificate
	if err != nil {
		t.Fatal(err)
	}
	own := ca.Files(t, "dispatcher1")
	open := config.Clone()
	open.ClientAuth = 0
	socket := filepath.Join(t.TempDir(), "s")
	for _, c := range []struct {
		name, network, address, more string
		option                       []grpc.ServerOption
		server                       string
	}{
		{"a path", "unix", socket, "", nil, "server2"},
		{"both have certificates", "tcp", "127.0.0.1:0", fmt.Sprintf(", tls: {caFile: %q, certFile: %q, keyFile: %q, serverName: policy.example}", own.CA, own.Cert, own.Key), []grpc.ServerOption{grpc.Creds(credentials.NewTLS(config))}, "server2"},
		{"both, by its address", "tcp", "127.0.0.1:0", fmt.Sprintf(", tls: {caFile: %q, certFile: %q, keyFile: %q}", own.CA, own.Cert, own.Key), []grpc.ServerOption{grpc.Creds(credentials.NewTLS(config))}, "server2"},
		{"the program has one", "tcp", "127.0.0.1:0", fmt.Sprintf(", tls: {caFile: %q}", own.CA), []grpc.ServerOption{grpc.Creds(credentials.NewTLS(open))}, "server2"},
		{"another's name", "tcp", "127.0.0.1:0", fmt.Sprintf(", tls: {caFile: %q, serverName: else.example}", own.CA), []grpc.ServerOption{grpc.Creds(credentials.NewTLS(open))}, "server1"},
		{"no such file", "tcp", "127.0.0.1:0", `, tls: {caFile: /none}`, []grpc.ServerOption{grpc.Creds(credentials.NewTLS(open))}, "server1"},
		{"without TLS", "tcp", "127.0.0.1:0", "", []grpc.ServerOption{grpc.Creds(credentials.NewTLS(open))}, "server1"},
	} {
		t.Run(c.name, func(t *testing.T) {
			x, p := newTable(t), &program{answer: names("server2")}
			at, _ := p.serve(t, c.network, c.address, c.option...)
			if c.network == "unix" {
				at = "unix:" + at
			}
			x.apply(all, external(t, at, c.more))
			if got, err := x.ask(nil); got != c.server || err != nil {
				_, choice, _ := x.choose("/")
				_, why := choice.Ask.Open()
				t.Errorf("chose %s, %v %s", got, err, why)
			}
		})
	}
}

func TestAConnectionThatNoPoolWantsIsClosed(t *testing.T) {
	x, p := newTable(t), &program{answer: names("server2")}
	at, _ := p.serve(t, "tcp", "127.0.0.1:0")
	x.apply(all, external(t, at, ""))
	if got, err := x.ask(nil); got != "server2" || err != nil {
		t.Fatal(got, err)
	}
	x.apply(all, external(t, at, ", headers: [X-One]"))
	if len(x.programs.open) != 1 {
		t.Errorf("%d connections, want the one kept", len(x.programs.open))
	}
	x.apply(all, nil)
	if len(x.programs.open) != 0 {
		t.Errorf("%d connections are left", len(x.programs.open))
	}
}
