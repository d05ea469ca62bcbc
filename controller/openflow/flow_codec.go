package openflow

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"
)

// Instruction types, OpenFlow 1.3.5, 7.2.4.
const (
	instrGotoTable    = 1
	instrApplyActions = 4
	instrExperimenter = 0xffff
)

const noBuffer = 0xffffffff

// EncodeFlowMod encodes an OFPT_FLOW_MOD. It fails on what OpenFlow 1.3 cannot
// express; whether the switch accepts it is another question.
func EncodeFlowMod(xid uint32, fm FlowMod) (Message, error) {
	b, err := AppendFlowMod(make([]byte, 0, 256), xid, fm)
	return b, err
}

// AppendFlowMod is EncodeFlowMod that appends to b; on an error b is returned
// unchanged.
func AppendFlowMod(b []byte, xid uint32, fm FlowMod) ([]byte, error) {
	out, err := appendFlowMod(b, xid, fm)
	if err != nil {
		return b, fmt.Errorf("encode %v: %w", fm, err)
	}
	return out, nil
}

func appendFlowMod(b []byte, xid uint32, fm FlowMod) ([]byte, error) {
	if fm.Command > DeleteStrict {
		return nil, malformed(FlowModBadCommand, "command %d", fm.Command)
	}
	idle, err := seconds(fm.Flow.IdleTimeout)
	if err != nil {
		return nil, err
	}
	hard, err := seconds(fm.Flow.HardTimeout)
	if err != nil {
		return nil, err
	}
	start := len(b)
	b = appendHeader(b, TypeFlowMod, xid)
	b = binary.BigEndian.AppendUint64(b, fm.Flow.Cookie)
	b = binary.BigEndian.AppendUint64(b, fm.CookieMask)
	b = append(b, fm.Flow.Table, uint8(fm.Command))
	b = binary.BigEndian.AppendUint16(b, idle)
	b = binary.BigEndian.AppendUint16(b, hard)
	b = binary.BigEndian.AppendUint16(b, fm.Flow.Priority)
	b = binary.BigEndian.AppendUint32(b, noBuffer)
	b = binary.BigEndian.AppendUint32(b, orAny(fm.OutPort))
	b = binary.BigEndian.AppendUint32(b, orAny(fm.OutGroup))
	b = binary.BigEndian.AppendUint16(b, fm.Flags)
	b = append(b, 0, 0)
	if b, err = appendMatch(b, fm.Flow.Match); err != nil {
		return nil, err
	}
	if fm.Command != Delete && fm.Command != DeleteStrict {
		if b, err = appendInstructions(b, fm.Flow); err != nil {
			return nil, err
		}
	}
	return finish(b, start)
}

// ParseFlowMod decodes an OFPT_FLOW_MOD as a switch does; the *ParseError says
// what to answer.
func ParseFlowMod(m Message) (FlowMod, error) {
	var fm FlowMod
	body, err := bodyOf(m, TypeFlowMod, 48)
	if err != nil {
		return fm, err
	}
	fm = FlowMod{
		Command: Command(body[17]),
		Flow: Flow{
			Cookie:      binary.BigEndian.Uint64(body),
			Table:       body[16],
			IdleTimeout: fromSeconds(body[18:]),
			HardTimeout: fromSeconds(body[20:]),
			Priority:    binary.BigEndian.Uint16(body[22:]),
		},
		CookieMask: binary.BigEndian.Uint64(body[8:]),
		OutPort:    fromAny(body[28:]),
		OutGroup:   fromAny(body[32:]),
		Flags:      binary.BigEndian.Uint16(body[36:]),
	}
	if fm.Command > DeleteStrict {
		return fm, malformed(FlowModBadCommand, "flow_mod command %d", body[17])
	}
	deletes := fm.Command == Delete || fm.Command == DeleteStrict
	if !deletes && binary.BigEndian.Uint32(body[24:]) != noBuffer {
		return fm, malformed(BadRequestBufUnknown, "flow_mod for a buffered packet; nothing is buffered")
	}
	if fm.Flags&^(SendFlowRem|CheckOverlap|ResetCounts|NoPktCounts|NoBytCounts) != 0 {
		return fm, malformed(FlowModBadFlags, "flow_mod flags %#x", fm.Flags)
	}
	oxm, rest, err := splitMatch(body[40:])
	if err != nil {
		return fm, err
	}
	if fm.Flow.Match, err = ParseMatch(oxm); err != nil {
		return fm, err
	}
	if deletes {
		return fm, nil // instructions of a delete are ignored
	}
	_, err = parseInstructions(rest, &fm.Flow, true)
	return fm, err
}

func appendInstructions(b []byte, f Flow) ([]byte, error) {
	if len(f.Apply) > 0 {
		start := len(b)
		b = append(b, 0, instrApplyActions, 0, 0, 0, 0, 0, 0)
		var err error
		if b, err = appendActions(b, f.Apply); err != nil {
			return nil, err
		}
		if len(b)-start > MaxMessageLen {
			return nil, malformed(BadActionTooMany, "%d actions", len(f.Apply))
		}
		binary.BigEndian.PutUint16(b[start+2:], uint16(len(b)-start))
	}
	if f.Goto != 0 {
		b = append(b, 0, instrGotoTable, 0, 8, f.Goto, 0, 0, 0)
	}
	return b, nil
}

