package pipeline

import (
	"cmp"
	"hash/fnv"
	"math"
	"slices"
	"sync/atomic"
	"time"

	"github.com/shunt-sdn/shunt/switchsim/packet"
	"github.com/shunt-sdn/shunt/switchsim/wire"
)

type group struct {
	id      uint32
	typ     uint8
	buckets []wire.Bucket
	created time.Time
	packets atomic.Uint64
	bytes   atomic.Uint64
	counts  []bucketCount
}

type bucketCount struct{ packets, bytes atomic.Uint64 }

// GroupMod carries out a group mod. Removing a group removes the flows that use it.
// An error is a *wire.Error.
func (p *Pipeline) GroupMod(m *wire.GroupMod, now time.Time) ([]Removed, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if m.Command == wire.GroupDelete {
		return p.deleteGroups(m.ID, now), nil
	}
	old := p.groups[m.ID]
	switch {
	case m.Command == wire.GroupAdd && old != nil:
		return nil, wire.ErrGroupExists
	case m.Command == wire.GroupModify && old == nil:
		return nil, wire.ErrUnknownGroup
	case old == nil && p.cfg.GroupCapacity > 0 && len(p.groups) >= p.cfg.GroupCapacity:
		return nil, wire.ErrOutOfGroups
	}
	for _, b := range m.Buckets {
		for _, a := range b.Actions {
			if g, ok := a.(wire.Group); ok {
				if p.groups[g.ID] == nil {
					return nil, wire.ErrOutGroup
				}
				if p.reaches(g.ID, m.ID) {
					return nil, wire.ErrGroupLoop
				}
			}
		}
	}
	g := &group{id: m.ID, typ: m.Type, buckets: m.Buckets, created: now, counts: make([]bucketCount, len(m.Buckets))}
	if old != nil {
		g.created = old.created
	}
	p.groups[m.ID] = g
	p.touch(now)
	return nil, nil
}

// reaches reports whether running group from may run group to.
func (p *Pipeline) reaches(from, to uint32) bool {
	if from == to {
		return true
	}
	g := p.groups[from]
	if g == nil {
		return false
	}
	for _, b := range g.buckets {
		for _, a := range b.Actions {
			if next, ok := a.(wire.Group); ok && p.reaches(next.ID, to) {
				return true
			}
		}
	}
	return false
}

func (p *Pipeline) deleteGroups(id uint32, now time.Time) []Removed {
	var removed []Removed
	for gid := range p.groups {
		if id != wire.GroupAll && gid != id {
			continue
		}
		delete(p.groups, gid)
		var gone []*Flow
		for _, t := range p.tables {
			t.each(&wire.Match{}, 0, 0, func(f *Flow) bool {
				if refers(f.program, wire.PortAny, gid) {
					gone = append(gone, f)
				}
				return true
			})
		}
		removed = append(removed, p.drop(gone, wire.RemovedGroup, now)...)
		p.touch(now)
	}
	return removed
}

// choose returns the buckets that a packet with this key runs.
func (p *Pipeline) choose(g *group, k *packet.Key) []int {
	switch g.typ {
	case wire.GroupTypeAll:
		all := make([]int, len(g.buckets))
		for i := range all {
			all[i] = i
		}
		return all
	case wire.GroupTypeFailover:
		for i := range g.buckets {
			if p.live(&g.buckets[i], 0) {
				return []int{i}
			}
		}
		return nil
	case wire.GroupTypeIndirect:
		return []int{0}
	}
	// Weighted rendezvous hashing: a bucket that comes or goes moves only its own share.
	best, bestScore := -1, math.Inf(-1)
	h := flowHash(k)
	for i := range g.buckets {
		b := &g.buckets[i]
		if b.Weight == 0 || b.WatchPort != wire.PortAny && !p.live(b, 0) {
			continue
		}
		x := mix(h ^ mix(uint64(i)+1))
		score := float64(b.Weight) / -math.Log((float64(x>>11)+0.5)/(1<<53))
		if score > bestScore {
			best, bestScore = i, score
		}
	}
	if best < 0 {
		return nil
	}
	return []int{best}
}

// live reports whether what a bucket watches is up.
func (p *Pipeline) live(b *wire.Bucket, depth int) bool {
	if b.WatchPort != wire.PortAny && b.WatchPort != 0 {
		return p.ports[b.WatchPort].Live
	}
	g := p.groups[b.WatchGroup]
	if g == nil || depth > maxDepth {
		return b.WatchGroup == wire.GroupAny
	}
	for i := range g.buckets {
		if p.live(&g.buckets[i], depth+1) {
			return true
		}
	}
	return false
}

// flowHash is the same for every packet of a connection in one direction.
func flowHash(k *packet.Key) uint64 {
	h := fnv.New64a()
	fields := []packet.Field{packet.EthSrc, packet.EthDst, packet.EthType}
	if t := k.U16(packet.EthType); t == packet.TypeIPv4 || t == packet.TypeIPv6 {
		fields = []packet.Field{packet.IPProto, packet.IPv4Src, packet.IPv4Dst, packet.IPv6Src, packet.IPv6Dst}
		if proto := k.U8(packet.IPProto); proto == packet.ProtoTCP || proto == packet.ProtoUDP || proto == packet.ProtoSCTP {
			fields = append(fields, packet.TCPSrc, packet.TCPDst)
		}
	}
	for _, f := range fields {
		h.Write(k.Get(f))
	}
	return mix(h.Sum64())
}

// mix is the finaliser of SplitMix64.
func mix(x uint64) uint64 {
	x ^= x >> 30
	x *= 0xbf58476d1ce4e5b9
	x ^= x >> 27
	x *= 0x94d049bb133111eb
	return x ^ x>>31
}

// A GroupStat describes a group.
type GroupStat struct {
	ID             uint32
	Type           uint8
	References     uint32
	Packets, Bytes uint64
	Created        time.Time
	Buckets        []wire.Bucket
	BucketCounts   [][2]uint64 // packets, octets
}

// Groups returns one group, or all if id is wire.GroupAll, by number.
func (p *Pipeline) Groups(id uint32) []GroupStat {
	p.mu.RLock()
	defer p.mu.RUnlock()
	references := map[uint32]uint32{}
	for _, t := range p.tables {
		t.each(&wire.Match{}, 0, 0, func(f *Flow) bool {
			for _, list := range [][]wire.Action{f.program.Apply, f.program.Write} {
				for _, a := range list {
					if g, ok := a.(wire.Group); ok {
						references[g.ID]++
					}
				}
			}
			return true
		})
	}
	var out []GroupStat
	for _, g := range p.groups {
		if id != wire.GroupAll && g.id != id {
			continue
		}
		s := GroupStat{ID: g.id, Type: g.typ, References: references[g.id], Packets: g.packets.Load(), Bytes: g.bytes.Load(),
			Created: g.created, Buckets: g.buckets}
		for i := range g.counts {
			s.BucketCounts = append(s.BucketCounts, [2]uint64{g.counts[i].packets.Load(), g.counts[i].bytes.Load()})
		}
		out = append(out, s)
	}
	slices.SortFunc(out, func(a, b GroupStat) int { return cmp.Compare(a.ID, b.ID) })
	return out
}
