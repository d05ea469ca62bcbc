package server

import (
	"errors"
	"testing"
	"time"

	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

func notHeld() (bool, error) { return false, nil }
func never() bool            { return false }

func done(outcome shuntv1.ImportOutcome) *shuntv1.ImportResult {
	return &shuntv1.ImportResult{Id: "h", Outcome: outcome}
}

const (
	yes = shuntv1.ImportOutcome_IMPORT_OUTCOME_IMPORTED
	no  = shuntv1.ImportOutcome_IMPORT_OUTCOME_REFUSED
)

func TestADeclaredAbsenceStands(t *testing.T) {
	for name, ask := range map[string]bool{"asked while it is restored": true, "asked before it came": false} {
		t.Run(name, func(t *testing.T) {
			l := newLedger(time.Minute, time.Now)
			var v *verdict
			if ask {
				v, _ = l.begin("h")
			}
			r, wait, err := l.resolve("h", notHeld)
			if r != shuntv1.Resolution_RESOLUTION_ABSENT || wait != nil || err != nil {
				t.Fatalf("resolve: %v, %v, %v", r, wait, err)
			}
			if !ask {
				var first bool
				if v, first = l.begin("h"); first {
					t.Fatal("an import that was declared absent began")
				}
			}
			if l.activate(v, never) {
				t.Fatal("it was activated nevertheless")
			}
			<-v.done
			if got := l.settle(v, done(yes)); got.Outcome != no {
				t.Fatalf("settled as %v", got.Outcome)
			}
		})
	}
}

func TestAnImportedHandOffIsFoundByAsking(t *testing.T) {
	l := newLedger(time.Minute, time.Now)
	v, first := l.begin("h")
	if !first || !l.activate(v, never) {
		t.Fatal("a new hand-off did not begin")
	}
	r, wait, _ := l.resolve("h", notHeld)
	if wait == nil {
		t.Fatalf("an answer before it is settled: %v", r)
	}
	l.settle(v, done(yes))
	<-wait
	if r, _, _ := l.resolve("h", notHeld); r != shuntv1.Resolution_RESOLUTION_IMPORTED {
		t.Fatalf("resolved as %v", r)
	}
	if again, first := l.begin("h"); first || again.result.Outcome != yes {
		t.Fatal("a repeated import began again")
	}
}

func TestAfterTheDeadlineNothingIsActivated(t *testing.T) {
	l := newLedger(time.Minute, time.Now)
	v, _ := l.begin("h")
	if l.activate(v, func() bool { return true }) {
		t.Fatal("activated")
	}
}

func TestTheKernelSettlesWhatAnEarlierProcessDid(t *testing.T) {
	l := newLedger(time.Minute, time.Now)
	if _, _, err := l.resolve("h", func() (bool, error) { return false, errors.New("netlink") }); err == nil {
		t.Fatal("an unreadable kernel decided")
	}
	if r, _, _ := l.resolve("h", func() (bool, error) { return true, nil }); r != shuntv1.Resolution_RESOLUTION_IMPORTED {
		t.Fatalf("resolved as %v", r)
	}
}

func TestOldVerdictsAreForgottenOnceSettled(t *testing.T) {
	now := time.Unix(0, 0)
	l := newLedger(time.Minute, func() time.Time { return now })
	v, _ := l.begin("old")
	now = now.Add(2 * time.Minute)
	l.begin("new")
	if l.byID["old"] == nil {
		t.Fatal("a hand-off at work was forgotten")
	}
	l.settle(v, done(no))
	l.begin("newer")
	if l.byID["old"] != nil {
		t.Fatal("a settled one is kept for ever")
	}
}
