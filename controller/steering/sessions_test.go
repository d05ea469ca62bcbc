package steering

import (
	"errors"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/shunt-sdn/shunt/controller/openflow"
	"github.com/shunt-sdn/shunt/controller/pipeline"
)

// A wire is a channel whose answers the test gives.
type wire struct {
	sent []request
}

type request struct {
	Messages
	done func(error)
}

func (w *wire) ApplyAsync(mods []openflow.FlowMod, outs []openflow.PacketOut, done func(error)) {
	w.sent = append(w.sent, request{Messages{mods, outs}, done})
}

// take returns what was sent, in words, and answers it.
func (w *wire) take(answer error) (said []string) {
	sent := w.sent
	w.sent = nil
	for _, r := range sent {
		said = append(said, words(r.Messages))
		r.done(answer)
	}
	return said
}

func words(m Messages) string {
	var s []string
	for _, mod := range m.Mods {
		client, _, _ := pipeline.SessionEnds(mod.Flow.Match)
		if mod.Command == openflow.DeleteStrict {
			s = append(s, fmt.Sprintf("forget %d", client.Port()))
			continue
		}
		for _, a := range mod.Flow.Apply {
			if f, ok := a.(openflow.SetField); ok && f.Field == openflow.FieldEthDst {
				s = append(s, fmt.Sprintf("%d to %d", client.Port(), f.Value[5]))
			}
		}
	}
	for _, out := range m.Outs {
		ct := out.Apply[0].(openflow.CT)
		port := uint16(out.Data[34])<<8 | uint16(out.Data[35])
		switch {
		case ct.Force:
			s = append(s, fmt.Sprintf("forget %d", uint16(out.Data[36])<<8|uint16(out.Data[37])))
		case ct.Commit:
			s = append(s, fmt.Sprintf("mark %d %x", port, ct.Exec[0].(openflow.SetField).Value))
		default:
			s = append(s, "track")
		}
	}
	return strings.Join(s, ", ")
}

// A bench is Sessions with a clock and nodes 1 to 9 of the test's making.
type bench struct {
	t     *testing.T
	s     *Sessions
	w     *wire
	now   time.Time
	nodes map[string]byte // the last octet of their hardware address
	told  []string
}

func newBench(t *testing.T) *bench {
	b := &bench{t: t, w: &wire{}, now: time.Unix(0, 0), nodes: map[string]byte{"n1": 1, "n2": 2}}
	b.s = NewSessions(func() time.Time { return b.now }, 2*time.Second)
	return b
}

func (b *bench) resolve(s Session) (Target, bool) {
	n, ok := b.nodes[s.Node]
	return Target{Node: pipeline.Node{Name: s.Node, MAC: []byte{2, 0, 0, 0, 0, n}, Mark: uint16(n)}, Lease: 7}, ok
}

func (b *bench) attach(flows ...openflow.FlowStat) []openflow.FlowStat {
	return b.s.Attach(b.w, Flows{}, b.resolve, flows)
}

func session(port uint16, node string) Session {
	return Session{ID: node, Client: netip.AddrPortFrom(netip.MustParseAddr("192.0.2.1"), port), VIP: netip.MustParseAddrPort("10.10.0.80:80"),
		Local: netip.MustParseAddrPort("172.31.0.1:80"), Node: node}
}

func key(port uint16) Key { return session(port, "").Key() }

// say returns a done function that notes what it was told.
func (b *bench) say(name string) func(error) {
	return func(err error) { b.told = append(b.told, fmt.Sprintf("%s: %v", name, err)) }
}

func (b *bench) check(what string, want, got []string) {
	b.t.Helper()
	if diff := cmp.Diff(want, got); diff != "" {
		b.t.Errorf("%s: %s", what, diff)
	}
}

func (b *bench) heard(want ...string) {
	b.t.Helper()
	b.check("told", want, b.told)
	b.told = nil
}

func (b *bench) sends(answer error, want ...string) {
	b.t.Helper()
	b.check("sent", want, b.w.take(answer))
}

func TestASessionIsSteeredAndForgotten(t *testing.T) {
	b := newBench(t)
	b.attach()
	b.s.Steer(session(1, "n1"), b.say("steer"))
	b.sends(nil, "1 to 1")
	b.heard("steer: <nil>")
	b.s.Unsteer(key(1), "another", b.say("wrong id"))
	b.sends(nil)
	b.heard("wrong id: <nil>")
	b.s.Unsteer(key(1), "n1", b.say("unsteer"))
	b.sends(nil, "forget 1")
	b.heard("unsteer: <nil>")
	if len(b.s.records) != 0 {
		t.Errorf("records left: %v", b.s.records)
	}
}

