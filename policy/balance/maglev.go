package balance

// Maglev is a lookup table in which every server has slots in proportion to its
// weight, and keeps nearly all of them when others come and go (Eisenbud et al.,
// "Maglev: A Fast and Reliable Software Network Load Balancer", NSDI 2016,
// section 3.4).
type Maglev struct{ table []uint16 }

// MaxMaglev is how many servers a table can have.
const MaxMaglev = 65535

// MaglevSize is the table size for n servers if none is asked for. Beside the
// slots of a server that leaves, others change hands, the more the fewer slots
// there are. Measured with these sizes: at most a fifth of its share up to 160
// servers, two shares at 1000. A pool that grows or shrinks past one of the
// borders gets another size, and nearly all keys move.
func MaglevSize(n int) int {
	switch {
	case n <= 12:
		return 16381
	case n <= 48:
		return 131071
	}
	return 1048573 // takes a tenth of a second to fill
}

// NewMaglev returns the table for servers with these names and weights, at
// least one of them not 0; at most MaxMaglev. size must be a prime and not less
// than their number.
// A server's slots depend on its name and not on its position.
func NewMaglev(names []string, weights []uint32, size int) *Maglev {
	type walk struct{ next, skip, turn, weight uint64 }
	most := uint64(0)
	walks := make([]walk, len(names))
	for i, n := range names {
		h := NewHash().Add(n).Sum()
		walks[i] = walk{next: h % uint64(size), skip: Mix(h+1)%uint64(size-1) + 1, weight: uint64(weights[i])}
		most = max(most, uint64(weights[i]))
	}
	const free = ^uint16(0)
	m := &Maglev{table: make([]uint16, size)}
	for i := range m.table {
		m.table[i] = free
	}
	// In each round a server of the greatest weight takes its next free slot, one
	// of half of it every other round.
	for left, round := size, uint64(1); left > 0; round++ {
		for i := range walks {
			w := &walks[i]
			if w.weight == 0 || round*w.weight < w.turn {
				continue
			}
			w.turn += most
			for m.table[w.next] != free {
				if w.next += w.skip; w.next >= uint64(size) {
					w.next -= uint64(size)
				}
			}
			m.table[w.next] = uint16(i)
			if left--; left == 0 {
				break
			}
		}
	}
	return m
}

// Lookup returns the server of a hash.
func (m *Maglev) Lookup(h uint64) int { return int(m.table[h%uint64(len(m.table))]) }

// Size is the number of slots.
func (m *Maglev) Size() int { return len(m.table) }
