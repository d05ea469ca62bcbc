package packet

import (
	"bytes"
	"encoding/binary"
	"slices"
)

// scope says which checksums cover a field.
type scope uint8

const (
	linkScope      scope = iota // none: Ethernet, VLAN, ARP
	headerScope                 // the IPv4 header's
	pseudoScope                 // the IPv4 header's and, by the pseudo-header, the transport's
	transportScope              // the transport's
)

// Set writes a header field into the frame and the key, and keeps the checksums
// right. A field that the packet does not have is left alone. Metadata fields
// (registers, marks) are written to the key only. v has the field's width.
func (p *Packet) Set(f Field, v []byte) {
	at, s := p.locate(f)
	switch {
	case at < 0:
		return
	case f <= Metadata || f >= Reg0 || f == CTMark || f == CTZone:
		p.Key.Put(f, v)
		return
	}
	switch f {
	case VLANVID:
		p.setBits16(at, binary.BigEndian.Uint16(v), 0x0fff)
		p.Key.PutU16(VLANVID, binary.BigEndian.Uint16(v)|0x1000)
		return
	case VLANPCP:
		p.setBits16(at, uint16(v[0])<<13, 0xe000)
	case IPDSCP:
		p.setTrafficClass(at, v[0]<<2, 0xfc)
	case IPECN:
		p.setTrafficClass(at, v[0], 0x03)
	case IPv6FLabel:
		first := binary.BigEndian.Uint32(p.Data[at:])&0xfff00000 | binary.BigEndian.Uint32(v)&0xfffff
		binary.BigEndian.PutUint32(p.Data[at:], first)
	default:
		p.write(at, v, s)
	}
	p.Key.Put(f, v)
}

// locate returns the field's offset in the frame (-1: the packet has none) and the
// checksums that cover it.
func (p *Packet) locate(f Field) (int, scope) {
	t := p.Key.U16(EthType)
	arp := func(o int) (int, scope) { return offset(p.l3, o, t == TypeARP), linkScope }
	l4 := func(o int, proto uint8) (int, scope) {
		return offset(p.l4, o, p.Key.U8(IPProto) == proto), transportScope
	}
	switch f {
	case EthDst:
		return ethernet(p.Data, 0), linkScope
	case EthSrc:
		return ethernet(p.Data, 6), linkScope
	case VLANVID, VLANPCP:
		return offset(14, 0, p.Key.U16(VLANVID) != 0), linkScope
	case IPDSCP, IPECN:
		return offset(p.l3, 0, t == TypeIPv4 || t == TypeIPv6), headerScope
	case IPTTL:
		if t == TypeIPv6 {
			return offset(p.l3, 7, true), linkScope
		}
		return offset(p.l3, 8, t == TypeIPv4), headerScope
	case IPv4Src:
		return offset(p.l3, 12, t == TypeIPv4), pseudoScope
	case IPv4Dst:
		return offset(p.l3, 16, t == TypeIPv4), pseudoScope
	case IPv6Src:
		return offset(p.l3, 8, t == TypeIPv6), pseudoScope
	case IPv6Dst:
		return offset(p.l3, 24, t == TypeIPv6), pseudoScope
	case IPv6FLabel:
		return offset(p.l3, 0, t == TypeIPv6), linkScope
	case ARPOp:
		return arp(6)
	case ARPSHA:
		return arp(8)
	case ARPSPA:
		return arp(14)
	case ARPTHA:
		return arp(18)
	case ARPTPA:
		return arp(24)
	case TCPSrc:
		return l4(0, ProtoTCP)
	case TCPDst:
		return l4(2, ProtoTCP)
	case UDPSrc:
		return l4(0, ProtoUDP)
	case UDPDst:
		return l4(2, ProtoUDP)
	case ICMPv4Type:
		return l4(0, ProtoICMP)
	case ICMPv4Code:
		return l4(1, ProtoICMP)
	case ICMPv6Type:
		return l4(0, ProtoICMPv6)
	case ICMPv6Code:
		return l4(1, ProtoICMPv6)
	case NDTarget:
		nd := p.l4 != 0 && (p.Data[p.l4] == ndSolicit || p.Data[p.l4] == ndAdvertise)
		return offset(p.l4, 8, nd && len(p.Data) >= p.l4+24), transportScope
	case NDSLL:
		return offset(p.ndSLL, 0, true), transportScope
	case NDTLL:
		return offset(p.ndTLL, 0, true), transportScope
	case InPort, Metadata, CTMark, Reg0, Reg1, Reg2, Reg3, Reg4, Reg5, Reg6, Reg7:
		return 0, linkScope
	}
	return -1, linkScope
}

// offset is base+o, or -1 where the header is not there (base is 0).
func offset(base, o int, there bool) int {
	if !there || base == 0 {
		return -1
	}
	return base + o
}

