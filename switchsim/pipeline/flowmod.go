package pipeline

import (
	"cmp"
	"slices"
	"time"

	"github.com/shunt-sdn/shunt/switchsim/wire"
)

// A Removed is a flow that is gone, and why (wire.Removed…).
type Removed struct {
	Flow   *Flow
	Reason uint8
}

// FlowMod carries out a flow mod. It returns the flows removed that asked for a
// message, and an error of type *wire.Error if nothing was changed.
func (p *Pipeline) FlowMod(m *wire.FlowMod, now time.Time) ([]Removed, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	switch m.Command {
	case wire.FlowAdd:
		return nil, p.addFlow(m, now)
	case wire.FlowModify, wire.FlowModifyStrict:
		return nil, p.modifyFlows(m, now)
	default:
		return p.deleteFlows(m, now), nil
	}
}

// Check reports the error that the flow mod would meet now, without carrying it out.
func (p *Pipeline) Check(m *wire.FlowMod) error {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if m.Command == wire.FlowDelete || m.Command == wire.FlowDeleteStrict {
		return nil
	}
	if err := p.checkGroups(&m.Instructions); err != nil {
		return err
	}
	if m.Command != wire.FlowAdd {
		return nil
	}
	t := p.tables[m.Table]
	if m.Flags&wire.FlagCheckOverlap != 0 && t.overlapping(m) {
		return wire.ErrOverlap
	}
	if p.cfg.TableCapacity > 0 && t.count >= p.cfg.TableCapacity && t.exact(&m.Match, m.Priority) == nil {
		return wire.ErrTableFull
	}
	return nil
}

func (p *Pipeline) checkGroups(in *wire.Instructions) error {
	for _, list := range [][]wire.Action{in.Apply, in.Write} {
		for _, a := range list {
			if g, ok := a.(wire.Group); ok && p.groups[g.ID] == nil {
				return wire.ErrOutGroup
			}
		}
	}
	return nil
}

func (t *table) overlapping(m *wire.FlowMod) bool {
	for _, s := range t.subtables {
		if s.priorities[m.Priority] == 0 {
			continue
		}
		for _, l := range s.flows {
			for _, f := range l {
				if f.Priority == m.Priority && overlaps(&f.Match, &m.Match) {
					return true
				}
			}
		}
	}
	return false
}

func (p *Pipeline) addFlow(m *wire.FlowMod, now time.Time) error {
	t := p.tables[m.Table]
	if err := p.checkGroups(&m.Instructions); err != nil {
		return err
	}
	if m.Flags&wire.FlagCheckOverlap != 0 && t.overlapping(m) {
		return wire.ErrOverlap
	}
	old := t.exact(&m.Match, m.Priority)
	if old == nil && p.cfg.TableCapacity > 0 && t.count >= p.cfg.TableCapacity {
		return wire.ErrTableFull
	}
	p.sequence++
	f := &Flow{
		Table: m.Table, Priority: m.Priority, Match: m.Match, Cookie: m.Cookie, Flags: m.Flags,
		Idle: time.Duration(m.IdleTimeout) * time.Second, Hard: time.Duration(m.HardTimeout) * time.Second,
		Created: now, modified: now, program: &m.Instructions, sequence: p.sequence,
	}
	f.used.Store(now.UnixNano())
	if old != nil {
		if m.Flags&wire.FlagResetCounts == 0 {
			f.packets.Store(old.packets.Load())
			f.bytes.Store(old.bytes.Load())
		}
		t.remove(old)
	}
	t.add(f)
	p.touch(now)
	return nil
}

func (p *Pipeline) modifyFlows(m *wire.FlowMod, now time.Time) error {
	if err := p.checkGroups(&m.Instructions); err != nil {
		return err
	}
	p.selected(m, func(f *Flow) {
		f.program = &m.Instructions
		f.modified = now
		if m.Flags&wire.FlagResetCounts != 0 {
			f.packets.Store(0)
			f.bytes.Store(0)
		}
	})
	p.touch(now)
	return nil
}

func (p *Pipeline) deleteFlows(m *wire.FlowMod, now time.Time) []Removed {
	var gone []*Flow
	p.selected(m, func(f *Flow) {
		if refers(f.program, m.OutPort, m.OutGroup) {
			gone = append(gone, f)
		}
	})
	return p.drop(gone, wire.RemovedDelete, now)
}

// drop removes flows and returns those that want a message.
func (p *Pipeline) drop(gone []*Flow, reason uint8, now time.Time) []Removed {
	var out []Removed
	for _, f := range gone {
		p.tables[f.Table].remove(f)
		if f.Flags&wire.FlagSendFlowRemoved != 0 {
			out = append(out, Removed{f, reason})
		}
	}
	if len(gone) > 0 {
		p.touch(now)
	}
	return out
}

// selected calls fn for the flows that a modify or delete means.
func (p *Pipeline) selected(m *wire.FlowMod, fn func(*Flow)) {
	strict := m.Command == wire.FlowModifyStrict || m.Command == wire.FlowDeleteStrict
	for i, t := range p.tables {
		switch {
		case m.Table != wire.TableAll && int(m.Table) != i:
		case strict:
			if f := t.exact(&m.Match, m.Priority); f != nil && f.Cookie&m.CookieMask == m.Cookie&m.CookieMask {
				fn(f)
			}
		default:
			t.each(&m.Match, m.Cookie, m.CookieMask, func(f *Flow) bool { fn(f); return true })
		}
	}
}

// A FlowStat is a flow as statistics show it, with its counters at that moment.
type FlowStat struct {
	*Flow
	Program        *wire.Instructions
	Packets, Bytes uint64
}

// Flows returns the flows that meet a filter, by table, falling priority, and age.
func (p *Pipeline) Flows(q *wire.FlowFilter) []FlowStat {
	p.mu.RLock()
	var out []FlowStat
	for i, t := range p.tables {
		if q.Table != wire.TableAll && int(q.Table) != i {
			continue
		}
		t.each(&q.Match, q.Cookie, q.CookieMask, func(f *Flow) bool {
			if refers(f.program, q.OutPort, q.OutGroup) {
				out = append(out, FlowStat{f, f.program, f.packets.Load(), f.bytes.Load()})
			}
			return true
		})
	}
	p.mu.RUnlock()
	slices.SortFunc(out, func(a, b FlowStat) int {
		return cmp.Or(cmp.Compare(a.Table, b.Table), cmp.Compare(b.Priority, a.Priority), cmp.Compare(a.sequence, b.sequence))
	})
	return out
}

// Expire removes the flows whose time is over. It is to be called about once a
// second; flows without timeouts cost nothing.
func (p *Pipeline) Expire(now time.Time) []Removed {
	p.mu.Lock()
	defer p.mu.Unlock()
	var idle, hard []*Flow
	for _, t := range p.tables {
		for f := range t.timed {
			switch {
			case f.Hard > 0 && now.Sub(f.modified) >= f.Hard:
				hard = append(hard, f)
			case f.Idle > 0 && now.UnixNano()-f.used.Load() >= int64(f.Idle):
				idle = append(idle, f)
			}
		}
	}
	return append(p.drop(hard, wire.RemovedHard, now), p.drop(idle, wire.RemovedIdle, now)...)
}
