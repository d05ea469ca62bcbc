package pipeline

import (
	"cmp"
	"slices"

	"github.com/shunt-sdn/shunt/controller/openflow"
)

// A Key tells flows apart as a switch does: two flows of one key cannot be in
// it at once.
type Key struct {
	Table    uint8
	Priority uint16
	match    string
}

// KeyOf returns the key of a flow.
func KeyOf(f openflow.Flow) Key {
	return Key{f.Table, f.Priority, string(appendMatch(nil, f.Match))}
}

// A Set of flows, each with its cookie.
type Set map[Key]openflow.Flow

// add puts a flow of class ClassStatic into the set. A second flow of the same
// key is dropped: the caller adds the more important ones first.
func (s Set) add(f openflow.Flow) {
	k := KeyOf(f)
	if _, ok := s[k]; ok {
		return
	}
	f.Cookie = Cookie(ClassStatic, f)
	s[k] = f
}

// Sorted returns the flows by table, then by falling priority.
func (s Set) Sorted() []openflow.Flow {
	keys := make([]Key, 0, len(s))
	for k := range s {
		keys = append(keys, k)
	}
	slices.SortFunc(keys, func(a, b Key) int {
		return cmp.Or(cmp.Compare(a.Table, b.Table), cmp.Compare(b.Priority, a.Priority), cmp.Compare(a.match, b.match))
	})
	flows := make([]openflow.Flow, len(keys))
	for i, k := range keys {
		flows[i] = s[k]
	}
	return flows
}

// Diff returns what turns a switch that holds have into one that holds want:
// additions first (each replaces what the switch has under its key), then
// deletions, so that no packet meets a gap.
func Diff(have, want Set) []openflow.FlowMod {
	var add, del []openflow.FlowMod
	for k, f := range want {
		if h, ok := have[k]; !ok || h.Cookie != f.Cookie {
			add = append(add, openflow.FlowMod{Command: openflow.Add, Flow: f})
		}
	}
	for k, f := range have {
		if _, ok := want[k]; !ok {
			del = append(del, DeleteOf(f))
		}
	}
	// What a flow leads to is there before the flow, and after it.
	deepFirst := func(a, b openflow.FlowMod) int {
		return cmp.Or(cmp.Compare(b.Flow.Table, a.Flow.Table), cmp.Compare(a.Flow.Cookie, b.Flow.Cookie))
	}
	slices.SortFunc(add, deepFirst)
	slices.SortFunc(del, func(a, b openflow.FlowMod) int { return deepFirst(b, a) })
	return append(add, del...)
}

// DeleteOf deletes exactly this flow: the same table, priority and match, and
// only while it has this cookie.
func DeleteOf(f openflow.Flow) openflow.FlowMod {
	f.Apply, f.Goto = nil, 0
	return openflow.FlowMod{Command: openflow.DeleteStrict, Flow: f, CookieMask: ^uint64(0)}
}
