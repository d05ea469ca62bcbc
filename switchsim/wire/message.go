package wire

import (
	"encoding/binary"
)

// Instructions are what a flow does with a packet.
type Instructions struct {
	Apply              []Action
	Clear              bool
	Write              []Action
	Metadata, MetaMask uint64
	Goto               uint8 // 0: nowhere
	Raw                []byte
}

// Instruction types, 7.2.4.
const (
	instGoto     = 1
	instMetadata = 2
	instWrite    = 3
	instApply    = 4
	instClear    = 5
	instMeter    = 6
	instExp      = 0xffff
)

// ParseInstructions decodes the instructions of a flow in a table.
func (d Decoder) ParseInstructions(b []byte, m *Match, table uint8) (Instructions, error) {
	out := Instructions{Raw: append([]byte(nil), b...)}
	seen := map[uint16]bool{}
	for len(b) > 0 {
		if len(b) < 8 {
			return out, ErrInstructionLen
		}
		typ, size := binary.BigEndian.Uint16(b), int(binary.BigEndian.Uint16(b[2:]))
		if size < 8 || size%8 != 0 || size > len(b) {
			return out, ErrInstructionLen
		}
		if seen[typ] {
			return out, ErrInstructionUnsup
		}
		seen[typ] = true
		body := b[4:size]
		b = b[size:]
		var err error
		switch typ {
		case instGoto:
			if out.Goto = body[0]; int(out.Goto) >= d.Tables || out.Goto <= table {
				return out, ErrGotoTable
			}
		case instMetadata:
			if size != 24 {
				return out, ErrInstructionLen
			}
			out.Metadata, out.MetaMask = binary.BigEndian.Uint64(body[4:]), binary.BigEndian.Uint64(body[12:])
		case instWrite:
			out.Write, err = d.ParseActions(body[4:], m)
		case instApply:
			out.Apply, err = d.ParseActions(body[4:], m)
		case instClear:
			out.Clear = true
		case instMeter:
			return out, ErrInstructionUnsup
		case instExp:
			return out, ErrInstructionExp
		default:
			return out, ErrInstruction
		}
		if err != nil {
			return out, err
		}
	}
	return out, nil
}

// A FlowMod changes flow tables.
type FlowMod struct {
	Cookie, CookieMask uint64
	Table              uint8
	Command            uint8
	IdleTimeout        uint16 // seconds
	HardTimeout        uint16 // seconds
	Priority           uint16
	OutPort, OutGroup  uint32
	Flags              uint16
	Match              Match
	Instructions       Instructions
}

// ParseFlowMod decodes a flow mod, header included.
func (d Decoder) ParseFlowMod(b []byte) (FlowMod, error) {
	if len(b) < 56 {
		return FlowMod{}, ErrBadLen
	}
	e := binary.BigEndian
	f := FlowMod{
		Cookie: e.Uint64(b[8:]), CookieMask: e.Uint64(b[16:]), Table: b[24], Command: b[25],
		IdleTimeout: e.Uint16(b[26:]), HardTimeout: e.Uint16(b[28:]), Priority: e.Uint16(b[30:]),
		OutPort: e.Uint32(b[36:]), OutGroup: e.Uint32(b[40:]), Flags: e.Uint16(b[44:]),
	}
	buffer := e.Uint32(b[32:])
	if f.Command > FlowDeleteStrict {
		return f, ErrFlowCommand
	}
	del := f.Command == FlowDelete || f.Command == FlowDeleteStrict
	if int(f.Table) >= d.Tables && !(f.Table == TableAll && del) {
		return f, ErrFlowTableID
	}
	if f.Flags&^0x1f != 0 {
		return f, ErrFlowFlags
	}
	var err error
	if f.Match, b, err = d.ParseMatch(b[48:]); err != nil {
		return f, err
	}
	if del {
		return f, nil
	}
	if f.Instructions, err = d.ParseInstructions(b, &f.Match, f.Table); err != nil {
		return f, err
	}
	if buffer != NoBuffer {
		return f, ErrBufferUnknown
	}
	return f, nil
}

