package registry

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

func record(id string) *shuntv1.Handoff {
	return &shuntv1.Handoff{
		Id: id, Session: shuntv1.SessionOf(netip.MustParseAddrPort("10.10.1.2:4000"), netip.MustParseAddrPort("172.31.0.1:80")),
		Service: "web", FromNode: "dispatcher1", ToNode: "server1", Outcome: shuntv1.Outcome_OUTCOME_COMPLETED,
		Steps: []*shuntv1.Step{{Name: "freeze", DurationUs: 7}},
	}
}

func ids(list []*shuntv1.Handoff) (out []string) {
	for _, h := range list {
		out = append(out, h.Id)
	}
	return out
}

func TestTheLatestHandoffsAreKeptNewestFirst(t *testing.T) {
	h := NewHandoffs(3)
	if got := h.Latest(5); len(got) != 0 {
		t.Errorf("before any: %v", ids(got))
	}
	for i := 1; i <= 7; i++ {
		r := record(fmt.Sprint(i))
		r.Outcome = shuntv1.Outcome(i%3 + 1)
		h.Add(r)
		var want []string
		for j := i; j > max(i-3, 0); j-- {
			want = append(want, fmt.Sprint(j))
		}
		for n := range 5 {
			if got := ids(h.Latest(n)); !slices.Equal(got, want[:min(n, len(want))]) {
				t.Errorf("after %d, latest %d: %v, want %v", i, n, got, want[:min(n, len(want))])
			}
		}
	}
	if got, want := h.Counts(), (Counts{Completed: 2, RolledBack: 3, Failed: 2}); got != want {
		t.Errorf("counts %+v, want %+v", got, want)
	}
}

func TestALongReasonIsCutWithinItsCharacters(t *testing.T) {
	h := NewHandoffs(1)
	r := record("x")
	r.Reason = "x" + strings.Repeat("ü", 1000)
	h.Add(r)
	got := h.Latest(1)[0].Reason
	if len(got) > maxReason+4 || !utf8.ValidString(got) || r.Reason == got {
		t.Errorf("reason of %d octets, valid %v", len(got), utf8.ValidString(got))
	}
}

func TestARecordIsCheckedForForm(t *testing.T) {
	if err := CheckHandoff(record("x")); err != nil {
		t.Fatal(err)
	}
	for want, spoil := range map[string]func(*shuntv1.Handoff){
		"id of 0 octets":         func(h *shuntv1.Handoff) { h.Id = "" },
		"id of 200 octets":       func(h *shuntv1.Handoff) { h.Id = strings.Repeat("x", 200) },
		"session is missing":     func(h *shuntv1.Handoff) { h.Session = nil },
		"mixes families":         func(h *shuntv1.Handoff) { h.Session.Local.Address = make([]byte, 16) },
		`"a b" is no name`:       func(h *shuntv1.Handoff) { h.Service = "a b" },
		`"\n" is no name`:        func(h *shuntv1.Handoff) { h.ToNode = "\n" },
		"OUTCOME_UNSPECIFIED is": func(h *shuntv1.Handoff) { h.Outcome = 0 },
		"outcome 4 is unknown":   func(h *shuntv1.Handoff) { h.Outcome = 4 },
		"33 steps":               func(h *shuntv1.Handoff) { h.Steps = slices.Repeat(h.Steps, 33) },
		`step "" is no name`:     func(h *shuntv1.Handoff) { h.Steps[0].Name = "" },
		"record of":              func(h *shuntv1.Handoff) { h.Reason = strings.Repeat("x", 1<<20) },
	} {
		h := record("x")
		spoil(h)
		if err := CheckHandoff(h); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
	if err := CheckHandoff(nil); err == nil {
		t.Error("nothing is a record")
	}
}
