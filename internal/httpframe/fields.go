package httpframe

import "math"

// field is one whose value means something here.
type field uint8

const (
	anyField field = iota
	contentLength
	transferEncoding
	connection
	host
)

// fields is what the fields of a head have said.
type fields struct {
	length       int64 // of the body, if lengthDigits > 0
	lengthDigits int
	number       int64 // Content-Length while it is read
	numberDigits int
	numberEnded  bool

	encoded bool // there is a Transfer-Encoding
	chunked bool // whose last coding so far is chunked
	codings int

	connectionClose     bool
	connectionKeepAlive bool
}

// beginValue decides by the field's name how its value is read.
func (m *Message) beginValue() {
	m.value.reset()
	m.field = anyField
	switch {
	case m.name.is("content-length"):
		m.field = contentLength
		m.number, m.numberDigits, m.numberEnded = 0, 0, false
	case m.name.is("transfer-encoding"):
		m.field = transferEncoding
		if m.encoded && !m.isReply {
			m.fail("more than one Transfer-Encoding")
		}
		m.encoded, m.codings = true, 0
	case m.name.is("connection"):
		m.field = connection
	case m.name.is("host"):
		m.field = host
	}
	if m.trailer && !m.isReply && m.field != anyField && m.field != connection {
		m.fail("a trailer that would change how the request is read")
	}
}

// takeValue takes in one octet of a field's value.
func (m *Message) takeValue(c byte) {
	switch m.field {
	case contentLength:
		m.takeDigit(c)
	case transferEncoding, connection:
		if c == ',' {
			m.endElement()
		} else {
			m.value.addTrimmed(c)
		}
	}
}

func (m *Message) takeDigit(c byte) {
	switch {
	case c == ' ' || c == '\t':
		m.numberEnded = m.numberEnded || m.numberDigits > 0
	case c < '0' || c > '9' || m.numberEnded || m.number > (math.MaxInt64-int64(c-'0'))/10:
		m.fail("a Content-Length that is not a number of octets")
	default:
		m.number = m.number*10 + int64(c-'0')
		m.numberDigits++
	}
}

func (m *Message) endElement() {
	if m.trailer {
		m.value.reset()
		return
	}
	switch m.field {
	case transferEncoding:
		m.endCoding()
	case connection:
		m.connectionClose = m.connectionClose || m.value.is("close")
		m.connectionKeepAlive = m.connectionKeepAlive || m.value.is("keep-alive")
	}
	m.value.reset()
}

// endCoding takes in a transfer coding. Requests may have chunked alone, as
// net/http, nginx and the dispatcher demand; the codings of a response, in which
// chunked comes last, are the client's to undo.
func (m *Message) endCoding() {
	switch {
	case m.value.n == 0 && m.isReply:
		return // an empty element of a list
	case m.chunked:
		m.fail("a transfer coding after chunked")
	case m.value.is("chunked"):
		m.chunked = true
	case !m.isReply:
		m.fail("a Transfer-Encoding other than chunked")
	}
	m.codings++
}

// endValue is called at the end of a field's line.
func (m *Message) endValue() {
	switch m.field {
	case contentLength:
		switch {
		case m.numberDigits == 0:
			m.fail("an empty Content-Length")
		case m.trailer:
		case m.lengthDigits > 0 && (m.number != m.length || m.numberDigits != m.lengthDigits):
			m.fail("two different Content-Lengths")
		default:
			m.length, m.lengthDigits = m.number, m.numberDigits
		}
	case transferEncoding:
		m.endElement()
		if m.codings == 0 && !m.trailer {
			m.fail("an empty Transfer-Encoding")
		}
	case connection:
		m.endElement()
	}
}

const (
	switchingProtocols = 101
	noContent          = 204
	notModified        = 304
)

// endHead decides how the body is framed: RFC 9112, section 6.3.
func (m *Message) endHead() {
	m.gotHead = true
	switch {
	case m.encoded && m.lengthDigits > 0:
		m.fail("both a Content-Length and a Transfer-Encoding")
		return
	case m.encoded && m.minor == 0:
		m.fail("a Transfer-Encoding in HTTP/1.0")
		return
	}
	m.state = done
	if m.isReply {
		switch {
		case m.status == switchingProtocols, m.method == Connect && m.status/100 == 2:
			m.tunnel = true
			return
		case m.status/100 == 1, m.status == noContent, m.status == notModified, m.method == Head:
			return
		}
	}
	switch {
	case m.chunked:
		m.beginChunk()
	case m.encoded: // responses only
		m.state = untilClose
	case m.lengthDigits > 0 && m.length > 0:
		m.state, m.left = inBody, m.length
	case m.lengthDigits == 0 && m.isReply:
		m.state = untilClose
	}
}
