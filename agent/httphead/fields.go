package httphead

import (
	"bytes"
	"math"
	"net/http"
)

// framing is what the fields say about the message's end, its host and the
// connection.
type framing struct {
	host            span
	hosts           int
	contentLength   int64 // -1: none
	lengthText      span
	chunked         bool
	expectContinue  bool
	upgrade         bool
	closeOption     bool
	keepAliveOption bool
	upgradeOption   bool
}

func (f *framing) init() { f.contentLength = -1 }

// field takes in one field line without its CRLF.
func (f *framing) field(b []byte, line span) *Error {
	l := line.of(b)
	colon := 0
	for colon < len(l) && octets[l[colon]]&isToken != 0 {
		colon++
	}
	if colon == len(l) || l[colon] != ':' || colon == 0 {
		return notAField(l, colon)
	}
	if !all(l[colon+1:], isValue) {
		if bytes.IndexByte(l, '\r') >= 0 {
			return bad("a header field has a bare CR; lines end in CRLF")
		}
		return bad("a header field's value has a control character")
	}
	value := span{line.from + colon + 1, line.to}
	for value.from < value.to && (b[value.from] == ' ' || b[value.from] == '\t') {
		value.from++
	}
	for value.from < value.to && (b[value.to-1] == ' ' || b[value.to-1] == '\t') {
		value.to--
	}
	return f.known(b, l[:colon], value)
}

func notAField(l []byte, colon int) *Error {
	switch {
	case l[0] == ' ' || l[0] == '\t':
		return bad("a header field is folded over several lines")
	case colon < len(l) && (l[colon] == ' ' || l[colon] == '\t'):
		return bad("a header field has whitespace before its colon")
	case colon == len(l):
		return bad("a header line has no colon")
	}
	return bad("a header field's name has a character that it must not have")
}

// known takes in the fields that mean something here.
func (f *framing) known(b, name []byte, value span) *Error {
	switch len(name) {
	case len("host"):
		if is(name, "host") {
			return f.takeHost(b, value)
		}
	case len("expect"):
		if is(name, "expect") {
			f.expectContinue = f.expectContinue || hasElement(value.of(b), "100-continue")
		}
	case len("upgrade"):
		if is(name, "upgrade") {
			f.upgrade = f.upgrade || value.from < value.to
		} else if is(name, "trailer") {
			return checkTrailer(value.of(b))
		}
	case len("connection"):
		if is(name, "connection") {
			f.takeConnection(value.of(b))
		}
	case len("content-length"):
		if is(name, "content-length") {
			return f.takeLength(b, value)
		}
	case len("transfer-encoding"):
		if is(name, "transfer-encoding") {
			return f.takeEncoding(value.of(b))
		}
	}
	return nil
}

func (f *framing) takeHost(b []byte, value span) *Error {
	if f.hosts++; f.hosts > 1 {
		return bad("the request has more than one Host")
	}
	if value.from < value.to && !validAuthority(value.of(b), portOptional) {
		return bad("the field Host is not a host with an optional port")
	}
	f.host = value
	return nil
}

func (f *framing) takeConnection(list []byte) {
	for len(list) > 0 {
		var e []byte
		e, list = element(list)
		f.closeOption = f.closeOption || is(e, "close")
		f.keepAliveOption = f.keepAliveOption || is(e, "keep-alive")
		f.upgradeOption = f.upgradeOption || is(e, "upgrade")
	}
}

// takeLength allows the field twice only with the same digits: then no reader
// can take one for the other.
func (f *framing) takeLength(b []byte, value span) *Error {
	v := value.of(b)
	if f.contentLength >= 0 {
		if !bytes.Equal(v, f.lengthText.of(b)) {
			return bad("the request has two different Content-Lengths")
		}
		return nil
	}
	n, ok := parseLength(v)
	if !ok {
		return bad("the field Content-Length is not a number of octets")
	}
	f.contentLength, f.lengthText = n, value
	return nil
}

func parseLength(v []byte) (n int64, ok bool) {
	for _, c := range v {
		if c < '0' || c > '9' || n > (math.MaxInt64-int64(c-'0'))/10 {
			return 0, false
		}
		n = n*10 + int64(c-'0')
	}
	return n, len(v) > 0
}

// takeEncoding accepts chunked alone, as net/http and nginx do.
func (f *framing) takeEncoding(v []byte) *Error {
	if f.chunked {
		return bad("the request has more than one Transfer-Encoding")
	}
	if is(v, "chunked") {
		f.chunked = true
		return nil
	}
	var last []byte
	unknown := false
	for len(v) > 0 {
		last, v = element(v)
		if !all(last, isToken) || len(last) == 0 {
			return bad("the field Transfer-Encoding is malformed")
		}
		unknown = unknown || !is(last, "chunked")
	}
	// RFC 9112, section 6.3: without chunked at the end nobody knows where the
	// body ends. Section 6.1: 501 for a coding that is not understood.
	if !is(last, "chunked") || !unknown {
		return bad("a request's Transfer-Encoding must end in chunked, once")
	}
	return refuse(http.StatusNotImplemented, "no Transfer-Encoding but chunked is understood")
}

// checkTrailer refuses the announcement of trailers that would change the framing.
func checkTrailer(list []byte) *Error {
	for len(list) > 0 {
		var e []byte
		e, list = element(list)
		if is(e, "content-length") || is(e, "transfer-encoding") || is(e, "trailer") {
			return bad("the field Trailer names a field that must not be a trailer")
		}
	}
	return nil
}

// check looks at what only the whole head can tell.
func (f *framing) check(b []byte, http10 bool) *Error {
	switch {
	case f.hosts == 0 && !http10:
		return bad("the request has no Host")
	case f.chunked && f.contentLength >= 0:
		return bad("the request has both a Content-Length and a Transfer-Encoding")
	case f.chunked && http10:
		return bad("an HTTP/1.0 request has a Transfer-Encoding")
	}
	return nil
}
