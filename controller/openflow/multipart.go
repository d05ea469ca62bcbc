package openflow

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/opencord/goloxi"
	"github.com/opencord/goloxi/of13"
)

// A MultipartKind is a type of multipart message, OpenFlow 1.3.5, 7.3.5.
type MultipartKind uint16

const (
	MultipartDesc          MultipartKind = 0
	MultipartFlow          MultipartKind = 1
	MultipartAggregate     MultipartKind = 2
	MultipartTable         MultipartKind = 3
	MultipartPortStats     MultipartKind = 4
	MultipartGroup         MultipartKind = 6
	MultipartGroupDesc     MultipartKind = 7
	MultipartGroupFeatures MultipartKind = 8
	MultipartTableFeatures MultipartKind = 12
	MultipartPortDesc      MultipartKind = 13
)

const (
	multipartHead = 8 // kind, flags, padding
	multipartMore = 1
)

// FlowStatsRequest selects the flows of a MultipartFlow or MultipartAggregate
// request.
type FlowStatsRequest struct {
	Table      uint8 // NoTable: all
	OutPort    uint32
	OutGroup   uint32 // 0 in either: any
	Cookie     uint64
	CookieMask uint64 // 0: any
	Match      Match
}

// A MultipartRequest asks for one kind of statistics or description.
type MultipartRequest struct {
	Kind  MultipartKind
	Flows FlowStatsRequest // MultipartFlow, MultipartAggregate
	ID    uint32           // MultipartPortStats: the port (PortAny: all); MultipartGroup: the group (AllGroups)
}

// EncodeMultipartRequest encodes an OFPT_MULTIPART_REQUEST.
func EncodeMultipartRequest(xid uint32, r MultipartRequest) (Message, error) {
	b := newMessage(TypeMultipartRequest, xid, 128)
	b = binary.BigEndian.AppendUint16(b, uint16(r.Kind))
	b = append(b, 0, 0, 0, 0, 0, 0)
	switch r.Kind {
	case MultipartFlow, MultipartAggregate:
		f := r.Flows
		b = append(b, f.Table, 0, 0, 0)
		b = binary.BigEndian.AppendUint32(b, orAny(f.OutPort))
		b = binary.BigEndian.AppendUint32(b, orAny(f.OutGroup))
		b = append(b, 0, 0, 0, 0)
		b = binary.BigEndian.AppendUint64(b, f.Cookie)
		b = binary.BigEndian.AppendUint64(b, f.CookieMask)
		var err error
		if b, err = appendMatch(b, f.Match); err != nil {
			return nil, fmt.Errorf("encode a flow statistics request: %w", err)
		}
	case MultipartPortStats, MultipartGroup:
		b = binary.BigEndian.AppendUint32(b, r.ID)
		b = append(b, 0, 0, 0, 0)
	}
	return finish(b, 0)
}

// ParseMultipartRequest decodes an OFPT_MULTIPART_REQUEST. A kind that is not a
// constant here comes back without an error and without a body.
func ParseMultipartRequest(m Message) (MultipartRequest, error) {
	var r MultipartRequest
	body, err := bodyOf(m, TypeMultipartRequest, multipartHead)
	if err != nil {
		return r, err
	}
	r.Kind = MultipartKind(binary.BigEndian.Uint16(body))
	if binary.BigEndian.Uint16(body[2:])&multipartMore != 0 {
		return r, malformed(BadRequestBadStat, "multipart request in several parts")
	}
	b := body[multipartHead:]
	switch r.Kind {
	case MultipartFlow, MultipartAggregate:
		if len(b) < 40 {
			return r, malformed(BadRequestBadLen, "flow statistics request of %d octets", len(m))
		}
		r.Flows = FlowStatsRequest{
			Table: b[0], OutPort: fromAny(b[4:]), OutGroup: fromAny(b[8:]),
			Cookie: binary.BigEndian.Uint64(b[16:]), CookieMask: binary.BigEndian.Uint64(b[24:]),
		}
		oxm, _, err := splitMatch(b[32:])
		if err != nil {
			return r, err
		}
		r.Flows.Match, err = ParseMatch(oxm)
		return r, err
	case MultipartPortStats, MultipartGroup:
		if len(b) < 8 {
			return r, malformed(BadRequestBadLen, "statistics request of %d octets", len(m))
		}
		r.ID = binary.BigEndian.Uint32(b)
	}
	return r, nil
}

