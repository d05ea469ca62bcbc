package policystore

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"

	"github.com/shunt-sdn/shunt/policy/fault"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

var position = regexp.MustCompile(`^(services|pools|servers)\[(\d+)\]`)

var kindsByField = map[string]shuntv1.ResourceKind{
	"services": shuntv1.ResourceKind_RESOURCE_KIND_SERVICE,
	"pools":    shuntv1.ResourceKind_RESOURCE_KIND_POOL,
	"servers":  shuntv1.ResourceKind_RESOURCE_KIND_SERVER,
}

// located makes an Invalid of a fault.List about the whole policy; other errors
// stay what they are.
func located(err error, request, whole *shuntv1.Policy) error {
	var list fault.List
	if !errors.As(err, &list) {
		return err
	}
	return &Invalid{relocate(list, request, whole)}
}

// relocate names the resources that the request does not have: their positions
// would mean nothing to who made it.
func relocate(list fault.List, request, whole *shuntv1.Policy) fault.List {
	out := make(fault.List, len(list))
	for i, f := range list {
		out[i] = f
		m := position.FindStringSubmatch(f.Path)
		if m == nil {
			continue
		}
		kind := kindsByField[m[1]]
		n, err := strconv.Atoi(m[2])
		all := Resources(whole, kind)
		if err != nil || n >= len(all) || n < len(Resources(request, kind)) {
			continue
		}
		out[i].Path = fmt.Sprintf("stored %s %s", KindName(kind), all[n].GetName()) + f.Path[len(m[0]):]
	}
	return out
}
