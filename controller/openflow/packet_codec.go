package openflow

import (
	"encoding/binary"
	"fmt"
)

// EncodePacketIn encodes an OFPT_PACKET_IN.
func EncodePacketIn(xid uint32, p PacketIn) (Message, error) {
	b := newMessage(TypePacketIn, xid, 48+len(p.Data))
	b = binary.BigEndian.AppendUint32(b, noBuffer)
	total := p.TotalLen
	if total == 0 {
		total = len(p.Data)
	}
	b = binary.BigEndian.AppendUint16(b, uint16(min(total, MaxMessageLen)))
	b = append(b, p.Reason, p.Table)
	b = binary.BigEndian.AppendUint64(b, p.Cookie)
	b, err := appendMatch(b, Match{InPort(p.InPort)})
	if err != nil {
		return nil, err
	}
	b = append(b, 0, 0) // so that the IP header behind the Ethernet header is aligned
	b = append(b, p.Data...)
	return finish(b, 0)
}

// ParsePacketIn decodes an OFPT_PACKET_IN. Metadata other than the port that
// the packet came in by is skipped.
func ParsePacketIn(m Message) (PacketIn, error) {
	var p PacketIn
	body, err := bodyOf(m, TypePacketIn, 24)
	if err != nil {
		return p, err
	}
	p = PacketIn{
		TotalLen: int(binary.BigEndian.Uint16(body[4:])), Reason: body[6], Table: body[7],
		Cookie: binary.BigEndian.Uint64(body[8:]),
	}
	oxm, rest, err := splitMatch(body[16:])
	if err != nil {
		return p, err
	}
	match, err := parseOXMs(oxm)
	if err != nil {
		return p, err
	}
	port := match.number(FieldInPort)
	if port < 0 {
		return p, malformed(BadMatchBadPrereq, "packet_in without in_port")
	}
	p.InPort = uint32(port)
	if len(rest) < 2 {
		return p, malformed(BadRequestBadLen, "packet_in cut off before its data")
	}
	p.Data = rest[2:]
	return p, nil
}

// EncodePacketOut encodes an OFPT_PACKET_OUT.
func EncodePacketOut(xid uint32, p PacketOut) (Message, error) {
	return AppendPacketOut(make([]byte, 0, 128+len(p.Data)), xid, p)
}

// AppendPacketOut is EncodePacketOut that appends to b; on an error b is
// returned unchanged.
func AppendPacketOut(b []byte, xid uint32, p PacketOut) ([]byte, error) {
	out, err := appendPacketOut(b, xid, p)
	if err != nil {
		return b, fmt.Errorf("encode %v: %w", p, err)
	}
	return out, nil
}

func appendPacketOut(b []byte, xid uint32, p PacketOut) ([]byte, error) {
	start := len(b)
	b = appendHeader(b, TypePacketOut, xid)
	b = binary.BigEndian.AppendUint32(b, noBuffer)
	b = binary.BigEndian.AppendUint32(b, p.InPort)
	lenAt := len(b)
	b = append(b, 0, 0, 0, 0, 0, 0, 0, 0)
	actionsAt := len(b)
	b, err := appendActions(b, p.Apply)
	if err != nil {
		return nil, err
	}
	if len(b)-actionsAt > MaxMessageLen {
		return nil, malformed(BadActionTooMany, "%d actions", len(p.Apply))
	}
	binary.BigEndian.PutUint16(b[lenAt:], uint16(len(b)-actionsAt))
	b = append(b, p.Data...)
	return finish(b, start)
}

// ParsePacketOut decodes an OFPT_PACKET_OUT as a switch without buffers does.
func ParsePacketOut(m Message) (PacketOut, error) {
	var p PacketOut
	body, err := bodyOf(m, TypePacketOut, 16)
	if err != nil {
		return p, err
	}
	if binary.BigEndian.Uint32(body) != noBuffer {
		return p, malformed(BadRequestBufUnknown, "packet_out of a buffered packet; nothing is buffered")
	}
	p.InPort = binary.BigEndian.Uint32(body[4:])
	n := int(binary.BigEndian.Uint16(body[8:]))
	if 16+n > len(body) {
		return p, malformed(BadRequestBadLen, "packet_out with %d octets of actions, %d left", n, len(body)-16)
	}
	if p.Apply, err = ParseActions(body[16 : 16+n : 16+n]); err != nil {
		return p, err
	}
	p.Data = body[16+n:]
	return p, nil
}

