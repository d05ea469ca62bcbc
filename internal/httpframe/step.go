package httpframe

type state uint8

const (
	atStart    state = iota // of a request: one empty line may come first
	startLF                 // after the CR of that
	inMethod                // the request line
	inTarget                //
	inVersion               // of either first line
	inStatus                // the status line
	inReason                //
	lineLF                  // after the CR of the first line
	atField                 // a field or the end of them begins
	inName                  //
	inValue                 //
	fieldLF                 // after a field's CR
	endLF                   // after the CR of the empty line
	inBody                  // left octets of it follow
	inSize                  // of a chunk
	afterSize               // whitespace
	inExt                   // a chunk's extension
	sizeLF                  // after the CR of the chunk's line
	inChunk                 // left octets of it follow
	chunkCR                 // after the chunk's octets
	chunkLF                 //
	untilClose              // all octets are the body's
	done
)

// step takes in one octet at least and returns how many.
func (m *Message) step(b []byte) int {
	switch c := b[0]; m.state {
	case inBody, inChunk:
		n := min(int64(len(b)), m.left)
		m.pass(n)
		return int(n)
	case untilClose:
		return len(b)
	case inValue:
		if m.field == anyField || m.field == host {
			if n := plainValue(b); n > 0 {
				return n
			}
		}
		m.valueOctet(c)
	case inTarget:
		m.targetOctet(c)
	case inExt, inReason:
		m.textOctet(c)
	case inSize, afterSize:
		m.sizeOctet(c)
	case atField, inName:
		m.nameOctet(c)
	case startLF, lineLF, fieldLF, endLF, sizeLF, chunkCR, chunkLF:
		m.lineEnd(c)
	default:
		m.firstLineOctet(c)
	}
	return 1
}

// plainValue returns how many octets of a value that nobody reads begin b.
func plainValue(b []byte) int {
	for i, c := range b {
		if octets[c]&isValue == 0 {
			return i
		}
	}
	return len(b)
}

// pass counts octets of a body or a chunk.
func (m *Message) pass(n int64) {
	if m.left -= n; m.left > 0 {
		return
	}
	if m.state == inBody {
		m.state = done
	} else {
		m.state = chunkCR
	}
}

// lineEnd takes the octets that ends of lines have to have.
func (m *Message) lineEnd(c byte) {
	want := byte('\n')
	if m.state == chunkCR {
		want = '\r'
	}
	if c != want {
		m.fail("a line that does not end in CRLF")
		return
	}
	switch m.state {
	case startLF:
		m.state = inMethod
	case lineLF, fieldLF:
		m.state = atField
	case endLF:
		if m.trailer {
			m.state = done
		} else {
			m.endHead()
		}
	case sizeLF:
		if m.state = inChunk; m.left == 0 {
			m.state, m.trailer = atField, true
		}
	case chunkCR:
		m.state = chunkLF
	case chunkLF:
		m.beginChunk()
	}
}

func (m *Message) firstLineOctet(c byte) {
	switch m.state {
	case atStart:
		if c == '\r' {
			m.state = startLF
			return
		}
		m.state = inMethod
		fallthrough
	case inMethod:
		if c != ' ' {
			if octets[c]&isToken == 0 {
				m.fail("it does not begin with a method")
			}
			// Methods are case-sensitive, words are not: "head" is none.
			if 'a' <= c && c <= 'z' {
				c = '\r'
			}
			m.line.add(c)
			return
		}
		switch {
		case m.line.n == 0:
			m.fail("it does not begin with a method")
		case m.line.is("head"):
			m.method = Head
		case m.line.is("connect"):
			m.method = Connect
		}
		m.line.reset()
		m.state = inTarget
	case inVersion:
		m.versionOctet(c)
	case inStatus:
		m.statusOctet(c)
	}
}

func (m *Message) targetOctet(c byte) {
	switch {
	case c == ' ' && m.line.n > 0:
		m.line.reset()
		m.state = inVersion
	case c <= ' ' || c == 0x7f:
		m.fail("a request line that is not a method, a target and a version")
	case m.line.n == 0:
		m.line.add(c) // there is one
	}
}

const version = "HTTP/1."

func (m *Message) versionOctet(c byte) {
	i := int(m.line.n)
	switch {
	case i < len(version) && c == version[i]:
	case i == len(version) && '0' <= c && c <= '9':
		m.minor = c - '0'
	case i == len(version)+1 && m.isReply && c == ' ':
		m.line.reset()
		m.state = inStatus
		return
	case i == len(version)+1 && !m.isReply && c == '\r':
		m.state = lineLF
	default:
		m.fail("its version is not HTTP/1.0 or HTTP/1.1")
	}
	m.line.add(c)
}

func (m *Message) statusOctet(c byte) {
	switch {
	case m.line.n < 3 && '0' <= c && c <= '9':
		m.status = m.status*10 + int(c-'0')
		m.line.add(c)
	case m.line.n == 3 && m.status >= 100 && c == ' ':
		m.state = inReason
	case m.line.n == 3 && m.status >= 100 && c == '\r': // the space is missing, as it often is
		m.state = lineLF
	default:
		m.fail("its status is not a number of three digits")
	}
}

// textOctet takes octets of lines that nobody reads.
func (m *Message) textOctet(c byte) {
	switch {
	case c == '\r' && m.state == inReason:
		m.state = lineLF
	case c == '\r':
		m.state = sizeLF
	case octets[c]&isValue == 0:
		m.fail("a line with a control character")
	}
}

func (m *Message) nameOctet(c byte) {
	switch {
	case m.state == atField && c == '\r':
		m.state = endLF
	case m.state == inName && c == ':':
		m.state = inValue
		m.beginValue()
	case octets[c]&isToken == 0:
		m.fail("a field whose name is not followed by a colon, or a folded one")
	default:
		if m.state == atField {
			m.name.reset()
			m.state = inName
		}
		m.name.add(c)
	}
}

func (m *Message) valueOctet(c byte) {
	switch {
	case c == '\r':
		m.endValue()
		m.state = fieldLF
	case octets[c]&isValue == 0:
		m.fail("a field with a control character")
	default:
		m.takeValue(c)
	}
}

func (m *Message) beginChunk() { m.state, m.left, m.digits = inSize, 0, 0 }

// sizeOctet takes in a chunk's size: at most 15 digits, 2^60 octets.
func (m *Message) sizeOctet(c byte) {
	switch {
	case m.state == inSize && octets[c]&isHex != 0 && m.digits < 15:
		m.left = m.left<<4 | hex(c)
		m.digits++
	case m.digits > 0 && c == ';':
		m.state = inExt
	case m.digits > 0 && (c == ' ' || c == '\t'):
		m.state = afterSize
	case m.digits > 0 && c == '\r' && (m.state == inSize || m.isReply):
		m.state = sizeLF
	default:
		m.fail("a chunk's size that is not a hexadecimal number")
	}
}