func TestRequestsOfOneSessionFollowEachOtherAndOnlyTheLastCounts(t *testing.T) {
	b := newBench(t)
	b.attach()
	b.s.Steer(session(1, "n1"), b.say("first"))
	b.s.Steer(session(1, "n2"), b.say("second"))
	b.s.Unsteer(key(1), "", b.say("third"))
	b.s.Steer(session(2, "n2"), b.say("other"))
	b.sends(nil, "1 to 1", "2 to 2")
	b.heard("first: <nil>", "other: <nil>")
	b.sends(nil, "forget 1")
	b.heard("second: "+ErrReplaced.Error(), "third: <nil>")
}

func TestASteeringThatTheSwitchRefusesIsTriedAgain(t *testing.T) {
	b := newBench(t)
	b.attach()
	full := errors.New("table full")
	b.s.Steer(session(1, "n1"), b.say("steer"))
	b.sends(full, "1 to 1")
	b.heard("steer: table full")
	b.s.Tick()
	b.sends(nil)
	b.now = b.now.Add(retryAfter)
	b.s.Tick()
	b.sends(nil, "1 to 1")
	if n := b.s.Confirmed(); n != 1 {
		t.Errorf("%d sessions are confirmed", n)
	}
}

func TestWithoutASwitchSteeringFailsAndIsRemembered(t *testing.T) {
	b := newBench(t)
	b.s.Steer(session(1, "n1"), b.say("steer"))
	b.heard("steer: " + ErrNoSwitch.Error())
	b.attach()
	b.sends(nil, "1 to 1")
	b.s.Detach()
	b.attach()
	b.sends(nil, "1 to 1")
}

func TestWhileASwitchIsBeingMadeReadyRequestsWait(t *testing.T) {
	b := newBench(t)
	b.s.Attaching()
	b.s.Steer(session(1, "n1"), b.say("steer"))
	b.heard()
	b.attach()
	b.sends(nil, "1 to 1")
	b.heard("steer: <nil>")

	b.s.Detach()
	b.s.Attaching()
	b.s.Steer(session(2, "n1"), b.say("too long"))
	b.now = b.now.Add(Patience)
	b.s.Tick()
	b.heard("too long: " + ErrNoSwitch.Error())
}

func TestAnEndedChannelFailsItsRequestsOnce(t *testing.T) {
	b := newBench(t)
	b.attach()
	b.s.Steer(session(1, "n1"), b.say("steer"))
	b.s.Detach()
	b.heard("steer: " + ErrNoSwitch.Error())
	b.sends(errors.New("late"), "1 to 1")
	b.heard()
	b.attach()
	b.sends(nil, "1 to 1")

	// The channel may tell of its end before its owner does.
	b.s.Steer(session(2, "n1"), func(err error) {
		if !errors.Is(err, ErrNoSwitch) || !errors.Is(err, openflow.ErrClosed) {
			t.Errorf("the channel ended: %v", err)
		}
		b.say("steer")(nil)
	})
	b.sends(openflow.ErrClosed, "2 to 1")
	b.s.Detach()
	b.heard("steer: <nil>")
}

func TestAnUnresolvedNodeIsWaitedForWithABound(t *testing.T) {
	b := newBench(t)
	b.attach()
	b.s.Steer(session(1, "n3"), b.say("steer"))
	b.sends(nil)
	b.nodes["n3"] = 3
	b.s.Retarget(false, map[string]bool{"n3": true})
	b.sends(nil, "1 to 3")
	b.heard("steer: <nil>")

	b.s.Steer(session(2, "n4"), b.say("too long"))
	b.now = b.now.Add(Patience)
	b.s.Tick()
	b.heard("too long: " + ErrUnresolved.Error())
	b.nodes["n4"] = 4
	b.s.Retarget(false, map[string]bool{"n4": true})
	b.sends(nil, "2 to 4")
}

func TestANodesNewHardwareAddressReachesItsSessions(t *testing.T) {
	b := newBench(t)
	b.attach()
	b.s.Steer(session(1, "n1"), nil)
	b.s.Steer(session(2, "n2"), nil)
	b.w.take(nil)
	b.nodes["n1"] = 9
	b.s.Retarget(false, map[string]bool{"n1": true})
	b.sends(nil, "1 to 9")
}

func TestSteeringOutlivesTheSessionByTheLinger(t *testing.T) {
	b := newBench(t)
	b.attach()
	b.s.Steer(session(1, "n1"), nil)
	b.s.Steer(session(2, "n1"), nil)
	b.w.take(nil)
	b.s.End(key(1))
	b.s.End(key(2))
	b.s.Steer(session(2, "n2"), nil) // the port is used again
	b.w.take(nil)
	b.now = b.now.Add(2*time.Second - 1)
	b.s.Tick()
	b.sends(nil)
	b.now = b.now.Add(1)
	b.s.Tick()
	b.sends(nil, "forget 1")
	if len(b.s.records) != 1 {
		t.Errorf("%d records, want 1", len(b.s.records))
	}
}

