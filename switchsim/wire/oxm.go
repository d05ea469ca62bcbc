//lint:file-ignore SA4016 number 0 of a class is written like the others.

package wire

import (
	"bytes"
	"encoding/binary"
	"slices"

	"github.com/shunt-sdn/shunt/switchsim/packet"
)

// Classes of OXM headers, 7.2.3.2.
const (
	classNXM0         = 0x0000
	classNXM1         = 0x0001
	classBasic        = 0x8000
	classExperimenter = 0xffff

	onfExperimenter = 0x4f4e4600
)

// oxmField says how a field travels and what it needs.
type oxmField struct {
	field    packet.Field
	maskable bool
	settable bool
	needs    packet.Field // prerequisite field, if values is not empty
	values   []uint16
	nicira   bool
}

var (
	ip    = []uint16{packet.TypeIPv4, packet.TypeIPv6}
	ipv4  = []uint16{packet.TypeIPv4}
	ipv6  = []uint16{packet.TypeIPv6}
	arp   = []uint16{packet.TypeARP}
	tcp   = []uint16{packet.ProtoTCP}
	udp   = []uint16{packet.ProtoUDP}
	sctp  = []uint16{packet.ProtoSCTP}
	icmp4 = []uint16{packet.ProtoICMP}
	icmp6 = []uint16{packet.ProtoICMPv6}
	nd    = []uint16{135, 136}
	ns    = []uint16{135}
	na    = []uint16{136}
)

// oxmFields is keyed by class<<7 | field number. The first spelling of a field is
// the one that the switch sends.
var oxmFields = map[uint32]*oxmField{
	classBasic<<7 | 0:  {field: packet.InPort},
	classBasic<<7 | 2:  {field: packet.Metadata, maskable: true},
	classBasic<<7 | 3:  {field: packet.EthDst, maskable: true, settable: true},
	classBasic<<7 | 4:  {field: packet.EthSrc, maskable: true, settable: true},
	classBasic<<7 | 5:  {field: packet.EthType},
	classBasic<<7 | 6:  {field: packet.VLANVID, maskable: true, settable: true},
	classBasic<<7 | 7:  {field: packet.VLANPCP, settable: true},
	classBasic<<7 | 8:  {field: packet.IPDSCP, settable: true, needs: packet.EthType, values: ip},
	classBasic<<7 | 9:  {field: packet.IPECN, settable: true, needs: packet.EthType, values: ip},
	classBasic<<7 | 10: {field: packet.IPProto, needs: packet.EthType, values: ip},
	classBasic<<7 | 11: {field: packet.IPv4Src, maskable: true, settable: true, needs: packet.EthType, values: ipv4},
	classBasic<<7 | 12: {field: packet.IPv4Dst, maskable: true, settable: true, needs: packet.EthType, values: ipv4},
	classBasic<<7 | 13: {field: packet.TCPSrc, maskable: true, settable: true, needs: packet.IPProto, values: tcp},
	classBasic<<7 | 14: {field: packet.TCPDst, maskable: true, settable: true, needs: packet.IPProto, values: tcp},
	classBasic<<7 | 15: {field: packet.UDPSrc, maskable: true, settable: true, needs: packet.IPProto, values: udp},
	classBasic<<7 | 16: {field: packet.UDPDst, maskable: true, settable: true, needs: packet.IPProto, values: udp},
	classBasic<<7 | 17: {field: packet.SCTPSrc, maskable: true, needs: packet.IPProto, values: sctp},
	classBasic<<7 | 18: {field: packet.SCTPDst, maskable: true, needs: packet.IPProto, values: sctp},
	classBasic<<7 | 19: {field: packet.ICMPv4Type, settable: true, needs: packet.IPProto, values: icmp4},
	classBasic<<7 | 20: {field: packet.ICMPv4Code, settable: true, needs: packet.IPProto, values: icmp4},
	classBasic<<7 | 21: {field: packet.ARPOp, settable: true, needs: packet.EthType, values: arp},
	classBasic<<7 | 22: {field: packet.ARPSPA, maskable: true, settable: true, needs: packet.EthType, values: arp},
	classBasic<<7 | 23: {field: packet.ARPTPA, maskable: true, settable: true, needs: packet.EthType, values: arp},
	classBasic<<7 | 24: {field: packet.ARPSHA, maskable: true, settable: true, needs: packet.EthType, values: arp},
	classBasic<<7 | 25: {field: packet.ARPTHA, maskable: true, settable: true, needs: packet.EthType, values: arp},
	classBasic<<7 | 26: {field: packet.IPv6Src, maskable: true, settable: true, needs: packet.EthType, values: ipv6},
	classBasic<<7 | 27: {field: packet.IPv6Dst, maskable: true, settable: true, needs: packet.EthType, values: ipv6},
	classBasic<<7 | 28: {field: packet.IPv6FLabel, maskable: true, settable: true, needs: packet.EthType, values: ipv6},
	classBasic<<7 | 29: {field: packet.ICMPv6Type, settable: true, needs: packet.IPProto, values: icmp6},
	classBasic<<7 | 30: {field: packet.ICMPv6Code, settable: true, needs: packet.IPProto, values: icmp6},
	classBasic<<7 | 31: {field: packet.NDTarget, maskable: true, settable: true, needs: packet.ICMPv6Type, values: nd},
	classBasic<<7 | 32: {field: packet.NDSLL, maskable: true, settable: true, needs: packet.ICMPv6Type, values: ns},
	classBasic<<7 | 33: {field: packet.NDTLL, maskable: true, settable: true, needs: packet.ICMPv6Type, values: na},

	classNXM1<<7 | 0:   {field: packet.Reg0, maskable: true, settable: true, nicira: true},
	classNXM1<<7 | 1:   {field: packet.Reg1, maskable: true, settable: true, nicira: true},
	classNXM1<<7 | 2:   {field: packet.Reg2, maskable: true, settable: true, nicira: true},
	classNXM1<<7 | 3:   {field: packet.Reg3, maskable: true, settable: true, nicira: true},
	classNXM1<<7 | 4:   {field: packet.Reg4, maskable: true, settable: true, nicira: true},
	classNXM1<<7 | 5:   {field: packet.Reg5, maskable: true, settable: true, nicira: true},
	classNXM1<<7 | 6:   {field: packet.Reg6, maskable: true, settable: true, nicira: true},
	classNXM1<<7 | 7:   {field: packet.Reg7, maskable: true, settable: true, nicira: true},
	classNXM1<<7 | 26:  {field: packet.IPFrag, maskable: true, needs: packet.EthType, values: ip, nicira: true},
	classNXM1<<7 | 29:  {field: packet.IPTTL, settable: true, needs: packet.EthType, values: ip, nicira: true},
	classNXM1<<7 | 34:  {field: packet.TCPFlags, maskable: true, needs: packet.IPProto, values: tcp, nicira: true},
	classNXM1<<7 | 105: {field: packet.CTState, maskable: true, nicira: true},
	classNXM1<<7 | 106: {field: packet.CTZone, nicira: true},
	classNXM1<<7 | 107: {field: packet.CTMark, maskable: true, settable: true, nicira: true},
}

