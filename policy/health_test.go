package policy

import (
	"errors"
	"testing"
	"time"
)

func TestPriorities(t *testing.T) {
	ms := members(5)
	ms[2].Priority, ms[3].Priority, ms[4].Priority = 1, 1, 2
	b := newBed(t, []Pool{{Name: "p", Members: ms}})
	steps := []struct {
		down, up string
		want     map[string]float64
	}{
		{"", "", map[string]float64{"s1": 1, "s2": 1}},
		{"s1", "", map[string]float64{"s2": 1}},
		{"s2", "", map[string]float64{"s3": 1, "s4": 1}},
		{"s3", "", map[string]float64{"s4": 1}},
		{"s4", "", map[string]float64{"s5": 1}},
		{"s5", "", map[string]float64{"": 1}},
		{"", "s2", map[string]float64{"s2": 1}},
	}
	for i, s := range steps {
		if s.down != "" {
			b.st.SetUp(s.down, false, "test")
		}
		if s.up != "" {
			b.st.SetUp(s.up, true, "")
		}
		wantShares(t, b.count(100), 0, s.want)
		if t.Failed() {
			t.Fatalf("step %d", i)
		}
	}
}

func TestPanicThreshold(t *testing.T) {
	ms := members(6)
	ms[4].Priority, ms[5].Priority = 1, 1
	b := newBed(t, []Pool{{Name: "p", PanicPercent: 50, Members: ms}})
	sick := func(list ...string) {
		for _, s := range list {
			b.st.SetHealth("p", s, Unhealthy, "test")
		}
	}
	sick("s1", "s2")
	wantShares(t, b.count(100), 0, map[string]float64{"s3": 1, "s4": 1})
	sick("s3") // 1 of 4: the backups are healthier
	wantShares(t, b.count(100), 0, map[string]float64{"s5": 1, "s6": 1})
	sick("s5", "s6") // nobody is healthy enough: all count
	b.st.SetUp("s2", false, "test")
	wantShares(t, b.count(300), 0, map[string]float64{"s1": 1, "s3": 1, "s4": 1})
	b.st.SetHealth("p", "s1", Healthy, "")
	b.st.SetHealth("p", "s3", Healthy, "")
	wantShares(t, b.count(300), 0, map[string]float64{"s1": 1, "s3": 1, "s4": 1})
	b.st.SetUp("s4", false, "test") // 2 of 4 are healthy: enough
	wantShares(t, b.count(300), 0, map[string]float64{"s1": 1, "s3": 1})
}

func TestWithoutAPanicThresholdOneIsEnough(t *testing.T) {
	b := newBed(t, []Pool{{Name: "p", Members: members(10)}})
	for _, m := range members(9) {
		b.st.SetHealth("", m.Server, Unhealthy, "test")
	}
	wantShares(t, b.count(100), 0, map[string]float64{"s10": 1})
}

func TestBackupPools(t *testing.T) {
	one := func(s string) []Member { return []Member{{Server: s, Weight: 1}} }
	b := newBed(t, []Pool{{Name: "a", Members: one("a"), Backup: "b"}, {Name: "b", Members: one("b"), Backup: "c"}, {Name: "c", Members: one("c")}})
	for _, want := range []string{"a", "b", "c", ""} {
		c := b.choice(get("/"), nil)
		if c.Server != want || c.Pool != want {
			t.Errorf("got %+v, want %q", c, want)
		}
		b.st.SetUp(c.Server, false, "test")
	}
}

func TestEjection(t *testing.T) {
	b := newBed(t, []Pool{{Name: "p", Members: members(4), Ejection: &Ejection{Failures: 3, BaseTime: 10 * time.Second, MaxTime: 30 * time.Second, MaxPercent: 50}}})
	r, _ := b.e.Route("web", get("/"))
	fail := func(server string, n int) (ejected bool) {
		for range n {
			ejected = r.Observe(Choice{Server: server, Pool: "p"}, "refused")
		}
		return ejected
	}
	fail("s1", 2)
	r.Observe(Choice{Server: "s1", Pool: "p"}, "")
	if fail("s1", 2) || len(b.count(100)) != 4 {
		t.Error("ejected though the failures were not in a row")
	}
	if !fail("s1", 1) || b.count(100)["s1"] != 0 {
		t.Error("not ejected after three failures in a row")
	}
	if !fail("s2", 3) || fail("s3", 5) || len(b.count(100)) != 2 {
		t.Errorf("more than half ejected: %v", b.count(100))
	}
	b.advance(10 * time.Second)
	if got := b.count(100); len(got) != 4 {
		t.Errorf("not back after 10 s: %v", got)
	}
	for _, want := range []time.Duration{20 * time.Second, 30 * time.Second, 30 * time.Second} {
		if !fail("s1", 3) {
			t.Fatal("not ejected again")
		}
		b.advance(want - time.Nanosecond)
		if b.count(100)["s1"] != 0 {
			t.Errorf("back before %v", want)
		}
		b.advance(time.Nanosecond)
		if b.count(100)["s1"] == 0 {
			t.Errorf("not back after %v", want)
		}
	}
	b.advance(time.Minute) // forgiven
	fail("s1", 3)
	b.advance(10 * time.Second)
	if b.count(100)["s1"] == 0 {
		t.Error("an old ejection still counts")
	}
}