func TestReplaceRemovesAllOthers(t *testing.T) {
	b := newBench(t)
	b.attach()
	for p := range uint16(3) {
		b.s.Steer(session(p+1, "n1"), nil)
	}
	b.w.take(nil)
	b.s.Replace([]Session{session(1, "n1"), session(2, "n2")})
	got := b.w.take(nil)
	if len(got) != 2 || !strings.Contains(strings.Join(got, ";"), "2 to 2") || !strings.Contains(strings.Join(got, ";"), "forget 3") {
		t.Errorf("sent %v", got)
	}
}

// stat is how a switch reports a session's flow.
func stat(s Session, node byte) openflow.FlowStat {
	f := flowOf(s, Target{Node: pipeline.Node{MAC: []byte{2, 0, 0, 0, 0, node}}})
	return openflow.FlowStat{Table: f.Table, Priority: f.Priority, Cookie: f.Cookie, Match: f.Match}
}

func TestFlowsOfAnEarlierControllerAreKeptUntilReplace(t *testing.T) {
	b := newBench(t)
	right, wrong, gone := stat(session(1, "n1"), 1), stat(session(2, "n2"), 1), stat(session(3, "n1"), 1)
	flows := []openflow.FlowStat{right, wrong, gone}
	b.attach(flows...)
	b.sends(nil)
	b.s.Replace([]Session{session(1, "n1"), session(2, "n2")})
	b.w.sent = nil // Adopt follows at once; see what it finds on its own
	b.s.Detach()
	if stale := b.attach(flows...); len(stale) != 0 {
		t.Errorf("stale: %v", stale)
	}
	got := strings.Join(b.w.take(nil), ";")
	if strings.Contains(got, "1 to") || !strings.Contains(got, "2 to 2") || !strings.Contains(got, "forget 3") {
		t.Errorf("sent %s", got)
	}
}

func TestASessionUnknownBeforeReplaceCanEnd(t *testing.T) {
	b := newBench(t)
	b.attach()
	b.s.End(key(1))
	b.now = b.now.Add(2 * time.Second)
	b.s.Tick()
	b.sends(nil, "forget 1")
	b.s.Unsteer(key(2), "", b.say("unsteer"))
	b.sends(nil, "forget 2")
	b.heard("unsteer: <nil>")
	b.s.Replace(nil)
	b.s.End(key(3))
	b.s.Unsteer(key(4), "", b.say("nothing"))
	b.now = b.now.Add(2 * time.Second)
	b.s.Tick()
	b.sends(nil)
	b.heard("nothing: <nil>")
}

func TestMarksAreSetAndForgotten(t *testing.T) {
	b := newBench(t)
	stale := b.s.Attach(b.w, Marks{Zone: 5}, b.resolve, []openflow.FlowStat{stat(session(9, "n1"), 1)})
	if len(stale) != 0 {
		t.Errorf("before Replace: stale %v", stale)
	}
	b.s.Replace(nil)
	if stale := b.s.Adopt([]openflow.FlowStat{stat(session(9, "n1"), 1)}); len(stale) != 1 {
		t.Errorf("%d flows of the other method are stale, want 1", len(stale))
	}
	b.s.Steer(session(1, "n2"), nil)
	b.sends(nil, "mark 1 00070002, track, track")
	b.s.Unsteer(key(1), "", nil)
	b.sends(nil, "forget 1")
	b.s.Steer(session(1, "n1"), nil)
	b.w.take(nil)
	b.nodes["n1"] = 9
	b.s.Retarget(false, map[string]bool{"n1": true})
	b.sends(nil) // the mark names the node by number
}

func TestMoreRequestsThanTheWindowWait(t *testing.T) {
	b := newBench(t)
	b.attach()
	n := 0
	for p := range uint16(window + 100) {
		b.s.Steer(session(p+1, "n1"), func(err error) {
			if err != nil {
				t.Error(err)
			}
			n++
		})
	}
	if len(b.w.sent) != window {
		t.Errorf("%d requests are under way, want %d", len(b.w.sent), window)
	}
	for len(b.w.sent) > 0 {
		b.w.take(nil)
	}
	if n != window+100 {
		t.Errorf("%d answers", n)
	}
}

func TestMixedFamiliesAreRefused(t *testing.T) {
	b := newBench(t)
	b.attach()
	s := session(1, "n1")
	s.Local = netip.MustParseAddrPort("[fd31::1]:80")
	b.s.Steer(s, func(err error) {
		if err == nil {
			t.Error("no error")
		}
	})
	b.sends(nil)
}

func TestIndexesAreStable(t *testing.T) {
	x := NewIndexes()
	seen := map[uint16]bool{}
	for _, name := range []string{"a", "b", "a", "c"} {
		n, err := x.Index(KindNode, name)
		if err != nil || n == 0 || seen[n] != (name == "a" && len(seen) == 2) {
			t.Errorf("%s has number %d, %v", name, n, err)
		}
		seen[n] = true
	}
	for i := range 70000 {
		if _, err := x.Index(KindAddress, fmt.Sprint(i)); (err != nil) != (i >= 65535) {
			t.Fatalf("number %d: %v", i, err)
		}
	}
}
