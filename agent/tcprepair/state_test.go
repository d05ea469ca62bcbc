package tcprepair

import (
	"errors"
	"net/netip"
	"strings"
	"testing"
)

// validState is a State that Validate accepts.
func validState(family string) *State {
	s := &State{
		Local: netip.MustParseAddrPort("10.9.0.1:80"), Remote: netip.MustParseAddrPort("10.0.0.1:40000"),
		TCPState: StateEstablished, SndSeq: 1 << 31, RcvSeq: 5, Received: []byte("GET"),
		MSSClamp: 1460, WscaleOK: true, SndWscale: 7, RcvWscale: 14, SACK: true, Timestamps: true, Timestamp: 1234,
		Window:    Window{SndWl1: 1, SndWnd: 64000, MaxWindow: 65000, RcvWnd: 65000, RcvWup: ^uint32(0)},
		KeepAlive: KeepAlive{On: true, Idle: 15, Interval: 15, Count: 9},
	}
	if family == "IPv6" {
		s.Local, s.Remote = netip.MustParseAddrPort("[fd09::1]:80"), netip.MustParseAddrPort("[fd00::1]:40000")
	}
	return s
}

func otherFamily(ap netip.AddrPort) netip.AddrPort {
	if ap.Addr().Is4() {
		return netip.MustParseAddrPort("[fd00::2]:1")
	}
	return netip.MustParseAddrPort("10.0.0.2:1")
}

func TestValidate(t *testing.T) {
	for _, test := range []struct {
		name   string
		break_ func(*State)
		want   error  // nil if valid
		text   string // in the error
	}{
		{"a dump", func(s *State) {}, nil, ""},
		{"a half-closed dump", func(s *State) { s.TCPState, s.FinReceived = StateCloseWait, true }, nil, ""},
		{"reading shut down", func(s *State) { s.FinReceived = true }, nil, ""},
		{"full queues", func(s *State) { s.Unacked, s.Unsent = make([]byte, MaxQueue), make([]byte, MaxQueue) }, nil, ""},
		{"no options", func(s *State) {
			s.WscaleOK, s.SndWscale, s.RcvWscale, s.SACK, s.Timestamps, s.Timestamp = false, 0, 0, false, false, 0
		}, nil, ""},
		{"keepalive off", func(s *State) { s.KeepAlive = KeepAlive{} }, nil, ""},

		{"the zero value", func(s *State) { *s = State{} }, ErrInvalid, "no local address"},
		{"no remote address", func(s *State) { s.Remote = netip.AddrPort{} }, ErrInvalid, "no remote address"},
		{"two families", func(s *State) { s.Remote = otherFamily(s.Remote) }, ErrInvalid, "two families"},
		{"a mapped address", func(s *State) { s.Local = netip.MustParseAddrPort("[::ffff:10.9.0.1]:80") }, ErrInvalid, "IPv6 form"},
		{"a zone", func(s *State) { s.Remote = netip.MustParseAddrPort("[fe80::1%eth0]:80") }, ErrInvalid, "zone"},
		{"no port", func(s *State) { s.Local = netip.AddrPortFrom(s.Local.Addr(), 0) }, ErrInvalid, "local port is 0"},
		{"an unspecified address", func(s *State) { s.Local = netip.MustParseAddrPort("0.0.0.0:80") }, ErrInvalid, "unicast"},
		{"a multicast address", func(s *State) { s.Remote = netip.MustParseAddrPort("[ff02::1]:80") }, ErrInvalid, "unicast"},
		{"one end only", func(s *State) { s.Remote = s.Local }, ErrInvalid, "itself"},

		{"SYN_SENT", func(s *State) { s.TCPState = 2 }, ErrUnsupportedState, "SYN_SENT"},
		{"LAST_ACK", func(s *State) { s.TCPState = 9 }, ErrUnsupportedState, "LAST_ACK"},
		{"no such state", func(s *State) { s.TCPState = 200 }, ErrUnsupportedState, "200"},
		{"CLOSE_WAIT without FIN", func(s *State) { s.TCPState = StateCloseWait }, ErrInvalid, "FIN"},

		{"too much unacknowledged", func(s *State) { s.Unacked = make([]byte, MaxQueue+1) }, ErrInvalid, "unacknowledged"},
		{"too much unsent", func(s *State) { s.Unsent = make([]byte, MaxQueue+1) }, ErrInvalid, "unsent"},
		{"too much received", func(s *State) { s.Received = make([]byte, MaxQueue+1) }, ErrInvalid, "received"},

		{"no segment size", func(s *State) { s.MSSClamp = 0 }, ErrInvalid, "segment size"},
		{"a huge segment size", func(s *State) { s.MSSClamp = 1 << 16 }, ErrInvalid, "segment size"},
		{"a send scale of 15", func(s *State) { s.SndWscale = 15 }, ErrInvalid, "scale"},
		{"a receive scale of 255", func(s *State) { s.RcvWscale = 255 }, ErrInvalid, "scale"},
		{"scales without scaling", func(s *State) { s.WscaleOK = false }, ErrInvalid, "without window scaling"},
		{"a timestamp without timestamps", func(s *State) { s.Timestamps = false }, ErrInvalid, "timestamp"},
		{"keepalive never", func(s *State) { s.KeepAlive.Idle = 0 }, ErrInvalid, "keepalive"},
		{"keepalive for ever", func(s *State) { s.KeepAlive.Count = 128 }, ErrInvalid, "keepalive"},

		{"a send window above its maximum", func(s *State) { s.Window.SndWnd = 65001 }, ErrInvalid, "maximum"},
		{"an impossible window", func(s *State) { s.Window.MaxWindow = 1 << 31 }, ErrInvalid, "above"},
		{"an impossible receive window", func(s *State) { s.Window.RcvWnd = 1 << 31 }, ErrInvalid, "above"},
		{"an update from the future", func(s *State) { s.Window.SndWl1 = s.RcvSeq + 65001 }, ErrInvalid, "beyond"},
		{"a window from the future", func(s *State) { s.Window.RcvWup = s.RcvSeq + 1 }, ErrInvalid, "after"},
	} {
		for family := range sessionAddrs {
			s := validState(family)
			test.break_(s)
			err := s.Validate()
			if !errors.Is(err, test.want) || (err != nil && !strings.Contains(err.Error(), test.text)) {
				t.Errorf("%s, %s: Validate is %v, want %v with %q", test.name, family, err, test.want, test.text)
			}
		}
	}
}

func TestTheClockOfARestoredConnectionIsAheadOfItsSource(t *testing.T) {
	for _, test := range []struct{ dumped, restored uint32 }{
		{1000, 1256},
		{1001, 257001}, // microseconds
		{^uint32(0), 255999},
		{^uint32(0) - 1, 254},
	} {
		s := State{Timestamp: test.dumped}
		if got := s.nextTimestamp(); got != test.restored {
			t.Errorf("a dump at %d is restored at %d, want %d", test.dumped, got, test.restored)
		}
	}
}
