package agent

import (
	"testing"

	"github.com/shunt-sdn/shunt/agent/attach"
)

func TestAnswersInARowAreThoseAfterTheLastGoodOne(t *testing.T) {
	var a answers
	for i, x := range []struct {
		what   func()
		errors uint64
		row    uint32
	}{
		{func() { a.take(503); a.take(599) }, 2, 2},
		{func() { a.told(attach.Answers{Errors: 3, InARow: 3}) }, 5, 5},
		{func() { a.told(attach.Answers{Errors: 4, InARow: 1, Others: true}) }, 9, 1},
		{func() { a.take(500) }, 10, 2},
		{func() { a.told(attach.Answers{Others: true}) }, 10, 0},
		{func() { a.take(500); a.take(404) }, 11, 0},
	} {
		x.what()
		if e, r := a.errors.Load(), a.inARow.Load(); e != x.errors || r != x.row {
			t.Errorf("step %d: %d errors, %d in a row; want %d and %d", i, e, r, x.errors, x.row)
		}
	}
}
