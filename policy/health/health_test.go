package health

import (
	"fmt"
	"strings"
	"testing"
	"time"
)

var start = time.Unix(1_700_000_000, 0)

// Each letter is a check: + succeeded, - failed; after it the state: u, h or d(own).
func TestChecksRiseAndFall(t *testing.T) {
	for _, c := range []struct {
		name, script string
		rise, fall   int
	}{
		{"the first success decides", "+h", 2, 3},
		{"failures at first", "-u -u -d -d +d +h", 2, 3},
		{"failures must be in a row", "+h -h -h +h -h -h -d", 2, 3},
		{"successes must be in a row", "-d +d -d +d +h", 2, 1},
		{"at once", "+h -d +h", 1, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			k := Check{Rise: c.rise, Fall: c.fall}
			for i, s := range strings.Fields(c.script) {
				what := ""
				if s[0] == '-' {
					what = "status 503"
				}
				was, _, _ := k.State()
				changed := k.Observe(what, start)
				got, reason, _ := k.State()
				if want := map[byte]State{'u': Unknown, 'h': Healthy, 'd': Unhealthy}[s[1]]; got != want || changed != (was != got) {
					t.Fatalf("check %d: %v, want %v; changed %v", i+1, got, want, changed)
				}
				if got == Unhealthy && s[0] == '-' && !strings.Contains(reason, "status 503") {
					t.Errorf("check %d: the reason is %q", i+1, reason)
				}
			}
		})
	}
}

func TestEjectionsGrowAndAreForgiven(t *testing.T) {
	rule := EjectionRule{Failures: 2, Base: 10 * time.Second, Max: 60 * time.Second}
	yes := func() bool { return true }
	var e Ejection
	now := start
	fail := func() (out time.Duration) {
		for range 2 {
			e.Observe(rule, "refused", now, yes)
		}
		return e.Until().Sub(now)
	}
	var got []string
	for range 5 {
		d := fail()
		got = append(got, fmt.Sprint(d))
		now = now.Add(d)
	}
	if s := strings.Join(got, " "); s != "10s 20s 40s 1m0s 1m0s" {
		t.Errorf("ejected for %s", s)
	}
	now = now.Add(35 * time.Second) // three doublings of five are taken back
	if d := fail(); d != 40*time.Second {
		t.Errorf("after 35 s in: ejected for %v", d)
	}
	now = now.Add(time.Hour)
	if e.Observe(rule, "x", now, yes); e.Observe(rule, "x", now, func() bool { return false }) || e.Out(now) {
		t.Error("ejected though not allowed")
	}
	if !e.Observe(rule, "x", now, yes) {
		t.Error("not ejected when allowed again")
	}
}

func TestBreaker(t *testing.T) {
	rule := BreakerRule{Failures: 3, Open: time.Second, Max: 4 * time.Second, Trials: 2}
	var b Breaker
	now := start
	allow := func(want bool) {
		t.Helper()
		if b.Allow(now) != want {
			t.Fatalf("allowed: %v", !want)
		}
	}
	b.Observe(rule, "x", now)
	b.Observe(rule, "x", now)
	b.Observe(rule, "", now)
	allow(true)
	for range 3 {
		b.Observe(rule, "deadline exceeded", now)
	}
	b.Observe(rule, "", now) // asked before it opened
	allow(false)
	if open, why := b.Open(); !open || !strings.Contains(why, "deadline exceeded") {
		t.Errorf("open %v: %s", open, why)
	}
	for _, wait := range []time.Duration{1, 2, 4, 4} {
		now = now.Add(wait*time.Second - 1)
		allow(false)
		now = now.Add(1)
		allow(true)
		allow(false) // one trial at a time
		b.Observe(rule, "x", now)
	}
	now = now.Add(4 * time.Second)
	allow(true)
	if b.Observe(rule, "", now) {
		t.Error("closed after one trial of two")
	}
	allow(true)
	if !b.Observe(rule, "", now) {
		t.Error("not closed after two trials")
	}
	allow(true)
	allow(true)
}
