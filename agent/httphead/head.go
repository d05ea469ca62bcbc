package httphead

import "iter"

// Head is the head of a request: its request line and its fields.
type Head struct {
	Method string
	// Target is the request target as sent: origin-form, absolute-form,
	// authority-form (CONNECT) or "*" (OPTIONS).
	Target string
	// Proto is "HTTP/1.0", "HTTP/1.1" or another minor version of HTTP/1.
	Proto string
	// Host is the authority of the target if it has one, else the field Host:
	// "name", "name:port", "[2001:db8::1]:port" or empty, in the client's case.
	Host string
	// Length counts the head's octets from the start of the buffer, with the
	// empty line that ends it. The body, if any, starts there.
	Length int
	// ContentLength is the length of the body in octets, -1 if the request
	// does not say: then it is Chunked, or has none.
	ContentLength int64
	// Chunked: the body is in chunks.
	Chunked bool
	// Close: the client wants the connection closed after the response.
	Close bool
	// ExpectContinue: the client waits for 100 before it sends the body.
	ExpectContinue bool
	// Upgrade: the client offers to change the protocol.
	Upgrade bool

	fields string // the field lines, each with its CRLF
}

// Get returns the value of the first field of that name, in any case of its
// letters, without whitespace around it; empty if there is none.
func (h *Head) Get(name string) string {
	for n, v := range h.Fields() {
		if equalFold(n, name) {
			return v
		}
	}
	return ""
}

// Fields yields names and values in the order of the request.
func (h *Head) Fields() iter.Seq2[string, string] {
	return func(yield func(name, value string) bool) {
		for rest := h.fields; rest != ""; {
			colon, end := 0, 0
			for rest[colon] != ':' {
				colon++
			}
			for end = colon; rest[end] != '\r'; end++ {
			}
			if !yield(rest[:colon], trim(rest[colon+1:end])) {
				return
			}
			rest = rest[end+len("\r\n"):]
		}
	}
}

// equalFold is strings.EqualFold for ASCII only: no field name has other letters.
func equalFold(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c | 0x20
	}
	return c
}
