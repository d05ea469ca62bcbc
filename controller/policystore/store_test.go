package policystore_test

import (
	"errors"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.etcd.io/bbolt"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/shunt-sdn/shunt/controller/policystore"
	"github.com/shunt-sdn/shunt/internal/policyproto"
	"github.com/shunt-sdn/shunt/internal/policyyaml"
	"github.com/shunt-sdn/shunt/policy/fault"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

func open(t *testing.T, path string) (*policystore.Store, func()) {
	t.Helper()
	db, err := bbolt.Open(path, 0o600, nil)
	if err != nil {
		t.Fatal(err)
	}
	s, err := policystore.Open(db)
	if err != nil {
		t.Fatal(err)
	}
	stop := sync.OnceFunc(func() { db.Close() })
	t.Cleanup(stop)
	return s, stop
}

func parse(t *testing.T, text string) *shuntv1.Policy {
	t.Helper()
	d, err := policyyaml.Read(policyyaml.Source{Name: "p.yaml", Data: []byte(text)})
	if err != nil {
		t.Fatal(err)
	}
	return d.Policy
}

func check(p *shuntv1.Policy) (fault.List, error) {
	_, err := policyproto.Check(p)
	return nil, err
}

// change applies r and returns what became of each resource, one per line.
func change(s *policystore.Store, r *shuntv1.ApplyRequest) (string, error) {
	_, plan, err := s.Update(func(state *policystore.State) (*policystore.Plan, error) { return state.Apply(r, check) })
	return told(plan), err
}

func remove(s *policystore.Store, refs ...*shuntv1.ResourceRef) (string, error) {
	_, plan, err := s.Update(func(state *policystore.State) (*policystore.Plan, error) { return state.Delete(refs, false, check) })
	return told(plan), err
}

func told(plan *policystore.Plan) string {
	if plan == nil {
		return ""
	}
	var words []string
	for _, c := range plan.Changes {
		words = append(words, strings.ToLower(strings.TrimPrefix(c.What.String(), "CHANGE_KIND_"))+" "+policystore.KindName(c.Kind)+"/"+c.Name)
	}
	return strings.Join(words, ", ")
}

const web = `
services: [{name: web, defaultPool: app}]
pools: [{name: app, backup: spare}, {name: spare}]
servers: [{name: server10}, {name: server2, maxLoad: 5}]
`

func TestChangesAndWhatBecomesOfThem(t *testing.T) {
	path := filepath.Join(t.TempDir(), "db")
	s, stop := open(t, path)
	for _, step := range []struct {
		name, yaml, want string
		prune, dry       bool
		revision         uint64
	}{
		{"a dry run", web, "created service/web, created pool/app, created pool/spare, created server/server2, created server/server10", false, true, 0},
		{"the first", web, "created service/web, created pool/app, created pool/spare, created server/server2, created server/server10", false, false, 1},
		{"the same again", web, "unchanged service/web, unchanged pool/app, unchanged pool/spare, unchanged server/server2, unchanged server/server10", false, false, 1},
		{"a part", "pools: [{name: app, algorithm: random, backup: spare}]", "updated pool/app", false, false, 2},
		{"pruned", "services: [{name: web, defaultPool: app}]\npools: [{name: app, algorithm: random}]",
			"unchanged service/web, updated pool/app, deleted pool/spare, deleted server/server2, deleted server/server10", true, false, 3},
		{"nothing", "", "", false, false, 3},
		{"nothing is left", "", "deleted service/web, deleted pool/app", true, false, 4},
	} {
		got, err := change(s, &shuntv1.ApplyRequest{Policy: parse(t, step.yaml), Prune: step.prune, DryRun: step.dry})
		if err != nil || got != step.want || s.State().Revision != step.revision {
			t.Errorf("%s: %s, %v, revision %d; want %s, revision %d", step.name, got, err, s.State().Revision, step.want, step.revision)
		}
		before := s.State()
		stop()
		s, stop = open(t, path)
		if diff := cmp.Diff(before.Policy, s.State().Policy, protocmp.Transform()); diff != "" || before.Revision != s.State().Revision {
			t.Errorf("%s: read again, at revision %d: %s", step.name, s.State().Revision, diff)
		}
	}
}

func TestVersionsAndPreconditions(t *testing.T) {
	s, _ := open(t, filepath.Join(t.TempDir(), "db"))
	if _, err := change(s, &shuntv1.ApplyRequest{Policy: parse(t, web)}); err != nil { // revision 1
		t.Fatal(err)
	}
	if _, err := change(s, &shuntv1.ApplyRequest{Policy: parse(t, "pools: [{name: spare, panicPercent: 1}]")}); err != nil { // 2
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, yaml   string
		precondition shuntv1.Precondition
		revision     uint64
		is           error
		text         string
	}{
		{"an old version", "pools: [{name: spare, version: 1}]", 0, 0, policystore.ErrConflict, "pool spare has version 2, the change is based on 1"},
		{"gone", "pools: [{name: new, version: 1}]", 0, 0, policystore.ErrConflict, "pool new is not there any more"},
		{"an old revision", "pools: [{name: spare}]", 0, 1, policystore.ErrConflict, "the policy has revision 2, the change is based on 1"},
		{"exists", "pools: [{name: spare}]", shuntv1.Precondition_PRECONDITION_ABSENT, 0, policystore.ErrExists, "pool spare: exists already, with version 2"},
		{"is not there", "pools: [{name: new}]", shuntv1.Precondition_PRECONDITION_PRESENT, 0, policystore.ErrNotFound, "pool new: not found"},
		{"one of two", "pools: [{name: spare}, {name: app, version: 7}]", 0, 0, policystore.ErrConflict, "pool app has version 1, the change is based on 7"},
	} {
		_, err := change(s, &shuntv1.ApplyRequest{Policy: parse(t, c.yaml), Precondition: c.precondition, ExpectedRevision: c.revision})
		if !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("%s: got %v, want %q", c.name, err, c.text)
		}
	}
	if s.State().Revision != 2 {
		t.Errorf("a refused change left revision %d", s.State().Revision)
	}
	for _, r := range []*shuntv1.ApplyRequest{
		{Policy: parse(t, "pools: [{name: spare, version: 2, panicPercent: 2}]"), ExpectedRevision: 2},
		{Policy: parse(t, "pools: [{name: new}]"), Precondition: shuntv1.Precondition_PRECONDITION_ABSENT},
		{Policy: parse(t, "pools: [{name: new, panicPercent: 9}]"), Precondition: shuntv1.Precondition_PRECONDITION_PRESENT},
	} {
		if _, err := change(s, r); err != nil {
			t.Errorf("%v: %v", r, err)
		}
	}
}

