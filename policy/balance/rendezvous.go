package balance

import "math"

// Score is a server's claim to a key in rendezvous hashing (Thaler,
// Ravishankar, IEEE/ACM ToN 1998): the greatest wins. server is the hash of the
// server's name. With weights, a server wins in proportion to its weight
// (Schindelhauer, Schomaker, SPAA 2005); a weight of 0 never wins.
func Score(key, server uint64, weight uint32) float64 {
	if weight == 0 {
		return math.Inf(-1)
	}
	// In (0, 1]: never the logarithm of 0.
	u := (float64(Mix(key^server)>>11) + 1) / (1 << 53)
	return float64(weight) / -math.Log(u)
}
