package controller

import (
	"context"
	"fmt"
	"slices"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/shunt-sdn/shunt/controller/policystore"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// drainEvery is how often a drain's sessions are counted.
const drainEvery = 500 * time.Millisecond

// Drain sets or ends a server's drain; see api.Policies.
func (p policies) Drain(ctx context.Context, r *shuntv1.DrainRequest, send func(*shuntv1.DrainResponse) error) error {
	moved := p.moved(r.GetServer())
	state, err := p.setDrain(r.GetServer(), !r.GetUndo())
	if err != nil {
		return err
	}
	if r.GetUndo() {
		return send(&shuntv1.DrainResponse{Done: true})
	}
	tick := time.NewTicker(drainEvery)
	defer tick.Stop()
	var last *shuntv1.DrainResponse
	for {
		if !draining(p.c.policy.State().Policy, r.Server) {
			return fmt.Errorf("the drain of server %s was ended meanwhile: %w", r.Server, policystore.ErrConflict)
		}
		held, err := p.held(ctx)
		if err != nil {
			return err
		}
		now := &shuntv1.DrainResponse{Sessions: held[r.Server], Moved: p.moved(r.Server)}
		if now.Moved >= moved { // else its agent has started anew
			now.Moved -= moved
		}
		// A dispatcher that has not heard of it may yet send a request there.
		now.Done = now.Sessions == 0 && p.c.heeded(state.Revision)
		if !proto.Equal(now, last) {
			if err := send(now); err != nil || now.Done {
				return err
			}
			last = now
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-tick.C:
		}
	}
}

// setDrain stores it. A server's resource that says nothing any more is deleted.
func (p policies) setDrain(server string, drain bool) (*policystore.State, error) {
	state, plan, err := p.c.policy.Update(func(s *policystore.State) (*policystore.Plan, error) {
		node, ok := p.c.nodes.Get(server)
		x := &shuntv1.Server{Name: server}
		i := slices.IndexFunc(s.Policy.Servers, func(x *shuntv1.Server) bool { return x.Name == server })
		switch {
		case i >= 0:
			x = proto.Clone(s.Policy.Servers[i]).(*shuntv1.Server)
		case !ok:
			return nil, fmt.Errorf("server %q: %w; shunt get servers lists them", server, policystore.ErrNotFound)
		case !node.Has(shuntv1.Role_ROLE_SERVER):
			return nil, fmt.Errorf("server %q: %w, that node is a dispatcher only", server, policystore.ErrNotFound)
		}
		x.Drain = drain
		if empty := (&shuntv1.Server{Name: server, Version: x.Version}); !drain && proto.Equal(x, empty) {
			if i < 0 {
				return s.Apply(&shuntv1.ApplyRequest{}, p.check)
			}
			return s.Delete([]*shuntv1.ResourceRef{{Kind: shuntv1.ResourceKind_RESOURCE_KIND_SERVER, Name: server}}, false, p.check)
		}
		return s.Apply(&shuntv1.ApplyRequest{Policy: &shuntv1.Policy{Servers: []*shuntv1.Server{x}}}, p.check)
	})
	if err != nil {
		return nil, err
	}
	p.log(plan, state)
	return state, nil
}

// held counts the sessions of each server, as the agents' kernels have them:
// those handed off and those proxied to it.
func (p policies) held(ctx context.Context) (map[string]uint64, error) {
	list, err := p.c.Sessions(ctx)
	if err != nil {
		return nil, err
	}
	out := make(map[string]uint64)
	for _, s := range list {
		if s.Path != shuntv1.Path_PATH_DISPATCHER {
			out[s.Node]++
		}
	}
	return out, nil
}

// moved is how many sessions a draining server's agent gave to others.
func (p policies) moved(server string) uint64 {
	n, _ := p.c.nodes.Get(server)
	return n.Report.GetSessionsMoved()
}

// heeded reports whether every dispatcher applies a revision of the policy or a
// later one, with those that may come back any moment since this controller began.
func (c *cluster) heeded(revision uint64) bool {
	for _, n := range c.nodes.List() {
		if n.Usable() && n.Has(shuntv1.Role_ROLE_DISPATCHER) && n.Report.GetPolicyVersion() < revision {
			return false
		}
	}
	return true
}