func TestMistakesAreFoundWhereTheRequestHasThem(t *testing.T) {
	s, _ := open(t, filepath.Join(t.TempDir(), "db"))
	if _, err := change(s, &shuntv1.ApplyRequest{Policy: parse(t, web)}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name, yaml string
		prune      bool
		paths      string
	}{
		{"in the request", "pools: [{name: a}, {name: b, backup: nowhere}, {name: c, panicPercent: 200}]", false, "pools[1].backup pools[2].panicPercent"},
		{"in what is stored", "pools: [{name: spare, backup: app}]", false, "pools[0].backup"},
		{"twice", "pools: [{name: a}, {name: a}]", false, "pools[1].name"},
		{"what is pruned is missed", "services: [{name: web, defaultPool: app}]", true, "services[0].defaultPool"},
		{"no name", "pools: [{panicPercent: 3}]", false, "pools[0].name"},
	} {
		_, err := change(s, &shuntv1.ApplyRequest{Policy: parse(t, c.yaml), Prune: c.prune})
		var invalid *policystore.Invalid
		if !errors.As(err, &invalid) {
			t.Errorf("%s: got %v", c.name, err)
			continue
		}
		var paths []string
		for _, f := range invalid.Faults {
			paths = append(paths, f.Path)
		}
		if got := strings.Join(paths, " "); got != c.paths && !strings.Contains(got, "stored") {
			t.Errorf("%s: %s, want %s: %v", c.name, got, c.paths, err)
		}
	}
	if s.State().Revision != 1 {
		t.Errorf("a refused change left revision %d", s.State().Revision)
	}
}

func TestWhatIsInUseCannotBeDeleted(t *testing.T) {
	s, _ := open(t, filepath.Join(t.TempDir(), "db"))
	if _, err := change(s, &shuntv1.ApplyRequest{Policy: parse(t, web)}); err != nil {
		t.Fatal(err)
	}
	pool := func(name string, version uint64) *shuntv1.ResourceRef {
		return &shuntv1.ResourceRef{Kind: shuntv1.ResourceKind_RESOURCE_KIND_POOL, Name: name, Version: version}
	}
	for _, c := range []struct {
		ref  *shuntv1.ResourceRef
		is   error
		text string
	}{
		{pool("spare", 0), policystore.ErrInUse, "stored pool app.backup"},
		{pool("app", 0), policystore.ErrInUse, "stored service web.defaultPool"},
		{pool("other", 0), policystore.ErrNotFound, "pool other: not found"},
		{pool("spare", 9), policystore.ErrConflict, "pool spare has version 1, not 9"},
	} {
		if _, err := remove(s, c.ref); !errors.Is(err, c.is) || !strings.Contains(err.Error(), c.text) {
			t.Errorf("delete %v: got %v, want %q", c.ref, err, c.text)
		}
	}
	var invalid *policystore.Invalid
	if _, err := remove(s, &shuntv1.ResourceRef{Name: "web"}); !errors.As(err, &invalid) {
		t.Errorf("without a kind: %v", err)
	}
	got, err := remove(s, pool("spare", 1), pool("app", 0), &shuntv1.ResourceRef{Kind: shuntv1.ResourceKind_RESOURCE_KIND_SERVICE, Name: "web"})
	if err != nil || got != "deleted service/web, deleted pool/app, deleted pool/spare" {
		t.Errorf("all at once: %s, %v", got, err)
	}
}

func TestReadersAreToldOfEachChangeAndSeeWholeStates(t *testing.T) {
	s, _ := open(t, filepath.Join(t.TempDir(), "db"))
	const rounds = 50
	var readers sync.WaitGroup
	for range 4 {
		readers.Go(func() {
			for {
				state, changed := s.Latest()
				for _, p := range state.Policy.Pools {
					if p.PanicPercent != uint32(state.Revision) {
						t.Errorf("revision %d has %v", state.Revision, p)
					}
				}
				if state.Revision == rounds {
					return
				}
				<-changed
			}
		})
	}
	for i := range uint32(rounds) {
		p := &shuntv1.Policy{Pools: []*shuntv1.Pool{{Name: "a", PanicPercent: i + 1}, {Name: "b", PanicPercent: i + 1}}}
		if _, err := change(s, &shuntv1.ApplyRequest{Policy: proto.Clone(p).(*shuntv1.Policy)}); err != nil {
			t.Fatal(err)
		}
	}
	readers.Wait()
}
