package balance

import (
	"cmp"
	"slices"
	"sort"
)

// Ring is consistent hashing: servers have points on a circle, and a key goes to
// the first point after it (Karger et al., STOC 1997).
type Ring struct{ points []point }

type point struct {
	hash   uint64
	server uint32
}

// NewRing returns the ring of servers with these names. One of the greatest
// weight, which is not 0, has that many points, the others in proportion, and at
// least one.
func NewRing(names []string, weights []uint32, points int) *Ring {
	r := &Ring{}
	most := uint64(slices.Max(weights))
	for i, n := range names {
		h := NewHash().Add(n).Sum()
		share := (uint64(weights[i])*uint64(points) + most/2) / most
		if weights[i] > 0 {
			share = max(share, 1)
		}
		for k := range share {
			r.points = append(r.points, point{Mix(h + k*0x9e3779b97f4a7c15), uint32(i)})
		}
	}
	slices.SortFunc(r.points, func(a, b point) int {
		return cmp.Or(cmp.Compare(a.hash, b.hash), cmp.Compare(names[a.server], names[b.server]))
	})
	return r
}

// Start returns the place on the ring of a hash, for At.
func (r *Ring) Start(h uint64) int {
	return sort.Search(len(r.points), func(i int) bool { return r.points[i].hash >= h })
}

// At returns the server at a place; places go on beyond the ring's end at its
// beginning.
func (r *Ring) At(place int) int { return int(r.points[place%len(r.points)].server) }

// Len is the number of points.
func (r *Ring) Len() int { return len(r.points) }
