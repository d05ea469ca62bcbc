package tracing

import (
	"encoding/hex"
	"math/rand/v2"
)

// Context is a W3C trace context: a trace, a span in it, and whether the trace
// is recorded. The zero value is none.
// Source: https://www.w3.org/TR/trace-context/, level 1.
type Context struct {
	Trace   [16]byte
	Span    [8]byte
	Sampled bool
}

// Valid tells whether c is a context.
func (c Context) Valid() bool { return c.Trace != [16]byte{} && c.Span != [8]byte{} }

// TraceID returns the trace's id, 32 hexadecimal digits; empty for no context.
func (c Context) TraceID() string {
	if !c.Valid() {
		return ""
	}
	return hex.EncodeToString(c.Trace[:])
}

const (
	header    = "00-" // version 0
	parentLen = len("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01")
)

// String returns the context as the field traceparent has it; empty for none.
func (c Context) String() string {
	if !c.Valid() {
		return ""
	}
	b := make([]byte, 0, parentLen)
	b = append(b, header...)
	b = hex.AppendEncode(b, c.Trace[:])
	b = append(b, '-')
	b = hex.AppendEncode(b, c.Span[:])
	if c.Sampled {
		return string(append(b, "-01"...))
	}
	return string(append(b, "-00"...))
}

// Parse reads a traceparent. What is not well-formed is no context: a request
// with a broken one begins a new trace. Later versions are read as far as this
// one goes, as section 4.3 of the recommendation asks.
func Parse(s string) (c Context, ok bool) {
	if len(s) < parentLen || s[2] != '-' || s[35] != '-' || s[52] != '-' {
		return Context{}, false
	}
	var version, flags [1]byte
	if !lowerHex(version[:], s[:2]) || version[0] == 0xff || !lowerHex(c.Trace[:], s[3:35]) ||
		!lowerHex(c.Span[:], s[36:52]) || !lowerHex(flags[:], s[53:55]) {
		return Context{}, false
	}
	if len(s) > parentLen && (version[0] == 0 || s[parentLen] != '-') {
		return Context{}, false
	}
	c.Sampled = flags[0]&1 != 0
	if !c.Valid() {
		return Context{}, false
	}
	return c, true
}

// lowerHex decodes lower-case digits only: others are not well-formed.
func lowerHex(dst []byte, s string) bool {
	for i := range len(s) {
		if c := s[i]; (c < '0' || c > '9') && (c < 'a' || c > 'f') {
			return false
		}
	}
	_, err := hex.Decode(dst, []byte(s))
	return err == nil
}

// NewTrace begins a trace.
func NewTrace(sampled bool) Context {
	c := Context{Sampled: sampled}
	for c.Trace == [16]byte{} {
		putRandom(c.Trace[:8])
		putRandom(c.Trace[8:])
	}
	c.Span = newSpan()
	return c
}

// Child returns a context of the same trace with a new span.
func (c Context) Child() Context {
	c.Span = newSpan()
	return c
}

func newSpan() (id [8]byte) {
	for id == [8]byte{} {
		putRandom(id[:])
	}
	return id
}

func putRandom(b []byte) {
	for r := rand.Uint64(); len(b) > 0; b = b[1:] {
		b[0] = byte(r)
		r >>= 8
	}
}

// OfTrace returns a context of the trace with this id and a span that is
// nobody's, not recorded; for those who know only the id.
func OfTrace(id string) (c Context, ok bool) {
	if len(id) != 32 || !lowerHex(c.Trace[:], id) {
		return Context{}, false
	}
	c.Span = newSpan()
	return c, c.Valid()
}
