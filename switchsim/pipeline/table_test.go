package pipeline

import (
	"math/rand/v2"
	"testing"

	"github.com/shunt-sdn/shunt/switchsim/packet"
	"github.com/shunt-sdn/shunt/switchsim/wire"
)

// randomMatch draws from few shapes and values, so that flows meet and overlap.
func randomMatch(r *rand.Rand) wire.Match {
	var m wire.Match
	for _, f := range []packet.Field{packet.InPort, packet.EthType, packet.IPv4Dst, packet.TCPDst, packet.CTMark} {
		switch r.IntN(3) {
		case 0:
			m.Mask.Put(f, []byte{255, 255, 255, 255}[:f.Width()])
		case 1:
			m.Mask.Get(f)[f.Width()-1] = 2
		default:
			continue
		}
		m.Value.Get(f)[f.Width()-1] = byte(r.IntN(4)) & m.Mask.Get(f)[f.Width()-1]
	}
	return m
}

func TestLookupsFindWhatALinearSearchFinds(t *testing.T) {
	for seed := range uint64(20) {
		r := rand.New(rand.NewPCG(seed, 1))
		tb := newTable()
		var flows []*Flow
		for step := range 600 {
			switch {
			case r.IntN(3) == 0 && len(flows) > 0:
				i := r.IntN(len(flows))
				tb.remove(flows[i])
				flows = append(flows[:i], flows[i+1:]...)
			default:
				f := &Flow{Priority: uint16(r.IntN(6)), Match: randomMatch(r), Cookie: uint64(r.IntN(4))}
				if tb.exact(&f.Match, f.Priority) == nil {
					tb.add(f)
					flows = append(flows, f)
				}
			}
			var k packet.Key
			for _, f := range []packet.Field{packet.InPort, packet.EthType, packet.IPv4Dst, packet.TCPDst, packet.CTMark} {
				k.Get(f)[f.Width()-1] = byte(r.IntN(4))
			}
			best := -1
			for _, f := range flows {
				if k.And(&f.Match.Mask) == f.Match.Value {
					best = max(best, int(f.Priority))
				}
			}
			got := tb.lookup(&k)
			if got == nil && best >= 0 || got != nil && int(got.Priority) != best || got != nil && k.And(&got.Match.Mask) != got.Match.Value {
				t.Fatalf("seed %d, step %d: found %+v, want priority %d", seed, step, got, best)
			}
			filter, cookie, mask := randomMatch(r), uint64(r.IntN(4)), []uint64{0, 1, ^uint64(0)}[r.IntN(3)]
			want := 0
			for _, f := range flows {
				if subsumes(&filter, &f.Match) && f.Cookie&mask == cookie&mask {
					want++
				}
			}
			n := 0
			tb.each(&filter, cookie, mask, func(*Flow) bool { n++; return true })
			if n != want || tb.count != len(flows) {
				t.Fatalf("seed %d, step %d: a filter finds %d flows of %d, want %d of %d", seed, step, n, tb.count, want, len(flows))
			}
		}
	}
}

// BenchmarkLookup shows that a lookup does not depend on the number of flows.
func BenchmarkLookup(b *testing.B) {
	for _, n := range []int{100, 50000} {
		tb := newTable()
		for i := range n {
			var m wire.Match
			m.Mask.PutU32(packet.IPv4Src, ^uint32(0))
			m.Mask.PutU16(packet.TCPSrc, ^uint16(0))
			m.Value.PutU32(packet.IPv4Src, uint32(i>>8))
			m.Value.PutU16(packet.TCPSrc, uint16(i))
			tb.add(&Flow{Priority: 9, Match: m})
		}
		var k packet.Key
		k.PutU16(packet.TCPSrc, 77)
		b.Run(map[bool]string{true: "few", false: "many"}[n == 100], func(b *testing.B) {
			for b.Loop() {
				tb.lookup(&k)
			}
		})
	}
}
