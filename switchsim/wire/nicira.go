package wire

import (
	"encoding/binary"

	"github.com/shunt-sdn/shunt/switchsim/packet"
)

// Subtypes of Nicira actions, Open vSwitch's include/openflow/nicira-ext.h.
const (
	nxRegMove    = 6
	nxRegLoad    = 7
	nxNote       = 8
	nxDecTTL     = 18
	nxController = 20
	nxRegLoad2   = 33
	nxCT         = 35

	nxCTCommit = 1
	nxCTForce  = 2
)

func (d Decoder) parseNicira(b []byte, known *Match, strict bool) (Action, error) {
	if binary.BigEndian.Uint32(b[4:]) != NiciraVendor || d.NoNicira {
		return nil, ErrActionExperimenter
	}
	if len(b) < 16 {
		return nil, ErrActionLen
	}
	body := b[10:]
	switch binary.BigEndian.Uint16(b[8:]) {
	case nxRegMove:
		return d.parseMove(body, known, strict)
	case nxRegLoad:
		return d.parseLoad(body, known, strict)
	case nxRegLoad2:
		t, _, err := d.nextOXM(body[6:])
		if err != nil {
			return nil, ErrSetType
		}
		return setField(t, known, strict)
	case nxNote:
		return Nothing{}, nil
	case nxDecTTL:
		if strict && !known.has(packet.EthType, ip) {
			return nil, ErrMatchInconsistent
		}
		return DecTTL{}, nil
	case nxController:
		return Output{PortController}, nil
	case nxCT:
		return d.parseCT(body, known, strict)
	}
	return nil, ErrActionExpType
}

// field finds the field of an OXM header that stands without a value.
func (d Decoder) field(header uint32) *oxmField {
	spec := d.lookupOXM(header >> 9)
	if spec == nil || int(header&0xff) != spec.field.Width() || header&0x100 != 0 {
		return nil
	}
	return spec
}

func (d Decoder) parseMove(b []byte, known *Match, strict bool) (Action, error) {
	if len(b) != 14 {
		return nil, ErrActionLen
	}
	src, dst := d.field(binary.BigEndian.Uint32(b[6:])), d.field(binary.BigEndian.Uint32(b[10:]))
	if src == nil || dst == nil || !dst.settable {
		return nil, ErrSetType
	}
	m := Move{Src: src.field, Dst: dst.field, Bits: int(binary.BigEndian.Uint16(b)),
		SrcOffset: int(binary.BigEndian.Uint16(b[2:])), DstOffset: int(binary.BigEndian.Uint16(b[4:]))}
	if m.Bits == 0 || m.SrcOffset+m.Bits > m.Src.Bits() || m.DstOffset+m.Bits > m.Dst.Bits() {
		return nil, ErrActionArgument
	}
	if strict && (!known.allows(src) || !known.allows(dst)) {
		return nil, ErrMatchInconsistent
	}
	return m, nil
}

// parseLoad decodes a write of up to 64 bits to part of a field.
func (d Decoder) parseLoad(b []byte, known *Match, strict bool) (Action, error) {
	if len(b) != 14 {
		return nil, ErrActionLen
	}
	offset, bits := int(binary.BigEndian.Uint16(b)>>6), int(binary.BigEndian.Uint16(b)&0x3f)+1
	dst := d.field(binary.BigEndian.Uint32(b[2:]))
	if dst == nil || !dst.settable {
		return nil, ErrSetType
	}
	value := binary.BigEndian.Uint64(b[6:])
	if offset+bits > dst.field.Bits() || bits < 64 && value>>bits != 0 {
		return nil, ErrActionArgument
	}
	if strict && !known.allows(dst) {
		return nil, ErrMatchInconsistent
	}
	v, mask := make([]byte, dst.field.Width()), make([]byte, dst.field.Width())
	for i := range bits {
		at := offset + i
		octet, bit := len(v)-1-at/8, byte(1)<<(at%8)
		mask[octet] |= bit
		if value>>i&1 != 0 {
			v[octet] |= bit
		}
	}
	return SetField{Field: dst.field, Value: v, Mask: mask}, nil
}

func (d Decoder) parseCT(b []byte, known *Match, strict bool) (Action, error) {
	if len(b) < 14 {
		return nil, ErrActionLen
	}
	flags := binary.BigEndian.Uint16(b)
	ct := CT{
		Commit: flags&nxCTCommit != 0, Force: flags&nxCTForce != 0,
		Zone: binary.BigEndian.Uint16(b[6:]), Table: b[8],
	}
	if flags&^(nxCTCommit|nxCTForce) != 0 || ct.Force && !ct.Commit || binary.BigEndian.Uint32(b[2:]) != 0 {
		return nil, ErrActionArgument // a zone from a field is not in this subset
	}
	if binary.BigEndian.Uint16(b[12:]) != 0 {
		return nil, ErrActionArgument // neither is an application helper
	}
	if ct.Table != TableAll && int(ct.Table) >= d.Tables {
		return nil, ErrActionArgument
	}
	if strict && !known.has(packet.EthType, ip) {
		return nil, ErrMatchInconsistent
	}
	var err error
	if ct.Exec, err = d.ParseActions(b[14:], known); err != nil {
		return nil, err
	}
	for _, a := range ct.Exec {
		if s, ok := a.(SetField); !ok || s.Field != packet.CTMark || !ct.Commit {
			return nil, ErrActionArgument
		}
	}
	return ct, nil
}
