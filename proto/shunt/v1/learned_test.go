package shuntv1

import "testing"

func TestLearnedSizesAreReadable(t *testing.T) {
	for bits, want := range map[uint32]string{0: "0 B", 1: "1 B to 2 B", 7: "64 B to 128 B", 10: "512 B to 1 KiB", 11: "1 KiB to 2 KiB", 24: "8 MiB to 16 MiB", 47: "64 TiB to 128 TiB"} {
		if got := (&LearnedSize{Bits: bits}).Octets(); got != want {
			t.Errorf("%d: %q, want %q", bits, got, want)
		}
	}
	for _, x := range []struct {
		size *LearnedSize
		want DispatchMode
	}{
		{&LearnedSize{MoveUs: 300, Moved: 4}, DispatchMode_DISPATCH_MODE_UNSPECIFIED},
		{&LearnedSize{MoveUs: 300, Moved: 4, CopyUs: 200, Copied: 1}, DispatchMode_DISPATCH_MODE_PROXY},
		{&LearnedSize{MoveUs: 300, Moved: 4, CopyUs: 9000, Copied: 1}, DispatchMode_DISPATCH_MODE_MIGRATE},
	} {
		if got := x.size.Cheaper(); got != x.want {
			t.Errorf("%v: %v", x.size, got)
		}
	}
}