// nxmAliases are the older spellings of basic fields, ovs-fields(7).
var nxmAliases = map[uint32]uint32{
	classNXM0<<7 | 1: 3, classNXM0<<7 | 2: 4, classNXM0<<7 | 3: 5, classNXM0<<7 | 6: 10, classNXM0<<7 | 7: 11,
	classNXM0<<7 | 8: 12, classNXM0<<7 | 9: 13, classNXM0<<7 | 10: 14, classNXM0<<7 | 11: 15, classNXM0<<7 | 12: 16,
	classNXM0<<7 | 13: 19, classNXM0<<7 | 14: 20, classNXM0<<7 | 15: 21, classNXM0<<7 | 16: 22, classNXM0<<7 | 17: 23,
	classNXM1<<7 | 17: 24, classNXM1<<7 | 18: 25, classNXM1<<7 | 19: 26, classNXM1<<7 | 20: 27, classNXM1<<7 | 21: 29,
	classNXM1<<7 | 22: 30, classNXM1<<7 | 23: 31, classNXM1<<7 | 24: 32, classNXM1<<7 | 25: 33,
}

// lookupOXM finds the field of a header without mask bit and length.
func (d Decoder) lookupOXM(id uint32) *oxmField {
	if to, ok := nxmAliases[id]; ok && !d.NoNicira {
		return oxmFields[classBasic<<7|to]
	}
	f := oxmFields[id]
	if f == nil || f.nicira && d.NoNicira {
		return nil
	}
	return f
}

// A tlv is one OXM field: an empty mask is an exact one.
type tlv struct {
	spec        *oxmField
	value, mask []byte
	raw         []byte
}

// nextOXM cuts one field off b, with no check of its value.
func (d Decoder) nextOXM(b []byte) (tlv, []byte, error) {
	if len(b) < 4 {
		return tlv{}, nil, ErrMatchLen
	}
	header := binary.BigEndian.Uint32(b)
	size := 4 + int(header&0xff)
	if len(b) < size {
		return tlv{}, nil, ErrMatchLen
	}
	raw, body, rest := b[:size], b[4:size], b[size:]
	id := header >> 9
	if header>>16 == classExperimenter {
		// The one field known is the TCP flags of ONF extension 109.
		if len(body) < 4 || binary.BigEndian.Uint32(body) != onfExperimenter || header>>9&0x7f != 42 {
			return tlv{}, nil, ErrMatchField
		}
		id, body = classNXM1<<7|34, body[4:]
	}
	spec := d.lookupOXM(id)
	if spec == nil {
		return tlv{}, nil, ErrMatchField
	}
	t := tlv{spec: spec, value: body, raw: raw}
	if header&0x100 != 0 {
		t.value, t.mask = body[:len(body)/2], body[len(body)/2:]
	}
	if len(t.value) != spec.field.Width() || t.mask != nil && len(t.mask) != len(t.value) {
		return tlv{}, nil, ErrMatchLen
	}
	return t, rest, nil
}

