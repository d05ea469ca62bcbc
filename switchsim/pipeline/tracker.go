package pipeline

import (
	"sync"
	"time"

	"github.com/shunt-sdn/shunt/switchsim/packet"
	"github.com/shunt-sdn/shunt/switchsim/wire"
)

// tuple names a connection in one direction, in one zone.
type tuple struct {
	zone     uint16
	proto    uint8
	src, dst [16]byte
	sp, dp   uint16
	v6       bool
}

func (t tuple) reverse() tuple {
	t.src, t.dst, t.sp, t.dp = t.dst, t.src, t.dp, t.sp
	return t
}

// tupleOf returns the tuple of a packet; false: it cannot be tracked.
func tupleOf(k *packet.Key, zone uint16) (tuple, bool) {
	t := tuple{zone: zone, proto: k.U8(packet.IPProto)}
	switch k.U16(packet.EthType) {
	case packet.TypeIPv4:
		copy(t.src[:], k.Get(packet.IPv4Src))
		copy(t.dst[:], k.Get(packet.IPv4Dst))
	case packet.TypeIPv6:
		t.v6 = true
		copy(t.src[:], k.Get(packet.IPv6Src))
		copy(t.dst[:], k.Get(packet.IPv6Dst))
	default:
		return t, false
	}
	if k.U8(packet.IPFrag)&packet.FragLater != 0 {
		return t, false // no ports; this tracker does not reassemble
	}
	switch t.proto {
	case packet.ProtoTCP, packet.ProtoUDP, packet.ProtoSCTP:
		t.sp, t.dp = k.U16(packet.TCPSrc), k.U16(packet.TCPDst)
	}
	return t, true
}

// States of a tracked connection, as far as lifetimes depend on them.
type state uint8

const (
	opening state = iota
	established
	closing // one side sent FIN
	closed  // both sides did, or one reset
)

// lifetimes are those of Open vSwitch's userspace tracker.
var lifetimes = map[state]time.Duration{
	opening: 30 * time.Second, established: 24 * time.Hour, closing: 15 * time.Minute, closed: 30 * time.Second,
}

// A Connection is a committed entry of the tracker.
type connection struct {
	original tuple
	mark     uint32
	state    state
	seen     bool    // a packet of the reply direction was seen
	fin      [2]bool // original, reply
	expires  time.Time
}

// A Tracker remembers committed connections, in zones. It is the subset of Open
// vSwitch's connection tracker that steering uses: states, marks, commits; no
// NAT, helpers, sequence checks or reassembly. It is safe for concurrent use.
type Tracker struct {
	capacity int
	mu       sync.Mutex
	entries  map[tuple]*connection // under the tuples of both directions
}

// NewTracker returns an empty tracker for so many connections.
func NewTracker(capacity int) *Tracker {
	return &Tracker{capacity: capacity, entries: map[tuple]*connection{}}
}

// Len returns the number of connections.
func (t *Tracker) Len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.entries) / 2
}