// EncodeMultipartReply packs entries into as many OFPT_MULTIPART_REPLY messages
// as they need, at least one, all but the last marked as followed by more. No
// entry is split, so none may exceed MaxMessageLen-16 octets.
func EncodeMultipartReply(xid uint32, k MultipartKind, entries ...[]byte) []Message {
	var msgs []Message
	start := func() []byte {
		b := newMessage(TypeMultipartReply, xid, 1024)
		b = binary.BigEndian.AppendUint16(b, uint16(k))
		return append(b, 0, 0, 0, 0, 0, 0)
	}
	b := start()
	for _, e := range entries {
		if len(b)+len(e) > MaxMessageLen {
			binary.BigEndian.PutUint16(b[HeaderLen+2:], multipartMore)
			b, _ = finish(b, 0)
			msgs = append(msgs, b)
			b = start()
		}
		b = append(b, e...)
	}
	b, _ = finish(b, 0)
	return append(msgs, b)
}

// A MultipartReply is one part of an answer.
type MultipartReply struct {
	Kind MultipartKind
	More bool   // another part follows
	Body []byte // for ParseFlowEntries, ParsePorts, ParseDesc
}

// ParseMultipartReply decodes the head of an OFPT_MULTIPART_REPLY.
func ParseMultipartReply(m Message) (MultipartReply, error) {
	body, err := bodyOf(m, TypeMultipartReply, multipartHead)
	if err != nil {
		return MultipartReply{}, err
	}
	return MultipartReply{
		Kind: MultipartKind(binary.BigEndian.Uint16(body)),
		More: binary.BigEndian.Uint16(body[2:])&multipartMore != 0,
		Body: body[multipartHead:],
	}, nil
}

const flowEntryHead = 48 // ofp_flow_stats before its match

// EncodeFlowEntry encodes one entry of a MultipartFlow reply.
func EncodeFlowEntry(e FlowEntry) ([]byte, error) {
	idle, err := seconds(e.IdleTimeout)
	if err != nil {
		return nil, err
	}
	hard, err := seconds(e.HardTimeout)
	if err != nil {
		return nil, err
	}
	b := make([]byte, 0, 256)
	b = append(b, 0, 0, e.Table, 0)
	b = appendDuration(b, e.Duration)
	b = binary.BigEndian.AppendUint16(b, e.Priority)
	b = binary.BigEndian.AppendUint16(b, idle)
	b = binary.BigEndian.AppendUint16(b, hard)
	b = binary.BigEndian.AppendUint16(b, e.Flags)
	b = append(b, 0, 0, 0, 0)
	b = binary.BigEndian.AppendUint64(b, e.Cookie)
	b = binary.BigEndian.AppendUint64(b, e.Packets)
	b = binary.BigEndian.AppendUint64(b, e.Bytes)
	if b, err = appendMatch(b, e.Match); err != nil {
		return nil, err
	}
	if b, err = appendInstructions(b, e.Flow); err != nil {
		return nil, err
	}
	b = append(b, e.Other...)
	if len(b) > MaxMessageLen-HeaderLen-multipartHead {
		return nil, malformed(BadRequestBadLen, "flow entry of %d octets", len(b))
	}
	binary.BigEndian.PutUint16(b, uint16(len(b)))
	return b, nil
}

// ParseFlowEntries decodes the body of a MultipartFlow reply. Fields, actions
// and instructions outside the model are kept as they are.
func ParseFlowEntries(b []byte) ([]FlowEntry, error) {
	var entries []FlowEntry
	for len(b) > 0 {
		if len(b) < flowEntryHead+8 {
			return nil, malformed(BadRequestBadLen, "%d octets left where a flow entry starts", len(b))
		}
		n := int(binary.BigEndian.Uint16(b))
		if n < flowEntryHead+8 || n > len(b) {
			return nil, malformed(BadRequestBadLen, "flow entry of %d octets, %d left", n, len(b))
		}
		e := FlowEntry{
			Flow: Flow{
				Table: b[2], Priority: binary.BigEndian.Uint16(b[12:]),
				IdleTimeout: fromSeconds(b[14:]), HardTimeout: fromSeconds(b[16:]),
				Cookie: binary.BigEndian.Uint64(b[24:]),
			},
			Flags: binary.BigEndian.Uint16(b[18:]), Duration: parseDuration(b[4:]),
			Packets: binary.BigEndian.Uint64(b[32:]), Bytes: binary.BigEndian.Uint64(b[40:]),
		}
		oxm, rest, err := splitMatch(b[flowEntryHead:n:n])
		if err != nil {
			return nil, err
		}
		if e.Match, err = parseOXMs(oxm); err != nil {
			return nil, err
		}
		if e.Other, err = parseInstructions(rest, &e.Flow, false); err != nil {
			return nil, err
		}
		entries, b = append(entries, e), b[n:]
	}
	return entries, nil
}

// Desc is how a switch describes itself. Open vSwitch's Hardware is "Open
// vSwitch", its Software the version.
type Desc struct {
	Manufacturer string
	Hardware     string
	Software     string
	Serial       string
	Datapath     string
}

