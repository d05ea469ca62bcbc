package frame

import (
	"net"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

var (
	us   = net.HardwareAddr{2, 0, 0, 0, 0, 1}
	them = net.HardwareAddr{2, 0, 0, 0, 0, 9}
)

func TestAnAnswerToAQuestionNamesUs(t *testing.T) {
	for _, tt := range []struct{ name, our, their string }{{"ARP", "10.0.0.1", "10.0.0.9"}, {"neighbour discovery", "fd00::1", "fd00::9"}} {
		t.Run(tt.name, func(t *testing.T) {
			our, their := netip.MustParseAddr(tt.our), netip.MustParseAddr(tt.their)
			for _, to := range []net.HardwareAddr{nil, us} {
				q, err := ParseNeighbour(Ask(them, their, our, to))
				if err != nil {
					t.Fatal(err)
				}
				want := Neighbour{Question: true, Sender: their, SenderMAC: them, Target: our, Source: them}
				if diff := cmp.Diff(want, q, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
					t.Error(diff)
				}
				a, err := ParseNeighbour(Answer(q, us))
				if err != nil {
					t.Fatal(err)
				}
				want = Neighbour{Sender: our, SenderMAC: us, Target: their, Source: us}
				if diff := cmp.Diff(want, a, cmpopts.EquateComparable(netip.Addr{})); diff != "" {
					t.Error(diff)
				}
			}
			probe := Neighbour{Question: true, SenderMAC: them, Target: our, Source: them}
			a, err := ParseNeighbour(Answer(probe, us))
			if err != nil || a.Sender != our {
				t.Errorf("answer to a probe: %+v, %v", a, err)
			}
		})
	}
}

func TestFramesAreWellFormedToAnotherImplementation(t *testing.T) {
	ap := netip.MustParseAddrPort
	for name, b := range map[string][]byte{
		"ACK":          ACK(ap("10.0.0.9:4000"), ap("10.0.0.1:80"), 7, 9),
		"ACK, IPv6":    ACK(ap("[fd00::9]:4000"), ap("[fd00::1]:80"), 7, 9),
		"SYN, ACK":     SYNACK(ap("10.0.0.1:80"), ap("10.0.0.9:80")),
		"solicitation": Ask(us, netip.MustParseAddr("fd00::1"), netip.MustParseAddr("fd00::9"), nil),
		"ARP":          Ask(us, netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.9"), nil),
	} {
		p := gopacket.NewPacket(b, layers.LayerTypeEthernet, gopacket.Default)
		if e := p.ErrorLayer(); e != nil {
			t.Errorf("%s: %v", name, e.Error())
		}
		for _, l := range p.Layers() {
			if above, ok := l.(interface {
				SetNetworkLayerForChecksum(gopacket.NetworkLayer) error
			}); ok {
				above.SetNetworkLayerForChecksum(p.NetworkLayer())
			}
		}
		if err, wrong := p.VerifyChecksums(); err != nil || len(wrong) != 0 {
			t.Errorf("%s: wrong checksums %v, %v", name, wrong, err)
		}
		if tcp, ok := p.TransportLayer().(*layers.TCP); ok && !tcp.SYN && (tcp.Seq != 7 || tcp.Ack != 9 || !tcp.ACK || tcp.DstPort != 80) {
			t.Errorf("%s: %+v", name, tcp)
		}
	}
}

func TestDestination(t *testing.T) {
	ap := netip.MustParseAddrPort
	for _, tt := range []struct {
		frame []byte
		want  string
	}{{ACK(ap("10.0.0.9:4000"), ap("10.0.0.1:80"), 0, 0), "10.0.0.1"}, {ACK(ap("[fd00::9]:4000"), ap("[fd00::1]:80"), 0, 0), "fd00::1"}} {
		if got, err := Destination(tt.frame); err != nil || got.String() != tt.want {
			t.Errorf("destination is %v, %v, want %s", got, err, tt.want)
		}
		for n := range 34 {
			if _, err := Destination(tt.frame[:n]); err == nil {
				t.Errorf("no error for %d octets", n)
			}
		}
	}
	if _, err := Destination(Ask(us, netip.MustParseAddr("10.0.0.1"), netip.MustParseAddr("10.0.0.9"), nil)); err == nil {
		t.Error("ARP has a destination")
	}
}

func TestBadMessagesAreRefused(t *testing.T) {
	ask := Ask(them, netip.MustParseAddr("fd00::9"), netip.MustParseAddr("fd00::1"), nil)
	for name, change := range map[string]func(b []byte) []byte{
		"hop limit":          func(b []byte) []byte { b[14+7] = 64; return b },
		"checksum":           func(b []byte) []byte { b[14+42]++; return b },
		"option length":      func(b []byte) []byte { b[14+40+25] = 0; return b },
		"cut short":          func(b []byte) []byte { return b[:70] },
		"other EtherType":    func(b []byte) []byte { b[12] = 0x88; return b },
		"length beyond data": func(b []byte) []byte { b[14+4] = 9; return b },
	} {
		if n, err := ParseNeighbour(change(append([]byte(nil), ask...))); err == nil {
			t.Errorf("%s: no error: %+v", name, n)
		}
	}
	arp := Ask(them, netip.MustParseAddr("10.0.0.9"), netip.MustParseAddr("10.0.0.1"), nil)
	arp[14+8] |= 1
	if _, err := ParseNeighbour(arp); err == nil {
		t.Error("a multicast hardware address is a host's")
	}
}

func FuzzParseNeighbour(f *testing.F) {
	for _, pair := range [][2]string{{"10.0.0.1", "10.0.0.9"}, {"fd00::1", "fd00::9"}} {
		q := Ask(them, netip.MustParseAddr(pair[1]), netip.MustParseAddr(pair[0]), nil)
		f.Add(q)
		n, _ := ParseNeighbour(q)
		f.Add(Answer(n, us))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		n, err := ParseNeighbour(b)
		if err != nil {
			return
		}
		if n.Question && !n.Target.IsMulticast() {
			if _, err := ParseNeighbour(Answer(n, us)); err != nil {
				t.Errorf("answer to %+v: %v", n, err)
			}
		}
		Destination(b)
	})
}
