package balance

import (
	"math/bits"
	"sort"
)

// Shares draws positions in proportion to weights.
type Shares struct{ sums []uint64 }

// NewShares returns the shares of the weights.
func NewShares(weights []uint32) Shares {
	s := Shares{make([]uint64, len(weights))}
	sum := uint64(0)
	for i, w := range weights {
		sum += uint64(w)
		s.sums[i] = sum
	}
	return s
}

// Total is the sum of the weights.
func (s Shares) Total() uint64 {
	if len(s.sums) == 0 {
		return 0
	}
	return s.sums[len(s.sums)-1]
}

// Pick returns the position that a number, drawn evenly from all 64-bit
// numbers, falls on; -1 if all weights are 0.
func (s Shares) Pick(number uint64) int {
	total := s.Total()
	if total == 0 {
		return -1
	}
	x, _ := bits.Mul64(number, total)
	if s.sums[0] > x {
		return 0
	}
	return sort.Search(len(s.sums), func(i int) bool { return s.sums[i] > x })
}

// Spread returns numbers for Pick that fall on every share as evenly as can be:
// the n-th multiple of the golden ratio. After any number of picks each share
// is within a few picks of what it should have (Knuth, TAOCP 3, 6.4).
func Spread(n uint64) uint64 { return n * 0x9e3779b97f4a7c15 }

// Weight returns the weight of a position.
func (s Shares) Weight(i int) uint64 {
	if i == 0 {
		return s.sums[0]
	}
	return s.sums[i] - s.sums[i-1]
}
