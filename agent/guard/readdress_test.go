package guard

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/shunt-sdn/shunt/internal/testnet"
)

// The kernel checks, if asked to, that a sum over the whole packet that a network
// card has given (CHECKSUM_COMPLETE) is right afterwards.
func TestTheSumThatANetworkCardGaveStaysRight(t *testing.T) {
	const checkSum = 4 // BPF_F_TEST_SKB_CHECKSUM_COMPLETE
	lo := &node{mac: make([]byte, 6)}
	for _, f := range families {
		x := lone(t)
		x.open(Options{MaxDivert: 1024})
		x.askFor(f, f.session.Addr())
		for i := range 500 {
			s := segment{from: x, to: lo, src: stray(f), dst: f.atB(), flags: "A", options: i%2 == 1, payload: strings.Repeat("x", i)}
			frame := s.bytes(t)
			out := make([]byte, len(frame)+256)
			o := &ebpf.RunOptions{Data: frame, DataOut: out, Flags: checkSum}
			verdict, err := x.g.prog.Run(o)
			if i == 0 && errors.Is(err, unix.EINVAL) {
				testnet.Lack(t, "the kernel cannot check it: it lacks BPF_F_TEST_SKB_CHECKSUM_COMPLETE")
			}
			if err != nil || verdict != 7 {
				t.Fatalf("%s, %d bytes of payload: verdict %d, %v; want a redirect with the right sum", f.name, i, int32(verdict), err)
			}
			s.dst, s.ttl = f.session, 16
			if want := s.bytes(t); !bytes.Equal(o.DataOut[14:], want[14:]) {
				t.Fatalf("%s, %d bytes of payload: sent on\n%x, want\n%x", f.name, i, o.DataOut[14:], want[14:])
			}
		}
	}
}

// askFor makes a lone node home of b's session address, where it passes all that
// it does not know on to another.
func (x *node) askFor(f family, other netip.Addr) {
	x.t.Helper()
	others := make(map[Share]Another)
	for _, s := range allSlots() {
		others[Share{f.atB().Addr(), s}] = Another{other, net.HardwareAddr{2, 0, 0, 0, 0, 7}, 0}
	}
	err := errors.Join(
		x.g.SetOthers(others),
		x.g.SetHomes(map[netip.Addr]Home{f.atB().Addr(): {Self: true}}),
		x.g.SetPools([]netip.Prefix{f.pool}),
	)
	if err != nil {
		x.t.Fatal(err)
	}
}

// Each session address that differs in other bits changes the checksum in another
// way, with carries and without.
func TestEveryAddressHasItsChecksum(t *testing.T) {
	lo := &node{mac: make([]byte, 6)}
	for _, f := range families {
		x := lone(t)
		x.open(Options{MaxDivert: 1024})
		for i := range 200 {
			b := f.session.Addr().AsSlice()
			binary.BigEndian.PutUint16(b[len(b)-2:], uint16(i*331))
			other, _ := netip.AddrFromSlice(b)
			x.askFor(f, other)
			s := segment{from: x, to: lo, src: stray(f), dst: f.atB(), flags: "A", payload: "x"}
			o := &ebpf.RunOptions{Data: s.bytes(t), DataOut: make([]byte, 512)}
			if _, err := x.g.prog.Run(o); err != nil {
				t.Fatal(err)
			}
			s.dst, s.ttl = netip.AddrPortFrom(other, f.session.Port()), 16
			if want := s.bytes(t); !bytes.Equal(o.DataOut[14:], want[14:]) {
				t.Fatalf("to %s:\n%x, want\n%x", other, o.DataOut[14:], want[14:])
			}
		}
	}
}
