package pipeline

import (
	"cmp"
	"slices"
	"sync/atomic"
	"time"

	"github.com/shunt-sdn/shunt/switchsim/packet"
	"github.com/shunt-sdn/shunt/switchsim/wire"
)

// A Flow is an entry of a flow table. The atomic fields may be read and written
// under the pipeline's read lock, all others change under its write lock only.
type Flow struct {
	Table    uint8
	Priority uint16
	Match    wire.Match
	Cookie   uint64
	Flags    uint16
	Idle     time.Duration
	Hard     time.Duration
	Created  time.Time
	modified time.Time // for the hard timeout

	program  *wire.Instructions // replaced, never written to
	sequence uint64
	packets  atomic.Uint64
	bytes    atomic.Uint64
	used     atomic.Int64 // UnixNano of the last packet
}

// Instructions returns what the flow does.
func (f *Flow) Instructions() *wire.Instructions { return f.program }

// Counters returns the packets and octets that matched.
func (f *Flow) Counters() (packets, octets uint64) { return f.packets.Load(), f.bytes.Load() }

// isMiss reports whether this is a table-miss entry, 5.4 of the specification.
func (f *Flow) isMiss() bool { return f.Priority == 0 && f.Match.Mask == packet.Key{} }

// A table finds flows by tuple space search: the flows with one mask are in one
// hash table, so a lookup costs as many probes as there are masks, however many
// flows there are.
type table struct {
	subtables []*subtable // the highest priority first
	byMask    map[packet.Key]*subtable
	byCookie  map[uint64]map[*Flow]struct{}
	timed     map[*Flow]struct{} // those with a timeout
	count     int

	lookups, matches atomic.Uint64
}

type subtable struct {
	mask       packet.Key
	flows      map[packet.Key][]*Flow // the highest priority first
	priorities map[uint16]int
	top        uint16
}

func newTable() *table {
	return &table{byMask: map[packet.Key]*subtable{}, byCookie: map[uint64]map[*Flow]struct{}{}, timed: map[*Flow]struct{}{}}
}

// lookup returns the flow of the highest priority that matches, or nil.
func (t *table) lookup(k *packet.Key) *Flow {
	var best *Flow
	for _, s := range t.subtables {
		if best != nil && best.Priority >= s.top {
			break
		}
		if l := s.flows[k.And(&s.mask)]; len(l) > 0 && (best == nil || l[0].Priority > best.Priority) {
			best = l[0]
		}
	}
	return best
}

// exact returns the flow with this very match and priority, or nil.
func (t *table) exact(m *wire.Match, priority uint16) *Flow {
	s := t.byMask[m.Mask]
	if s == nil {
		return nil
	}
	for _, f := range s.flows[m.Value] {
		if f.Priority == priority {
			return f
		}
	}
	return nil
}

// add puts a flow in. There is none with the same match and priority.
func (t *table) add(f *Flow) {
	s := t.byMask[f.Match.Mask]
	if s == nil {
		s = &subtable{mask: f.Match.Mask, flows: map[packet.Key][]*Flow{}, priorities: map[uint16]int{}}
		t.byMask[s.mask] = s
		t.subtables = append(t.subtables, s)
	}
	l := append(s.flows[f.Match.Value], f)
	slices.SortFunc(l, func(a, b *Flow) int { return cmp.Compare(b.Priority, a.Priority) })
	s.flows[f.Match.Value] = l
	s.priorities[f.Priority]++
	t.count++
	if t.byCookie[f.Cookie] == nil {
		t.byCookie[f.Cookie] = map[*Flow]struct{}{}
	}
	t.byCookie[f.Cookie][f] = struct{}{}
	if f.Idle > 0 || f.Hard > 0 {
		t.timed[f] = struct{}{}
	}
	t.reorder(s)
}

// remove takes a flow of the table out.
func (t *table) remove(f *Flow) {
	s := t.byMask[f.Match.Mask]
	l := s.flows[f.Match.Value]
	if len(l) == 1 {
		delete(s.flows, f.Match.Value)
	} else {
		s.flows[f.Match.Value] = slices.DeleteFunc(slices.Clone(l), func(o *Flow) bool { return o == f })
	}
	if s.priorities[f.Priority]--; s.priorities[f.Priority] == 0 {
		delete(s.priorities, f.Priority)
	}
	t.count--
	delete(t.timed, f)
	delete(t.byCookie[f.Cookie], f)
	if len(t.byCookie[f.Cookie]) == 0 {
		delete(t.byCookie, f.Cookie)
	}
	if len(s.flows) == 0 {
		delete(t.byMask, s.mask)
		t.subtables = slices.DeleteFunc(t.subtables, func(o *subtable) bool { return o == s })
		return
	}
	t.reorder(s)
}

// reorder restores the order of the subtables after one changed.
func (t *table) reorder(s *subtable) {
	top := uint16(0)
	for p := range s.priorities { // few: flows of one shape have few priorities
		top = max(top, p)
	}
	if s.top == top && len(s.flows) > 1 {
		return
	}
	s.top = top
	slices.SortStableFunc(t.subtables, func(a, b *subtable) int { return cmp.Compare(b.top, a.top) })
}

// each calls fn for the flows that may meet the filter, in no order, until fn
// returns false. fn must not change the table.
func (t *table) each(match *wire.Match, cookie, cookieMask uint64, fn func(*Flow) bool) {
	if cookieMask == ^uint64(0) {
		for f := range t.byCookie[cookie] {
			if subsumes(match, &f.Match) && !fn(f) {
				return
			}
		}
		return
	}
	for _, s := range t.subtables {
		if !s.mask.Covers(&match.Mask) {
			continue
		}
		if s.mask == match.Mask {
			for _, f := range s.flows[match.Value] {
				if f.Cookie&cookieMask == cookie&cookieMask && !fn(f) {
					return
				}
			}
			continue
		}
		for v, l := range s.flows {
			if v.And(&match.Mask) != match.Value {
				continue
			}
			for _, f := range l {
				if f.Cookie&cookieMask == cookie&cookieMask && !fn(f) {
					return
				}
			}
		}
	}
}

// subsumes reports whether every packet that m matches is matched by filter.
func subsumes(filter, m *wire.Match) bool {
	return m.Mask.Covers(&filter.Mask) && m.Value.And(&filter.Mask) == filter.Value
}

// overlaps reports whether some packet could match both.
func overlaps(a, b *wire.Match) bool {
	both := a.Mask.And(&b.Mask)
	return a.Value.And(&both) == b.Value.And(&both)
}
