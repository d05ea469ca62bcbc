package control

import (
	"fmt"
	"strings"
	"testing"

	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

func TestRecordsMadeWithoutTheControllerAreSentWhenItIsBack(t *testing.T) {
	c := startController(t)
	a := startAgent(t, c.addr)
	s := c.attached(t)
	s.greeted()
	close(s.over)
	a.is(t, false)
	// The stream that follows may be there already: then the records are queued
	// on it, which comes to the same.
	for n := range 3 {
		a.Handoff(handoff(n))
	}
	s = c.attached(t)
	s.greeted()
	for n := range 3 {
		if got, want := s.next().GetHandoff().GetId(), fmt.Sprint("h", n); got != want {
			t.Errorf("record %q, want %s", got, want)
		}
	}
}

func TestOnlyTheLatestRecordsAreKept(t *testing.T) {
	const more = 5
	c := New(Options{}) // not connected
	for n := range keptRecords + more {
		c.Handoff(handoff(n))
	}
	if n := len(c.kept); n != keptRecords {
		t.Errorf("%d records kept, want %d", n, keptRecords)
	}
	if got, want := c.kept[0].GetHandoff().Id, fmt.Sprint("h", more); got != want {
		t.Errorf("the oldest kept is %s, want %s", got, want)
	}
}

func TestRecordsQueuedWhenTheStreamBreaksAreNotLost(t *testing.T) {
	c := New(Options{})
	queue := make(chan *shuntv1.AttachRequest, 3)
	for n := range 2 {
		queue <- &shuntv1.AttachRequest{Message: &shuntv1.AttachRequest_Handoff{Handoff: handoff(n)}}
	}
	queue <- &shuntv1.AttachRequest{Message: &shuntv1.AttachRequest_Ended{Ended: &shuntv1.Ended{}}}
	c.keepUnsent(queue)
	if len(c.kept) != 2 || c.kept[0].GetHandoff().Id != "h0" || c.kept[1].GetHandoff().Id != "h1" {
		t.Errorf("kept %v", c.kept)
	}
}

// TestWhatAnOverflowDropsIsMadeUpFor has the controller stop reading.
func TestWhatAnOverflowDropsIsMadeUpFor(t *testing.T) {
	c := startController(t)
	a := startAgent(t, c.addr)
	s := c.attached(t)
	s.greeted()
	// The windows of gRPC take some thousand messages, the queue 8,192.
	const many = 30_000
	for n := range many {
		a.Ended(&shuntv1.Ended{Id: strings.Repeat("x", 64), Session: session(n)})
	}
	err := receive(t, a.steer("late"), "the outcome of a Steer that has no room")
	if err == nil || !strings.Contains(err.Error(), "wait for the controller already") {
		t.Errorf("got %v", err)
	}
	a.Handoff(handoff(1)) // has no room either
	ended, listed, recorded := 0, false, false
	for !listed || !recorded {
		switch m := s.next(); {
		case m.GetEnded() != nil:
			ended++
		case m.GetSync() != nil:
			listed = true
		case m.GetHandoff().GetId() == "h1":
			recorded = true
		default:
			t.Fatalf("unexpected %v", m)
		}
	}
	if ended == 0 || ended >= many {
		t.Errorf("%d of %d messages arrived: nothing was dropped", ended, many)
	}
}

func TestAnAgentReconnectsAndListsItsSessionsAgain(t *testing.T) {
	c := startController(t)
	a := startAgent(t, c.addr)
	for range 3 {
		s := c.attached(t)
		s.greeted()
		a.is(t, true)
		close(s.over)
		a.is(t, false)
	}
}
