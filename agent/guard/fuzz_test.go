package guard

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"testing"

	"github.com/cilium/ebpf"
)

// FuzzVerdict runs frames of any content through the program, without a
// network: whatever is no TCP to a session address must pass, and only what is
// for an address that another dispatcher is asked for is forwarded, to that one's.
func FuzzVerdict(f *testing.F) {
	x := lone(f)
	x.open(Options{MaxDivert: 1024})
	pools := []netip.Prefix{families[0].pool, families[1].pool}
	if err := x.g.SetPools(pools); err != nil {
		f.Fatal(err)
	}
	homes, others := make(map[netip.Addr]Home), make(map[Share]Another)
	asked := make(map[netip.Addr]netip.Addr)
	for _, fam := range families {
		at := fam.atB().Addr()
		homes[at], asked[at] = Home{Self: true}, fam.session.Addr()
		for _, s := range allSlots() {
			others[Share{at, s}] = Another{fam.session.Addr(), x.mac, 0}
		}
	}
	if err := errors.Join(x.g.SetHomes(homes), x.g.SetOthers(others)); err != nil {
		f.Fatal(err)
	}
	// The kernel runs it as if the frame had come to lo, whose MAC is zeros.
	lo := &node{mac: make([]byte, 6)}
	for _, fam := range families {
		for _, s := range []segment{
			{flags: "S"}, {flags: "A"}, {flags: "A", options: true}, {udp: true}, {flags: "A", vlan: true},
			{flags: "A", cut: 8}, {flags: "A", more: true}, {flags: "A", v4Fragment: 9, v6Fragment: 9}, {flags: "A", extensions: 9},
		} {
			s.from, s.to, s.src, s.dst = x, lo, stray(fam), fam.session
			f.Add(s.bytes(f))
			s.dst = fam.atB()
			f.Add(s.bytes(f))
		}
	}
	f.Fuzz(func(t *testing.T, frame []byte) {
		if len(frame) < 14 || len(frame) > 2000 {
			return // not a frame
		}
		before, err := x.g.Counters()
		if err != nil {
			t.Fatal(err)
		}
		o := &ebpf.RunOptions{Data: frame, DataOut: make([]byte, len(frame)+256)}
		verdict, err := x.g.prog.Run(o)
		if err != nil {
			return // the kernel refuses some frames before it runs the program
		}
		after, err := x.g.Counters()
		if err != nil {
			t.Fatal(err)
		}
		switch int32(verdict) {
		case -1:
		case 2:
			if !toPool(frame, pools) {
				t.Fatalf("dropped %x", frame)
			}
		case 7: // a redirect
			if other, ok := asked[destination(frame)]; !ok || destination(o.DataOut) != other {
				t.Fatalf("forwarded %x as %x", frame, o.DataOut)
			}
		default:
			t.Fatalf("verdict %d for %x", verdict, frame)
		}
		if before != after && !toPool(frame, pools) {
			t.Fatalf("looked at %x", frame)
		}
	})
}

func toPool(frame []byte, pools []netip.Prefix) bool {
	dst := destination(frame)
	return pools[0].Contains(dst) || pools[1].Contains(dst)
}

// destination returns a frame's destination address, the zero Addr if it has none.
func destination(frame []byte) (dst netip.Addr) {
	switch ip := frame[14:]; {
	case binary.BigEndian.Uint16(frame[12:]) == 0x0800 && len(ip) >= 20:
		dst = netip.AddrFrom4([4]byte(ip[16:]))
	case binary.BigEndian.Uint16(frame[12:]) == 0x86dd && len(ip) >= 40:
		dst = netip.AddrFrom16([16]byte(ip[24:])).Unmap()
	}
	return dst
}
