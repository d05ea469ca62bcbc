//lint:file-ignore SA4016 number 0 of a class is written like the others.

package openflow

import (
	"encoding/binary"
	"fmt"
)

// A Code is an OpenFlow error: type<<16 | code, OpenFlow 1.3.5, 7.5.4. It is an
// error itself, so errors.Is(err, FlowModTableFull) works on what Conn returns.
type Code uint32

// The errors that programs tell apart or that switches here answer with.
const (
	HelloIncompatible     Code = 0<<16 | 0
	HelloEperm            Code = 0<<16 | 1
	BadRequestBadVersion  Code = 1<<16 | 0
	BadRequestBadType     Code = 1<<16 | 1
	BadRequestBadStat     Code = 1<<16 | 2
	BadRequestBadExp      Code = 1<<16 | 3
	BadRequestBadExpType  Code = 1<<16 | 4
	BadRequestEperm       Code = 1<<16 | 5
	BadRequestBadLen      Code = 1<<16 | 6
	BadRequestBufUnknown  Code = 1<<16 | 8
	BadRequestBadTableID  Code = 1<<16 | 9
	BadRequestIsSlave     Code = 1<<16 | 10
	BadRequestBadPort     Code = 1<<16 | 11
	BadRequestBadPacket   Code = 1<<16 | 12
	BadActionBadType      Code = 2<<16 | 0
	BadActionBadLen       Code = 2<<16 | 1
	BadActionBadExp       Code = 2<<16 | 2
	BadActionBadExpType   Code = 2<<16 | 3
	BadActionBadOutPort   Code = 2<<16 | 4
	BadActionBadArgument  Code = 2<<16 | 5
	BadActionTooMany      Code = 2<<16 | 7
	BadActionBadOutGroup  Code = 2<<16 | 9
	BadActionInconsistent Code = 2<<16 | 10
	BadActionBadSetType   Code = 2<<16 | 13
	BadActionBadSetLen    Code = 2<<16 | 14
	BadActionBadSetArg    Code = 2<<16 | 15
	BadInstrUnknown       Code = 3<<16 | 0
	BadInstrUnsupported   Code = 3<<16 | 1
	BadInstrBadTableID    Code = 3<<16 | 2
	BadInstrBadExp        Code = 3<<16 | 5
	BadInstrBadLen        Code = 3<<16 | 7
	BadMatchBadType       Code = 4<<16 | 0
	BadMatchBadLen        Code = 4<<16 | 1
	BadMatchBadField      Code = 4<<16 | 6
	BadMatchBadValue      Code = 4<<16 | 7
	BadMatchBadMask       Code = 4<<16 | 8
	BadMatchBadPrereq     Code = 4<<16 | 9
	BadMatchDupField      Code = 4<<16 | 10
	FlowModUnknown        Code = 5<<16 | 0
	FlowModTableFull      Code = 5<<16 | 1
	FlowModBadTableID     Code = 5<<16 | 2
	FlowModOverlap        Code = 5<<16 | 3
	FlowModEperm          Code = 5<<16 | 4
	FlowModBadTimeout     Code = 5<<16 | 5
	FlowModBadCommand     Code = 5<<16 | 6
	FlowModBadFlags       Code = 5<<16 | 7
	GroupModExists        Code = 6<<16 | 0
	GroupModInvalid       Code = 6<<16 | 1
	GroupModOutOfGroups   Code = 6<<16 | 3
	GroupModOutOfBuckets  Code = 6<<16 | 4
	GroupModChaining      Code = 6<<16 | 5
	GroupModWatch         Code = 6<<16 | 6
	GroupModLoop          Code = 6<<16 | 7
	GroupModUnknown       Code = 6<<16 | 8
	GroupModBadType       Code = 6<<16 | 10
	GroupModBadCommand    Code = 6<<16 | 11
	GroupModBadBucket     Code = 6<<16 | 12
	RoleStale             Code = 11<<16 | 0
	RoleUnsupported       Code = 11<<16 | 1
	RoleBadRole           Code = 11<<16 | 2
)

const errorExperimenter = 0xffff

// MakeCode joins a type and a code.
func MakeCode(typ, code uint16) Code { return Code(typ)<<16 | Code(code) }

// Type is the error's type, OFPET_*.
func (c Code) Type() uint16 { return uint16(c >> 16) }

