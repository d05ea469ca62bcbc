package api

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"slices"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/shunt-sdn/shunt/controller/policystore"
	"github.com/shunt-sdn/shunt/internal/policyproto"
	"github.com/shunt-sdn/shunt/policy/fault"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// Policies answers operators about the dispatch policy. Errors that say what is
// wrong with a request are those of policystore. What is returned is not changed
// afterwards.
type Policies interface {
	// Policy returns the policy, and what is closed when there is a later one.
	Policy() (*policystore.State, <-chan struct{})
	// Leases lists the leases of session addresses, by service and dispatcher.
	Leases() ([]*shuntv1.SessionLease, error)
	Apply(context.Context, *shuntv1.ApplyRequest) (*shuntv1.ApplyResponse, error)
	Delete(*shuntv1.DeleteRequest) (*shuntv1.DeleteResponse, error)
	Explain(*shuntv1.ExplainRequest) (*shuntv1.ExplainResponse, error)
	// Drain sets or ends a drain and tells of its progress until none is left or
	// ctx ends.
	Drain(ctx context.Context, r *shuntv1.DrainRequest, send func(*shuntv1.DrainResponse) error) error
	Top(context.Context, *shuntv1.GetTopRequest) (*shuntv1.GetTopResponse, error)
	// NodeNames lists the nodes that are known.
	NodeNames() []string
}

// AddPolicies has the PolicyService served too. operators are the names whose
// certificates may change the policy; nil: any that are no node's. It is called
// before Serve.
func (s *Server) AddPolicies(p Policies, operators []string) {
	for _, g := range []*grpc.Server{s.network, s.operator} {
		shuntv1.RegisterPolicyServiceServer(g, &policies{ops: p, operators: operators})
	}
}

// policies is the PolicyService.
type policies struct {
	shuntv1.UnimplementedPolicyServiceServer
	ops       Policies
	operators []string
}

func (p *policies) GetPolicy(_ context.Context, r *shuntv1.GetPolicyRequest) (*shuntv1.GetPolicyResponse, error) {
	state, _ := p.ops.Policy()
	out := &shuntv1.GetPolicyResponse{Revision: state.Revision, Policy: &shuntv1.Policy{}}
	missing := make(map[string]bool)
	for _, n := range r.GetNames() {
		missing[n] = true
	}
	all := len(missing) == 0
	for _, k := range policystore.Kinds {
		if want := r.GetKind(); want != k && want != shuntv1.ResourceKind_RESOURCE_KIND_UNSPECIFIED {
			continue
		}
		for _, x := range policystore.Resources(state.Policy, k) {
			if _, asked := missing[x.GetName()]; asked || all {
				policystore.Add(out.Policy, x)
				if asked {
					missing[x.GetName()] = false
				}
			}
		}
	}
	if r.GetLeases() {
		var err error
		if out.Policy.Leases, err = p.ops.Leases(); err != nil {
			return nil, refusal(err)
		}
	}
	for _, n := range r.GetNames() {
		if missing[n] {
			what := "resource"
			if r.GetKind() != shuntv1.ResourceKind_RESOURCE_KIND_UNSPECIFIED {
				what = policystore.KindName(r.GetKind())
			}
			return nil, status.Errorf(codes.NotFound, "the policy has no %s %q", what, n)
		}
	}
	return out, nil
}

func (p *policies) Apply(ctx context.Context, r *shuntv1.ApplyRequest) (*shuntv1.ApplyResponse, error) {
	if err := p.mayChange(ctx); err != nil {
		return nil, err
	}
	out, err := p.ops.Apply(ctx, r)
	return out, refusal(err)
}

func (p *policies) Delete(ctx context.Context, r *shuntv1.DeleteRequest) (*shuntv1.DeleteResponse, error) {
	if err := p.mayChange(ctx); err != nil {
		return nil, err
	}
	if len(r.GetResources()) == 0 {
		return nil, status.Error(codes.InvalidArgument, "resources: name what to delete")
	}
	out, err := p.ops.Delete(r)
	return out, refusal(err)
}

