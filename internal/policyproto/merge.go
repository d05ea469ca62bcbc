package policyproto

import (
	"cmp"
	"fmt"
	"slices"

	"google.golang.org/protobuf/proto"

	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// Sort puts services, pools and servers in the order of their names.
func Sort(p *shuntv1.Policy) {
	slices.SortStableFunc(p.Services, func(a, b *shuntv1.ServicePolicy) int { return cmp.Compare(a.GetName(), b.GetName()) })
	slices.SortStableFunc(p.Pools, func(a, b *shuntv1.Pool) int { return cmp.Compare(a.GetName(), b.GetName()) })
	slices.SortStableFunc(p.Servers, func(a, b *shuntv1.Server) int { return cmp.Compare(a.GetName(), b.GetName()) })
}

// Merge returns a policy with what changed put in and what was removed taken
// out, sorted. base is not changed; the result shares messages with both.
func Merge(base, changed *shuntv1.Policy, removed []*shuntv1.ResourceRef) *shuntv1.Policy {
	gone := make(map[string]bool, len(removed))
	for _, r := range removed {
		gone[key(r.GetKind(), r.GetName())] = true
	}
	out := &shuntv1.Policy{
		Services: merge(shuntv1.ResourceKind_RESOURCE_KIND_SERVICE, base.GetServices(), changed.GetServices(), gone),
		Pools:    merge(shuntv1.ResourceKind_RESOURCE_KIND_POOL, base.GetPools(), changed.GetPools(), gone),
		Servers:  merge(shuntv1.ResourceKind_RESOURCE_KIND_SERVER, base.GetServers(), changed.GetServers(), gone),
	}
	Sort(out)
	return out
}

func key(kind shuntv1.ResourceKind, name string) string { return kind.String() + "/" + name }

func merge[T interface{ GetName() string }](kind shuntv1.ResourceKind, base, changed []T, gone map[string]bool) []T {
	at := make(map[string]int)
	var out []T
	for _, list := range [][]T{base, changed} {
		for _, x := range list {
			if i, ok := at[x.GetName()]; ok {
				out[i] = x
				continue
			}
			at[x.GetName()] = len(out)
			out = append(out, x)
		}
	}
	return slices.DeleteFunc(out, func(x T) bool { return gone[key(kind, x.GetName())] })
}

// Apply returns the policy that a snapshot makes of the one before, which had
// version have. The error says that the snapshot is a delta to another version:
// ask for everything.
func Apply(base *shuntv1.Policy, have uint64, s *shuntv1.PolicySnapshot) (*shuntv1.Policy, error) {
	if s.GetBaseVersion() == 0 {
		return Merge(nil, s.GetPolicy(), nil), nil
	}
	if s.GetBaseVersion() != have {
		return nil, fmt.Errorf("policy %d is a change of policy %d, and this agent has policy %d; send all of it", s.GetVersion(), s.GetBaseVersion(), have)
	}
	return Merge(base, s.GetPolicy(), s.GetRemoved()), nil
}

// Delta returns what makes after of before, for a PolicySnapshot: the resources
// that differ in anything, and those that are gone.
func Delta(before, after *shuntv1.Policy) (changed *shuntv1.Policy, removed []*shuntv1.ResourceRef) {
	changed = &shuntv1.Policy{}
	changed.Services, removed = delta(shuntv1.ResourceKind_RESOURCE_KIND_SERVICE, before.GetServices(), after.GetServices(), removed)
	changed.Pools, removed = delta(shuntv1.ResourceKind_RESOURCE_KIND_POOL, before.GetPools(), after.GetPools(), removed)
	changed.Servers, removed = delta(shuntv1.ResourceKind_RESOURCE_KIND_SERVER, before.GetServers(), after.GetServers(), removed)
	return changed, removed
}

func delta[T interface {
	proto.Message
	GetName() string
}](kind shuntv1.ResourceKind, before, after []T, removed []*shuntv1.ResourceRef) ([]T, []*shuntv1.ResourceRef) {
	old := make(map[string]T, len(before))
	for _, x := range before {
		old[x.GetName()] = x
	}
	var changed []T
	for _, x := range after {
		if o, ok := old[x.GetName()]; !ok || !proto.Equal(o, x) {
			changed = append(changed, x)
		}
		delete(old, x.GetName())
	}
	for _, x := range before {
		if _, ok := old[x.GetName()]; ok {
			removed = append(removed, &shuntv1.ResourceRef{Kind: kind, Name: x.GetName()})
		}
	}
	return changed, removed
}
