package openflow

import (
	"iter"
	"maps"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestMessagesAreCountedByType(t *testing.T) {
	var c Counts
	barrier, echo := EncodeBarrierRequest(1), EncodeEchoRequest(2, []byte("x"))
	c.wrote(append(append(append([]byte{}, barrier...), echo...), barrier...))
	c.wrote([]byte{4, 200, 0, 8, 0, 0, 0, 0}) // a type that there is not
	c.wrote([]byte{4, 0, 0, 4, 0, 0, 0, 0})   // a length that cannot be
	c.wrote(barrier[:5])
	c.read(EncodeError(3, FlowModTableFull, barrier))
	c.read(EncodeError(3, MakeCode(0xffff, 1), barrier))
	c.read(echo)
	for name, want := range map[string]struct {
		got  iter.Seq2[string, uint64]
		want map[string]uint64
	}{
		"sent":     {c.Sent(), map[string]uint64{"barrier_request": 2, "echo_request": 1, "unknown": 1}},
		"received": {c.Received(), map[string]uint64{"error": 2, "echo_request": 1}},
	} {
		if diff := cmp.Diff(want.want, maps.Collect(want.got)); diff != "" {
			t.Errorf("%s: want -, got +:\n%s", name, diff)
		}
	}
	errors := maps.Collect(c.Errors())
	if errors["flow_mod_failed"] != 1 || errors["experimenter"] != 1 || errors["bad_match"] != 0 || len(errors) != len(errorClasses) {
		t.Errorf("errors %v", errors)
	}
	var nobody *Counts
	nobody.wrote(barrier)
	nobody.read(echo)
}