// Watch sends the whole policy, then what each revision changed. Revisions that
// follow each other faster than the caller reads become one.
func (p *policies) Watch(_ *shuntv1.WatchRequest, stream grpc.ServerStreamingServer[shuntv1.WatchResponse]) error {
	sent := &policystore.State{Policy: &shuntv1.Policy{}}
	for first := true; ; first = false {
		state, changed := p.ops.Policy()
		if first || state.Revision != sent.Revision {
			m := &shuntv1.WatchResponse{Revision: state.Revision}
			m.Changed, m.Removed = policyproto.Delta(sent.Policy, state.Policy)
			if err := stream.Send(m); err != nil {
				return err
			}
			sent = state
		}
		select {
		case <-changed:
		case <-stream.Context().Done():
			return status.FromContextError(stream.Context().Err()).Err()
		}
	}
}

func (p *policies) Explain(_ context.Context, r *shuntv1.ExplainRequest) (*shuntv1.ExplainResponse, error) {
	out, err := p.ops.Explain(r)
	return out, refusal(err)
}

func (p *policies) Drain(r *shuntv1.DrainRequest, stream grpc.ServerStreamingServer[shuntv1.DrainResponse]) error {
	if err := p.mayChange(stream.Context()); err != nil {
		return err
	}
	return refusal(p.ops.Drain(stream.Context(), r, stream.Send))
}

// mayChange refuses nodes, and who is not among the operators if these are named:
// over TLS, who changes the policy needs a certificate that is no node's, so that
// one node that is broken into does not rule them all.
func (p *policies) mayChange(ctx context.Context) error {
	from, ok := peer.FromContext(ctx)
	if !ok {
		return nil
	}
	info, ok := from.AuthInfo.(credentials.TLSInfo)
	if !ok || len(info.State.PeerCertificates) == 0 {
		return nil
	}
	cert := info.State.PeerCertificates[0]
	named := func(name string) bool { return cert.VerifyHostname(name) == nil }
	nodes := p.ops.NodeNames()
	if i := slices.IndexFunc(nodes, named); i >= 0 {
		return status.Errorf(codes.PermissionDenied, "the certificate is that of node %s, and nodes do not change the policy; use one of an operator's own", nodes[i])
	}
	if p.operators != nil && !slices.ContainsFunc(p.operators, named) {
		return status.Errorf(codes.PermissionDenied, "the certificate (%s) is none of those that may change the policy; name it under operators in the controller's configuration, or use another", names(cert))
	}
	return nil
}

// names are what a certificate is for.
func names(cert *x509.Certificate) string {
	if len(cert.DNSNames) > 0 {
		return strings.Join(cert.DNSNames, ", ")
	}
	return "of " + cert.Subject.String()
}

func (p *policies) GetTop(ctx context.Context, r *shuntv1.GetTopRequest) (*shuntv1.GetTopResponse, error) {
	out, err := p.ops.Top(ctx, r)
	return out, refusal(err)
}

// refusal makes a status of an error. What is wrong with single fields is also
// in a BadRequest, for programs.
func refusal(err error) error {
	var invalid *policystore.Invalid
	switch {
	case err == nil:
		return nil
	case errors.As(err, &invalid):
		return violations(invalid.Faults)
	case errors.Is(err, policystore.ErrConflict):
		return status.Error(codes.Aborted, err.Error())
	case errors.Is(err, policystore.ErrExists):
		return status.Error(codes.AlreadyExists, err.Error())
	case errors.Is(err, policystore.ErrNotFound):
		return status.Error(codes.NotFound, err.Error())
	case errors.Is(err, policystore.ErrInUse):
		return status.Error(codes.FailedPrecondition, err.Error())
	}
	return failure(err)
}

func violations(faults fault.List) error {
	s := status.New(codes.InvalidArgument, faults.Error())
	m := &errdetails.BadRequest{}
	for _, f := range faults[:min(len(faults), fault.Max)] {
		what := f.What
		if f.Remedy != "" {
			what = fmt.Sprintf("%s; %s", what, f.Remedy)
		}
		m.FieldViolations = append(m.FieldViolations, &errdetails.BadRequest_FieldViolation{Field: f.Path, Description: what})
	}
	if d, err := s.WithDetails(m); err == nil {
		s = d
	}
	return s.Err()
}
