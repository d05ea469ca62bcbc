package packet

import "encoding/binary"

// EtherTypes and IP protocols that the parser knows.
const (
	TypeIPv4 = 0x0800
	TypeARP  = 0x0806
	TypeVLAN = 0x8100
	TypeIPv6 = 0x86dd

	ProtoICMP   = 1
	ProtoTCP    = 6
	ProtoUDP    = 17
	ProtoICMPv6 = 58
	ProtoSCTP   = 132
)

// Bits of the IPFrag field.
const (
	FragAny   = 1
	FragLater = 2
)

// Neighbour solicitation and advertisement, RFC 4861.
const (
	ndSolicit   = 135
	ndAdvertise = 136
)

// A Packet is a frame, its offload state and its parsed key.
type Packet struct {
	Data    []byte
	Offload Offload
	Key     Key

	l3, l4     int // offsets into Data; 0: not there
	ndSLL      int // offsets of the addresses in neighbour discovery options
	ndTLL      int
	l4Checksum int // offset of the transport checksum; 0: none
}

// Parse parses a frame. A header that is cut short, and all that would follow
// it, counts as absent: its fields are zero. Parse takes over data.
func Parse(data []byte, off Offload) Packet {
	p := Packet{Data: data, Offload: off}
	p.parse()
	return p
}

// parse fills the key's header fields; metadata fields of the key stay.
func (p *Packet) parse() {
	d := p.Data
	p.l3, p.l4, p.ndSLL, p.ndTLL, p.l4Checksum = 0, 0, 0, 0, 0
	if len(d) < 14 {
		return
	}
	k := &p.Key
	k.Put(EthDst, d[0:6])
	k.Put(EthSrc, d[6:12])
	etherType, at := binary.BigEndian.Uint16(d[12:]), 14
	if etherType == TypeVLAN && len(d) >= 18 {
		tci := binary.BigEndian.Uint16(d[14:])
		k.PutU16(VLANVID, tci&0xfff|0x1000)
		k.PutU8(VLANPCP, uint8(tci>>13))
		etherType, at = binary.BigEndian.Uint16(d[16:]), 18
	}
	if etherType < 0x600 {
		etherType = 0x5ff // OFP_DL_TYPE_NOT_ETH_TYPE: an 802.3 length
	}
	k.PutU16(EthType, etherType)
	switch etherType {
	case TypeIPv4:
		p.parseIPv4(at)
	case TypeIPv6:
		p.parseIPv6(at)
	case TypeARP:
		p.parseARP(at)
	}
}

func (p *Packet) parseARP(at int) {
	d := p.Data
	if len(d) < at+28 || binary.BigEndian.Uint16(d[at:]) != 1 ||
		binary.BigEndian.Uint16(d[at+2:]) != TypeIPv4 || d[at+4] != 6 || d[at+5] != 4 {
		return
	}
	p.l3 = at
	p.Key.Put(ARPOp, d[at+6:at+8])
	p.Key.Put(ARPSHA, d[at+8:at+14])
	p.Key.Put(ARPSPA, d[at+14:at+18])
	p.Key.Put(ARPTHA, d[at+18:at+24])
	p.Key.Put(ARPTPA, d[at+24:at+28])
}

func (p *Packet) parseIPv4(at int) {
	d, k := p.Data, &p.Key
	if len(d) < at+20 || d[at]>>4 != 4 {
		return
	}
	header := int(d[at]&15) * 4
	if header < 20 || len(d) < at+header {
		return
	}
	p.l3 = at
	k.PutU8(IPDSCP, d[at+1]>>2)
	k.PutU8(IPECN, d[at+1]&3)
	k.PutU8(IPTTL, d[at+8])
	k.PutU8(IPProto, d[at+9])
	k.Put(IPv4Src, d[at+12:at+16])
	k.Put(IPv4Dst, d[at+16:at+20])
	if frag := binary.BigEndian.Uint16(d[at+6:]); frag&0x3fff != 0 {
		bits := uint8(FragAny)
		if frag&0x1fff != 0 {
			bits |= FragLater
		}
		k.PutU8(IPFrag, bits)
		if bits&FragLater != 0 {
			return
		}
	}
	p.parseL4(at+header, d[at+9])
}

