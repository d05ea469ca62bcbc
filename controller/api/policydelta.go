package api

import (
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/shunt-sdn/shunt/internal/policyproto"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// withDelta returns the configuration with only that of its policy which has
// changed since sent, which may be nil. The states of servers are always whole.
// c is not changed, and the result shares everything else with it.
func withDelta(c *shuntv1.NodeConfig, sent *shuntv1.PolicySnapshot) *shuntv1.NodeConfig {
	now := c.Policy
	if now == nil || sent.GetVersion() == 0 || sent.GetVersion() > now.GetVersion() {
		return c
	}
	delta := &shuntv1.PolicySnapshot{Version: now.Version, BaseVersion: sent.Version, States: now.States}
	if sent.Version != now.Version {
		delta.Policy, delta.Removed = policyproto.Delta(sent.Policy, now.Policy)
	}
	out := &shuntv1.NodeConfig{}
	c.ProtoReflect().Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		out.ProtoReflect().Set(f, v)
		return true
	})
	out.Policy = delta
	return out
}
