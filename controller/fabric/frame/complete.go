package frame

import (
	"encoding/binary"
	"net/netip"
)

const (
	protoUDP  = 17
	tcpSumAt  = 16
	udpSumAt  = 6
	ipv4Len   = 20
	ipv6Len   = 40
	fragments = 0x3fff // more fragments, and the offset
)

// CompleteChecksum writes the checksum of a TCP segment or UDP datagram anew. A
// host on the switch's own machine leaves it to the network card, which is none;
// Open vSwitch (3.1) gives such a packet to the controller as it is, and forgets
// what was left to do. Other frames, fragments and what is cut short stay as they
// are.
func CompleteChecksum(data []byte) {
	src, dst, proto, body := transport(data)
	at := 0
	switch {
	case proto == protoTCP && len(body) >= tcpSumAt+2:
		at = tcpSumAt
	case proto == protoUDP && len(body) >= udpSumAt+2 && binary.BigEndian.Uint16(body[udpSumAt:]) != 0: // 0: it has none
		at = udpSumAt
	default:
		return
	}
	field := body[at : at+2]
	clear(field)
	sum := checksum(pseudo(src, dst, proto, len(body)), body)
	if sum == 0 && proto == protoUDP {
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(field, sum)
}

// transport returns what an IP packet's checksums cover; proto is 0 if there is no
// whole transport header in the frame.
func transport(data []byte) (src, dst netip.Addr, proto uint8, body []byte) {
	if len(data) < etherLen {
		return src, dst, 0, nil
	}
	ip := data[etherLen:]
	switch binary.BigEndian.Uint16(data[12:]) {
	case typeIPv4:
		if len(ip) < ipv4Len {
			return src, dst, 0, nil
		}
		header, length := int(ip[0]&15)*4, int(binary.BigEndian.Uint16(ip[2:]))
		if header < ipv4Len || length < header || length > len(ip) || binary.BigEndian.Uint16(ip[6:])&fragments != 0 {
			return src, dst, 0, nil
		}
		return netip.AddrFrom4([4]byte(ip[12:16])), netip.AddrFrom4([4]byte(ip[16:20])), ip[9], ip[header:length]
	case typeIPv6:
		if len(ip) < ipv6Len {
			return src, dst, 0, nil
		}
		end := ipv6Len + int(binary.BigEndian.Uint16(ip[4:]))
		if end > len(ip) {
			return src, dst, 0, nil
		}
		return netip.AddrFrom16([16]byte(ip[8:24])), netip.AddrFrom16([16]byte(ip[24:40])), ip[6], ip[ipv6Len:end]
	}
	return src, dst, 0, nil
}