// IsOpenVSwitch reports whether the switch is Open vSwitch, and so knows the
// connection tracker and the other Nicira extensions.
func (d Desc) IsOpenVSwitch() bool { return d.Hardware == "Open vSwitch" }

// EncodeDesc encodes the one entry of a MultipartDesc reply. Strings are cut to
// 255 octets, the serial number to 31.
func EncodeDesc(d Desc) []byte {
	var b []byte
	for _, s := range []struct {
		s string
		n int
	}{{d.Manufacturer, 256}, {d.Hardware, 256}, {d.Software, 256}, {d.Serial, 32}, {d.Datapath, 256}} {
		b = append(b, padString(s.s, s.n)...)
	}
	return b
}

// ParseDesc decodes the body of a MultipartDesc reply.
func ParseDesc(b []byte) (Desc, error) {
	if len(b) < 4*256+32 {
		return Desc{}, malformed(BadRequestBadLen, "switch description of %d octets", len(b))
	}
	next := func(n int) string {
		s := cString(b[:n-1])
		b = b[n:]
		return s
	}
	return Desc{next(256), next(256), next(256), next(32), next(256)}, nil
}

// cString is the text before the first zero octet. Fields have to end with one,
// so callers leave out the last octet.
func cString(b []byte) string {
	b, _, _ = bytes.Cut(b, []byte{0})
	return string(b)
}

func entry(s goloxi.Serializable) []byte {
	e := goloxi.NewEncoder()
	if err := s.Serialize(e); err != nil {
		panic(fmt.Sprintf("openflow: serialize %T: %v", s, err)) // fixed layout: nothing can fail
	}
	return e.Bytes()
}

// EncodePort encodes one entry of a MultipartPortDesc reply. A name is cut to
// 15 octets.
func EncodePort(p Port) []byte {
	d := goloxiPort(p)
	return entry(&d)
}

// ParsePorts decodes the body of a MultipartPortDesc reply.
func ParsePorts(b []byte) ([]Port, error) {
	const size = 64
	if len(b)%size != 0 {
		return nil, malformed(BadRequestBadLen, "port descriptions of %d octets, not a multiple of %d", len(b), size)
	}
	var ports []Port
	for ; len(b) > 0; b = b[size:] {
		var d of13.PortDesc
		if err := d.Decode(goloxi.NewDecoder(b[:size])); err != nil {
			return nil, malformed(BadRequestBadLen, "port description: %v", err)
		}
		ports = append(ports, fromGoloxiPort(&d))
	}
	return ports, nil
}

// EncodeAggregate encodes the one entry of a MultipartAggregate reply.
func EncodeAggregate(packets, octets uint64, flows uint32) []byte {
	b := binary.BigEndian.AppendUint64(nil, packets)
	b = binary.BigEndian.AppendUint64(b, octets)
	b = binary.BigEndian.AppendUint32(b, flows)
	return append(b, 0, 0, 0, 0)
}

// EncodeTableStats encodes one entry of a MultipartTable reply.
func EncodeTableStats(table uint8, active uint32, lookups, matched uint64) []byte {
	return entry(&of13.TableStatsEntry{TableId: table, ActiveCount: active, LookupCount: lookups, MatchedCount: matched})
}

// PortCounters are a port's statistics.
type PortCounters struct {
	Port                 uint32
	RxPackets, TxPackets uint64
	RxBytes, TxBytes     uint64
	RxDropped, TxDropped uint64
	RxErrors, TxErrors   uint64
	Duration             time.Duration
}

// EncodePortCounters encodes one entry of a MultipartPortStats reply.
func EncodePortCounters(c PortCounters) []byte {
	return entry(&of13.PortStatsEntry{
		PortNo: of13.Port(c.Port), RxPackets: c.RxPackets, TxPackets: c.TxPackets, RxBytes: c.RxBytes, TxBytes: c.TxBytes,
		RxDropped: c.RxDropped, TxDropped: c.TxDropped, RxErrors: c.RxErrors, TxErrors: c.TxErrors,
		DurationSec: uint32(c.Duration / time.Second), DurationNsec: uint32(c.Duration % time.Second),
	})
}

// EncodeGroupDesc encodes one entry of a MultipartGroupDesc reply.
func EncodeGroupDesc(id uint32, buckets []Bucket) ([]byte, error) {
	b := []byte{0, 0, groupSelect, 0}
	b = binary.BigEndian.AppendUint32(b, id)
	b, err := appendBuckets(b, buckets)
	if err != nil {
		return nil, err
	}
	if len(b) > MaxMessageLen-HeaderLen-multipartHead {
		return nil, malformed(BadRequestBadLen, "group description of %d octets", len(b))
	}
	binary.BigEndian.PutUint16(b, uint16(len(b)))
	return b, nil
}
