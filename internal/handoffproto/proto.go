// Package handoffproto is what an agent and an application say to each other
// when sockets are passed: the frames of a Unix-domain SEQPACKET connection,
// and the descriptors that travel with them.
//
// The agent listens, the application connects and sends one Hello. The agent
// answers a version that it does not speak with one Refusal and closes. From
// then on it sends one Session per connection that it hands over, with exactly
// one descriptor. Either side closes when it wants no more; frames already sent
// stay valid.
//
// That is all for an application that answers every request of a connection
// itself. One that would let connections go between two requests sends a
// Willing once; the others never see what follows.
//
// The agent then says by PerRequest, before the first Session of a service and
// whenever it changes, whether its requests may be answered elsewhere. Of such a service the
// application asks by a Question about each request but the first on a
// connection, of which it has read nothing yet, and gets an Answer: a node, or
// none. If it is a node, and every octet of the answers before is written, the
// application sends the connection back by a Give, with exactly one descriptor,
// and closes its own. The agent moves it to the node or, if that fails, hands it
// over again as any other connection. An application that gets no Answer serves the
// request.
//
// By Vacate the agent says that connections of a service shall leave as soon as
// they are idle: every octet of the answers is written, and none of another
// request has come. The application gives such a connection back by a Give
// without a node. A Session that came idle itself, of kind 9, may get its first
// request at any time, and the application asks about that one, too.
//
// An application that would tell how it answers sends Willing a second time; an
// agent of before that takes it for the first. One that wants to hear it sends
// Heed, and gets from then on, at most every 10 ms, an Answers whenever answers
// with a status of 500 to 599 were given, or the first other one after them.
//
// A frame is one record of the socket, integers in network byte order; a
// question has at most MaxQuestion octets, another frame at most MaxFrame:
//
//	offset  octets  what
//	0       4       "shnt"
//	4       1       version, 1
//	5       1       kind
//	6       …       the body
//
// A text is one octet for its length, then that many octets of UTF-8. An
// endpoint is one octet 4 or 6, then the address, then the port; or one octet 0
// for none. An origin is id (text), service (text), client, local, vip (endpoints).
//
//	kind             from         body
//	1  hello         application  pid (4 octets), name (text)
//	2  session       agent        origin; a descriptor
//	3  refusal       agent        reason (text)
//	4  willing       application
//	5  per request   agent        service (text), 0 or 1 (1 octet)
//	6  question      application  number (4 octets), origin, length (2 octets), head
//	7  answer        agent        number (4 octets), node (text, empty: none)
//	8  give          application  origin, node (text, empty: any); a descriptor
//	9  idle session  agent        origin; a descriptor
//	10 vacate        agent        service (text), 0 or 1 (1 octet)
//	11 heed          agent
//	12 answers       application  errors, in a row (4 octets each), others: 0 or 1 (1 octet)
//
// Octets after the body are an error: what they would mean needs a new version.
package handoffproto

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"unicode/utf8"
)

const (
	// Version of the protocol.
	Version = 1
	// MaxFrame bounds a frame that is no question, in octets. None comes close.
	MaxFrame = 1024 + 512
	// MaxHead bounds the head in a question, in octets.
	MaxHead = 1<<16 - 1
	// MaxQuestion bounds a question, in octets.
	MaxQuestion = MaxFrame + MaxHead
	// MaxText bounds each text, in octets.
	MaxText = 255

	magic     = "shnt"
	headerLen = len(magic) + 2
)

type kind uint8

const (
	kindHello   kind = 1
	kindSession kind = 2
	kindRefusal kind = 3

	kindWilling    kind = 4
	kindPerRequest kind = 5
	kindQuestion   kind = 6
	kindAnswer     kind = 7
	kindGive       kind = 8

	kindIdleSession kind = 9
	kindVacate      kind = 10

	kindHeed    kind = 11
	kindAnswers kind = 12
)

// Frame is one of the frames, by value.
type Frame interface {
	// Append appends the frame's encoding. It fails if a text is too long or
	// not UTF-8, or an endpoint is half given.
	Append(b []byte) ([]byte, error)
}

// Hello is what an application says first.
type Hello struct {
	PID  uint32 // the process, as it sees itself; for logs only
	Name string // for logs only
}

// Session describes the connection whose descriptor comes along.
type Session struct {
	ID      string         // of the hand-off
	Service string         // its name
	Client  netip.AddrPort // the remote end
	Local   netip.AddrPort // the session address: the local end
	VIP     netip.AddrPort // what the client connected to; may be invalid: unknown
	Idle    bool           // it comes between two requests; of no meaning in a Question or a Give
}

// Refusal says why the agent will not work with the application.
type Refusal struct{ Reason string }

// VersionError is the error of Parse for a frame of another version.
type VersionError struct{ Version uint8 }

func (e *VersionError) Error() string {
	return fmt.Sprintf("the peer speaks version %d of the hand-off protocol, this program version %d: use the same release of Shunt on both sides", e.Version, Version)
}

var errMalformed = errors.New("malformed hand-off frame")

// Append implements Frame.
func (h Hello) Append(b []byte) ([]byte, error) {
	b = header(b, kindHello)
	b = binary.BigEndian.AppendUint32(b, h.PID)
	return appendText(b, h.Name)
}

// Append implements Frame.
func (s Session) Append(b []byte) ([]byte, error) {
	if s.Idle {
		return s.origin(header(b, kindIdleSession))
	}
	return s.origin(header(b, kindSession))
}

func (s Session) origin(b []byte) ([]byte, error) {
	b, err := appendText(b, s.ID)
	if err != nil {
		return nil, err
	}
	if b, err = appendText(b, s.Service); err != nil {
		return nil, err
	}
	for _, e := range []netip.AddrPort{s.Client, s.Local, s.VIP} {
		b = appendEndpoint(b, e)
	}
	return b, nil
}

// Append implements Frame.
func (r Refusal) Append(b []byte) ([]byte, error) {
	return appendText(header(b, kindRefusal), r.Reason)
}

func header(b []byte, k kind) []byte { return append(append(b, magic...), Version, byte(k)) }

func appendText(b []byte, s string) ([]byte, error) {
	if len(s) > MaxText || !utf8.ValidString(s) {
		return nil, fmt.Errorf("encode a hand-off frame: %q is not UTF-8 of at most %d octets", s, MaxText)
	}
	return append(append(b, byte(len(s))), s...), nil
}

func appendEndpoint(b []byte, e netip.AddrPort) []byte {
	switch a := e.Addr(); {
	case !a.IsValid():
		return append(b, 0)
	case a.Is4():
		b = append(b, 4)
	default:
		b = append(b, 6)
	}
	b = append(b, e.Addr().AsSlice()...)
	return binary.BigEndian.AppendUint16(b, e.Port())
}

// Parse decodes one frame. Any octets are safe. The result does not refer to b.
func Parse(b []byte) (Frame, error) {
	if len(b) < headerLen || string(b[:len(magic)]) != magic {
		return nil, fmt.Errorf("%w: it does not start with %q", errMalformed, magic)
	}
	if v := b[len(magic)]; v != Version {
		return nil, &VersionError{Version: v}
	}
	r := reader{b: b[headerLen:]}
	f := r.frame(kind(b[len(magic)+1]))
	if f == nil {
		return nil, fmt.Errorf("%w: unknown kind %d", errMalformed, b[len(magic)+1])
	}
	if r.bad || len(r.b) > 0 {
		return nil, fmt.Errorf("%w: a %T of %d octets", errMalformed, f, len(b))
	}
	return f, nil
}
