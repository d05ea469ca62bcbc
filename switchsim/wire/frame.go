package wire

import (
	"encoding/binary"
	"fmt"
	"io"
)

// HeaderLen is the size of the header that every message begins with.
const HeaderLen = 8

// A Header begins every message.
type Header struct {
	Version uint8
	Type    uint8
	Length  uint16
	XID     uint32
}

// ParseHeader reads a header. b has at least HeaderLen octets.
func ParseHeader(b []byte) Header {
	return Header{b[0], b[1], binary.BigEndian.Uint16(b[2:]), binary.BigEndian.Uint32(b[4:])}
}

// Message begins a message; Finish completes it.
func Message(typ uint8, xid uint32) []byte {
	b := make([]byte, HeaderLen, 64)
	b[0], b[1] = Version, typ
	binary.BigEndian.PutUint32(b[4:], xid)
	return b
}

// Finish writes the message's length into its header. A message that is longer
// than the header can say is a programming error in this switch.
func Finish(b []byte) []byte {
	if len(b) > 0xffff {
		panic(fmt.Sprintf("wire: message of %d octets", len(b)))
	}
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	return b
}

// ReadMessage reads one message, framed by its length alone. The error is io.EOF
// if the stream ends between messages.
func ReadMessage(r io.Reader) ([]byte, error) {
	var h [HeaderLen]byte
	if _, err := io.ReadFull(r, h[:]); err != nil {
		return nil, err
	}
	n := int(binary.BigEndian.Uint16(h[2:]))
	if n < HeaderLen {
		return nil, fmt.Errorf("message header says %d octets, less than a header; the stream is not OpenFlow", n)
	}
	msg := make([]byte, n)
	copy(msg, h[:])
	if _, err := io.ReadFull(r, msg[HeaderLen:]); err != nil {
		return nil, fmt.Errorf("message of %d octets cut short: %w", n, io.ErrUnexpectedEOF)
	}
	return msg, nil
}

// ErrorMessage answers request with an error; it carries at least 64 octets of
// the request, if it has them.
func ErrorMessage(e *Error, request []byte) []byte {
	b := Message(TypeError, ParseHeader(request).XID)
	b = binary.BigEndian.AppendUint16(b, e.Type)
	b = binary.BigEndian.AppendUint16(b, e.Code)
	if e.Type == HelloFailed {
		return Finish(append(b, e.Text...))
	}
	return Finish(append(b, request[:min(len(request), 128)]...))
}
