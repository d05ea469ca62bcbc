package pipeline

import (
	"math/bits"

	"github.com/shunt-sdn/shunt/internal/slots"
)

// A slotGroup is a set of slots that share a home: those whose source port has
// value under mask.
type slotGroup struct {
	value, mask uint16
	node        string
}

func (g slotGroup) bits() int { return bits.OnesCount16(g.mask) }

// assign gives every slot of a service to one of the nodes. Neighbouring slots of
// one node are merged.
func assign(service string, nodes []string) []slotGroup {
	if len(nodes) == 0 {
		return nil
	}
	var owner [slots.Count]string
	for s := range owner {
		owner[s] = slots.Rank(service, s, nodes)[0]
	}
	var groups []slotGroup
	var split func(lo, n int)
	split = func(lo, n int) {
		same := true
		for s := lo; s < lo+n; s++ {
			same = same && owner[s] == owner[lo]
		}
		if !same {
			split(lo, n/2)
			split(lo+n/2, n/2)
			return
		}
		mask := uint16(slots.Mask) &^ (uint16(n-1) << 1)
		groups = append(groups, slotGroup{value: uint16(lo) << 1, mask: mask, node: owner[lo]})
	}
	split(0, slots.Count)
	return groups
}
