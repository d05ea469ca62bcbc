package openflow

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
)

// Field names a match field. Its value is the OXM header's class and field
// number (class<<16 | field<<9), with neither mask bit nor length, as in
// OpenFlow 1.3.5, 7.2.3, and ovs-fields(7).
type Field uint32

const (
	oxmBasic = 0x8000 << 16
	nxm1     = 0x0001 << 16
	ericoxm  = 0x1000 << 16
)

// The fields that Shunt matches on or writes.
const (
	FieldInPort     Field = oxmBasic | 0<<9  // 4 octets
	FieldEthDst     Field = oxmBasic | 3<<9  // 6
	FieldEthSrc     Field = oxmBasic | 4<<9  // 6
	FieldEthType    Field = oxmBasic | 5<<9  // 2
	FieldIPProto    Field = oxmBasic | 10<<9 // 1
	FieldIPv4Src    Field = oxmBasic | 11<<9 // 4
	FieldIPv4Dst    Field = oxmBasic | 12<<9 // 4
	FieldTCPSrc     Field = oxmBasic | 13<<9 // 2
	FieldTCPDst     Field = oxmBasic | 14<<9 // 2
	FieldICMPv4Type Field = oxmBasic | 19<<9 // 1
	FieldICMPv4Code Field = oxmBasic | 20<<9 // 1
	FieldARPOp      Field = oxmBasic | 21<<9 // 2
	FieldARPSPA     Field = oxmBasic | 22<<9 // 4
	FieldARPTPA     Field = oxmBasic | 23<<9 // 4
	FieldARPSHA     Field = oxmBasic | 24<<9 // 6
	FieldARPTHA     Field = oxmBasic | 25<<9 // 6
	FieldIPv6Src    Field = oxmBasic | 26<<9 // 16
	FieldIPv6Dst    Field = oxmBasic | 27<<9 // 16
	FieldICMPv6Type Field = oxmBasic | 29<<9 // 1
	FieldICMPv6Code Field = oxmBasic | 30<<9 // 1
	FieldNDTarget   Field = oxmBasic | 31<<9 // 16
	FieldNDSLL      Field = oxmBasic | 32<<9 // 6
	FieldNDTLL      Field = oxmBasic | 33<<9 // 6
	FieldTCPFlags   Field = nxm1 | 34<<9     // 2, Nicira
	FieldCTState    Field = nxm1 | 105<<9    // 4, Nicira
	FieldCTMark     Field = nxm1 | 107<<9    // 4, Nicira

	// The flags and the first option's type of a neighbour discovery message,
	// Open vSwitch 2.11 and later (ERICOXM_OF_ICMPV6_ND_*). They can be set,
	// which turns a solicitation into an advertisement.
	FieldNDReserved   Field = ericoxm | 1<<9 // 4
	FieldNDOptionType Field = ericoxm | 2<<9 // 1
)

var fieldWidth = map[Field]int{
	FieldInPort: 4, FieldEthDst: 6, FieldEthSrc: 6, FieldEthType: 2, FieldIPProto: 1,
	FieldIPv4Src: 4, FieldIPv4Dst: 4, FieldTCPSrc: 2, FieldTCPDst: 2,
	FieldICMPv4Type: 1, FieldICMPv4Code: 1,
	FieldARPOp: 2, FieldARPSPA: 4, FieldARPTPA: 4, FieldARPSHA: 6, FieldARPTHA: 6,
	FieldIPv6Src: 16, FieldIPv6Dst: 16, FieldICMPv6Type: 1, FieldICMPv6Code: 1,
	FieldNDTarget: 16, FieldNDSLL: 6, FieldNDTLL: 6,
	FieldTCPFlags: 2, FieldCTState: 4, FieldCTMark: 4,
	FieldNDReserved: 4, FieldNDOptionType: 1,
}

// Width returns the field's size in octets, or 0 for a field unknown here.
func (f Field) Width() int { return fieldWidth[f] }

// A FieldValue is a field with a value in network byte order and, where not
// every bit counts, a mask (nil: all bits). Both have the field's width.
type FieldValue struct {
	Field Field
	Value []byte
	Mask  []byte
}

// A Match is a conjunction of field values. The order carries no meaning; the
// encoder puts prerequisites first. At most one value per field.
type Match []FieldValue

// Numbers of EtherType and IP protocol that matches need.
const (
	EthTypeIPv4 = 0x0800
	EthTypeARP  = 0x0806
	EthTypeIPv6 = 0x86dd
	ProtoICMP   = 1
	ProtoTCP    = 6
	ProtoICMPv6 = 58
)