// A Bucket is one choice of a group.
type Bucket struct {
	Weight     uint16
	WatchPort  uint32
	WatchGroup uint32
	Actions    []Action
	Raw        []byte // as the controller wrote it
}

// A GroupMod changes the group table.
type GroupMod struct {
	Command uint16
	Type    uint8
	ID      uint32
	Buckets []Bucket
}

// ParseGroupMod decodes a group mod, header included.
func (d Decoder) ParseGroupMod(b []byte) (GroupMod, error) {
	if len(b) < 16 {
		return GroupMod{}, ErrBadLen
	}
	e := binary.BigEndian
	g := GroupMod{Command: e.Uint16(b[8:]), Type: b[10], ID: e.Uint32(b[12:])}
	if g.Command > GroupDelete {
		return g, ErrGroupCommand
	}
	if g.Command != GroupDelete {
		if g.Type > GroupTypeFailover {
			return g, ErrGroupType
		}
		if g.ID > GroupMax {
			return g, ErrInvalidGroup
		}
	}
	for b = b[16:]; len(b) > 0; {
		if len(b) < 16 {
			return g, ErrBucket
		}
		size := int(e.Uint16(b))
		if size < 16 || size%8 != 0 || size > len(b) {
			return g, ErrBucket
		}
		k := Bucket{Weight: e.Uint16(b[2:]), WatchPort: e.Uint32(b[4:]), WatchGroup: e.Uint32(b[8:]),
			Raw: append([]byte(nil), b[:size]...)}
		var err error
		if k.Actions, err = d.ParseActions(b[16:size], nil); err != nil {
			return g, err
		}
		g.Buckets, b = append(g.Buckets, k), b[size:]
	}
	if g.Type == GroupTypeIndirect && len(g.Buckets) != 1 && g.Command != GroupDelete {
		return g, ErrInvalidGroup
	}
	return g, nil
}

// A PacketOut has the switch act on a packet.
type PacketOut struct {
	InPort  uint32
	Actions []Action
	Data    []byte
}

// ParsePacketOut decodes a packet-out, header included. Data is part of b.
func (d Decoder) ParsePacketOut(b []byte) (PacketOut, error) {
	if len(b) < 24 {
		return PacketOut{}, ErrBadLen
	}
	e := binary.BigEndian
	p := PacketOut{InPort: e.Uint32(b[12:])}
	if e.Uint32(b[8:]) != NoBuffer {
		return p, ErrBufferUnknown
	}
	switch p.InPort {
	case PortController, PortLocal, PortAny:
	default:
		if p.InPort == 0 || p.InPort >= PortMax {
			return p, ErrBadPort
		}
	}
	size := int(e.Uint16(b[16:]))
	if len(b) < 24+size {
		return p, ErrBadLen
	}
	p.Data = b[24+size:]
	if len(p.Data) < 14 {
		return p, ErrBadPacket
	}
	var err error
	p.Actions, err = d.ParseActions(b[24:24+size], nil)
	return p, err
}

// FlowFilter is the body of flow and aggregate statistics requests.
type FlowFilter struct {
	Table              uint8
	OutPort, OutGroup  uint32
	Cookie, CookieMask uint64
	Match              Match
}

// ParseFlowFilter decodes the body, after the multipart header.
func (d Decoder) ParseFlowFilter(b []byte) (FlowFilter, error) {
	if len(b) < 40 {
		return FlowFilter{}, ErrBadLen
	}
	e := binary.BigEndian
	f := FlowFilter{Table: b[0], OutPort: e.Uint32(b[4:]), OutGroup: e.Uint32(b[8:]), Cookie: e.Uint64(b[16:]), CookieMask: e.Uint64(b[24:])}
	if f.Table != TableAll && int(f.Table) >= d.Tables {
		return f, ErrBadTableID
	}
	var err error
	f.Match, _, err = d.ParseMatch(b[32:])
	return f, err
}
