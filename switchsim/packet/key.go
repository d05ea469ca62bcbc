package packet

import "encoding/binary"

// KeyLen is the size of a Key in octets.
const KeyLen = 160

// A Key holds the header fields of a packet and what the pipeline knows about
// it, at fixed offsets and in network byte order. Fields that no packet has at
// the same time share an offset: a match on one of them names its protocol too
// (its prerequisite), so they are never confused.
type Key [KeyLen]byte

// And returns the bits of k that mask selects.
func (k *Key) And(mask *Key) Key {
	var out Key
	for i := 0; i < KeyLen; i += 8 {
		m := binary.NativeEndian.Uint64(mask[i:])
		if m != 0 {
			binary.NativeEndian.PutUint64(out[i:], binary.NativeEndian.Uint64(k[i:])&m)
		}
	}
	return out
}

// Covers reports whether every bit of mask is also in k, a mask itself.
func (k *Key) Covers(mask *Key) bool {
	for i := 0; i < KeyLen; i += 8 {
		m := binary.NativeEndian.Uint64(mask[i:])
		if binary.NativeEndian.Uint64(k[i:])&m != m {
			return false
		}
	}
	return true
}

// Get returns the field's octets inside the key.
func (k *Key) Get(f Field) []byte {
	i := &fields[f]
	return k[i.off : i.off+i.width]
}

// Put stores a value of the field's width.
func (k *Key) Put(f Field, v []byte) {
	i := &fields[f]
	copy(k[i.off:i.off+i.width], v)
}

// U8 returns a field of one octet.
func (k *Key) U8(f Field) uint8 { return k[fields[f].off] }

// U16 returns a field of two octets.
func (k *Key) U16(f Field) uint16 { return binary.BigEndian.Uint16(k[fields[f].off:]) }

// U32 returns a field of four octets.
func (k *Key) U32(f Field) uint32 { return binary.BigEndian.Uint32(k[fields[f].off:]) }

// PutU8 stores a field of one octet.
func (k *Key) PutU8(f Field, v uint8) { k[fields[f].off] = v }

// PutU16 stores a field of two octets.
func (k *Key) PutU16(f Field, v uint16) { binary.BigEndian.PutUint16(k[fields[f].off:], v) }

// PutU32 stores a field of four octets.
func (k *Key) PutU32(f Field, v uint32) { binary.BigEndian.PutUint32(k[fields[f].off:], v) }

// A Field is a header or metadata field of a Key.
type Field uint8

// The fields.
const (
	InPort Field = iota
	CTState
	Metadata
	EthDst
	EthType
	EthSrc
	VLANVID // with bit 0x1000 where there is a tag, as OpenFlow has it
	VLANPCP
	IPProto
	IPDSCP
	IPECN
	TCPSrc
	TCPDst
	UDPSrc
	UDPDst
	SCTPSrc
	SCTPDst
	ICMPv4Type
	ICMPv4Code
	ICMPv6Type
	ICMPv6Code
	IPv4Src
	IPv4Dst
	ARPSPA
	ARPTPA
	IPv6Src
	IPv6Dst
	NDTarget
	ARPSHA
	ARPTHA
	NDSLL
	NDTLL
	TCPFlags
	ARPOp
	CTMark
	CTZone
	IPTTL
	IPFrag // bit 0: a fragment, bit 1: not the first
	IPv6FLabel
	Reg0
	Reg1
	Reg2
	Reg3
	Reg4
	Reg5
	Reg6
	Reg7
	NumFields
)

type fieldInfo struct {
	name       string
	off, width int
	bits       int // significant bits, the low ones of the width
}

var fields = [NumFields]fieldInfo{
	InPort:     {"in_port", 0, 4, 32},
	CTState:    {"ct_state", 4, 4, 32},
	Metadata:   {"metadata", 8, 8, 64},
	EthDst:     {"eth_dst", 16, 6, 48},
	EthType:    {"eth_type", 22, 2, 16},
	EthSrc:     {"eth_src", 24, 6, 48},
	VLANVID:    {"vlan_vid", 30, 2, 13},
	VLANPCP:    {"vlan_pcp", 32, 1, 3},
	IPProto:    {"ip_proto", 33, 1, 8},
	IPDSCP:     {"ip_dscp", 34, 1, 6},
	IPECN:      {"ip_ecn", 35, 1, 2},
	TCPSrc:     {"tcp_src", 36, 2, 16},
	TCPDst:     {"tcp_dst", 38, 2, 16},
	UDPSrc:     {"udp_src", 36, 2, 16},
	UDPDst:     {"udp_dst", 38, 2, 16},
	SCTPSrc:    {"sctp_src", 36, 2, 16},
	SCTPDst:    {"sctp_dst", 38, 2, 16},
	ICMPv4Type: {"icmpv4_type", 37, 1, 8},
	ICMPv4Code: {"icmpv4_code", 39, 1, 8},
	ICMPv6Type: {"icmpv6_type", 37, 1, 8},
	ICMPv6Code: {"icmpv6_code", 39, 1, 8},
	IPv4Src:    {"ipv4_src", 40, 4, 32},
	IPv4Dst:    {"ipv4_dst", 44, 4, 32},
	ARPSPA:     {"arp_spa", 40, 4, 32},
	ARPTPA:     {"arp_tpa", 44, 4, 32},
	IPv6Src:    {"ipv6_src", 48, 16, 128},
	IPv6Dst:    {"ipv6_dst", 64, 16, 128},
	NDTarget:   {"nd_target", 80, 16, 128},
	ARPSHA:     {"arp_sha", 96, 6, 48},
	NDSLL:      {"nd_sll", 96, 6, 48},
	TCPFlags:   {"tcp_flags", 102, 2, 12},
	ARPTHA:     {"arp_tha", 104, 6, 48},
	NDTLL:      {"nd_tll", 104, 6, 48},
	ARPOp:      {"arp_op", 110, 2, 16},
	CTMark:     {"ct_mark", 112, 4, 32},
	CTZone:     {"ct_zone", 116, 2, 16},
	IPTTL:      {"ip_ttl", 118, 1, 8},
	IPFrag:     {"ip_frag", 119, 1, 2},
	IPv6FLabel: {"ipv6_flabel", 120, 4, 20},
	Reg0:       {"reg0", 128, 4, 32},
	Reg1:       {"reg1", 132, 4, 32},
	Reg2:       {"reg2", 136, 4, 32},
	Reg3:       {"reg3", 140, 4, 32},
	Reg4:       {"reg4", 144, 4, 32},
	Reg5:       {"reg5", 148, 4, 32},
	Reg6:       {"reg6", 152, 4, 32},
	Reg7:       {"reg7", 156, 4, 32},
}

// Width returns the field's size in octets.
func (f Field) Width() int { return fields[f].width }

// Bits returns how many bits of the field count.
func (f Field) Bits() int { return fields[f].bits }

func (f Field) String() string {
	if f < NumFields {
		return fields[f].name
	}
	return "unknown field"
}