func u8(f Field, v uint8) FieldValue { return FieldValue{Field: f, Value: []byte{v}} }
func u16(f Field, v uint16) FieldValue {
	return FieldValue{Field: f, Value: binary.BigEndian.AppendUint16(nil, v)}
}
func u32(f Field, v uint32) FieldValue {
	return FieldValue{Field: f, Value: binary.BigEndian.AppendUint32(nil, v)}
}

// U8 is field f, of one octet, with value v.
func U8(f Field, v uint8) FieldValue { return u8(f, v) }

// U16 is field f, of two octets, with value v.
func U16(f Field, v uint16) FieldValue { return u16(f, v) }

// U16Masked is field f, of two octets, with the bits of v that mask selects.
func U16Masked(f Field, v, mask uint16) FieldValue {
	fv := u16(f, v&mask)
	fv.Mask = binary.BigEndian.AppendUint16(nil, mask)
	return fv
}

// U32 is field f, of four octets, with value v.
func U32(f Field, v uint32) FieldValue { return u32(f, v) }

// U32Masked is field f, of four octets, with the bits of v that mask selects.
func U32Masked(f Field, v, mask uint32) FieldValue {
	fv := u32(f, v&mask)
	fv.Mask = binary.BigEndian.AppendUint32(nil, mask)
	return fv
}

// InPort matches the port that a packet came in by.
func InPort(port uint32) FieldValue { return u32(FieldInPort, port) }

// EthType matches or sets the EtherType.
func EthType(t uint16) FieldValue { return u16(FieldEthType, t) }

// IPProto matches the IP protocol or the last IPv6 next header.
func IPProto(p uint8) FieldValue { return u8(FieldIPProto, p) }

// MAC is field f, of six octets, with value m.
func MAC(f Field, m net.HardwareAddr) FieldValue {
	if len(m) != 6 {
		panic(fmt.Sprintf("openflow: hardware address of %d octets", len(m)))
	}
	return FieldValue{Field: f, Value: m}
}

// EthDst is the destination hardware address.
func EthDst(m net.HardwareAddr) FieldValue { return MAC(FieldEthDst, m) }

// EthSrc is the source hardware address.
func EthSrc(m net.HardwareAddr) FieldValue { return MAC(FieldEthSrc, m) }

// EtherTypeOf returns the EtherType of an address's family.
func EtherTypeOf(a netip.Addr) uint16 {
	if a.Unmap().Is4() {
		return EthTypeIPv4
	}
	return EthTypeIPv6
}

// IPSrc is the IPv4 or IPv6 source address.
func IPSrc(a netip.Addr) FieldValue { return addr(a, FieldIPv4Src, FieldIPv6Src) }

// IPDst is the IPv4 or IPv6 destination address.
func IPDst(a netip.Addr) FieldValue { return addr(a, FieldIPv4Dst, FieldIPv6Dst) }

func addr(a netip.Addr, f4, f6 Field) FieldValue {
	a = a.Unmap()
	if a.Is4() {
		return FieldValue{Field: f4, Value: a.AsSlice()}
	}
	return FieldValue{Field: f6, Value: a.AsSlice()}
}

// IPSrcIn matches the IPv4 or IPv6 source address against a prefix.
func IPSrcIn(p netip.Prefix) FieldValue { return prefix(p, FieldIPv4Src, FieldIPv6Src) }

// IPDstIn matches the IPv4 or IPv6 destination address against a prefix.
func IPDstIn(p netip.Prefix) FieldValue { return prefix(p, FieldIPv4Dst, FieldIPv6Dst) }

func prefix(p netip.Prefix, f4, f6 Field) FieldValue {
	p = p.Masked()
	fv := addr(p.Addr(), f4, f6)
	if p.Bits() < p.Addr().BitLen() {
		fv.Mask = net.CIDRMask(p.Bits(), p.Addr().BitLen())
	}
	return fv
}

// TCPSrc is the TCP source port.
func TCPSrc(p uint16) FieldValue { return u16(FieldTCPSrc, p) }

// TCPDst is the TCP destination port.
func TCPDst(p uint16) FieldValue { return u16(FieldTCPDst, p) }

// Bits of the TCP flags field.
const (
	TCPFin = 0x01
	TCPSyn = 0x02
	TCPRst = 0x04
	TCPPsh = 0x08
	TCPAck = 0x10

	// TCPTeaches is the first of TCP's reserved bits. Guards set it in what they
	// send to another node when the switch may learn from it where the connection
	// is; see agent/guard.
	TCPTeaches = 0x800
)

// TCPFlags matches the TCP flags that mask selects. Open vSwitch only.
func TCPFlags(v, mask uint16) FieldValue { return U16Masked(FieldTCPFlags, v, mask) }

// CTMark is the connection tracker's mark. Open vSwitch only.
func CTMark(v uint32) FieldValue { return u32(FieldCTMark, v) }