// Code is the error's code within its type.
func (c Code) Code() uint16 { return uint16(c) }

func (c Code) Error() string { return "OpenFlow error " + c.String() }

// String is the specification's name, or numbers where it has none.
func (c Code) String() string {
	if int(c.Type()) < len(errorNames) {
		if row := errorNames[c.Type()]; int(c.Code()) < len(row.codes) {
			return row.prefix + row.codes[c.Code()]
		}
	}
	return fmt.Sprintf("type %d code %d", c.Type(), c.Code())
}

// A SwitchError is an OFPT_ERROR from a switch.
type SwitchError struct {
	Xid     uint32
	Type    uint16
	Code    uint16
	Name    string // the specification's or Open vSwitch's name of type and code
	Request string // the request that it answers, in ovs-ofctl notation; "" when unknown
	Data    []byte // at least 64 octets of the failed request, or an explanation
}

func (e *SwitchError) Error() string {
	if e.Request != "" {
		return fmt.Sprintf("the switch refused %s: %s", e.Request, e.Name)
	}
	return fmt.Sprintf("the switch reported %s (xid %#x)", e.Name, e.Xid)
}

// Is reports whether target is the same error code.
func (e *SwitchError) Is(target error) bool {
	c, ok := target.(Code)
	return ok && c == MakeCode(e.Type, e.Code)
}

// A ParseError says why octets are not a message, match or action, and with
// which OFPT_ERROR a switch answers them.
type ParseError struct {
	Code Code
	What string
}

func (e *ParseError) Error() string {
	return fmt.Sprintf("malformed OpenFlow: %s (%v)", e.What, e.Code)
}

// Unwrap makes errors.Is find the code.
func (e *ParseError) Unwrap() error { return e.Code }

func malformed(c Code, format string, args ...any) error {
	return &ParseError{Code: c, What: fmt.Sprintf(format, args...)}
}

// EncodeError encodes an OFPT_ERROR. Data is the failed request, of which it
// carries at most 64 octets, or for HelloIncompatible a text.
func EncodeError(xid uint32, c Code, data []byte) Message {
	if c.Type() != HelloIncompatible.Type() && len(data) > 64 {
		data = data[:64]
	}
	if len(data) > MaxMessageLen-HeaderLen-4 {
		data = data[:MaxMessageLen-HeaderLen-4]
	}
	b := newMessage(TypeError, xid, 4+len(data))
	b = binary.BigEndian.AppendUint32(b, uint32(c))
	b = append(b, data...)
	b, _ = finish(b, 0) // cannot be too long: see above
	return b
}

// ParseErrorMessage decodes an OFPT_ERROR. Errors of any type and code are understood;
// only a cut-off message is malformed.
func ParseErrorMessage(m Message) (*SwitchError, error) {
	body, err := bodyOf(m, TypeError, 4)
	if err != nil {
		return nil, err
	}
	c := Code(binary.BigEndian.Uint32(body))
	e := &SwitchError{Xid: m.Xid(), Type: c.Type(), Code: c.Code(), Name: c.String(), Data: body[4:]}
	if e.Type == errorExperimenter {
		e.Name = fmt.Sprintf("experimenter error %d", e.Code)
		if len(e.Data) >= 4 {
			id := binary.BigEndian.Uint32(e.Data)
			e.Name = fmt.Sprintf("experimenter %#x error %d", id, e.Code)
			if name, ok := niciraErrors[e.Code]; ok && id == experimenterNicira {
				e.Name = name
			}
		}
	}
	return e, nil
}

// bodyOf checks a message's type and that its body has at least min octets.
func bodyOf(m Message, t Type, min int) ([]byte, error) {
	switch {
	case len(m) < HeaderLen:
		return nil, malformed(BadRequestBadLen, "%d octets are less than a header", len(m))
	case m.Version() != Version:
		return nil, malformed(BadRequestBadVersion, "version %d, not OpenFlow 1.3 (%d)", m.Version(), Version)
	case m.Type() != t:
		return nil, malformed(BadRequestBadType, "%v where %v was expected", m.Type(), t)
	case len(m) < HeaderLen+min:
		return nil, malformed(BadRequestBadLen, "%v of %d octets, at least %d needed", t, len(m), HeaderLen+min)
	}
	return m.Body(), nil
}
