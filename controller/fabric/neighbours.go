package fabric

import (
	"bytes"
	"net"
	"net/netip"
	"slices"
	"time"
)

// neighbours is what a switch knows of the hosts on its links: who is asked
// for, who answered, and when to ask again. It does no I/O.
type neighbours struct {
	entries map[netip.Addr]*neighbour
	held    int // packets, of all entries
}

// A neighbour is an address on a link.
type neighbour struct {
	iface int
	// pinned ones, nodes and routers, are asked for until they answer, and
	// what was learned of them is kept when they stop: the controller hears of
	// a dead node from elsewhere, and flows to a dead one do no harm.
	pinned    bool
	resolved  bool
	mac       net.HardwareAddr
	port      string
	confirmed time.Time
	asked     int       // questions since the last answer
	next      time.Time // question
	held      []heldPacket
}

// A heldPacket waits for its next hop to be resolved.
type heldPacket struct {
	inPort uint32
	data   []byte
}

const (
	maxNeighbours   = 16384
	maxHeldPerHost  = 4
	maxHeld         = 512
	askFirst        = 100 * time.Millisecond // then twice that, and so on
	askAtMost       = time.Second
	asksBeforeGone  = 5
	pinnedAskAtMost = 10 * time.Second
	refreshPinned   = 30 * time.Second
	refreshOther    = 60 * time.Second
)

func newNeighbours() *neighbours { return &neighbours{entries: map[netip.Addr]*neighbour{}} }

// pin sets the addresses that are always wanted, with their interfaces.
func (n *neighbours) pin(wanted map[netip.Addr]int, now time.Time) {
	for a, e := range n.entries {
		if _, ok := wanted[a]; !ok {
			e.pinned = false
		}
	}
	for a, iface := range wanted {
		e := n.entry(a, iface, now)
		if !e.pinned {
			e.pinned = true
			if !e.resolved {
				e.asked, e.next = 0, now
			}
		}
	}
}

// want asks for an address. Its packet, if any, is held until it is resolved;
// the oldest give way.
func (n *neighbours) want(a netip.Addr, iface int, p *heldPacket, now time.Time) {
	if _, ok := n.entries[a]; !ok && len(n.entries) >= maxNeighbours {
		return
	}
	e := n.entry(a, iface, now)
	if p == nil || n.held >= maxHeld && len(e.held) == 0 {
		return
	}
	if len(e.held) >= maxHeldPerHost {
		e.held = e.held[1:]
		n.held--
	}
	e.held = append(e.held, *p)
	n.held++
}

func (n *neighbours) entry(a netip.Addr, iface int, now time.Time) *neighbour {
	e, ok := n.entries[a]
	if !ok {
		e = &neighbour{iface: iface, next: now}
		n.entries[a] = e
	}
	e.iface = iface
	return e
}

// learn notes that a host answered or asked. It returns whether that changes
// the way to it.
func (n *neighbours) learn(a netip.Addr, iface int, port string, mac net.HardwareAddr, now time.Time) bool {
	if _, ok := n.entries[a]; !ok && len(n.entries) >= maxNeighbours {
		return false
	}
	e := n.entry(a, iface, now)
	changed := !e.resolved || e.port != port || !bytes.Equal(e.mac, mac)
	e.resolved, e.mac, e.port, e.confirmed, e.asked = true, slices.Clone(mac), port, now, 0
	e.next = now.Add(refreshOther)
	if e.pinned {
		e.next = now.Add(refreshPinned)
	}
	return changed
}

// release takes the packets that were held for an address.
func (n *neighbours) release(a netip.Addr) []heldPacket {
	e, ok := n.entries[a]
	if !ok {
		return nil
	}
	held := e.held
	e.held = nil
	n.held -= len(held)
	return held
}

// A question is to be asked on an interface's link: of the host at mac on a
// port, or of everyone if mac is nil.
type question struct {
	addr  netip.Addr
	iface int
	mac   net.HardwareAddr
	port  string
}

// due returns the questions that are to be asked now, at most limit of them.
// gone says that a host stopped answering, which changes flows.
func (n *neighbours) due(now time.Time, limit int) (ask []question, gone bool) {
	for a, e := range n.entries {
		if now.Before(e.next) {
			continue
		}
		if e.asked >= asksBeforeGone && !e.pinned {
			n.held -= len(e.held)
			delete(n.entries, a)
			gone = gone || e.resolved
			continue
		}
		if len(ask) >= limit {
			continue
		}
		q := question{addr: a, iface: e.iface}
		if e.resolved && e.asked == 0 { // it is probably where it was
			q.mac, q.port = e.mac, e.port
		}
		ask = append(ask, q)
		e.asked++
		wait := min(askFirst<<min(e.asked-1, 8), askAtMost)
		if over := e.asked - asksBeforeGone; over > 0 {
			wait = min(askAtMost<<min(over, 8), pinnedAskAtMost)
		}
		e.next = now.Add(wait)
	}
	return ask, gone
}
