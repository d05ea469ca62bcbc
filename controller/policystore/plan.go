package policystore

import (
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/bbolt"

	"github.com/shunt-sdn/shunt/controller/registry"
	"github.com/shunt-sdn/shunt/policy/fault"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// Why a change is refused; an Invalid is another reason.
var (
	// ErrConflict means that something was changed since the version or revision
	// that the change is based on.
	ErrConflict = errors.New("changed meanwhile")
	// ErrExists means that a resource is there that should not be.
	ErrExists = errors.New("exists already")
	// ErrNotFound means that a resource is not there.
	ErrNotFound = errors.New("not found")
	// ErrInUse means that a resource that stays refers to one that goes.
	ErrInUse = errors.New("still in use")
)

// Invalid means that the policy would be wrong. Paths are those of the request;
// what is wrong with resources that are stored already has paths that begin
// with their kind and name.
type Invalid struct{ Faults fault.List }

func (e *Invalid) Error() string { return e.Faults.Error() }

// Check says what is wrong with a policy: its error is a fault.List, or tells
// why it could not be checked. The warnings are of what is allowed and probably
// not meant.
type Check func(*shuntv1.Policy) (warnings fault.List, err error)

// Change is what becomes of one resource. Old is nil if it is created, New if it
// is deleted.
type Change struct {
	What     shuntv1.ChangeKind
	Kind     shuntv1.ResourceKind
	Name     string
	Old, New Resource
}

// Plan is a change that is allowed.
type Plan struct {
	// Changes has the resources of the request, and those that are deleted:
	// services, pools and servers, each by name.
	Changes  []Change
	Warnings fault.List
	// Beside, if set, writes what else belongs to the change in the same
	// transaction, unless it is a dry run.
	Beside func(*bbolt.Tx) error

	dry  bool
	next *State
}

func (p *Plan) changes() bool {
	return slices.ContainsFunc(p.Changes, func(c Change) bool { return c.What != shuntv1.ChangeKind_CHANGE_KIND_UNCHANGED })
}

// Next is the policy after the change.
func (p *Plan) Next() *State { return p.next }

// Apply plans what a request asks for. The error is an *Invalid or wraps one of
// those above.
func (s *State) Apply(r *shuntv1.ApplyRequest, check Check) (*Plan, error) {
	if e := r.GetExpectedRevision(); e != 0 && e != s.Revision {
		return nil, fmt.Errorf("the policy has revision %d, the change is based on %d: %w; read it again and repeat the change", s.Revision, e, ErrConflict)
	}
	stored, asked := index(s.Policy), make(map[key]bool)
	for _, k := range Kinds {
		for _, x := range Resources(r.GetPolicy(), k) {
			if err := preconditions(x, stored[keyOf(x)], r.GetPrecondition()); err != nil {
				return nil, err
			}
			asked[keyOf(x)] = true
		}
	}
	whole := &shuntv1.Policy{} // the request's resources first: their positions are the request's
	for _, k := range Kinds {
		for _, x := range Resources(r.GetPolicy(), k) {
			Add(whole, versioned(x, 0))
		}
		for _, x := range Resources(s.Policy, k) {
			if !asked[keyOf(x)] && !r.GetPrune() {
				Add(whole, x)
			}
		}
	}
	warnings, err := check(whole)
	if err != nil {
		return nil, located(err, r.GetPolicy(), whole)
	}
	p := s.plan(whole)
	p.dry, p.Warnings = r.GetDryRun(), relocate(warnings, r.GetPolicy(), whole)
	p.Changes = slices.DeleteFunc(p.Changes, func(c Change) bool {
		return c.What == shuntv1.ChangeKind_CHANGE_KIND_UNCHANGED && !asked[key{c.Kind, c.Name}]
	})
	return p, nil
}

// preconditions holds a resource of a request against the stored one, which may
// be nil.
func preconditions(x, stored Resource, p shuntv1.Precondition) error {
	k := keyOf(x)
	switch {
	case stored == nil && (p == shuntv1.Precondition_PRECONDITION_PRESENT):
		return fmt.Errorf("%v: %w; create it, or correct the name", k, ErrNotFound)
	case stored != nil && p == shuntv1.Precondition_PRECONDITION_ABSENT:
		return fmt.Errorf("%v: %w, with version %d; update it, or choose another name", k, ErrExists, stored.GetVersion())
	case x.GetVersion() == 0:
		return nil
	case stored == nil:
		return fmt.Errorf("%v is not there any more, the change is based on version %d: %w; leave the version out to create it", k, x.GetVersion(), ErrConflict)
	case stored.GetVersion() != x.GetVersion():
		return fmt.Errorf("%v has version %d, the change is based on %d: %w; read it again and repeat the change, or leave the version out",
			k, stored.GetVersion(), x.GetVersion(), ErrConflict)
	}
	return nil
}

// Delete plans the deletion of resources. The error wraps ErrNotFound,
// ErrConflict or ErrInUse.
func (s *State) Delete(refs []*shuntv1.ResourceRef, dry bool, check Check) (*Plan, error) {
	stored, goes := index(s.Policy), make(map[key]bool)
	for _, ref := range refs {
		k := key{ref.GetKind(), ref.GetName()}
		if !slices.Contains(Kinds, ref.GetKind()) {
			return nil, &Invalid{fault.List{{Path: "resources", What: fmt.Sprintf("kind of %q is missing", ref.GetName()), Remedy: "say service, pool or server"}}}
		}
		x := stored[k]
		switch {
		case x == nil:
			return nil, fmt.Errorf("%v: %w; it may be deleted already", k, ErrNotFound)
		case ref.GetVersion() != 0 && ref.GetVersion() != x.GetVersion():
			return nil, fmt.Errorf("%v has version %d, not %d: %w; look at it again", k, x.GetVersion(), ref.GetVersion(), ErrConflict)
		}
		goes[k] = true
	}
	rest := &shuntv1.Policy{}
	for _, k := range Kinds {
		for _, x := range Resources(s.Policy, k) {
			if !goes[keyOf(x)] {
				Add(rest, x)
			}
		}
	}
	if _, err := check(rest); err != nil {
		var list fault.List
		if errors.As(err, &list) {
			err = relocate(list, nil, rest)
		}
		return nil, fmt.Errorf("%w: without it the policy would be wrong: %w", ErrInUse, err)
	}
	p := s.plan(rest)
	p.dry = dry
	p.Changes = slices.DeleteFunc(p.Changes, func(c Change) bool { return c.What != shuntv1.ChangeKind_CHANGE_KIND_DELETED })
	return p, nil
}

// plan compares the state with what should be, and gives what changes the next
// revision as its version.
func (s *State) plan(whole *shuntv1.Policy) *Plan {
	p := &Plan{next: &State{Revision: s.Revision + 1, Policy: &shuntv1.Policy{}}}
	before, after := index(s.Policy), index(whole)
	for _, kind := range Kinds {
		at := len(p.Changes)
		for _, x := range Resources(whole, kind) {
			k := keyOf(x)
			old := before[k]
			c := Change{What: shuntv1.ChangeKind_CHANGE_KIND_UPDATED, Kind: k.kind, Name: k.name, Old: old, New: versioned(x, s.Revision+1)}
			switch {
			case old == nil:
				c.What, c.Old = shuntv1.ChangeKind_CHANGE_KIND_CREATED, nil
			case same(old, x):
				c.What, c.New = shuntv1.ChangeKind_CHANGE_KIND_UNCHANGED, old
			}
			Add(p.next.Policy, c.New)
			p.Changes = append(p.Changes, c)
		}
		for _, x := range Resources(s.Policy, kind) {
			if k := keyOf(x); after[k] == nil {
				p.Changes = append(p.Changes, Change{What: shuntv1.ChangeKind_CHANGE_KIND_DELETED, Kind: k.kind, Name: k.name, Old: x})
			}
		}
		slices.SortStableFunc(p.Changes[at:], func(a, b Change) int { return registry.CompareNames(a.Name, b.Name) })
	}
	sort(p.next.Policy)
	return p
}