func ethernet(frame []byte, o int) int {
	if len(frame) < 14 {
		return -1
	}
	return o
}

// write stores v at an offset of the frame and amends the checksums of its scope.
func (p *Packet) write(at int, v []byte, s scope) {
	if s == linkScope {
		copy(p.Data[at:], v)
		return
	}
	// Checksums count 16-bit words from their header's start, which is at an even
	// distance from l3 and l4.
	base := p.l3
	if s == transportScope {
		base = p.l4
	}
	from, to := at-(at-base)%2, at+len(v)
	if to += (to - base) % 2; to > len(p.Data) {
		to = len(p.Data)
	}
	var oldBuf [24]byte
	old := oldBuf[:copy(oldBuf[:], p.Data[from:to])]
	copy(p.Data[at:], v)
	p.amend(old, p.Data[from:to], s)
}

// amend updates the checksums of a scope after octets changed.
func (p *Packet) amend(old, new []byte, s scope) {
	if bytes.Equal(old, new) {
		return
	}
	if s != transportScope && p.Key.U16(EthType) == TypeIPv4 {
		field := p.Data[p.l3+10:]
		binary.BigEndian.PutUint16(field, replaced(binary.BigEndian.Uint16(field), old, new))
	}
	if s == headerScope || p.l4Checksum == 0 {
		return
	}
	proto := p.Key.U8(IPProto)
	if s == pseudoScope && proto == ProtoICMP {
		return // has no pseudo-header
	}
	field := p.Data[p.l4Checksum:]
	value := binary.BigEndian.Uint16(field)
	if p.partialTransport() {
		if s == pseudoScope {
			binary.BigEndian.PutUint16(field, replacedSum(value, old, new))
		}
		return // the rest is summed by the interface
	}
	if proto == ProtoUDP && value == 0 {
		return // sent without checksum
	}
	value = replaced(value, old, new)
	if proto == ProtoUDP && value == 0 {
		value = 0xffff
	}
	binary.BigEndian.PutUint16(field, value)
}

// partialTransport reports whether the transport checksum is the one that the
// interface completes (and not that of an encapsulated packet).
func (p *Packet) partialTransport() bool {
	return p.Offload.Partial() && int(p.Offload.ChecksumStart)+int(p.Offload.ChecksumOffset) == p.l4Checksum
}

func (p *Packet) setBits16(at int, v, mask uint16) {
	old := binary.BigEndian.Uint16(p.Data[at:])
	binary.BigEndian.PutUint16(p.Data[at:], old&^mask|v&mask)
}

func (p *Packet) setTrafficClass(at int, v, mask uint8) {
	if p.Key.U16(EthType) == TypeIPv4 {
		p.write(at+1, []byte{p.Data[at+1]&^mask | v&mask}, headerScope)
		return
	}
	first := binary.BigEndian.Uint32(p.Data[at:])
	first = first&^(uint32(mask)<<20) | uint32(v&mask)<<20
	binary.BigEndian.PutUint32(p.Data[at:], first)
}

// DecTTL decrements the TTL or hop limit. It reports false, and changes nothing,
// if the packet may not travel on. Packets other than IP pass.
func (p *Packet) DecTTL() bool {
	if at, _ := p.locate(IPTTL); at < 0 {
		return true
	}
	ttl := p.Key.U8(IPTTL)
	if ttl <= 1 {
		return false
	}
	p.Set(IPTTL, []byte{ttl - 1})
	return true
}

// PushVLAN puts an 802.1Q tag with VLAN 0 in the frame.
func (p *Packet) PushVLAN() {
	if len(p.Data) < 14 {
		return
	}
	p.Data = slices.Insert(slices.Clip(p.Data), 12, 0x81, 0x00, 0, 0)
	p.Offload = p.Offload.Shifted(4)
	p.reparse()
}

// PopVLAN takes the outermost tag out of the frame, if it has one.
func (p *Packet) PopVLAN() {
	if p.Key.U16(VLANVID) == 0 {
		return
	}
	p.Data = slices.Delete(p.Data, 12, 16)
	p.Offload = p.Offload.Shifted(-4)
	p.reparse()
}

// reparse parses again and keeps the metadata fields.
func (p *Packet) reparse() {
	old := p.Key
	p.Key = Key{}
	for _, f := range []Field{InPort, CTState, Metadata, CTMark, CTZone, Reg0, Reg1, Reg2, Reg3, Reg4, Reg5, Reg6, Reg7} {
		p.Key.Put(f, old.Get(f))
	}
	p.parse()
}

// Clone returns a copy that shares no memory with p.
func (p *Packet) Clone() Packet {
	c := *p
	c.Data = slices.Clone(p.Data)
	return c
}
