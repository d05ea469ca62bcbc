package api

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/shunt-sdn/shunt/controller/policystore"
	"github.com/shunt-sdn/shunt/internal/tlsconf/tlstest"
	"github.com/shunt-sdn/shunt/policy/fault"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// stored answers with one policy and one error.
type stored struct {
	policy *shuntv1.Policy
	err    error
}

func (s stored) Policy() (*policystore.State, <-chan struct{}) {
	return &policystore.State{Revision: 7, Policy: s.policy}, nil
}

func (s stored) Leases() ([]*shuntv1.SessionLease, error) {
	return []*shuntv1.SessionLease{{Service: "web", Dispatcher: "d1", Address: "172.31.0.1"}}, nil
}

func (s stored) Apply(context.Context, *shuntv1.ApplyRequest) (*shuntv1.ApplyResponse, error) {
	return &shuntv1.ApplyResponse{Revision: 7}, s.err
}

func (s stored) Delete(*shuntv1.DeleteRequest) (*shuntv1.DeleteResponse, error) {
	return &shuntv1.DeleteResponse{}, s.err
}

func (s stored) Explain(*shuntv1.ExplainRequest) (*shuntv1.ExplainResponse, error) {
	return &shuntv1.ExplainResponse{}, s.err
}

func (s stored) Drain(_ context.Context, _ *shuntv1.DrainRequest, send func(*shuntv1.DrainResponse) error) error {
	return errors.Join(send(&shuntv1.DrainResponse{Done: true}), s.err)
}

func (s stored) Top(context.Context, *shuntv1.GetTopRequest) (*shuntv1.GetTopResponse, error) {
	return &shuntv1.GetTopResponse{}, s.err
}

func (s stored) NodeNames() []string { return []string{"server1", "dispatcher1"} }

func TestErrorsHaveTheCodesOfTheAPI(t *testing.T) {
	faults := fault.List{{Path: "pools[0].name", What: "is missing", Remedy: "name it"}, {What: "and more"}}
	for _, c := range []struct {
		err  error
		code codes.Code
	}{
		{nil, codes.OK},
		{&policystore.Invalid{Faults: faults}, codes.InvalidArgument},
		{fmt.Errorf("x: %w", policystore.ErrConflict), codes.Aborted},
		{fmt.Errorf("x: %w", policystore.ErrExists), codes.AlreadyExists},
		{fmt.Errorf("x: %w", policystore.ErrNotFound), codes.NotFound},
		{fmt.Errorf("%w: %w", policystore.ErrInUse, faults), codes.FailedPrecondition},
		{context.Canceled, codes.Canceled},
		{errors.New("the disk is full"), codes.Unavailable},
	} {
		_, err := (&policies{ops: stored{err: c.err}}).Apply(t.Context(), &shuntv1.ApplyRequest{})
		if status.Code(err) != c.code {
			t.Errorf("%v became %v", c.err, err)
		}
		if c.code != codes.InvalidArgument {
			continue
		}
		details := status.Convert(err).Details()
		if len(details) != 1 {
			t.Fatalf("details %v", details)
		}
		b, ok := details[0].(*errdetails.BadRequest)
		if !ok || len(b.FieldViolations) != 2 || b.FieldViolations[0].Field != "pools[0].name" || b.FieldViolations[0].Description != "is missing; name it" {
			t.Errorf("details %v", details)
		}
	}
}

func TestGetPolicySelects(t *testing.T) {
	p := &policies{ops: stored{policy: &shuntv1.Policy{
		Services: []*shuntv1.ServicePolicy{{Name: "web"}, {Name: "api"}},
		Pools:    []*shuntv1.Pool{{Name: "web"}, {Name: "static"}},
		Servers:  []*shuntv1.Server{{Name: "server1"}},
	}}}
	for _, c := range []struct {
		kind  shuntv1.ResourceKind
		names []string
		want  string
	}{
		{0, nil, "2 2 1"},
		{0, []string{"web"}, "1 1 0"},
		{shuntv1.ResourceKind_RESOURCE_KIND_POOL, nil, "0 2 0"},
		{shuntv1.ResourceKind_RESOURCE_KIND_POOL, []string{"web", "web"}, "0 1 0"},
		{shuntv1.ResourceKind_RESOURCE_KIND_POOL, []string{"api"}, `the policy has no pool "api"`},
		{0, []string{"web", "none"}, `the policy has no resource "none"`},
	} {
		r, err := p.GetPolicy(t.Context(), &shuntv1.GetPolicyRequest{Kind: c.kind, Names: c.names})
		got := fmt.Sprint(len(r.GetPolicy().GetServices()), len(r.GetPolicy().GetPools()), len(r.GetPolicy().GetServers()))
		if err != nil {
			got = status.Convert(err).Message()
		}
		if got != c.want || err == nil && r.Revision != 7 {
			t.Errorf("%v %v: %s, want %s", c.kind, c.names, got, c.want)
		}
	}
}

// TestWhoMayChangeThePolicy: over TLS nodes may read it, and operators may do
// both.
func TestWhoMayChangeThePolicy(t *testing.T) {
	const ok, denied = codes.OK, codes.PermissionDenied
	for _, c := range []struct {
		name      string
		operators []string
		want      map[string]codes.Code
	}{
		{"anybody but nodes", nil, map[string]codes.Code{"alice": ok, "switch": ok, "server1": denied, "dispatcher1": denied}},
		{"those who are named", []string{"bob", "alice"}, map[string]codes.Code{"alice": ok, "switch": denied, "server1": denied}},
		{"no node, though it is named", []string{"server1"}, map[string]codes.Code{"alice": denied, "server1": denied}},
	} {
		t.Run(c.name, func(t *testing.T) { mayChange(t, c.operators, c.want) })
	}
}

func mayChange(t *testing.T, operators []string, want map[string]codes.Code) {
	t.Helper()
	ca := tlstest.NewCA(t)
	conf, err := ca.Files(t, "controller", "127.0.0.1").Server()
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := New(conf, silence, nil, nil, slog.New(slog.DiscardHandler))
	s.AddPolicies(stored{policy: &shuntv1.Policy{}}, operators)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, l, nil) }()
	defer func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}()
	for name, code := range want {
		creds, err := ca.Files(t, name).Client("")
		if err != nil {
			t.Fatal(err)
		}
		conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(credentials.NewTLS(creds)))
		if err != nil {
			t.Fatal(err)
		}
		c := shuntv1.NewPolicyServiceClient(conn)
		if _, err := c.GetPolicy(t.Context(), &shuntv1.GetPolicyRequest{}); err != nil {
			t.Errorf("%s reads: %v", name, err)
		}
		_, applied := c.Apply(t.Context(), &shuntv1.ApplyRequest{})
		_, deleted := c.Delete(t.Context(), &shuntv1.DeleteRequest{Resources: []*shuntv1.ResourceRef{{}}})
		drain, err := c.Drain(t.Context(), &shuntv1.DrainRequest{Server: "server1"})
		if err == nil {
			_, err = drain.Recv()
		}
		for what, err := range map[string]error{"applies": applied, "deletes": deleted, "drains": err} {
			if status.Code(err) != code {
				t.Errorf("%s %s: %v", name, what, err)
			}
		}
		conn.Close()
	}
}