// parseInstructions fills in f's Apply and Goto. When it is not strict it
// returns the instructions outside the model.
func parseInstructions(b []byte, f *Flow, strict bool) (other []byte, err error) {
	var applied, went bool
	for len(b) > 0 {
		if len(b) < 8 {
			return nil, malformed(BadInstrBadLen, "%d octets left where an instruction starts", len(b))
		}
		t, n := binary.BigEndian.Uint16(b), int(binary.BigEndian.Uint16(b[2:]))
		if n < 8 || n%8 != 0 || n > len(b) {
			return nil, malformed(BadInstrBadLen, "instruction of %d octets, %d left", n, len(b))
		}
		in := b[:n:n]
		b = b[n:]
		switch {
		case t == instrApplyActions && !applied:
			applied = true
			if f.Apply, err = parseActions(in[8:], strict, 0); err != nil {
				return nil, err
			}
		case t == instrGotoTable && !went && n == 8 && (in[4] != 0 || !strict):
			went = true
			f.Goto = in[4]
		case !strict:
			other = append(other, in...)
		case t == instrGotoTable && in[4] == 0:
			return nil, malformed(BadInstrBadTableID, "goto_table 0")
		case t == instrExperimenter:
			return nil, malformed(BadInstrBadExp, "instruction of an experimenter")
		case t >= 1 && t <= 6:
			return nil, malformed(BadInstrUnsupported, "instruction type %d (or a second one) is not supported", t)
		default:
			return nil, malformed(BadInstrUnknown, "instruction type %d", t)
		}
	}
	return other, nil
}

// seconds rounds up: a flow must not go before its time.
func seconds(d time.Duration) (uint16, error) {
	s := int64(math.Ceil(d.Seconds()))
	if s < 0 || s > math.MaxUint16 {
		return 0, malformed(FlowModBadTimeout, "timeout %v is not in 0…65535 s", d)
	}
	return uint16(s), nil
}

func fromSeconds(b []byte) time.Duration {
	return time.Duration(binary.BigEndian.Uint16(b)) * time.Second
}

func orAny(v uint32) uint32 {
	if v == 0 {
		return PortAny
	}
	return v
}

// fromAny reads a filter by port or group, where 0 is no port and no filter.
func fromAny(b []byte) uint32 {
	if v := binary.BigEndian.Uint32(b); v != PortAny {
		return v
	}
	return 0
}

// EncodeFlowRemoved encodes an OFPT_FLOW_REMOVED.
func EncodeFlowRemoved(xid uint32, r FlowRemoved) (Message, error) {
	idle, err := seconds(r.IdleTimeout)
	if err != nil {
		return nil, err
	}
	hard, err := seconds(r.HardTimeout)
	if err != nil {
		return nil, err
	}
	b := newMessage(TypeFlowRemoved, xid, 128)
	b = binary.BigEndian.AppendUint64(b, r.Cookie)
	b = binary.BigEndian.AppendUint16(b, r.Priority)
	b = append(b, r.Reason, r.Table)
	b = appendDuration(b, r.Duration)
	b = binary.BigEndian.AppendUint16(b, idle)
	b = binary.BigEndian.AppendUint16(b, hard)
	b = binary.BigEndian.AppendUint64(b, r.Packets)
	b = binary.BigEndian.AppendUint64(b, r.Bytes)
	if b, err = appendMatch(b, r.Match); err != nil {
		return nil, err
	}
	return finish(b, 0)
}

// ParseFlowRemoved decodes an OFPT_FLOW_REMOVED.
func ParseFlowRemoved(m Message) (FlowRemoved, error) {
	var r FlowRemoved
	body, err := bodyOf(m, TypeFlowRemoved, 48)
	if err != nil {
		return r, err
	}
	r = FlowRemoved{
		Cookie: binary.BigEndian.Uint64(body), Priority: binary.BigEndian.Uint16(body[8:]),
		Reason: body[10], Table: body[11], Duration: parseDuration(body[12:]),
		IdleTimeout: fromSeconds(body[20:]), HardTimeout: fromSeconds(body[22:]),
		Packets: binary.BigEndian.Uint64(body[24:]), Bytes: binary.BigEndian.Uint64(body[32:]),
	}
	oxm, _, err := splitMatch(body[40:])
	if err != nil {
		return r, err
	}
	r.Match, err = parseOXMs(oxm)
	return r, err
}

// appendDuration appends a duration as OpenFlow has it: seconds, nanoseconds.
func appendDuration(b []byte, d time.Duration) []byte {
	d = max(d, 0)
	b = binary.BigEndian.AppendUint32(b, uint32(min(d/time.Second, math.MaxUint32)))
	return binary.BigEndian.AppendUint32(b, uint32(d%time.Second))
}

func parseDuration(b []byte) time.Duration {
	s, ns := binary.BigEndian.Uint32(b), binary.BigEndian.Uint32(b[4:])
	return time.Duration(s)*time.Second + time.Duration(ns)
}
