package openflow

import (
	"bufio"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
)

// Version is the wire number of OpenFlow 1.3, the only version spoken here.
const Version uint8 = 4

// HeaderLen is the size of an OpenFlow header in octets.
const HeaderLen = 8

// MaxMessageLen is the largest message that the header's length can express.
const MaxMessageLen = 65535

// A Type is a message's type, OpenFlow 1.3.5, 7.1.
type Type uint8

const (
	TypeHello            Type = 0
	TypeError            Type = 1
	TypeEchoRequest      Type = 2
	TypeEchoReply        Type = 3
	TypeExperimenter     Type = 4
	TypeFeaturesRequest  Type = 5
	TypeFeaturesReply    Type = 6
	TypeGetConfigRequest Type = 7
	TypeGetConfigReply   Type = 8
	TypeSetConfig        Type = 9
	TypePacketIn         Type = 10
	TypeFlowRemoved      Type = 11
	TypePortStatus       Type = 12
	TypePacketOut        Type = 13
	TypeFlowMod          Type = 14
	TypeGroupMod         Type = 15
	TypePortMod          Type = 16
	TypeTableMod         Type = 17
	TypeMultipartRequest Type = 18
	TypeMultipartReply   Type = 19
	TypeBarrierRequest   Type = 20
	TypeBarrierReply     Type = 21
	TypeQueueConfigReq   Type = 22
	TypeQueueConfigReply Type = 23
	TypeRoleRequest      Type = 24
	TypeRoleReply        Type = 25
	TypeGetAsyncRequest  Type = 26
	TypeGetAsyncReply    Type = 27
	TypeSetAsync         Type = 28
	TypeMeterMod         Type = 29
)

var typeNames = [...]string{
	"HELLO", "ERROR", "ECHO_REQUEST", "ECHO_REPLY", "EXPERIMENTER", "FEATURES_REQUEST", "FEATURES_REPLY",
	"GET_CONFIG_REQUEST", "GET_CONFIG_REPLY", "SET_CONFIG", "PACKET_IN", "FLOW_REMOVED", "PORT_STATUS",
	"PACKET_OUT", "FLOW_MOD", "GROUP_MOD", "PORT_MOD", "TABLE_MOD", "MULTIPART_REQUEST", "MULTIPART_REPLY",
	"BARRIER_REQUEST", "BARRIER_REPLY", "QUEUE_GET_CONFIG_REQUEST", "QUEUE_GET_CONFIG_REPLY", "ROLE_REQUEST",
	"ROLE_REPLY", "GET_ASYNC_REQUEST", "GET_ASYNC_REPLY", "SET_ASYNC", "METER_MOD",
}

// String is the specification's name, without its OFPT_ prefix.
func (t Type) String() string {
	if int(t) < len(typeNames) {
		return typeNames[t]
	}
	return fmt.Sprintf("type %d", uint8(t))
}

// A Message is one whole OpenFlow message, header included. It is at least
// HeaderLen octets long, and its header's length is its length. Messages come
// from a Reader or from the Encode functions; the Parse functions take them.
// What Parse functions return may share the message's memory.
type Message []byte

// Version is the wire version of the header.
func (m Message) Version() uint8 { return m[0] }

// Type is the message's type.
func (m Message) Type() Type { return Type(m[1]) }

// Xid is the transaction id.
func (m Message) Xid() uint32 { return binary.BigEndian.Uint32(m[4:]) }

// Body is what follows the header.
func (m Message) Body() []byte { return m[HeaderLen:] }

// SetXid writes the transaction id.
func (m Message) SetXid(xid uint32) { binary.BigEndian.PutUint32(m[4:], xid) }

// AsMessage checks that b is one well-framed message.
func AsMessage(b []byte) (Message, error) {
	if len(b) < HeaderLen || int(binary.BigEndian.Uint16(b[2:])) != len(b) {
		return nil, malformed(BadRequestBadLen, "%d octets are not one OpenFlow message", len(b))
	}
	return Message(b), nil
}