func TestSlowStart(t *testing.T) {
	for _, a := range everyAlgorithm {
		t.Run(a.String(), func(t *testing.T) {
			p := Pool{Name: "p", Algorithm: a, Members: members(2), SlowStart: &SlowStart{Window: 10 * time.Second, MinPercent: 10}}
			if a.hashes() {
				p.Hash = &Hash{On: []HashKey{{Kind: KeyPath}}}
			}
			b := newBed(t, []Pool{p})
			share := func() float64 {
				for _, m := range members(2) {
					b.st.SetLoad(m.Server, 0)
				}
				got := b.count(2000)
				return float64(got["s2"]) / 2000
			}
			near := func(what string, got, want float64) {
				t.Helper()
				if got < want*0.75 || got > want*1.25 {
					t.Errorf("%s: s2 has %.3f of the requests, want about %.3f", what, got, want)
				}
			}
			near("at the start of everything", share(), 0.5)
			b.st.SetUp("s2", false, "test")
			b.choose(get("/"))
			b.st.SetUp("s2", true, "")
			// Of the requests of two, weights 100 and w, or w % of its own half by hash.
			want := func(w float64) float64 {
				if a.hashes() {
					return w / 2
				}
				return w / (1 + w)
			}
			near("back", share(), want(0.1))
			b.advance(5 * time.Second)
			near("half way", share(), want(0.55))
			b.advance(5 * time.Second)
			near("after the window", share(), 0.5)
		})
	}
}

func TestProgramsAreAskedWhileTheyAnswer(t *testing.T) {
	b := newBed(t, []Pool{{Name: "p", Members: members(3), External: &External{Address: "unix:/x", Breaker: Breaker{Failures: 2, OpenTime: time.Second, Trials: 2}}}})
	b.st.SetUp("s3", false, "test")
	c := b.choice(get("/"), nil)
	if c.Ask == nil || c.Server != "s1" || c.Ask.Config.Deadline != DefaultExternalDeadline {
		t.Fatalf("got %+v", c)
	}
	if got := c.Ask.Candidates(nil, nil); len(got) != 2 || got[0] != (Candidate{"s1", 1, 1}) || got[1].Server != "s2" {
		t.Errorf("candidates %v", got)
	}
	if !c.Ask.Allow() {
		t.Fatal("not allowed")
	}
	c, err := c.Ask.Settle(c, "s2", nil)
	if err != nil || c.Server != "s2" || b.st.Load("s1") != 0 || b.st.Load("s2") != 1 {
		t.Errorf("settled on %+v, %v; loads %d and %d", c, err, b.st.Load("s1"), b.st.Load("s2"))
	}
	for _, name := range []string{"s3", "nonsense"} {
		if d, err := c.Ask.Settle(c, name, nil); err == nil || d.Server != "s2" {
			t.Errorf("settled on %+v", d)
		}
	}
	if open, why := c.Ask.Open(); !open || why == "" {
		t.Error("two failures did not open the breaker")
	}
	b.compile()
	c = b.choice(get("/"), nil)
	if c.Ask.Allow() {
		t.Error("asked though the breaker is open")
	}
	b.advance(time.Second)
	if !c.Ask.Allow() || c.Ask.Allow() {
		t.Error("not exactly one trial")
	}
	c.Ask.Failed(errors.New("deadline exceeded"))
	b.advance(time.Second)
	if c.Ask.Allow() {
		t.Error("a trial after one second, though the first trial failed")
	}
	b.advance(time.Second)
	for range 2 {
		if !c.Ask.Allow() {
			t.Fatal("no trial")
		}
		c.Ask.Declined()
	}
	if open, _ := c.Ask.Open(); open || !c.Ask.Allow() || !c.Ask.Allow() {
		t.Error("not closed after two good trials")
	}
}
