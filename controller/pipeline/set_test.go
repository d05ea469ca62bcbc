package pipeline

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/shunt-sdn/shunt/controller/openflow"
)

func TestACookieChangesWithEverythingThatAFlowSays(t *testing.T) {
	base := openflow.Flow{Table: 3, Priority: 5, Match: openflow.Match{openflow.InPort(1), openflow.EthType(0x800)}, Apply: []openflow.Action{openflow.Output{Port: 1}}, Goto: 9}
	cookie := Cookie(ClassStatic, base)
	if class, ours := ClassOf(cookie); class != ClassStatic || !ours {
		t.Errorf("cookie %#x has class %d, ours %v", cookie, class, ours)
	}
	if class, ours := ClassOf(Cookie(ClassSession, base)); class != ClassSession || !ours {
		t.Errorf("session cookie has class %d, ours %v", class, ours)
	}
	if _, ours := ClassOf(0x1234); ours {
		t.Error("another's cookie is taken for ours")
	}
	for name, change := range map[string]func(*openflow.Flow){
		"table":    func(f *openflow.Flow) { f.Table = 4 },
		"priority": func(f *openflow.Flow) { f.Priority = 6 },
		"goto":     func(f *openflow.Flow) { f.Goto = 10 },
		"value":    func(f *openflow.Flow) { f.Match = openflow.Match{openflow.InPort(2), openflow.EthType(0x800)} },
		"fewer":    func(f *openflow.Flow) { f.Match = f.Match[:1] },
		"mask": func(f *openflow.Flow) {
			f.Match = append(openflow.Match{openflow.U16Masked(openflow.FieldTCPSrc, 0, 1)}, f.Match...)
		},
		"action": func(f *openflow.Flow) { f.Apply = []openflow.Action{openflow.Output{Port: 2}} },
		"kind":   func(f *openflow.Flow) { f.Apply = []openflow.Action{openflow.Group{ID: 1}} },
		"ct": func(f *openflow.Flow) {
			f.Apply = []openflow.Action{openflow.CT{Zone: 1, Commit: true, Exec: []openflow.Action{openflow.SetField{FieldValue: openflow.CTMark(1)}}}}
		},
	} {
		f := base
		change(&f)
		if Cookie(ClassStatic, f) == cookie {
			t.Errorf("another %s has the same cookie", name)
		}
	}
	f := base
	f.Match = openflow.Match{f.Match[1], f.Match[0]}
	if Cookie(ClassStatic, f) != cookie || KeyOf(f) != KeyOf(base) {
		t.Error("the order of the match counts")
	}
}

func TestDiffAddsBeforeItDeletesAndLeavesTheRest(t *testing.T) {
	flow := func(table uint8, port uint32) openflow.Flow {
		return openflow.Flow{Table: table, Priority: 1, Match: openflow.Match{openflow.InPort(port)}, Apply: []openflow.Action{openflow.Output{Port: port}}}
	}
	have, want := Set{}, Set{}
	for p := range uint32(4) {
		have.add(flow(0, p))
	}
	have.add(flow(5, 0))
	for p := range uint32(5) {
		want.add(flow(0, p+2))
	}
	changed := flow(0, 3)
	changed.Apply = nil
	delete(want, KeyOf(changed))
	want.add(changed)
	want.add(flow(7, 1))

	var got []string
	for _, m := range Diff(have, want) {
		verb := map[openflow.Command]string{openflow.Add: "add", openflow.DeleteStrict: "delete"}[m.Command]
		got = append(got, verb)
		if m.Command == openflow.DeleteStrict && m.CookieMask != ^uint64(0) {
			t.Error("deletion is not bound to the cookie")
		}
		k := KeyOf(m.Flow)
		if m.Command == openflow.Add {
			have[k] = m.Flow
		} else {
			delete(have, k)
		}
	}
	if diff := cmp.Diff([]string{"add", "add", "add", "add", "add", "delete", "delete", "delete"}, got); diff != "" {
		t.Error(diff)
	}
	if mods := Diff(have, want); len(mods) != 0 {
		t.Errorf("still %d changes", len(mods))
	}
}
