package tracing

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
)

func TestLinesThatNameAHandOffHaveItsTrace(t *testing.T) {
	var out bytes.Buffer
	var book Book
	c, _ := Parse(parent)
	book.Put("d1-1", c)
	log := slog.New(WithTraces(slog.NewTextHandler(&out, nil), &book)).With("node", "d1")
	for _, line := range []struct {
		log  func()
		want bool
	}{
		{func() { log.Info("m", "client", "c", "id", "d1-1") }, true},
		{func() { log.Info("m", "handoff", "d1-1") }, true},
		{func() { log.Info("m", "id", "d1-2") }, false},
		{func() { log.Info("m", "id", 1) }, false},
		{func() { log.Info("m") }, false},
	} {
		out.Reset()
		line.log()
		if got := strings.Count(out.String(), "trace_id="+traceID); got != map[bool]int{true: 1}[line.want] || !strings.Contains(out.String(), "node=d1") {
			t.Errorf("%s", &out)
		}
	}
}

func TestTheBookForgetsTheOldest(t *testing.T) {
	var book Book
	c, _ := Parse(parent)
	for i := range 2*bookSize + 10 {
		book.Put(fmt.Sprint(i), c)
		book.Put(fmt.Sprint(i), c) // again: no second entry
	}
	if n := len(book.byID); n != bookSize {
		t.Errorf("%d are remembered, want %d", n, bookSize)
	}
	for id, want := range map[int]bool{bookSize + 9: false, bookSize + 10: true, 2*bookSize + 9: true} {
		if got := book.Get(fmt.Sprint(id)).Valid(); got != want {
			t.Errorf("%d is remembered: %v", id, got)
		}
	}
}
