package sockdiag

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// Offsets in an announcement: a struct nlmsghdr and a struct inet_diag_msg.
const (
	familyAt = 16
	localAt  = familyAt + 8
)

// maxFilter is how many instructions the kernel takes (BPF_MAXINSNS).
const maxFilter = 4096

// Only has the kernel announce the sockets alone whose local address is in one of
// pools and none of except: the others, of a server's other services say, do not
// wake this process up. Before the first call all are announced. What was
// announced before a call may still come after it.
func (w *Watcher) Only(pools []netip.Prefix, except []netip.Addr) error {
	program := filter(pools, except)
	if len(program) > maxFilter {
		program = []bpf.Instruction{accept}
	}
	raw, err := bpf.Assemble(program)
	if err != nil {
		return fmt.Errorf("watch the ends of TCP sockets: assemble a filter: %w", err)
	}
	if err := w.conn.SetBPF(raw); err != nil {
		return fmt.Errorf("watch the ends of TCP sockets: set a filter: %w", err)
	}
	return nil
}

var accept, drop = bpf.RetConstant{Val: 1 << 18}, bpf.RetConstant{Val: 0}

func filter(pools []netip.Prefix, except []netip.Addr) (program []bpf.Instruction) {
	for _, a := range except {
		program = append(program, matching(netip.PrefixFrom(a, a.BitLen()), drop)...)
	}
	for _, p := range pools {
		program = append(program, matching(p, accept)...)
	}
	return append(program, drop)
}

// matching returns verdict for sockets with a local address in p, and goes on
// otherwise.
func matching(p netip.Prefix, verdict bpf.RetConstant) []bpf.Instruction {
	a := p.Addr().As16()
	if p.Addr().Is6() {
		return inFamily(unix.AF_INET6, words(a[:], p.Bits()), verdict)
	}
	// Dual-stack sockets show IPv4 addresses as IPv6 ones.
	return append(inFamily(unix.AF_INET, words(a[12:], p.Bits()), verdict), inFamily(unix.AF_INET6, words(a[:], 96+p.Bits()), verdict)...)
}

// A word of an address and its mask.
type word struct{ value, mask uint32 }

func words(addr []byte, bits int) (all []word) {
	for ; len(addr) > 0 && bits > 0; addr, bits = addr[4:], bits-32 {
		mask := ^uint32(0) << max(0, 32-bits)
		all = append(all, word{binary.BigEndian.Uint32(addr) & mask, mask})
	}
	return all
}

func inFamily(family uint32, all []word, verdict bpf.RetConstant) []bpf.Instruction {
	// Each comparison skips what is left of this block: three instructions for each
	// word, and the verdict.
	left := func(i int) uint8 { return uint8(3*(len(all)-i) + 1) }
	block := []bpf.Instruction{bpf.LoadAbsolute{Off: familyAt, Size: 1}, bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: family, SkipTrue: left(0)}}
	for i, w := range all {
		block = append(block, bpf.LoadAbsolute{Off: localAt + 4*uint32(i), Size: 4}, bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: w.mask},
			bpf.JumpIf{Cond: bpf.JumpNotEqual, Val: w.value, SkipTrue: left(i + 1)})
	}
	return append(block, verdict)
}
