package balance

import (
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"testing"
)

func names(n int) []string {
	out := make([]string, n)
	for i := range out {
		out[i] = fmt.Sprintf("server%d", i+1)
	}
	return out
}

func ones(n int) []uint32 { return slices.Repeat([]uint32{1}, n) }

// hashes are those of many keys.
var hashes = func() []uint64 {
	out := make([]uint64, 20_000)
	for i := range out {
		out[i] = NewHash().Add(fmt.Sprintf("/object/%d", i)).Sum()
	}
	return out
}()

// owners returns which server each of the keys goes to.
func owners(of func(h uint64) int) []int {
	out := make([]int, len(hashes))
	for i, h := range hashes {
		out[i] = of(h)
	}
	return out
}

type table struct {
	name string
	make func(names []string, weights []uint32) func(h uint64) int
	// How far a share may be from what the weights say, and how many more keys
	// than the share of a server that leaves may move.
	uneven, moved float64
}

var tables = []table{
	{"maglev", func(n []string, w []uint32) func(uint64) int { return NewMaglev(n, w, MaglevSize(len(n))).Lookup }, 0.08, 1.2},
	{"maglev of 65537", func(n []string, w []uint32) func(uint64) int { return NewMaglev(n, w, 65537).Lookup }, 0.08, 1.2},
	{"ring", func(n []string, w []uint32) func(uint64) int {
		r := NewRing(n, w, 160)
		return func(h uint64) int { return r.At(r.Start(h)) }
	}, 0.3, 1},
	{"rendezvous", func(n []string, w []uint32) func(uint64) int {
		named := make([]uint64, len(n))
		for i := range n {
			named[i] = NewHash().Add(n[i]).Sum()
		}
		return func(h uint64) int {
			best, most := -1, math.Inf(-1)
			for i := range n {
				if s := Score(h, named[i], w[i]); s > most {
					best, most = i, s
				}
			}
			return best
		}
	}, 0.08, 1},
}

func TestSharesFollowTheWeights(t *testing.T) {
	keys := float64(len(hashes))
	for _, c := range tables {
		for _, weights := range [][]uint32{{1}, {1, 1, 1}, {5, 1, 1}, {1, 0, 3}, {10, 20, 30, 40}, ones(10)} {
			t.Run(fmt.Sprint(c.name, weights), func(t *testing.T) {
				total, got := 0.0, make([]float64, len(weights))
				for _, w := range weights {
					total += float64(w)
				}
				for _, o := range owners(c.make(names(len(weights)), weights)) {
					got[o]++
				}
				for i, w := range weights {
					if want := keys * float64(w) / total; math.Abs(got[i]-want) > c.uneven*want {
						t.Errorf("server %d has %.0f keys, want %.0f", i, got[i], want)
					}
				}
			})
		}
	}
}

func TestLittleMovesWhenAServerLeaves(t *testing.T) {
	for _, c := range tables {
		for _, n := range []int{2, 5, 20} {
			t.Run(fmt.Sprint(c.name, n), func(t *testing.T) {
				all := names(n)
				before := owners(c.make(all, ones(n)))
				for gone := 0; gone < n; gone += max(1, n/3) {
					left := slices.Delete(slices.Clone(all), gone, gone+1)
					after := owners(c.make(left, ones(n-1)))
					moved, share := 0, 0
					for k := range before {
						if before[k] == gone {
							share++
						}
						if all[before[k]] != left[after[k]] {
							moved++
						}
					}
					if float64(moved) > c.moved*float64(share) {
						t.Errorf("%s of %d left: %d keys moved, its share was %d (%.3f times)", all[gone], n, moved, share, float64(moved)/float64(share))
					}
				}
			})
		}
	}
}

func TestTheOrderOfTheListDoesNotMatterToHashes(t *testing.T) {
	a := names(7)
	b := slices.Clone(a)
	slices.Reverse(b)
	for _, c := range tables[2:] { // in Maglev it decides collisions
		x, y := owners(c.make(a, ones(7))), owners(c.make(b, ones(7)))
		for k := range x {
			if a[x[k]] != b[y[k]] {
				t.Fatalf("%s: key %d goes to %s or %s", c.name, k, a[x[k]], b[y[k]])
			}
		}
	}
}

func take(t *Turns, n int) string {
	t.Lock()
	defer t.Unlock()
	s := ""
	for range n {
		s += string(rune('a' + t.First()))
		t.Spend()
	}
	return s
}