func (p *Packet) parseIPv6(at int) {
	d, k := p.Data, &p.Key
	if len(d) < at+40 || d[at]>>4 != 6 {
		return
	}
	p.l3 = at
	first := binary.BigEndian.Uint32(d[at:])
	k.PutU8(IPDSCP, uint8(first>>22)&0x3f)
	k.PutU8(IPECN, uint8(first>>20)&3)
	k.PutU32(IPv6FLabel, first&0xfffff)
	k.PutU8(IPTTL, d[at+7])
	k.Put(IPv6Src, d[at+8:at+24])
	k.Put(IPv6Dst, d[at+24:at+40])
	next := d[at+6]
	k.PutU8(IPProto, next)
	for at += 40; ; {
		switch next {
		case 0, 43, 60, 51: // hop-by-hop, routing, destination options, authentication
			if len(d) < at+8 {
				return
			}
			size := (int(d[at+1]) + 1) * 8
			if next == 51 {
				size = (int(d[at+1]) + 2) * 4
			}
			next, at = d[at], at+size
			k.PutU8(IPProto, next)
		case 44: // fragment
			if len(d) < at+8 {
				return
			}
			bits := uint8(0)
			if offset := binary.BigEndian.Uint16(d[at+2:]); offset&0xfff9 != 0 {
				bits = FragAny
				if offset&0xfff8 != 0 {
					bits |= FragLater
				}
			}
			next, at = d[at], at+8
			k.PutU8(IPProto, next)
			k.PutU8(IPFrag, bits)
			if bits&FragLater != 0 {
				return
			}
		default:
			p.parseL4(at, next)
			return
		}
	}
}

func (p *Packet) parseL4(at int, proto uint8) {
	d, k := p.Data, &p.Key
	// Flows see no ports in fragments, first ones included, as with Open vSwitch:
	// otherwise parts of one packet would take different ways. The header's place
	// is kept, as its checksum covers the addresses.
	ports := k.U8(IPFrag) == 0
	switch {
	case proto == ProtoTCP && len(d) >= at+20:
		p.l4, p.l4Checksum = at, at+16
		if ports {
			k.Put(TCPSrc, d[at:at+2])
			k.Put(TCPDst, d[at+2:at+4])
		}
		k.PutU16(TCPFlags, binary.BigEndian.Uint16(d[at+12:])&0xfff)
	case proto == ProtoUDP && len(d) >= at+8:
		p.l4, p.l4Checksum = at, at+6
		if ports {
			k.Put(UDPSrc, d[at:at+2])
			k.Put(UDPDst, d[at+2:at+4])
		}
	case proto == ProtoSCTP && len(d) >= at+12:
		p.l4 = at
		if ports {
			k.Put(SCTPSrc, d[at:at+2])
			k.Put(SCTPDst, d[at+2:at+4])
		}
	case proto == ProtoICMP && k.U16(EthType) == TypeIPv4 && len(d) >= at+8:
		p.l4, p.l4Checksum = at, at+2
		k.PutU8(ICMPv4Type, d[at])
		k.PutU8(ICMPv4Code, d[at+1])
	case proto == ProtoICMPv6 && k.U16(EthType) == TypeIPv6 && len(d) >= at+8:
		p.l4, p.l4Checksum = at, at+2
		k.PutU8(ICMPv6Type, d[at])
		k.PutU8(ICMPv6Code, d[at+1])
		p.parseND(at)
	}
}

// parseND reads the target and link-layer addresses of a neighbour solicitation
// or advertisement, which have code 0.
func (p *Packet) parseND(at int) {
	d, k := p.Data, &p.Key
	if t := d[at]; t != ndSolicit && t != ndAdvertise || d[at+1] != 0 || len(d) < at+24 {
		return
	}
	k.Put(NDTarget, d[at+8:at+24])
	for o := at + 24; len(d) >= o+8; {
		size := int(d[o+1]) * 8
		if size == 0 || len(d) < o+size {
			return
		}
		switch {
		case d[o] == 1 && size == 8:
			p.ndSLL = o + 2
			k.Put(NDSLL, d[o+2:o+8])
		case d[o] == 2 && size == 8:
			p.ndTLL = o + 2
			k.Put(NDTLL, d[o+2:o+8])
		}
		o += size
	}
}
