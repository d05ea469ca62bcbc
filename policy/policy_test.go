package policy

import (
	"fmt"
	"strings"
	"sync"
	"testing"
)

func except(names ...string) func(string) bool {
	return func(c string) bool {
		for _, n := range names {
			if n == c {
				return true
			}
		}
		return false
	}
}

// Each line is one or more picks: the candidates, the excluded after '-', what must come out.
func TestTurnsGoRound(t *testing.T) {
	for _, c := range []struct{ name, script string }{
		{"in the order of the list", "abc:a abc:b abc:c abc:a abc:b abc:c"},
		{"one server gets everything", "a:a a:a a:a"},
		{"nobody there", ":! :!"},
		{"everybody excluded", "ab-ab:! ab:a"},
		{"a retry after a refusal goes on with the next", "abc:a abc-a:b abc:c abc:a"},
		{"an excluded server's share is spread", "abc-b:a abc-b:c abc-b:a abc-b:c"},
		{"a server that left is skipped", "abc:a ac:c ac:a ac:c"},
		{"a server that returns gets one turn, no backlog", "abc:a abc:b abc:c ac:a ac:c ac:a abc:b abc:c abc:a abc:b"},
		{"a new server comes next", "ab:a ab:b abc:c abc:a abc:b abc:c"},
		{"the order of the list does not matter once all had a turn", "abc:a abc:b abc:c cba:a bca:b acb:c"},
		{"a refused pick takes no turn", "ab:a ab-ab:! ab:b"},
	} {
		t.Run(c.name, func(t *testing.T) {
			var r RoundRobin
			for i, step := range strings.Fields(c.script) {
				who, want, _ := strings.Cut(step, ":")
				there, not, _ := strings.Cut(who, "-")
				got, ok := r.Pick(strings.Split(there, "")[:len(there)], except(strings.Split(not, "")...))
				if !ok {
					got = "!"
				}
				if got != want {
					t.Fatalf("pick %d (%s): got %s, want %s", i+1, step, got, want)
				}
			}
		})
	}
}

func TestSharesAreEqualUnderConcurrency(t *testing.T) {
	const workers, each = 8, 600
	names := []string{"a", "b", "c"}
	var r RoundRobin
	var mu sync.Mutex
	got := make(map[string]int)
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for range each {
				c, ok := r.Pick(names, nil)
				if !ok {
					t.Error("nobody picked")
				}
				mu.Lock()
				got[c]++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	for _, n := range names {
		if got[n] != workers*each/len(names) {
			t.Errorf("shares %v, want %d each", got, workers*each/len(names))
		}
	}
}

// While a server is away the others share its part equally; nothing else moves.
func TestLeavingAndReturningMovesOnlyWhatItMust(t *testing.T) {
	var r RoundRobin
	all := []string{"a", "b", "c", "d"}
	count := func(n int, candidates []string) map[string]int {
		m := make(map[string]int)
		for range n {
			c, _ := r.Pick(candidates, nil)
			m[c]++
		}
		return m
	}
	if got := fmt.Sprint(count(400, all)); got != "map[a:100 b:100 c:100 d:100]" {
		t.Errorf("all there: %v", got)
	}
	if got := fmt.Sprint(count(300, []string{"a", "b", "d"})); got != "map[a:100 b:100 d:100]" {
		t.Errorf("c away: %v", got)
	}
	if got := fmt.Sprint(count(400, all)); got != "map[a:100 b:100 c:100 d:100]" {
		t.Errorf("c back: %v", got)
	}
}

func TestNamesThatComeAndGoAreForgotten(t *testing.T) {
	var r RoundRobin
	for i := range 10_000 {
		r.Pick([]string{"stays", fmt.Sprint("goes", i)}, nil)
	}
	if n := len(r.turns); n > 30 {
		t.Errorf("%d names remembered for 2 candidates", n)
	}
}

func BenchmarkPick(b *testing.B) {
	for _, n := range []int{3, 100} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			names := make([]string, n)
			for i := range names {
				names[i] = fmt.Sprint("server", i)
			}
			var r RoundRobin
			b.ReportAllocs()
			for b.Loop() {
				r.Pick(names, nil)
			}
		})
	}
}
