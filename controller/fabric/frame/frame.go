// Package frame builds and reads the few Ethernet frames that the controller
// exchanges with hosts through a switch: ARP, IPv6 neighbour discovery, and the
// acknowledgements that set a connection's mark.
package frame

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
)

const (
	etherLen = 14
	typeIPv4 = 0x0800
	typeARP  = 0x0806
	typeIPv6 = 0x86dd
	protoTCP = 6
	protoND  = 58
)

var errShort = errors.New("frame is cut short")

func ether(dst, src net.HardwareAddr, kind uint16) []byte {
	b := make([]byte, 0, 128)
	b = append(b, dst...)
	b = append(b, src...)
	return binary.BigEndian.AppendUint16(b, kind)
}

// Destination returns the IP destination of a frame, or an error when it is not
// an IP packet.
func Destination(data []byte) (netip.Addr, error) {
	if len(data) < etherLen {
		return netip.Addr{}, errShort
	}
	body := data[etherLen:]
	switch kind := binary.BigEndian.Uint16(data[12:]); {
	case kind == typeIPv4 && len(body) >= 20:
		return netip.AddrFrom4([4]byte(body[16:20])), nil
	case kind == typeIPv6 && len(body) >= 40:
		return netip.AddrFrom16([16]byte(body[24:40])), nil
	case kind == typeIPv4 || kind == typeIPv6:
		return netip.Addr{}, errShort
	default:
		return netip.Addr{}, fmt.Errorf("frame has EtherType %#04x, want an IP packet", kind)
	}
}

// appendIPv6 appends an IPv6 header.
func appendIPv6(b []byte, src, dst netip.Addr, proto, hops uint8, length int) []byte {
	b = append(b, 0x60, 0, 0, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(length))
	b = append(b, proto, hops)
	b = append(b, src.AsSlice()...)
	return append(b, dst.AsSlice()...)
}

// checksum is the Internet checksum (RFC 1071) of parts laid end to end; all
// but the last have an even length.
func checksum(parts ...[]byte) uint16 {
	var sum uint32
	for _, p := range parts {
		for ; len(p) >= 2; p = p[2:] {
			sum += uint32(p[0])<<8 | uint32(p[1])
		}
		if len(p) == 1 {
			sum += uint32(p[0]) << 8
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}

// pseudo is the pseudo header of an upper layer checksum.
func pseudo(src, dst netip.Addr, proto uint8, length int) []byte {
	b := append(src.AsSlice(), dst.AsSlice()...)
	if src.Is4() {
		return append(b, 0, proto, uint8(length>>8), uint8(length))
	}
	b = binary.BigEndian.AppendUint32(b, uint32(length))
	return append(b, 0, 0, 0, proto)
}
