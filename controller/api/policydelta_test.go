package api

import (
	"context"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/testing/protocmp"

	"github.com/shunt-sdn/shunt/internal/policyproto"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// TestAgentsGetDeltasThatAddUp lets an agent that heeds only what it is sent
// follow a policy, and lose it once.
func TestAgentsGetDeltasThatAddUp(t *testing.T) {
	pool := func(i, version int) *shuntv1.Pool {
		return &shuntv1.Pool{Name: fmt.Sprint("p", i), Version: uint64(version), PanicPercent: uint32(version)}
	}
	config := func(version int, pools ...*shuntv1.Pool) *shuntv1.NodeConfig {
		return &shuntv1.NodeConfig{
			Version: uint64(100 + version), Pools: []string{"10.0.0.0/8"},
			Policy: &shuntv1.PolicySnapshot{
				Version: uint64(version / 10), Policy: &shuntv1.Policy{Pools: pools},
				States: []*shuntv1.ServerState{{Server: "s", Load: uint32(version)}},
			},
		}
	}
	synctest.Test(t, func(t *testing.T) {
		l := NewLink()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var last *shuntv1.NodeConfig
		var policy *shuntv1.Policy
		have := uint64(0)
		go l.deliver(ctx, func(m *shuntv1.AttachResponse) error {
			last = m.GetConfig()
			p, err := policyproto.Apply(policy, have, last.Policy)
			if err != nil {
				t.Error(err)
				return nil
			}
			policy, have = p, last.Policy.Version
			return nil
		})
		for i, step := range []struct {
			config *shuntv1.NodeConfig
			base   uint64
			pools  int // that are sent
		}{
			{config(0), 0, 0},
			{config(10, pool(1, 1), pool(2, 1), pool(3, 1)), 0, 3},
			{config(11, pool(1, 1), pool(2, 1), pool(3, 1)), 1, 0}, // states alone
			{config(20, pool(1, 1), pool(2, 2), pool(4, 2)), 1, 2},
			{nil, 0, 3}, // the agent says that it cannot
			{config(30, pool(4, 2)), 2, 0},
		} {
			if step.config == nil {
				l.Repeat()
			} else {
				l.Configure(step.config)
			}
			want := l.latest.Policy
			before := proto.Clone(want)
			<-time.After(time.Second)
			synctest.Wait()
			if last.Policy.BaseVersion != step.base || len(last.Policy.Policy.GetPools()) != step.pools || len(last.Pools) != 1 || last.Policy.States[0].Load != want.States[0].Load {
				t.Errorf("step %d sent %v", i, last)
			}
			if diff := cmp.Diff(want.Policy, policy, protocmp.Transform()); diff != "" || have != want.Version {
				t.Errorf("step %d: the agent has %d: %s", i, have, diff)
			}
			if !proto.Equal(before, want) {
				t.Errorf("step %d changed what others read", i)
			}
		}
	})
}
