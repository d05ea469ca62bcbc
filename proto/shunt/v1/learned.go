package shuntv1

import "fmt"

// Octets says how big the answers are: "64 B to 128 B".
func (s *LearnedSize) Octets() string {
	if s.GetBits() == 0 {
		return "0 B"
	}
	return power(s.Bits-1) + " to " + power(s.Bits)
}

// power writes 1<<bits octets.
func power(bits uint32) string {
	units := []string{"B", "KiB", "MiB", "GiB", "TiB"}
	i := min(int(bits/10), len(units)-1)
	return fmt.Sprintf("%d %s", uint64(1)<<(bits-10*uint32(i)), units[i])
}

// Cheaper is the mode that has cost less; unspecified: one of them was not seen.
func (s *LearnedSize) Cheaper() DispatchMode {
	switch {
	case s.GetMoved() == 0 || s.GetCopied() == 0:
		return DispatchMode_DISPATCH_MODE_UNSPECIFIED
	case s.CopyUs < s.MoveUs:
		return DispatchMode_DISPATCH_MODE_PROXY
	}
	return DispatchMode_DISPATCH_MODE_MIGRATE
}