// inRange checks that only significant bits of the field are set.
func inRange(f packet.Field, v []byte) bool {
	spare := len(v)*8 - f.Bits()
	for i := 0; i < len(v) && spare > 0; i, spare = i+1, spare-8 {
		if v[i]>>max(0, 8-spare) != 0 {
			return false
		}
	}
	return true
}

// A Match selects packets: those whose key has Value in the bits of Mask.
type Match struct {
	Value, Mask packet.Key
	OXM         []byte // as the controller wrote it, to be shown to it again
}

// has reports whether the match fixes the field to one of the values.
func (m *Match) has(f packet.Field, values []uint16) bool {
	for _, b := range m.Mask.Get(f) {
		if b != 0xff {
			return false
		}
	}
	v := m.Value.Get(f)
	n := uint16(v[0])
	if len(v) == 2 {
		n = binary.BigEndian.Uint16(v)
	}
	for _, want := range values {
		if n == want {
			return true
		}
	}
	return false
}

// allows reports whether the match meets the prerequisites of a field, those of
// its prerequisite included (they cannot be in a match without).
func (m *Match) allows(s *oxmField) bool {
	return len(s.values) == 0 || m.has(s.needs, s.values)
}

// add puts one field into the match.
func (m *Match) add(t tlv) error {
	f := t.spec.field
	mask := t.mask
	switch {
	case mask == nil:
		mask = fullMask(f)
	case !t.spec.maskable && !bytes.Equal(mask, fullMask(f)) && !allZero(mask):
		return ErrMatchMask
	}
	for i := range mask {
		if t.value[i]&^mask[i] != 0 {
			return ErrMatchWildcards
		}
	}
	if !inRange(f, t.value) {
		return ErrMatchValue
	}
	if !m.allows(t.spec) {
		return ErrMatchPrereq
	}
	if f == packet.VLANPCP && m.Value.U16(packet.VLANVID)&0x1000 == 0 {
		return ErrMatchPrereq
	}
	if !allZero(m.Mask.Get(f)) {
		return ErrMatchDup
	}
	m.Value.Put(f, t.value)
	m.Mask.Put(f, mask)
	return nil
}

// ParseMatch decodes a match structure at the start of b and returns the rest
// after its padding.
func (d Decoder) ParseMatch(b []byte) (Match, []byte, error) {
	if len(b) < 4 {
		return Match{}, nil, ErrMatchLen
	}
	if binary.BigEndian.Uint16(b) != 1 {
		return Match{}, nil, ErrMatchType
	}
	size := int(binary.BigEndian.Uint16(b[2:]))
	padded := (size + 7) / 8 * 8
	if size < 4 || len(b) < padded {
		return Match{}, nil, ErrMatchLen
	}
	var m Match
	for fields := b[4:size]; len(fields) > 0; {
		t, rest, err := d.nextOXM(fields)
		if err != nil {
			return Match{}, nil, err
		}
		if err := m.add(t); err != nil {
			return Match{}, nil, err
		}
		fields = rest
	}
	m.OXM = append([]byte(nil), b[4:size]...)
	return m, b[padded:], nil
}

// AppendMatch encodes OXM fields as a match structure.
func AppendMatch(b, oxm []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, 1)
	b = binary.BigEndian.AppendUint16(b, uint16(4+len(oxm)))
	b = append(b, oxm...)
	return append(b, make([]byte, (8-(4+len(oxm))%8)%8)...)
}

// AppendOXM encodes an exact value of a basic field by its number.
func AppendOXM(b []byte, number uint8, v []byte) []byte {
	b = binary.BigEndian.AppendUint32(b, classBasic<<16|uint32(number)<<9|uint32(len(v)))
	return append(b, v...)
}

func fullMask(f packet.Field) []byte {
	return bytes.Repeat([]byte{0xff}, f.Width())
}

func allZero(b []byte) bool {
	for _, v := range b {
		if v != 0 {
			return false
		}
	}
	return true
}

// Headers returns the OXM headers of the fields that can be matched on and of
// those that can be written, in rising order.
func (d Decoder) Headers() (match, settable []uint32) {
	for id, spec := range oxmFields {
		if spec.nicira && d.NoNicira {
			continue
		}
		header := id<<9 | uint32(spec.field.Width())
		if spec.settable {
			settable = append(settable, header)
		}
		if spec.maskable {
			header = id<<9 | 0x100 | uint32(2*spec.field.Width())
		}
		match = append(match, header)
	}
	slices.Sort(match)
	slices.Sort(settable)
	return match, settable
}
