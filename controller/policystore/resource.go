package policystore

import (
	"fmt"
	"slices"
	"strings"

	"google.golang.org/protobuf/proto"

	"github.com/shunt-sdn/shunt/controller/registry"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// Resource is a ServicePolicy, a Pool or a Server.
type Resource interface {
	proto.Message
	GetName() string
	GetVersion() uint64
}

// Kinds lists the kinds of resources in the order in which everything lists them.
var Kinds = []shuntv1.ResourceKind{
	shuntv1.ResourceKind_RESOURCE_KIND_SERVICE, shuntv1.ResourceKind_RESOURCE_KIND_POOL, shuntv1.ResourceKind_RESOURCE_KIND_SERVER,
}

// KindName is the kind as operators call it: service, pool or server.
func KindName(k shuntv1.ResourceKind) string {
	return strings.ToLower(strings.TrimPrefix(k.String(), "RESOURCE_KIND_"))
}

// Resources returns a policy's resources of a kind, in their order.
func Resources(p *shuntv1.Policy, k shuntv1.ResourceKind) []Resource {
	switch k {
	case shuntv1.ResourceKind_RESOURCE_KIND_SERVICE:
		return resources(p.GetServices())
	case shuntv1.ResourceKind_RESOURCE_KIND_POOL:
		return resources(p.GetPools())
	case shuntv1.ResourceKind_RESOURCE_KIND_SERVER:
		return resources(p.GetServers())
	}
	return nil
}

func resources[R Resource](list []R) []Resource {
	out := make([]Resource, len(list))
	for i, r := range list {
		out[i] = r
	}
	return out
}

// Add appends a resource to a policy.
func Add(p *shuntv1.Policy, r Resource) {
	switch r := r.(type) {
	case *shuntv1.ServicePolicy:
		p.Services = append(p.Services, r)
	case *shuntv1.Pool:
		p.Pools = append(p.Pools, r)
	case *shuntv1.Server:
		p.Servers = append(p.Servers, r)
	}
}

// KindOf tells a resource's kind.
func KindOf(r Resource) shuntv1.ResourceKind {
	switch r.(type) {
	case *shuntv1.ServicePolicy:
		return shuntv1.ResourceKind_RESOURCE_KIND_SERVICE
	case *shuntv1.Pool:
		return shuntv1.ResourceKind_RESOURCE_KIND_POOL
	case *shuntv1.Server:
		return shuntv1.ResourceKind_RESOURCE_KIND_SERVER
	}
	return shuntv1.ResourceKind_RESOURCE_KIND_UNSPECIFIED
}

// newResource returns an empty resource of a kind.
func newResource(k shuntv1.ResourceKind) Resource {
	switch k {
	case shuntv1.ResourceKind_RESOURCE_KIND_SERVICE:
		return &shuntv1.ServicePolicy{}
	case shuntv1.ResourceKind_RESOURCE_KIND_POOL:
		return &shuntv1.Pool{}
	default:
		return &shuntv1.Server{}
	}
}

// Unversioned returns a copy of r without its version: what it says.
func Unversioned(r Resource) Resource { return versioned(r, 0) }

// versioned returns a copy of r with that version.
func versioned(r Resource, v uint64) Resource {
	c := proto.Clone(r).(Resource)
	switch c := c.(type) {
	case *shuntv1.ServicePolicy:
		c.Version = v
	case *shuntv1.Pool:
		c.Version = v
	case *shuntv1.Server:
		c.Version = v
	}
	return c
}

// same reports whether two resources differ in nothing but their versions.
func same(a, b Resource) bool { return proto.Equal(versioned(a, 0), versioned(b, 0)) }

// sort puts a policy's resources in the order of their names.
func sort(p *shuntv1.Policy) {
	slices.SortStableFunc(p.Services, byName[*shuntv1.ServicePolicy])
	slices.SortStableFunc(p.Pools, byName[*shuntv1.Pool])
	slices.SortStableFunc(p.Servers, byName[*shuntv1.Server])
}

func byName[R Resource](a, b R) int { return registry.CompareNames(a.GetName(), b.GetName()) }

// key identifies a resource.
type key struct {
	kind shuntv1.ResourceKind
	name string
}

func (k key) String() string { return fmt.Sprintf("%s %s", KindName(k.kind), k.name) }

func keyOf(r Resource) key { return key{KindOf(r), r.GetName()} }

// index maps a policy's resources.
func index(p *shuntv1.Policy) map[key]Resource {
	out := make(map[key]Resource)
	for _, k := range Kinds {
		for _, r := range Resources(p, k) {
			out[keyOf(r)] = r
		}
	}
	return out
}
