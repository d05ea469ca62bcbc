package pipeline

import (
	"hash/fnv"
	"math/bits"
)

// Connections are spread by bits 1 to 6 of the client's port: 64 slots. Bit 0
// says nothing, since Linux prefers even ports for outgoing connections.
const (
	slotMask  = 0x7e
	slotCount = 64
)

// A slotGroup is a set of slots that share a home: those whose source port has
// value under mask.
type slotGroup struct {
	value, mask uint16
	node        string
}

func (g slotGroup) bits() int { return bits.OnesCount16(g.mask) }

// assign gives every slot of a service to one of the nodes by rendezvous
// hashing: when a node comes or goes, only slots that it gets or had change.
// Neighbouring slots of one node are merged.
func assign(service string, nodes []string) []slotGroup {
	if len(nodes) == 0 {
		return nil
	}
	var owner [slotCount]string
	for s := range owner {
		var best uint64
		for _, n := range nodes {
			if w := weight(service, n, s); owner[s] == "" || w > best || w == best && n < owner[s] {
				owner[s], best = n, w
			}
		}
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
		mask := uint16(slotMask) &^ (uint16(n-1) << 1)
		groups = append(groups, slotGroup{value: uint16(lo) << 1, mask: mask, node: owner[lo]})
	}
	split(0, slotCount)
	return groups
}

func weight(service, node string, slot int) uint64 {
	h := fnv.New64a()
	h.Write([]byte(service))
	h.Write([]byte{0})
	h.Write([]byte(node))
	h.Write([]byte{0, byte(slot)})
	return mix(h.Sum64())
}

// mix spreads a hash over all bits (the finaliser of MurmurHash3).
func mix(x uint64) uint64 {
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	x *= 0xc4ceb9fe1a85ec53
	return x ^ x>>33
}
