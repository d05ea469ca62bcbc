package fabric

import (
	"net/netip"
	"testing"
	"time"
)

var (
	anyHost = netip.MustParseAddr("10.0.0.9")
	v6Host  = netip.MustParseAddr("fd00::9")
	t0      = time.Unix(1000, 0)
)

// asked counts the questions that are asked in a span of time, looked for often.
func asked(n *neighbours, now *time.Time, span time.Duration) (all []question, gone bool) {
	for end := now.Add(span); now.Before(end); *now = now.Add(lookEvery) {
		q, g := n.due(*now, 64)
		all, gone = append(all, q...), gone || g
	}
	return all, gone
}

func TestAHostThatDoesNotAnswerIsForgotten(t *testing.T) {
	for _, a := range []netip.Addr{anyHost, v6Host} {
		n, now := newNeighbours(), t0
		n.want(a, 0, &heldPacket{data: []byte{1}}, now)
		q, _ := asked(n, &now, time.Minute)
		if len(q) != asksBeforeGone || q[0].mac != nil {
			t.Errorf("questions %+v, want %d to everyone", q, asksBeforeGone)
		}
		if len(n.entries) != 0 || n.held != 0 {
			t.Errorf("left: %d entries, %d packets", len(n.entries), n.held)
		}
	}
}

func TestAPinnedHostIsAskedForWithoutEndAndKept(t *testing.T) {
	n, now := newNeighbours(), t0
	n.pin(map[netip.Addr]int{anyHost: 0}, now)
	if q, _ := asked(n, &now, 5*time.Minute); len(q) < 25 || len(q) > 45 {
		t.Errorf("%d questions in five minutes, want about one in ten seconds", len(q))
	}
	if !n.learn(anyHost, 0, "p1", mustMAC(gwNodes), now) {
		t.Error("the answer changes nothing")
	}
	if q, gone := asked(n, &now, 5*time.Minute); gone || len(q) == 0 || q[0].mac == nil || q[1].mac != nil {
		t.Errorf("gone %v, questions %+v", gone, q)
	}
	if e := n.entries[anyHost]; !e.resolved {
		t.Error("a pinned host is forgotten")
	}
	n.pin(nil, now)
	if _, gone := asked(n, &now, 5*time.Minute); !gone || len(n.entries) != 0 {
		t.Error("a host that is not pinned any more, and silent, is kept")
	}
}

func TestAHostIsAskedAgainAndItsMoveIsAChange(t *testing.T) {
	n, now := newNeighbours(), t0
	n.learn(anyHost, 0, "p1", mustMAC(gwNodes), now)
	if n.learn(anyHost, 0, "p1", mustMAC(gwNodes), now) {
		t.Error("the same again is a change")
	}
	if !n.learn(anyHost, 0, "p2", mustMAC(gwNodes), now) || !n.learn(anyHost, 0, "p2", mustMAC(gwClients), now) {
		t.Error("another port or hardware address is no change")
	}
	for range 5 { // it answers
		now = now.Add(refreshOther)
		if q, gone := n.due(now, 64); len(q) != 1 || q[0].port != "p2" || gone {
			t.Fatalf("questions %+v", q)
		}
		n.learn(anyHost, 0, "p2", mustMAC(gwClients), now)
	}
}

func TestHeldPacketsAreBounded(t *testing.T) {
	n := newNeighbours()
	for i := range byte(2 * maxHeldPerHost) {
		n.want(anyHost, 0, &heldPacket{data: []byte{i}}, t0)
	}
	held := n.release(anyHost)
	if len(held) != maxHeldPerHost || held[0].data[0] != maxHeldPerHost || n.held != 0 {
		t.Errorf("held %v, count %d", held, n.held)
	}
	a := netip.MustParseAddr("10.1.0.0")
	for range 2 * maxNeighbours {
		n.want(a, 0, &heldPacket{}, t0)
		a = a.Next()
	}
	if n.held > maxHeld || len(n.entries) > maxNeighbours {
		t.Errorf("%d packets of %d hosts are held", n.held, len(n.entries))
	}
	if q, _ := n.due(t0, 10); len(q) != 10 {
		t.Errorf("%d questions at once, want 10", len(q))
	}
}
