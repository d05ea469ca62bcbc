package slots

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
)

func names(n int) (out []string) {
	for i := range n {
		out = append(out, fmt.Sprintf("dispatcher%d", i+1))
	}
	return out
}

func TestRankDoesNotDependOnTheOrderAndOnlyLosesWhoGoes(t *testing.T) {
	all := names(7)
	for slot := range Count {
		want := Rank("web", slot, all)
		mixed := slices.Clone(all)
		rand.Shuffle(len(mixed), func(i, j int) { mixed[i], mixed[j] = mixed[j], mixed[i] })
		if got := Rank("web", slot, mixed); !slices.Equal(got, want) {
			t.Errorf("slot %d: %v, then %v", slot, want, got)
		}
		fewer := slices.DeleteFunc(slices.Clone(all), func(n string) bool { return n == "dispatcher3" })
		want = slices.DeleteFunc(want, func(n string) bool { return n == "dispatcher3" })
		if got := Rank("web", slot, fewer); !slices.Equal(got, want) {
			t.Errorf("slot %d without one: %v, want %v", slot, got, want)
		}
	}
}

func TestAPortHasASlot(t *testing.T) {
	for port, want := range map[uint16]int{0: 0, 1: 0, 2: 1, 126: 63, 127: 63, 128: 0, 65535: 63} {
		if got := Of(port); got != want {
			t.Errorf("port %d: slot %d, want %d", port, got, want)
		}
	}
}

func TestWhoeverBeginsAllAreAsked(t *testing.T) {
	for n := 2; n <= 5; n++ {
		all := names(n)
		for slot := range Count {
			for _, begins := range all {
				asked := map[string]bool{}
				for at := begins; !asked[at]; at = Next("web", slot, at, all) {
					asked[at] = true
				}
				if len(asked) != n {
					t.Errorf("slot %d, %s begins: %d of %d are asked", slot, begins, len(asked), n)
				}
			}
			order := Rank("web", slot, all)
			if next := Next("web", slot, order[0], all); next != order[1] {
				t.Errorf("slot %d: the first asks %s, want %s", slot, next, order[1])
			}
		}
	}
}

func TestAStrangerAndOneAloneAskNobody(t *testing.T) {
	for _, next := range []string{Next("web", 3, "other", names(3)), Next("web", 3, "dispatcher1", names(1))} {
		if next != "" {
			t.Errorf("%s is asked", next)
		}
	}
}