// Track runs a packet through the tracker: the key's ct_state, ct_zone and
// ct_mark become what the tracker knows, and the connection is committed if ct
// says so.
func (t *Tracker) Track(k *packet.Key, ct *wire.CT, now time.Time) {
	k.PutU16(packet.CTZone, ct.Zone)
	k.PutU32(packet.CTMark, 0)
	tp, ok := tupleOf(k, ct.Zone)
	flags := k.U16(packet.TCPFlags)
	if !ok || tp.proto == packet.ProtoTCP && nonsense(flags) {
		k.PutU32(packet.CTState, wire.CTTracked|wire.CTInvalid)
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	c := t.entries[tp]
	if c != nil && !now.Before(c.expires) {
		t.remove(c)
		c = nil
	}
	reply := c != nil && c.original != tp
	if c != nil && (ct.Force && reply || tp.proto == packet.ProtoTCP && c.state == closed && flags&0x12 == 0x02) {
		t.remove(c) // forced to this direction, or a new connection on old ports
		c, reply = nil, false
	}
	if c == nil {
		t.first(k, ct, tp, flags, now)
		return
	}
	c.advance(tp.proto, flags, reply, now)
	s := uint32(wire.CTTracked)
	switch {
	case c.state == opening && !c.seen:
		s |= wire.CTNew
	default:
		s |= wire.CTEstablished
	}
	if reply {
		s |= wire.CTReply
	}
	k.PutU32(packet.CTState, s)
	k.PutU32(packet.CTMark, c.mark)
	if ct.Commit {
		c.mark = execMark(ct.Exec, c.mark)
		k.PutU32(packet.CTMark, c.mark)
	}
}

// first handles a packet of an unknown connection.
func (t *Tracker) first(k *packet.Key, ct *wire.CT, tp tuple, flags uint16, now time.Time) {
	// A SYN+ACK, FIN or RST begins nothing; an ACK may be of a connection that was
	// there before the tracker.
	if tp.proto == packet.ProtoTCP && (flags&0x12 == 0x12 || flags&0x05 != 0 && flags&0x10 == 0) {
		k.PutU32(packet.CTState, wire.CTTracked|wire.CTInvalid)
		return
	}
	k.PutU32(packet.CTState, wire.CTTracked|wire.CTNew)
	if !ct.Commit || len(t.entries)/2 >= t.capacity {
		return
	}
	c := &connection{original: tp}
	if tp.proto == packet.ProtoTCP && flags&0x02 == 0 {
		c.state = established
	}
	c.advance(tp.proto, flags, false, now)
	c.mark = execMark(ct.Exec, 0)
	t.entries[tp], t.entries[tp.reverse()] = c, c
	k.PutU32(packet.CTMark, c.mark)
}

// advance follows the connection's state.
func (c *connection) advance(proto uint8, flags uint16, reply bool, now time.Time) {
	if reply {
		c.seen = true
	}
	switch {
	case proto != packet.ProtoTCP:
		if c.seen {
			c.state = established
		}
		c.expires = now.Add(time.Minute)
		return
	case flags&0x04 != 0:
		c.state = closed
	case flags&0x01 != 0:
		i := 0
		if reply {
			i = 1
		}
		c.fin[i] = true
		c.state = closing
		if c.fin[0] && c.fin[1] {
			c.state = closed
		}
	case c.state == opening && c.seen && flags&0x10 != 0:
		c.state = established
	}
	c.expires = now.Add(lifetimes[c.state])
}

func (t *Tracker) remove(c *connection) {
	delete(t.entries, c.original)
	delete(t.entries, c.original.reverse())
}

// Flush forgets the connections of a zone.
func (t *Tracker) Flush(zone uint16) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for tp := range t.entries {
		if tp.zone == zone {
			delete(t.entries, tp)
		}
	}
}

// sweep bounds the entries that one Expire looks at, so that packets never wait
// long for it.
const sweep = 10000

// Expire forgets connections whose lifetime is over. It is to be called about once
// a second. Of very many connections it looks at a random part each time; one that
// is over and still there counts as gone anyway.
func (t *Tracker) Expire(now time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := 0
	for _, c := range t.entries {
		if !now.Before(c.expires) {
			t.remove(c)
		}
		if n++; n == sweep {
			return
		}
	}
}

// nonsense reports combinations of TCP flags that no stack sends.
func nonsense(flags uint16) bool {
	const fin, syn, rst, ack, urg = 1, 2, 4, 16, 32
	f := flags &^ (8 | 64 | 128 | 256)
	switch {
	case f&syn != 0:
		return f&(rst|fin) != 0
	case f&ack == 0:
		return f&rst == 0 || f&(fin|urg) != 0
	}
	return false
}

// execMark runs the set-field actions of a commit on a mark.
func execMark(exec []wire.Action, mark uint32) uint32 {
	for _, a := range exec {
		s := a.(wire.SetField)
		v, mask := be32(s.Value), ^uint32(0)
		if s.Mask != nil {
			mask = be32(s.Mask)
		}
		mark = mark&^mask | v&mask
	}
	return mark
}

func be32(b []byte) uint32 {
	return uint32(b[0])<<24 | uint32(b[1])<<16 | uint32(b[2])<<8 | uint32(b[3])
}
