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
				v, _ = l.begin("h", l.present())
			}
			r, wait, err := l.resolve("h", notHeld)
			if r != shuntv1.Resolution_RESOLUTION_ABSENT || wait != nil || err != nil {
				t.Fatalf("resolve: %v, %v, %v", r, wait, err)
			}
			if !ask {
				var first bool
				if v, first = l.begin("h", l.present()); first {
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
	v, first := l.begin("h", l.present())
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
	if again, first := l.begin("h", l.present()); first || again.result.Outcome != yes {
		t.Fatal("a repeated import began again")
	}
}

func TestAfterTheDeadlineNothingIsActivated(t *testing.T) {
	l := newLedger(time.Minute, time.Now)
	v, _ := l.begin("h", l.present())
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
	v, _ := l.begin("old", l.present())
	now = now.Add(2 * time.Minute)
	l.begin("new", l.present())
	if l.byID["old"] == nil {
		t.Fatal("a hand-off at work was forgotten")
	}
	l.settle(v, done(no))
	l.begin("newer", l.present())
	if l.byID["old"] != nil {
		t.Fatal("a settled one is kept for ever")
	}
}

func TestWhatCameBeforeItWasRenouncedIsRefused(t *testing.T) {
	l := newLedger(time.Minute, time.Now)
	before := l.present()
	waits, _ := l.begin("waits", before)
	active, _ := l.begin("active", before)
	if !l.activate(active, never) {
		t.Fatal("not activated")
	}
	over := make(chan struct{})
	go func() {
		l.renounce()
		close(over)
	}()
	<-waits.done
	if l.activate(waits, never) || waits.result.Outcome != no {
		t.Error("what had not been activated was not refused")
	}
	select {
	case <-before:
	case <-time.After(5 * time.Second):
		t.Fatal("streams of before are not ended")
	}
	if late, first := l.begin("late", before); first || late.result.Outcome != no {
		t.Error("what comes by a stream of before begins")
	}
	select {
	case <-over:
		t.Error("one that had been activated is not waited for")
	default:
	}
	if got := l.settle(active, done(yes)); got.Outcome != yes {
		t.Errorf("one that had been activated is settled as %v", got.Outcome)
	}
	<-over
	if v, first := l.begin("new", l.present()); !first || !l.activate(v, never) {
		t.Error("what comes by a stream of after does not begin")
	}
}
