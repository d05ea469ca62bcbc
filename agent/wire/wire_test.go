package wire

import (
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"google.golang.org/protobuf/proto"

	"github.com/shunt-sdn/shunt/agent/tcprepair"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

func example(client, local string) *tcprepair.State {
	return &tcprepair.State{
		Local: netip.MustParseAddrPort(local), Remote: netip.MustParseAddrPort(client),
		TCPState: tcprepair.StateCloseWait, FinReceived: true, SndSeq: 1 << 31, RcvSeq: 7_000,
		Unacked: []byte("ab"), Unsent: []byte("cde"), Received: []byte("GET / HTTP/1.1\r\n"),
		MSSClamp: 1460, WscaleOK: true, SndWscale: 7, RcvWscale: 9, SACK: true, Timestamps: true, Timestamp: 12345,
		Window:    tcprepair.Window{SndWl1: 6_999, SndWnd: 65_535, MaxWindow: 70_000, RcvWnd: 64_000, RcvWup: 6_900},
		NoDelay:   true,
		KeepAlive: tcprepair.KeepAlive{On: true, Idle: 15, Interval: 15, Count: 9},
	}
}

func TestEveryFieldSurvivesTheWire(t *testing.T) {
	for _, want := range []*tcprepair.State{
		example("192.0.2.1:40000", "172.31.0.1:80"),
		example("[2001:db8::1]:40000", "[fd31::1]:80"),
	} {
		b, err := proto.Marshal(Connection(want))
		if err != nil {
			t.Fatal(err)
		}
		var c shuntv1.Connection
		if err := proto.Unmarshal(b, &c); err != nil {
			t.Fatal(err)
		}
		got, err := State(&c)
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want, got, cmpopts.IgnoreUnexported(tcprepair.State{}), cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); d != "" {
			t.Errorf("changed on the wire (-want +got):\n%s", d)
		}
	}
}

func FuzzState(f *testing.F) {
	for _, s := range []*tcprepair.State{example("192.0.2.1:40000", "172.31.0.1:80"), example("[2001:db8::1]:1", "[fd31::1]:80")} {
		b, err := proto.Marshal(Connection(s))
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var c shuntv1.Connection
		if proto.Unmarshal(b, &c) != nil {
			return
		}
		s, err := State(&c)
		if err != nil {
			return
		}
		again, err := State(Connection(s))
		if err != nil {
			t.Fatalf("a valid state became invalid: %v", err)
		}
		if d := cmp.Diff(s, again, cmpopts.IgnoreUnexported(tcprepair.State{}), cmpopts.EquateEmpty(),
			cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })); d != "" {
			t.Fatal(d)
		}
	})
}
