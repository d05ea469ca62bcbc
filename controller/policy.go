package controller

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/shunt-sdn/shunt/controller/policystore"
	"github.com/shunt-sdn/shunt/internal/policyproto"
	"github.com/shunt-sdn/shunt/internal/policyyaml"
	"github.com/shunt-sdn/shunt/policy/fault"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

const (
	// diffContext is how many equal lines stand around each difference.
	diffContext = 3
	// maxWarnings is how many an answer carries.
	maxWarnings = 20
)

// policies answers operators about the dispatch policy: see api.Policies. What
// is changed goes to the store; the cluster notices and tells the agents.
type policies struct{ c *cluster }

// check says what is wrong with a policy here: on its own, and with this
// controller's configuration.
func (p policies) check(m *shuntv1.Policy) (warnings fault.List, err error) {
	if _, err := policyproto.Check(m); err != nil {
		return nil, err
	}
	if err := checkServices(p.c.cfg, m).Err(); err != nil {
		return nil, err
	}
	var known []string
	for _, n := range p.c.nodes.List() {
		known = append(known, n.Name)
	}
	return append(warnNodes(m, known), warnUnused(m)...), nil
}

// warnUnused tells of pools that no route leads to.
func warnUnused(p *shuntv1.Policy) (warnings fault.List) {
	used := make(map[string]bool)
	for _, s := range p.GetServices() {
		used[s.DefaultPool] = true
		for _, r := range s.Routes {
			used[r.Pool] = true
			for _, w := range r.Pools {
				used[w.Pool] = true
			}
		}
	}
	for _, pool := range p.GetPools() {
		used[pool.Backup] = true
	}
	for i, pool := range p.GetPools() {
		if !used[pool.Name] {
			warnings.Add(fmt.Sprintf("pools[%d].name", i), "name it in a route, as defaultPool or as a backup", "no request gets to pool %q", pool.Name)
		}
	}
	return warnings
}

// Policy returns the stored policy; see api.Policies.
func (p policies) Policy() (*policystore.State, <-chan struct{}) { return p.c.policy.Latest() }

// Apply changes the policy, and restores leases; see api.Policies.
func (p policies) Apply(ctx context.Context, r *shuntv1.ApplyRequest) (*shuntv1.ApplyResponse, error) {
	asked := r.GetPolicy().GetLeases()
	var live map[netip.Addr]uint64
	if len(asked) > 0 {
		var err error
		if live, err = p.live(ctx); err != nil {
			return nil, err
		}
		p.c.refreshing.Lock()
		defer p.c.refreshing.Unlock()
	}
	var restored []*shuntv1.LeaseChange
	state, plan, err := p.c.policy.Update(func(s *policystore.State) (*policystore.Plan, error) {
		plan, err := s.Apply(r, p.check)
		if err == nil && len(asked) > 0 {
			restored, err = p.restore(plan, asked, live)
		}
		return plan, err
	})
	if err != nil {
		return nil, err
	}
	if len(asked) > 0 && !r.GetDryRun() {
		p.logLeases(restored)
		p.c.again()
	}
	if !r.GetDryRun() {
		p.log(plan, state)
	}
	out := &shuntv1.ApplyResponse{Revision: state.Revision, Leases: restored}
	if out.Changes, err = described(plan.Changes, r.GetDryRun()); err != nil {
		return nil, err
	}
	for i, w := range plan.Warnings {
		if i == maxWarnings {
			out.Warnings = append(out.Warnings, fmt.Sprintf("and %d more", len(plan.Warnings)-i))
			break
		}
		out.Warnings = append(out.Warnings, w.Error())
	}
	return out, nil
}

// Delete deletes resources; see api.Policies.
func (p policies) Delete(r *shuntv1.DeleteRequest) (*shuntv1.DeleteResponse, error) {
	state, plan, err := p.c.policy.Update(func(s *policystore.State) (*policystore.Plan, error) {
		return s.Delete(r.GetResources(), r.GetDryRun(), p.check)
	})
	if err != nil {
		return nil, err
	}
	if !r.GetDryRun() {
		p.log(plan, state)
	}
	out := &shuntv1.DeleteResponse{Revision: state.Revision}
	out.Changes, err = described(plan.Changes, r.GetDryRun())
	return out, err
}

// log writes down what was changed.
func (p policies) log(plan *policystore.Plan, state *policystore.State) {
	for _, c := range plan.Changes {
		if c.What != shuntv1.ChangeKind_CHANGE_KIND_UNCHANGED {
			p.c.log.Info("policy changed", "revision", state.Revision, "kind", policystore.KindName(c.Kind), "name", c.Name,
				"change", changeName(c.What))
		}
	}
}

// logLeases writes down what was restored.
func (p policies) logLeases(changes []*shuntv1.LeaseChange) {
	for _, c := range changes {
		if c.Change != shuntv1.ChangeKind_CHANGE_KIND_UNCHANGED {
			p.c.log.Info("session address restored", "service", c.Lease.Service, "dispatcher", c.Lease.Dispatcher, "address", c.Lease.Address, "before", c.Before)
		}
	}
}

func changeName(k shuntv1.ChangeKind) string {
	switch k {
	case shuntv1.ChangeKind_CHANGE_KIND_CREATED:
		return "created"
	case shuntv1.ChangeKind_CHANGE_KIND_UPDATED:
		return "updated"
	case shuntv1.ChangeKind_CHANGE_KIND_DELETED:
		return "deleted"
	}
	return "unchanged"
}

// described are changes with their differences as YAML.
func described(changes []policystore.Change, dry bool) (out []*shuntv1.Change, err error) {
	for _, c := range changes {
		m := &shuntv1.Change{Change: c.What, Kind: c.Kind, Name: c.Name}
		if c.New != nil && !dry {
			m.Version = c.New.GetVersion()
		}
		if c.What != shuntv1.ChangeKind_CHANGE_KIND_UNCHANGED {
			before, err := document(c.Old)
			if err != nil {
				return nil, err
			}
			after, err := document(c.New)
			if err != nil {
				return nil, err
			}
			m.Diff = policyyaml.Diff(before, after, diffContext)
		}
		out = append(out, m)
	}
	return out, nil
}

// document is a resource as a YAML document, without its version; empty for none.
func document(r policystore.Resource) (string, error) {
	if r == nil {
		return "", nil
	}
	p := &shuntv1.Policy{}
	policystore.Add(p, policystore.Unversioned(r))
	text, err := policyyaml.Marshal(p)
	if err != nil {
		return "", fmt.Errorf("write %s %s as YAML: %w", policystore.KindName(policystore.KindOf(r)), r.GetName(), err)
	}
	return string(text), nil
}

// Top sums up what servers and routes do; see api.Policies.
func (p policies) Top(ctx context.Context, r *shuntv1.GetTopRequest) (*shuntv1.GetTopResponse, error) {
	if s := r.GetService(); s != "" && !slices.ContainsFunc(p.c.Services(), func(x *shuntv1.Service) bool { return x.Name == s }) {
		return nil, fmt.Errorf("service %q: %w; shunt get services lists them", s, policystore.ErrNotFound)
	}
	held, err := p.held(ctx)
	if err != nil {
		return nil, err
	}
	return p.c.top(time.Now(), r.GetService(), held), nil
}

// NodeNames lists the nodes of the cluster and of the configuration.
func (p policies) NodeNames() []string {
	names := slices.Clone(p.c.cfg.Nodes)
	for _, n := range p.c.nodes.List() {
		names = append(names, n.Name)
	}
	return names
}
