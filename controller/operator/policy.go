package operator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/shunt-sdn/shunt/policy/fault"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// ErrConflict means that what is to be changed has been changed meanwhile.
var ErrConflict = errors.New("conflict")

// Invalid is a refusal that names fields; see policystore.Invalid.
type Invalid struct{ Faults fault.List }

func (e *Invalid) Error() string { return "the controller refused it:\n" + e.Faults.Error() }

// policies is the API of the dispatch policy.
func (c *Client) policies() shuntv1.PolicyServiceClient {
	return shuntv1.NewPolicyServiceClient(c.conn)
}

// refusal says what the operator can do about err. It is an *Invalid, or wraps
// ErrConflict, if that is what it means.
func (c *Client) refusal(err error) error {
	s := status.Convert(err)
	switch s.Code() {
	case codes.OK:
		return nil
	case codes.InvalidArgument:
		var faults fault.List
		for _, d := range s.Details() {
			for _, v := range violationsOf(d) {
				faults = append(faults, fault.Fault{Path: v.GetField(), What: v.GetDescription()})
			}
		}
		if faults != nil {
			return &Invalid{faults}
		}
	case codes.Aborted:
		return fmt.Errorf("%w: %s", ErrConflict, s.Message())
	case codes.NotFound, codes.AlreadyExists, codes.FailedPrecondition, codes.PermissionDenied:
		return errors.New(s.Message())
	case codes.Unimplemented:
		return fmt.Errorf("controller %s: %s; it is of another version than this program", c.address, s.Message())
	}
	return c.explain(err)
}

func violationsOf(detail any) []*errdetails.BadRequest_FieldViolation {
	if b, ok := detail.(*errdetails.BadRequest); ok {
		return b.GetFieldViolations()
	}
	return nil
}

// Policy asks for what is stored; names may be empty. It returns the revision too.
func (c *Client) Policy(ctx context.Context, kind shuntv1.ResourceKind, names ...string) (*shuntv1.Policy, uint64, error) {
	r, err := c.policies().GetPolicy(ctx, &shuntv1.GetPolicyRequest{Kind: kind, Names: names})
	return r.GetPolicy(), r.GetRevision(), c.refusal(err)
}

// Export asks for the whole policy and the leases, and returns the revision too.
func (c *Client) Export(ctx context.Context) (*shuntv1.Policy, uint64, error) {
	r, err := c.policies().GetPolicy(ctx, &shuntv1.GetPolicyRequest{Leases: true})
	return r.GetPolicy(), r.GetRevision(), c.refusal(err)
}

// Apply changes the policy.
func (c *Client) Apply(ctx context.Context, r *shuntv1.ApplyRequest) (*shuntv1.ApplyResponse, error) {
	out, err := c.policies().Apply(ctx, r)
	return out, c.refusal(err)
}

// Delete deletes resources.
func (c *Client) Delete(ctx context.Context, r *shuntv1.DeleteRequest) (*shuntv1.DeleteResponse, error) {
	out, err := c.policies().Delete(ctx, r)
	return out, c.refusal(err)
}

// Explain asks where a request would go.
func (c *Client) Explain(ctx context.Context, r *shuntv1.ExplainRequest) (Explanation, error) {
	out, err := c.policies().Explain(ctx, r)
	if err != nil {
		return Explanation{}, c.refusal(err)
	}
	return explanationOf(out), nil
}

// Drain sets or ends a server's drain and calls progress with each answer until
// it has done, progress returns false or ctx ends.
func (c *Client) Drain(ctx context.Context, r *shuntv1.DrainRequest, progress func(*shuntv1.DrainResponse) bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := c.policies().Drain(ctx, r)
	if err != nil {
		return c.refusal(err)
	}
	for {
		m, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if status.Code(err) == codes.DeadlineExceeded {
			return fmt.Errorf("controller %s: %w", c.address, context.DeadlineExceeded)
		}
		if err != nil {
			return c.refusal(err)
		}
		if !progress(m) {
			return nil
		}
	}
}

// Top asks for live figures of a service, or of all if it is empty.
func (c *Client) Top(ctx context.Context, service string) (Top, error) {
	r, err := c.policies().GetTop(ctx, &shuntv1.GetTopRequest{Service: service})
	if err != nil {
		return Top{}, c.refusal(err)
	}
	return topOf(r), nil
}

// PolicyServices asks for the services with what the policy says of them.
func (c *Client) PolicyServices(ctx context.Context, names ...string) (PolicyServices, error) {
	policy, _, err := c.Policy(ctx, shuntv1.ResourceKind_RESOURCE_KIND_SERVICE)
	if err != nil {
		return PolicyServices{}, err
	}
	r, err := c.api.ListServices(ctx, &shuntv1.ListServicesRequest{})
	if err != nil {
		return PolicyServices{}, c.explain(err)
	}
	out := PolicyServices{}
	stored := make(map[string]*shuntv1.ServicePolicy)
	for _, s := range policy.GetServices() {
		stored[s.Name] = s
	}
	for _, s := range r.GetServices() {
		out.list = append(out.list, policyService{serviceOf(s), stored[s.Name]})
		delete(stored, s.Name)
	}
	for _, s := range policy.GetServices() { // stored just now
		if stored[s.Name] != nil {
			out.list = append(out.list, policyService{Service{Name: s.Name, VIPs: []string{}}, s})
		}
	}
	out.list, err = chosen(out.list, "service", names, func(s policyService) string { return s.running.Name })
	return out, err
}

