package tcprepair

import (
	"bytes"
	"net/netip"
	"testing"
)

// Whatever Validate lets through, the kernel takes, and gives back the same.
func FuzzAValidStateCanBeRestored(f *testing.F) {
	b := newBed(f)
	type raw struct {
		sndSeq, rcvSeq                           uint32
		unacked, unsent, received                []byte
		mss                                      uint32
		flags, sndWscale, rcvWscale              uint8
		timestamp                                uint32
		sndWl1, sndWnd, maxWindow, rcvWnd, rcvUp uint32
	}
	for _, r := range []raw{
		{1, 2, nil, nil, []byte("GET / HTTP/1.1\r\n\r\n"), 1460, 0xff &^ 16, 7, 7, 1000, 2, 65535, 65535, 65535, 2},
		{^uint32(0), 3, make([]byte, 9000), make([]byte, 70000), make([]byte, 66000), 536, 0, 0, 0, 0, 0, 0, 0, 0, 1},
		{0, 0, make([]byte, 1), nil, nil, 65495, 0xff, 14, 14, ^uint32(0), 0, 1 << 29, 1 << 29, 0xffff << 14, 0},
		{5, 5, nil, []byte("x"), nil, 1, 1, 0, 14, 0, 5, 0, 1, 1 << 20, 5},
	} {
		for _, ip6 := range []bool{false, true} {
			f.Add(ip6, r.sndSeq, r.rcvSeq, r.unacked, r.unsent, r.received, r.mss, r.flags, r.sndWscale, r.rcvWscale, r.timestamp,
				r.sndWl1, r.sndWnd, r.maxWindow, r.rcvWnd, r.rcvUp)
		}
	}
	f.Fuzz(func(t *testing.T, ip6 bool, sndSeq, rcvSeq uint32, unacked, unsent, received []byte, mss uint32,
		flags, sndWscale, rcvWscale uint8, timestamp, sndWl1, sndWnd, maxWindow, rcvWnd, rcvUp uint32) {
		s := &State{
			Local: netip.MustParseAddrPort("10.9.0.1:80"), Remote: netip.MustParseAddrPort("10.0.0.1:40000"),
			TCPState: StateEstablished, SndSeq: sndSeq, RcvSeq: rcvSeq, Unacked: unacked, Unsent: unsent, Received: received,
			MSSClamp: mss, WscaleOK: flags&1 != 0, SndWscale: sndWscale, RcvWscale: rcvWscale,
			SACK: flags&2 != 0, Timestamps: flags&4 != 0, Timestamp: timestamp,
			Window:  Window{SndWl1: sndWl1, SndWnd: sndWnd, MaxWindow: maxWindow, RcvWnd: rcvWnd, RcvWup: rcvUp},
			NoDelay: flags&8 != 0, FinReceived: flags&16 != 0,
		}
		if ip6 {
			s.Local, s.Remote = netip.MustParseAddrPort("[fd09::1]:80"), netip.MustParseAddrPort("[fd00::1]:40000")
		}
		if s.Validate() != nil {
			return
		}
		var got *State
		err := b.hosts[0].Try(func() error {
			fd, err := Restore(s)
			if err != nil {
				return err
			}
			if got, err = Dump(fd); err != nil {
				return err
			}
			return CloseSilently(fd)
		})
		if err != nil {
			t.Fatal(err)
		}
		if got.Local != s.Local || got.Remote != s.Remote || got.SndSeq != s.SndSeq-uint32(len(s.Unsent)) || got.RcvSeq != s.RcvSeq ||
			!bytes.Equal(got.Unacked, s.Unacked) || !bytes.Equal(got.Received, s.Received) || got.FinReceived != s.FinReceived ||
			got.MSSClamp != s.MSSClamp || got.WscaleOK != s.WscaleOK || got.SndWscale != s.SndWscale || got.RcvWscale != s.RcvWscale ||
			got.SACK != s.SACK || got.Timestamps != s.Timestamps || got.Window != s.Window || got.NoDelay != s.NoDelay {
			t.Errorf("restored\n%+v\nand dumped\n%+v", s, got)
		}
		if behind := int32(got.Timestamp - s.Timestamp); s.Timestamps && behind < 0 {
			t.Errorf("the clock went back by %d", -behind)
		}
	})
}