func TestTurnsAreSmooth(t *testing.T) {
	id := func(i int) int32 { return int32(i) }
	for _, c := range []struct {
		weights []uint32
		want    string
	}{
		{[]uint32{1, 1, 1}, "abcabcabc"},
		{[]uint32{5, 1, 1}, "aaabcaaaaabcaa"},
		{[]uint32{2, 1}, "abaaba"},
		{[]uint32{0, 1, 2}, "cbccbc"},
		{[]uint32{7}, "aaa"},
	} {
		if got := take(NewTurns(nil, len(c.weights), id, c.weights), len(c.want)); got != c.want {
			t.Errorf("weights %v: %s, want %s", c.weights, got, c.want)
		}
	}
}

func TestTurnsGoOnAfterAChange(t *testing.T) {
	keys := func(k ...int32) func(int) int32 { return func(i int) int32 { return k[i] } }
	three := NewTurns(nil, 3, keys(10, 11, 12), ones(3))
	if got := take(three, 4); got != "abca" {
		t.Fatal(got)
	}
	// The first of the list left: the turn is still the second's, now first in the list.
	if got := take(NewTurns(three, 2, keys(11, 12), ones(2)), 4); got != "abab" {
		t.Errorf("one left: %s", got)
	}
	// One more: the others' turns come first or with it, and it gets no backlog.
	more := NewTurns(three, 4, keys(10, 11, 12, 13), ones(4))
	count := make(map[rune]int)
	for _, c := range take(more, 40) {
		count[c]++
	}
	for c, n := range count {
		if n != 10 {
			t.Errorf("%c has %d of 40 turns", c, n)
		}
	}
}

func TestTurnsNeverOverflow(t *testing.T) {
	w := []uint32{1, 3}
	turns := NewTurns(nil, 2, func(i int) int32 { return int32(i) }, w)
	count := [2]int{}
	turns.Lock()
	defer turns.Unlock()
	for range 2_000_000 {
		count[turns.First()]++
		turns.Spend()
	}
	if math.Abs(float64(count[0])-500_000) > 2 {
		t.Errorf("turns %v", count)
	}
}

func TestSpreadFollowsTheWeights(t *testing.T) {
	s := NewShares([]uint32{90, 9, 0, 1})
	got := make([]int, 4)
	for n := range uint64(10_000) {
		got[s.Pick(Spread(n))]++
	}
	for i, want := range []int{9000, 900, 0, 100} {
		if math.Abs(float64(got[i]-want)) > 0.02*float64(want) {
			t.Errorf("share %d has %d of 10000, want %d", i, got[i], want)
		}
	}
	if p := NewShares([]uint32{0, 0}).Pick(1); p != -1 {
		t.Errorf("without weights: %d", p)
	}
}

func TestRandomSharesFollowTheWeights(t *testing.T) {
	s := NewShares([]uint32{1, 2, 5})
	r := rand.New(rand.NewPCG(1, 2))
	got := make([]int, 3)
	for range 80_000 {
		got[s.Pick(r.Uint64())]++
	}
	for i, want := range []int{10_000, 20_000, 50_000} {
		if math.Abs(float64(got[i]-want)) > 0.05*float64(want) {
			t.Errorf("share %d has %d, want %d", i, got[i], want)
		}
	}
}

func BenchmarkNewMaglev(b *testing.B) {
	for _, n := range []int{10, 1000, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			list := names(n)
			for b.Loop() {
				NewMaglev(list, ones(n), MaglevSize(n))
			}
		})
	}
}

// The sizes that are chosen by themselves, slot by slot.
func TestStandardMaglevSizesMoveLittle(t *testing.T) {
	for _, c := range []struct {
		n   int
		max float64
	}{{12, 1.2}, {48, 1.2}} {
		all, size := names(c.n), MaglevSize(c.n)
		before := NewMaglev(all, ones(c.n), size)
		gone := c.n / 3
		after := NewMaglev(slices.Delete(slices.Clone(all), gone, gone+1), ones(c.n-1), size)
		share, moved := 0, 0
		for slot := range before.table {
			was, is := int(before.table[slot]), int(after.table[slot])
			if is >= gone {
				is++
			}
			if was == gone {
				share++
			}
			if was != is {
				moved++
			}
		}
		if f := float64(moved) / float64(share); f > c.max {
			t.Errorf("%d servers, %d slots: %.3f times the share moved", c.n, size, f)
		} else {
			t.Logf("%d servers, %d slots: %.3f times the share moved", c.n, size, f)
		}
	}
}