// Routes asks for the routes; names are those of routes, or service/route.
func (c *Client) Routes(ctx context.Context, names ...string) (Routes, error) {
	policy, _, err := c.Policy(ctx, shuntv1.ResourceKind_RESOURCE_KIND_SERVICE)
	if err != nil {
		return Routes{}, err
	}
	var list []route
	for _, s := range policy.GetServices() {
		for i, r := range s.Routes {
			list = append(list, route{s.Name, i, r})
		}
	}
	if len(names) == 0 {
		return Routes{list}, nil
	}
	var out []route
	for _, n := range names {
		found := false
		for _, r := range list {
			if r.route.Name == n || r.service+"/"+r.route.Name == n {
				out, found = append(out, r), true
			}
		}
		if !found {
			return Routes{}, fmt.Errorf("the policy has no route %q; shunt get routes lists them", n)
		}
	}
	return Routes{out}, nil
}

// Pools asks for the pools.
func (c *Client) Pools(ctx context.Context, names ...string) (Pools, error) {
	policy, _, err := c.Policy(ctx, shuntv1.ResourceKind_RESOURCE_KIND_POOL, names...)
	if err != nil {
		return Pools{}, err
	}
	top, err := c.Top(ctx, "")
	return Pools{policy.GetPools(), top}, err
}

// Servers asks for the servers: what the policy says of them and how they are.
func (c *Client) Servers(ctx context.Context, names ...string) (Servers, error) {
	policy, _, err := c.Policy(ctx, shuntv1.ResourceKind_RESOURCE_KIND_SERVER)
	if err != nil {
		return nil, err
	}
	top, err := c.Top(ctx, "")
	if err != nil {
		return nil, err
	}
	return chosen(serversOf(policy.GetServers(), top), "server", names, func(s Server) string { return s.Name })
}

// chosen returns the elements with the names, in that order, or all if there is none.
func chosen[T any](list []T, kind string, names []string, name func(T) string) ([]T, error) {
	if len(names) == 0 {
		return list, nil
	}
	var out []T
	for _, n := range names {
		found := false
		for _, x := range list {
			if name(x) == n {
				out, found = append(out, x), true
			}
		}
		if !found {
			return nil, fmt.Errorf("there is no %s %q; shunt get %ss lists them", kind, n, strings.TrimSuffix(kind, "s"))
		}
	}
	return out, nil
}

// Heeds asks which revision of the policy each dispatcher applies, and why it does
// not apply a later one. Asked are those that are connected, and those that were
// when the controller last ran and may come back any moment.
func (c *Client) Heeds(ctx context.Context) (map[string]Heeding, error) {
	r, err := c.api.ListNodes(ctx, &shuntv1.ListNodesRequest{})
	if err != nil {
		return nil, c.explain(err)
	}
	out := make(map[string]Heeding)
	for _, n := range r.GetNodes() {
		for _, role := range n.GetNode().GetRoles() {
			switch up := n.GetNode().GetUp(); {
			case role != shuntv1.Role_ROLE_DISPATCHER || !up && !n.GetExpected():
			case up:
				out[n.Node.Name] = Heeding{Revision: n.GetReport().GetPolicyVersion(), Error: n.GetReport().GetPolicyError()}
			default:
				out[n.Node.Name] = Heeding{Away: true}
			}
		}
	}
	return out, nil
}

// Heeding is how a dispatcher stands to the policy.
type Heeding struct {
	Revision uint64 // that it applies; 0: none
	Error    string // why it refuses a later one
	Away     bool   // it has not connected since the controller started; all else is not known
}

// Get answers for one kind: service, route, pool or server.
func (c *Client) Get(ctx context.Context, kind string, names ...string) (Answer, error) {
	switch kind {
	case "service":
		return c.PolicyServices(ctx, names...)
	case "route":
		return c.Routes(ctx, names...)
	case "pool":
		return c.Pools(ctx, names...)
	default:
		return c.Servers(ctx, names...)
	}
}

// Names lists the names of one kind, for completion.
func (c *Client) Names(ctx context.Context, kind string) (names []string, err error) {
	switch kind {
	case "service":
		r, err := c.PolicyServices(ctx)
		return each(r.list, func(s policyService) string { return s.running.Name }), err
	case "route":
		r, err := c.Routes(ctx)
		return each(r.list, func(x route) string { return x.route.Name }), err
	case "pool":
		p, _, err := c.Policy(ctx, shuntv1.ResourceKind_RESOURCE_KIND_POOL)
		return each(p.GetPools(), func(x *shuntv1.Pool) string { return x.Name }), err
	default:
		r, err := c.Servers(ctx)
		return each(r, func(s Server) string { return s.Name }), err
	}
}

// Refs names what a policy has.
func Refs(p *shuntv1.Policy) (refs []*shuntv1.ResourceRef) {
	for _, s := range p.GetServices() {
		refs = append(refs, &shuntv1.ResourceRef{Kind: shuntv1.ResourceKind_RESOURCE_KIND_SERVICE, Name: s.Name, Version: s.Version})
	}
	for _, x := range p.GetPools() {
		refs = append(refs, &shuntv1.ResourceRef{Kind: shuntv1.ResourceKind_RESOURCE_KIND_POOL, Name: x.Name, Version: x.Version})
	}
	for _, s := range p.GetServers() {
		refs = append(refs, &shuntv1.ResourceRef{Kind: shuntv1.ResourceKind_RESOURCE_KIND_SERVER, Name: s.Name, Version: s.Version})
	}
	return refs
}
