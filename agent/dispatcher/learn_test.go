package dispatcher

import (
	"testing"
	"time"

	"github.com/shunt-sdn/shunt/policy"
)

// What a moved connection costs is bringing it to its server, however long it lives.
func TestAMovedConnectionCostsItsMove(t *testing.T) {
	m := policy.Model{
		Services: []policy.Service{{Name: "web", Routes: []policy.Route{{Name: "either", Pool: "p", Mode: policy.Auto}}}},
		Pools:    []policy.Pool{{Name: "p", Members: []policy.Member{{Server: "s1", Weight: 1}}}},
	}
	now, random := time.Unix(1, 0), uint64(1)
	e, err := policy.Compile(&m, policy.NewState(policy.Options{Now: func() time.Time { return now }, Rand: func() uint64 { return random }}))
	if err != nil {
		t.Fatal(err)
	}
	q := &policy.Request{Method: "GET", Path: "/big"}
	rule, _ := e.Route("web", q)
	d := &Dispatcher{learning: make(map[string]learning)}
	choose := func() policy.Choice {
		c, ok := rule.Choose(q, nil)
		if !ok {
			t.Fatal("no server")
		}
		return c
	}
	// Clients keep their connections for as long as they like; copying 16 MB
	// takes the processor 8 ms, and 100 octets a tenth.
	move, copying := 500*time.Microsecond, map[uint64]time.Duration{16 << 20: 8 * time.Millisecond, 100: 100 * time.Microsecond}
	for octets, want := range map[uint64]policy.Mode{16 << 20: policy.Migrate, 100: policy.Proxy} {
		q.Path = map[uint64]string{16 << 20: "/big", 100: "/small"}[octets]
		for i := range 40 {
			random = uint64(i%2) << 63 // either way by turns, until both are known
			switch c := choose(); c.Mode {
			case policy.Migrate:
				d.learnLater("id", learning{rule, c, move})
				d.Ended("id", octets, time.Duration(i)*time.Minute+time.Millisecond)
			case policy.Proxy:
				rule.Learn(c, octets, copying[octets])
			}
		}
		random = 1 << 62 // no trying out
		if got := choose().Mode; got != want {
			t.Errorf("%d octets: %v, want %v; learnt %+v", octets, got, want, e.Learned())
		}
	}
	d.learnLater("unknown", learning{rule, choose(), move})
	before := e.Learned()
	d.Ended("unknown", 0, 0)
	d.Ended("unknown", 1<<30, time.Second)
	if after := e.Learned(); len(after[0].Sizes) != len(before[0].Sizes) || len(d.learning) != 0 {
		t.Errorf("learnt %+v of a session of which nothing is known", after)
	}
}

func TestProcessorTimeLeavesOutWaiting(t *testing.T) {
	waiting := processorTime(true, func() { <-time.After(100 * time.Millisecond) })
	if waiting > 50*time.Millisecond {
		t.Errorf("a wait took %v", waiting)
	}
	sum := 0
	working := processorTime(true, func() {
		for end := threadTime() + 20*time.Millisecond; threadTime() < end; {
			sum++
		}
	})
	if working < 20*time.Millisecond || working > 200*time.Millisecond {
		t.Errorf("20 ms of work took %v", working)
	}
	if got := processorTime(false, func() { sum = 0 }); got != 0 || sum != 0 {
		t.Errorf("not measured: %v", got)
	}
}
