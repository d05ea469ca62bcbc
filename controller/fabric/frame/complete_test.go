package frame

import (
	"bytes"
	"encoding/binary"
	"net/netip"
	"slices"
	"testing"
)

var tcpFrames = map[string][]byte{
	"IPv4": ACK(netip.MustParseAddrPort("10.0.0.1:1000"), netip.MustParseAddrPort("10.0.0.2:80"), 1, 2),
	"IPv6": ACK(netip.MustParseAddrPort("[fd00::1]:1000"), netip.MustParseAddrPort("[fd00::2]:80"), 1, 2),
}

// datagram is a UDP datagram of three octets in IPv6, padded.
func datagram() []byte {
	b := appendIPv6(ether(make([]byte, 6), make([]byte, 6), typeIPv6), netip.MustParseAddr("fd00::1"), netip.MustParseAddr("fd00::2"), protoUDP, 64, 11)
	return append(b, 0, 1, 0, 2, 0, 11, 0xff, 0xff, 'a', 'b', 'c', 'p', 'a', 'd')
}

func TestAChecksumIsCompleted(t *testing.T) {
	for name, want := range tcpFrames {
		got := slices.Clone(want)
		at := len(got) - 4 // no options, no data: the checksum and the urgent pointer come last
		binary.BigEndian.PutUint16(got[at:], 0x1234)
		CompleteChecksum(got)
		if !bytes.Equal(got, want) {
			t.Errorf("%s: % x, want % x", name, got, want)
		}
	}
	b := datagram()
	CompleteChecksum(b)
	udp := b[etherLen+ipv6Len:][:11]
	if sum := checksum(pseudo(netip.MustParseAddr("fd00::1"), netip.MustParseAddr("fd00::2"), protoUDP, len(udp)), udp); sum != 0 {
		t.Errorf("the datagram's checksum does not add up: %#x", sum)
	}
}

func TestOtherFramesStayAsTheyAre(t *testing.T) {
	without := datagram()
	clear(without[etherLen+ipv6Len+udpSumAt:][:2])
	fragment := slices.Clone(tcpFrames["IPv4"])
	fragment[etherLen+6] |= 0x20
	for name, b := range map[string][]byte{
		"a datagram without a checksum": without, "a fragment": fragment, "a frame cut short": tcpFrames["IPv4"][:etherLen+30],
		"a question": Ask(make([]byte, 6), netip.MustParseAddr("fd00::1"), netip.MustParseAddr("fd00::2"), nil), "nothing": nil,
	} {
		got := slices.Clone(b)
		CompleteChecksum(got)
		if !bytes.Equal(got, b) {
			t.Errorf("%s was changed to % x", name, got)
		}
	}
}

func FuzzCompleteChecksum(f *testing.F) {
	f.Add(tcpFrames["IPv4"])
	f.Add(tcpFrames["IPv6"])
	f.Add(datagram())
	f.Fuzz(func(t *testing.T, b []byte) {
		once := slices.Clone(b)
		CompleteChecksum(once)
		twice := slices.Clone(once)
		CompleteChecksum(twice)
		if !bytes.Equal(once, twice) {
			t.Errorf("% x becomes % x, and then % x", b, once, twice)
		}
	})
}
