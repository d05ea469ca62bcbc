package wire

import (
	"encoding/binary"

	"github.com/shunt-sdn/shunt/switchsim/packet"
)

// Decoder decodes what controllers send. The zero value knows Open vSwitch's
// extensions and has no tables.
type Decoder struct {
	NoNicira bool // pure OpenFlow 1.3
	Tables   int  // how many there are
}

// An Action is one of the types below.
type Action interface{ action() }

// Output sends the packet out of a port.
type Output struct{ Port uint32 }

// Group runs a group.
type Group struct{ ID uint32 }

// SetField writes the bits of Mask (nil: all) of a field.
type SetField struct {
	Field       packet.Field
	Value, Mask []byte
}

// Move copies Bits bits of Src from bit SrcOffset on to bit DstOffset of Dst; bit
// 0 is the least significant.
type Move struct {
	Src, Dst             packet.Field
	SrcOffset, DstOffset int
	Bits                 int
}

// DecTTL decrements the TTL or hop limit.
type DecTTL struct{}

// PushVLAN adds an 802.1Q tag.
type PushVLAN struct{}

// PopVLAN removes the outermost tag.
type PopVLAN struct{}

// CT passes the packet through the connection tracker.
type CT struct {
	Zone          uint16
	Commit, Force bool
	Table         uint8 // TableAll: the packet does not go on
	Exec          []Action
}

// Nothing is an action without effect here: set-queue, note.
type Nothing struct{}

func (Output) action()   {}
func (Group) action()    {}
func (SetField) action() {}
func (Move) action()     {}
func (DecTTL) action()   {}
func (PushVLAN) action() {}
func (PopVLAN) action()  {}
func (CT) action()       {}
func (Nothing) action()  {}

// Action types, 7.2.5.
const (
	actOutput       = 0
	actPushVLAN     = 17
	actPopVLAN      = 18
	actSetQueue     = 21
	actGroup        = 22
	actSetTTL       = 23
	actDecTTL       = 24
	actSetField     = 25
	actExperimenter = 0xffff
)

// maxActions bounds the actions of one list.
const maxActions = 1024

// ParseActions decodes a list of actions that fills b. match is what packets
// that they act on are known to be; nil if nothing is known (a packet-out).
func (d Decoder) ParseActions(b []byte, match *Match) ([]Action, error) {
	var out []Action
	known := Match{}
	if match != nil {
		known = *match
	}
	for len(b) > 0 {
		if len(b) < 8 {
			return nil, ErrActionLen
		}
		size := int(binary.BigEndian.Uint16(b[2:]))
		if size < 8 || size%8 != 0 || size > len(b) || len(out) == maxActions {
			return nil, ErrActionLen
		}
		a, err := d.parseAction(b[:size], &known, match != nil)
		if err != nil {
			return nil, err
		}
		out, b = append(out, a), b[size:]
	}
	return out, nil
}

// parseAction decodes one action. known gains what the action makes certain.
func (d Decoder) parseAction(b []byte, known *Match, strict bool) (Action, error) {
	body := b[4:]
	switch binary.BigEndian.Uint16(b) {
	case actOutput:
		if len(b) != 16 {
			return nil, ErrActionLen
		}
		port := binary.BigEndian.Uint32(body)
		if !outputAllowed(port, strict) {
			return nil, ErrOutPort
		}
		return Output{port}, nil
	case actGroup:
		id := binary.BigEndian.Uint32(body)
		if len(b) != 8 {
			return nil, ErrActionLen
		}
		if id > GroupMax {
			return nil, ErrOutGroup
		}
		return Group{id}, nil
	case actSetField:
		return d.parseSetField(body, known, strict)
	case actDecTTL:
		if strict && !known.has(packet.EthType, ip) {
			return nil, ErrMatchInconsistent
		}
		return DecTTL{}, nil
	case actSetTTL:
		if strict && !known.has(packet.EthType, ip) {
			return nil, ErrMatchInconsistent
		}
		return SetField{Field: packet.IPTTL, Value: []byte{body[0]}}, nil
	case actPushVLAN:
		if binary.BigEndian.Uint16(body) != packet.TypeVLAN {
			return nil, ErrActionArgument
		}
		known.Value.PutU16(packet.VLANVID, 0x1000)
		known.Mask.PutU16(packet.VLANVID, 0x1000)
		return PushVLAN{}, nil
	case actPopVLAN:
		if strict && known.Value.U16(packet.VLANVID)&0x1000 == 0 {
			return nil, ErrMatchInconsistent
		}
		return PopVLAN{}, nil
	case actSetQueue:
		return Nothing{}, nil
	case actExperimenter:
		return d.parseNicira(b, known, strict)
	}
	return nil, ErrActionType
}

// outputAllowed: a port that does not exist now may come later, and output to it
// is a drop until then. OFPP_TABLE is for packet-outs only, and a flow cannot
// output to "any". There is no legacy pipeline to hand packets to (OFPP_NORMAL).
func outputAllowed(port uint32, flow bool) bool {
	switch port {
	case PortInPort, PortFlood, PortAll, PortController, PortLocal:
		return true
	case PortTable:
		return !flow
	}
	return port != 0 && port < PortMax
}

func (d Decoder) parseSetField(b []byte, known *Match, strict bool) (Action, error) {
	t, _, err := d.nextOXM(b)
	if err == ErrMatchLen {
		return nil, ErrSetLen
	}
	if err != nil {
		return nil, ErrSetType
	}
	if t.mask != nil {
		return nil, ErrSetArgument
	}
	return setField(t, known, strict)
}

func setField(t tlv, known *Match, strict bool) (Action, error) {
	f := t.spec.field
	switch {
	case !t.spec.settable:
		return nil, ErrSetType
	case !inRange(f, t.value) || f == packet.VLANVID && t.value[0]&0x10 == 0:
		return nil, ErrSetArgument
	case strict && !known.allows(t.spec),
		strict && (f == packet.VLANVID || f == packet.VLANPCP) && known.Value.U16(packet.VLANVID)&0x1000 == 0:
		return nil, ErrMatchInconsistent
	}
	a := SetField{Field: f, Value: append([]byte(nil), t.value...)}
	if t.mask != nil {
		a.Mask = append([]byte(nil), t.mask...)
	}
	if t.mask == nil && !allZero(known.Mask.Get(f)) {
		known.Value.Put(f, t.value) // e.g. an ICMPv6 type that is changed
	}
	return a, nil
}
