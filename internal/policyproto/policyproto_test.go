package policyproto

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/shunt-sdn/shunt/policy"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

func TestWhatIsLeftOutHasItsStandardValue(t *testing.T) {
	m, err := Check(&shuntv1.Policy{
		Services: []*shuntv1.ServicePolicy{{Name: "web", DefaultPool: "p"}},
		Pools:    []*shuntv1.Pool{{Name: "p", Members: []*shuntv1.Member{{Server: "a"}, {Server: "b", Weight: proto.Uint32(0)}}}},
		Servers:  []*shuntv1.Server{{Name: "a"}, {Name: "b", WeightPercent: proto.Uint32(0)}},
	})
	if err != nil {
		t.Fatal(err)
	}
	want := policy.Model{
		Services: []policy.Service{{Name: "web", DefaultPool: "p"}},
		Pools:    []policy.Pool{{Name: "p", Members: []policy.Member{{Server: "a", Weight: 1}, {Server: "b"}}}},
		Servers:  []policy.Server{{Name: "a", WeightPercent: 100}, {Name: "b"}},
	}
	if diff := cmp.Diff(want, m); diff != "" {
		t.Error(diff)
	}
	if _, err := policy.Compile(&m, policy.NewState(policy.Options{})); err != nil {
		t.Error(err)
	}
}

// What YAML cannot say but a program can.
func TestMistakesThatOnlyProgramsMake(t *testing.T) {
	pool := func(p *shuntv1.Pool) *shuntv1.Policy {
		p.Name = "p"
		return &shuntv1.Policy{Pools: []*shuntv1.Pool{p}}
	}
	for _, c := range []struct {
		p    *shuntv1.Policy
		want string
	}{
		{pool(&shuntv1.Pool{Algorithm: 99}), "pools[0].algorithm: algorithm 99 is unknown"},
		{pool(&shuntv1.Pool{Hash: &shuntv1.Hash{On: []*shuntv1.HashKey{nil}}, Algorithm: shuntv1.Algorithm_ALGORITHM_MAGLEV}), "pools[0].hash.on[0]: the key is empty"},
		{pool(&shuntv1.Pool{SlowStart: &shuntv1.SlowStart{Window: &durationpb.Duration{Nanos: -1}}}), "pools[0].slowStart.window: the duration is not positive; write a time such as 10s, or remove it"},
		{&shuntv1.Policy{Services: []*shuntv1.ServicePolicy{{Name: "s", Routes: []*shuntv1.Route{{Name: "r", Mode: 7, Reject: &shuntv1.Reject{Status: 403}}}}}}, "services[0].routes[0].mode: mode 7 is unknown"},
		{&shuntv1.Policy{Services: []*shuntv1.ServicePolicy{{Name: "s", Port: 70000}}}, "services[0].port: 70000 is not a port; write 1 to 65535"},
		{&shuntv1.Policy{Services: []*shuntv1.ServicePolicy{nil}}, "services[0].name: the name is missing"},
	} {
		_, err := Check(c.p)
		if err == nil || !strings.HasPrefix(err.Error(), c.want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("got  %v\nwant %s", err, c.want)
		}
	}
}

func policyOf(pools ...*shuntv1.Pool) *shuntv1.Policy { return &shuntv1.Policy{Pools: pools} }

func TestDeltasMakeOneOfTheOther(t *testing.T) {
	a := &shuntv1.Policy{
		Services: []*shuntv1.ServicePolicy{{Name: "web", Version: 1}},
		Pools:    []*shuntv1.Pool{{Name: "p"}, {Name: "q", PanicPercent: 5}},
		Servers:  []*shuntv1.Server{{Name: "s1", Drain: true}},
	}
	b := &shuntv1.Policy{
		Services: []*shuntv1.ServicePolicy{{Name: "api"}, {Name: "web", Version: 2, DefaultPool: "q"}},
		Pools:    []*shuntv1.Pool{{Name: "q", PanicPercent: 5}},
		Servers:  []*shuntv1.Server{{Name: "s1"}},
	}
	for _, c := range [][2]*shuntv1.Policy{{a, b}, {b, a}, {a, a}, {nil, a}, {a, {}}} {
		changed, removed := Delta(c[0], c[1])
		got, err := Apply(c[0], 7, &shuntv1.PolicySnapshot{Version: 8, BaseVersion: 7, Policy: changed, Removed: removed})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c[1], got, protocmp.Transform(), protocmp.IgnoreEmptyMessages()); diff != "" {
			t.Errorf("applied:\n%s", diff)
		}
	}
	changed, removed := Delta(a, b)
	if len(changed.Services) != 2 || len(changed.Pools) != 0 || len(changed.Servers) != 1 || len(removed) != 1 || removed[0].Name != "p" {
		t.Errorf("the delta has more than changed: %v %v", changed, removed)
	}
	if _, err := Apply(a, 6, &shuntv1.PolicySnapshot{Version: 8, BaseVersion: 7}); err == nil {
		t.Error("a delta to another version was applied")
	}
	whole, err := Apply(a, 6, &shuntv1.PolicySnapshot{Version: 8, Policy: policyOf(&shuntv1.Pool{Name: "x"})})
	if err != nil || len(whole.Pools) != 1 || len(whole.Services) != 0 {
		t.Errorf("a whole policy: %v, %v", whole, err)
	}
}

func TestDurationsAreRead(t *testing.T) {
	m, err := Check(&shuntv1.Policy{Services: []*shuntv1.ServicePolicy{{Name: "s", Limits: &shuntv1.ServiceLimits{HeadTimeout: durationpb.New(1500 * time.Millisecond)}}}})
	if err != nil || m.Services[0].Limits.Or() != (policy.ServiceLimits{MaxHeadBytes: 16384, HeadTimeout: 1500 * time.Millisecond, ImportTimeout: time.Second}) {
		t.Errorf("%+v, %v", m.Services, err)
	}
}
