package httpframe

import (
	"errors"
	"fmt"
	"io"
	"math"
)

// Method is what the framing of a response has to know of its request's method.
type Method uint8

// Methods: HEAD and CONNECT, and all others, which do not matter.
const (
	Other Method = iota
	Head
	Connect
)

// ErrFraming is wrapped by all errors of Feed: the octets are no HTTP/1.x
// message, or one whose end could be disputed.
var ErrFraming = errors.New("the framing of an HTTP message is not valid")

// Message follows the octets of one message. Begin with Request or Response.
// It is not safe for concurrent use.
type Message struct {
	state   state
	isReply bool
	trailer bool   // the fields are trailers
	err     error  // final
	left    int64  // octets of the body, or of the chunk
	digits  uint8  // of the chunk's size
	octets  uint64 // fed and skipped so far

	method  Method // of the request; of a response: of the request that it answers
	minor   uint8  // HTTP/1.minor
	status  int    // of a response
	tunnel  bool
	gotHead bool

	line  word  // what is compared of a first line
	name  word  // of the field
	value word  // an element of the field's value
	field field // which one it is
	fields
}

// Request prepares m for a request.
func (m *Message) Request() { *m = Message{state: atStart} }

// Response prepares m for a response to a request of the method. After an
// interim response (Status 1xx, not 101) another one to the same request follows.
func (m *Message) Response(to Method) { *m = Message{state: inVersion, isReply: true, method: to} }

// Feed shows the next octets to m and returns how many of them belong to the
// message: all, unless the message ends before, or an error says that nobody
// knows what the octet after them is. An error wraps ErrFraming and is final.
func (m *Message) Feed(b []byte) (n int, err error) {
	for n < len(b) && m.state != done {
		if m.err != nil {
			return n, m.err
		}
		took := m.step(b[n:])
		if m.err != nil {
			return n, m.err
		}
		n += took
		m.octets += uint64(took)
	}
	return n, nil
}

// Done reports that the message is complete.
func (m *Message) Done() bool { return m.state == done && m.err == nil }

// Begun reports that octets of the message were seen.
func (m *Message) Begun() bool { return m.octets > 0 }

// HeadDone reports that the head is complete; what follows says what it said.
func (m *Message) HeadDone() bool { return m.gotHead }

// UntilClose is what Plain returns for a body that the connection's end ends.
const UntilClose = math.MaxInt64

// Plain returns how many octets follow that belong to the message and mean
// nothing for its framing, 0 if the next one does. UntilClose: all that come.
func (m *Message) Plain() int64 {
	switch {
	case m.err != nil:
		return 0
	case m.state == inBody || m.state == inChunk:
		return m.left
	case m.state == untilClose:
		return UntilClose
	}
	return 0
}

// Skip says that n octets went by that Feed did not see; n is at most Plain.
func (m *Message) Skip(n int64) {
	if n < 0 || n > m.Plain() {
		panic(fmt.Sprintf("httpframe: %d octets skipped where %d may be", n, m.Plain()))
	}
	m.octets += uint64(n)
	if m.state == untilClose || n == 0 {
		return
	}
	m.pass(n)
}

// End says that the connection has ended, and returns nil if the message is
// complete with that, io.EOF if it had not begun, and io.ErrUnexpectedEOF if it is cut.
func (m *Message) End() error {
	switch {
	case m.err != nil:
		return m.err
	case m.state == done:
		return nil
	case m.state == untilClose:
		m.state = done
		return nil
	case m.octets == 0:
		return io.EOF
	}
	return io.ErrUnexpectedEOF
}

// Method returns what matters of a request's method.
func (m *Message) Method() Method { return m.method }

// Status returns a response's status code, 100 to 999.
func (m *Message) Status() int { return m.status }

// Interim reports a response after which another one to the same request comes.
func (m *Message) Interim() bool {
	return m.isReply && m.status/100 == 1 && m.status != switchingProtocols
}

// Tunnel reports that after this response's head, which is all of it, the
// connection speaks something else: 101, or success for CONNECT.
func (m *Message) Tunnel() bool { return m.tunnel }

// KeepAlive reports that the message lets the connection go on after it.
func (m *Message) KeepAlive() bool {
	switch {
	case m.connectionClose || m.gotHead && m.isReply && m.state == untilClose:
		return false
	case m.minor == 0:
		return m.connectionKeepAlive
	}
	return true
}

func (m *Message) fail(reason string) {
	what := "request"
	if m.isReply {
		what = "response"
	}
	m.err = fmt.Errorf("%w: %s: %s", ErrFraming, what, reason)
}
