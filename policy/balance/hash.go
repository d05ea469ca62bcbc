package balance

// Hash is a 64-bit hash under construction: FNV-1a (Fowler, Noll, Vo), mixed at
// the end by the finalizer of SplitMix64, because FNV alone leaves similar short
// keys close to each other. Start with NewHash.
type Hash uint64

// NewHash returns the hash of nothing.
func NewHash() Hash { return 0xcbf29ce484222325 }

// Add takes in a string and its end: "a", "b" is not "ab".
func (h Hash) Add(s string) Hash {
	for i := range len(s) {
		h = (h ^ Hash(s[i])) * 0x100000001b3
	}
	return (h ^ 0xff) * 0x100000001b3
}

// AddLower is Add of s with its ASCII letters in lower case.
func (h Hash) AddLower(s string) Hash {
	for i := range len(s) {
		c := s[i]
		if 'A' <= c && c <= 'Z' {
			c |= 0x20
		}
		h = (h ^ Hash(c)) * 0x100000001b3
	}
	return (h ^ 0xff) * 0x100000001b3
}

// Sum returns the hash.
func (h Hash) Sum() uint64 { return Mix(uint64(h)) }

// Mix spreads a number over 64 bits: the finalizer of SplitMix64 (Steele, Lea,
// Flood, OOPSLA 2014).
func Mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}
