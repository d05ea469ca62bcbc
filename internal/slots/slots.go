// Package slots says how the connections to a service are spread over its
// dispatchers: by bits 1 to 6 of the client's port, each of the 64 values of
// which, a slot, is one dispatcher's. Bit 0 says nothing, since Linux prefers
// even ports for outgoing connections.
//
// A slot's dispatcher is found by rendezvous hashing: when a dispatcher comes or
// goes only the slots change that it gets or had. The controller tells the
// switches by it, and agents know by it who else may have a connection.
package slots

import (
	"cmp"
	"hash/fnv"
	"slices"
)

const (
	// Mask has the bits of the client's port that count.
	Mask = 0x7e
	// Count is the number of slots.
	Count = 64
)

// Of returns the slot of a client's port.
func Of(port uint16) int { return int(port&Mask) >> 1 }

// Rank returns the dispatchers in the order in which they are to have a slot of a
// service: the first of those that can. It does not depend on the order of
// dispatchers.
func Rank(service string, slot int, dispatchers []string) []string {
	type ranked struct {
		name   string
		weight uint64
	}
	all := make([]ranked, len(dispatchers))
	for i, d := range dispatchers {
		all[i] = ranked{d, weight(service, d, slot)}
	}
	slices.SortFunc(all, func(a, b ranked) int { return cmp.Or(cmp.Compare(b.weight, a.weight), cmp.Compare(a.name, b.name)) })
	names := make([]string, len(all))
	for i, r := range all {
		names[i] = r.name
	}
	return names
}

func weight(service, dispatcher string, slot int) uint64 {
	h := fnv.New64a()
	h.Write([]byte(service))
	h.Write([]byte{0})
	h.Write([]byte(dispatcher))
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

// Next returns whom a dispatcher asks for a connection of a slot that it does not
// know: the one that follows it in Rank, and the first after the last; "" if it is
// not among the dispatchers or the only one. Asked one after the other, all are
// asked once, whoever begins, and those first that had the slot before.
func Next(service string, slot int, self string, dispatchers []string) string {
	order := Rank(service, slot, dispatchers)
	own := slices.Index(order, self)
	if own < 0 || len(order) == 1 {
		return ""
	}
	return order[(own+1)%len(order)]
}