// Group types and commands, OpenFlow 1.3.5, 7.3.4.2.
const (
	groupAdd    = 0
	groupModify = 1
	groupDelete = 2
	groupSelect = 1
)

// AllGroups as GroupMod.ID deletes every group.
const AllGroups uint32 = 0xfffffffc

// EncodeGroupMod encodes an OFPT_GROUP_MOD.
func EncodeGroupMod(xid uint32, g GroupMod) (Message, error) {
	b := newMessage(TypeGroupMod, xid, 128)
	switch g.Command {
	case Add:
		b = append(b, 0, groupAdd)
	case Modify:
		b = append(b, 0, groupModify)
	case Delete:
		b = append(b, 0, groupDelete)
	default:
		return nil, fmt.Errorf("encode %v: %w", g, malformed(GroupModBadCommand, "command %v", g.Command))
	}
	b = append(b, groupSelect, 0)
	b = binary.BigEndian.AppendUint32(b, g.ID)
	if g.Command != Delete {
		var err error
		if b, err = appendBuckets(b, g.Buckets); err != nil {
			return nil, fmt.Errorf("encode %v: %w", g, err)
		}
	}
	return finish(b, 0)
}

func appendBuckets(b []byte, buckets []Bucket) ([]byte, error) {
	for _, k := range buckets {
		start := len(b)
		b = append(b, 0, 0)
		b = binary.BigEndian.AppendUint16(b, k.Weight)
		b = binary.BigEndian.AppendUint32(b, PortAny) // watch no port
		b = binary.BigEndian.AppendUint32(b, PortAny) // watch no group
		b = append(b, 0, 0, 0, 0)
		var err error
		if b, err = appendActions(b, k.Apply); err != nil {
			return nil, err
		}
		if len(b)-start > MaxMessageLen {
			return nil, malformed(GroupModBadBucket, "a bucket of %d actions", len(k.Apply))
		}
		binary.BigEndian.PutUint16(b[start:], uint16(len(b)-start))
	}
	return b, nil
}

// ParseGroupMod decodes an OFPT_GROUP_MOD as a switch that has only select
// groups does.
func ParseGroupMod(m Message) (GroupMod, error) {
	var g GroupMod
	body, err := bodyOf(m, TypeGroupMod, 8)
	if err != nil {
		return g, err
	}
	g.ID = binary.BigEndian.Uint32(body[4:])
	switch c := binary.BigEndian.Uint16(body); c {
	case groupAdd:
		g.Command = Add
	case groupModify:
		g.Command = Modify
	case groupDelete:
		g.Command = Delete
		return g, nil // type and buckets of a delete are ignored
	default:
		return g, malformed(GroupModBadCommand, "group_mod command %d", c)
	}
	if body[2] != groupSelect {
		return g, malformed(GroupModBadType, "group type %d; only select (%d) is supported", body[2], groupSelect)
	}
	if g.ID >= 0xffffff01 {
		return g, malformed(GroupModInvalid, "group id %#x is reserved", g.ID)
	}
	g.Buckets, err = parseBuckets(body[8:], true)
	return g, err
}

func parseBuckets(b []byte, strict bool) ([]Bucket, error) {
	var buckets []Bucket
	for len(b) > 0 {
		if len(b) < 16 {
			return nil, malformed(GroupModBadBucket, "%d octets left where a bucket starts", len(b))
		}
		n := int(binary.BigEndian.Uint16(b))
		if n < 16 || n%8 != 0 || n > len(b) {
			return nil, malformed(GroupModBadBucket, "bucket of %d octets, %d left", n, len(b))
		}
		apply, err := parseActions(b[16:n:n], strict, 0)
		if err != nil {
			return nil, err
		}
		buckets = append(buckets, Bucket{Weight: binary.BigEndian.Uint16(b[2:]), Apply: apply})
		b = b[n:]
	}
	return buckets, nil
}