// A FrameError says that a stream cannot be cut into messages any more, because
// a header's length is impossible. The stream has to be closed; Header tells
// what to answer before.
type FrameError struct {
	Header [HeaderLen]byte
	Length int // what the header says
	Max    int // what the reader accepts
}

func (e *FrameError) Error() string {
	if e.Length < HeaderLen {
		return fmt.Sprintf("OpenFlow message %x: length %d is less than a header's; the peer does not speak OpenFlow, or the stream is corrupt", e.Header, e.Length)
	}
	return fmt.Sprintf("OpenFlow message %x: length %d exceeds the limit of %d octets", e.Header, e.Length, e.Max)
}

// Reply is the OFPT_ERROR that answers the broken header.
func (e *FrameError) Reply() Message {
	code := BadRequestBadLen
	if e.Header[0] != Version {
		code = BadRequestBadVersion
	}
	return EncodeError(binary.BigEndian.Uint32(e.Header[4:]), code, e.Header[:])
}

// A Reader cuts a stream into messages by their headers' lengths. It looks at
// nothing else: versions and contents are for the caller to judge.
type Reader struct {
	br  *bufio.Reader
	max int
}

// NewReader returns a Reader of r that refuses messages longer than max octets
// (0: MaxMessageLen).
func NewReader(r io.Reader, max int) *Reader {
	if max <= 0 || max > MaxMessageLen {
		max = MaxMessageLen
	}
	return &Reader{br: bufio.NewReaderSize(r, 64<<10), max: max}
}

// Next returns the next message, which belongs to the caller. At the stream's
// end it returns io.EOF between messages and io.ErrUnexpectedEOF inside one. A
// *FrameError is final.
func (r *Reader) Next() (Message, error) {
	h, err := r.br.Peek(HeaderLen)
	if err != nil {
		if errors.Is(err, io.EOF) && len(h) > 0 {
			return nil, fmt.Errorf("OpenFlow header cut off after %d octets: %w", len(h), io.ErrUnexpectedEOF)
		}
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(h[2:]))
	if n < HeaderLen || n > r.max {
		return nil, &FrameError{Header: [HeaderLen]byte(h), Length: n, Max: r.max}
	}
	m := make(Message, n)
	if got, err := io.ReadFull(r.br, m); err != nil {
		if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
			return nil, fmt.Errorf("OpenFlow %v cut off after %d of %d octets: %w", Type(m[1]), got, n, io.ErrUnexpectedEOF)
		}
		return nil, err
	}
	return m, nil
}

// Buffered returns the number of octets that are read but not yet returned.
func (r *Reader) Buffered() int { return r.br.Buffered() }

// newMessage starts a message of type t; finish completes it.
func newMessage(t Type, xid uint32, sizeHint int) []byte {
	b := make([]byte, 0, HeaderLen+sizeHint)
	return appendHeader(b, t, xid)
}

func appendHeader(b []byte, t Type, xid uint32) []byte {
	b = append(b, Version, uint8(t), 0, 0)
	return binary.BigEndian.AppendUint32(b, xid)
}

// finish writes the length of the message that starts at b[start:].
func finish(b []byte, start int) ([]byte, error) {
	n := len(b) - start
	if n > MaxMessageLen {
		return nil, fmt.Errorf("encode OpenFlow %v: %d octets exceed a message's %d; split it", Type(b[start+1]), n, MaxMessageLen)
	}
	binary.BigEndian.PutUint16(b[start+2:], uint16(n))
	return b, nil
}

// pad appends zero octets until the length from start is a multiple of eight.
func pad(b []byte, start int) []byte {
	for (len(b)-start)%8 != 0 {
		b = append(b, 0)
	}
	return b
}

func padded(n int) int { return (n + 7) &^ 7 }
