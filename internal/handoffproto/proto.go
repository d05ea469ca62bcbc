// Package handoffproto is what an agent and an application say to each other
// when sockets are passed: the frames of a Unix-domain SEQPACKET connection,
// and the descriptors that travel with them.
//
// The agent listens, the application connects and sends one Hello. The agent
// answers a version that it does not speak with one Refusal and closes. From
// then on it sends one Session per connection that it hands over, with exactly
// one descriptor, and the application sends nothing. Either side closes when it
// wants no more; frames already sent stay valid.
//
// A frame is one record of the socket, at most MaxFrame octets, integers in
// network byte order:
//
//	offset  octets  what
//	0       4       "shnt"
//	4       1       version, 1
//	5       1       kind: 1 hello, 2 session, 3 refusal
//	6       …       the body
//
// A text is one octet for its length, then that many octets of UTF-8. An
// endpoint is one octet 4 or 6, then the address, then the port; or one octet 0
// for none.
//
//	hello    pid (4 octets), name (text)
//	session  id (text), service (text), client, local, vip (endpoints)
//	refusal  reason (text)
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
	// MaxFrame bounds a frame, in octets. No frame comes close.
	MaxFrame = 1024
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
)

// Frame is a Hello, a Session or a Refusal.
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
	b, err := appendText(header(b, kindSession), s.ID)
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
	var f Frame
	switch k := kind(b[len(magic)+1]); k {
	case kindHello:
		f = Hello{PID: r.uint32(), Name: r.text()}
	case kindSession:
		s := Session{ID: r.text(), Service: r.text(), Client: r.endpoint(), Local: r.endpoint(), VIP: r.endpoint()}
		if !s.Client.IsValid() || !s.Local.IsValid() {
			r.bad = true
		}
		f = s
	case kindRefusal:
		f = Refusal{Reason: r.text()}
	default:
		return nil, fmt.Errorf("%w: unknown kind %d", errMalformed, k)
	}
	if r.bad || len(r.b) > 0 {
		return nil, fmt.Errorf("%w: a %T of %d octets", errMalformed, f, len(b))
	}
	return f, nil
}

// reader takes a frame's body apart; bad once it was not what it should be.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) take(n int) []byte {
	if r.bad || len(r.b) < n {
		r.bad = true
		return nil
	}
	v := r.b[:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) uint8() uint8 {
	if v := r.take(1); v != nil {
		return v[0]
	}
	return 0
}

func (r *reader) uint16() uint16 {
	if v := r.take(2); v != nil {
		return binary.BigEndian.Uint16(v)
	}
	return 0
}

func (r *reader) uint32() uint32 {
	if v := r.take(4); v != nil {
		return binary.BigEndian.Uint32(v)
	}
	return 0
}

func (r *reader) text() string {
	s := string(r.take(int(r.uint8())))
	r.bad = r.bad || !utf8.ValidString(s)
	return s
}

func (r *reader) endpoint() netip.AddrPort {
	var a netip.Addr
	switch r.uint8() {
	case 0:
		return netip.AddrPort{}
	case 4:
		if v := r.take(4); v != nil {
			a = netip.AddrFrom4([4]byte(v))
		}
	case 6:
		if v := r.take(16); v != nil {
			a = netip.AddrFrom16([16]byte(v))
		}
	}
	r.bad = r.bad || !a.IsValid()
	return netip.AddrPortFrom(a, r.uint16())
}
