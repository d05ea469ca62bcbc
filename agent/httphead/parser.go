package httphead

import (
	"bytes"
	"net/http"
)

// DefaultMax is the largest head in octets where none is given.
const DefaultMax = 16 << 10

// span is a part of the buffer. The parser keeps no slices: each call may
// bring another buffer, as long as it starts with the same octets.
type span struct{ from, to int }

func (s span) of(b []byte) []byte { return b[s.from:s.to] }

type state uint8

const (
	atStart  state = iota // before the request line; one empty line may precede it
	inLine                // an empty line was seen: now the request line
	inFields              // after the request line
	complete              // after the empty line
)

// Parser looks for a head in a buffer that grows. Between calls it keeps how
// far it came, so that a head that arrives octet by octet costs no more than
// one that arrives at once. The zero value is ready and has DefaultMax as its
// limit. It is not safe for concurrent use.
type Parser struct {
	max  int
	at   state
	err  *Error
	line int // the current line starts here
	scan int // and has no end before here

	methodSeen bool // the request line's method is complete and a token
	checked    int  // octets of it that are checked

	method, target, proto span
	authority             span // in the target
	fields                int  // where the first one starts
	framing
}

// NewParser returns a parser that refuses heads of more than max octets;
// max < 1 means DefaultMax.
func NewParser(max int) *Parser { return &Parser{max: max} }

// Reset prepares the parser for another request.
func (p *Parser) Reset() { *p = Parser{max: p.max} }

// Parse looks at b, which starts where the request starts and holds what has
// arrived so far, at least the octets of the call before. It returns done once
// the head is complete, and done = false without an error when it needs more.
// An error is always an *Error and final. Octets after the head are not looked at.
//
// It makes one copy of the head, when it is complete, and does not keep b.
func Parse(b []byte, max int) (h Head, done bool, err error) {
	p := Parser{max: max}
	return p.Parse(b)
}

// Parse is like the function Parse, and continues where the last call ended.
func (p *Parser) Parse(b []byte) (h Head, done bool, err error) {
	if p.err == nil && p.at != complete {
		p.err = p.advance(b)
	}
	if p.err != nil {
		return Head{}, false, p.err
	}
	if p.at != complete {
		return Head{}, false, nil
	}
	return p.head(b), true, nil
}

func (p *Parser) advance(b []byte) *Error {
	max := p.max
	if max < 1 {
		max = DefaultMax
	}
	if len(b) > max {
		b = b[:max]
	}
	for p.at != complete {
		i := bytes.IndexByte(b[p.scan:], '\n')
		if p.at <= inLine {
			if err := p.checkMethod(b, i); err != nil {
				return err
			}
		}
		if i < 0 {
			p.scan = len(b)
			if len(b) < max {
				return nil
			}
			return p.tooLarge()
		}
		end := p.scan + i
		if end == p.line || b[end-1] != '\r' {
			return bad("a line ends in a bare LF; lines end in CRLF")
		}
		line := span{p.line, end - 1}
		p.line, p.scan = end+1, end+1
		if err := p.takeLine(b, line); err != nil {
			return err
		}
	}
	return nil
}

func (p *Parser) tooLarge() *Error {
	if p.at <= inLine {
		return refuse(http.StatusRequestURITooLong, "the request line is too long")
	}
	return refuse(http.StatusRequestHeaderFieldsTooLarge, "the request's header fields are too large")
}

// checkMethod looks at the start of a request line before its end is there, so
// that a peer that speaks something else hears about it at once. lf is where
// the line ends after scan, -1 if unknown.
func (p *Parser) checkMethod(b []byte, lf int) *Error {
	if p.methodSeen || p.line == len(b) {
		return nil
	}
	if p.at == atStart && b[p.line] == '\r' && (len(b) == p.line+1 || b[p.line+1] == '\n') {
		return nil // the empty line that may come first
	}
	if b[p.line] == 0x16 {
		return bad("this looks like TLS, but plain HTTP/1.1 is spoken here")
	}
	end := len(b)
	if lf >= 0 {
		end = p.scan + lf
	}
	for ; p.line+p.checked < end; p.checked++ {
		c := b[p.line+p.checked]
		if c == ' ' && p.checked > 0 {
			p.methodSeen = true
			return nil
		}
		if octets[c]&isToken == 0 {
			return bad("the request does not start with a method: this is not HTTP/1.1")
		}
	}
	return nil
}

func (p *Parser) takeLine(b []byte, line span) *Error {
	empty := line.from == line.to
	switch {
	case p.at == atStart && empty: // RFC 9112, section 2.2: ignore at least one
		p.at = inLine
		return nil
	case p.at <= inLine:
		p.at, p.fields = inFields, p.line
		p.framing.init()
		return p.requestLine(b, line)
	case empty:
		p.at = complete
		return p.framing.check(b, p.proto.of(b)[len("HTTP/1.")] == '0')
	}
	return p.framing.field(b, line)
}

func (p *Parser) requestLine(b []byte, line span) *Error {
	l := line.of(b)
	first, last := bytes.IndexByte(l, ' '), bytes.LastIndexByte(l, ' ')
	if first < 1 || last == first {
		return bad("the request line is not a method, a target and a version")
	}
	p.method = span{line.from, line.from + first}
	p.target = span{p.method.to + 1, line.from + last}
	p.proto = span{p.target.to + 1, line.to}
	if p.target.from >= p.target.to {
		return bad("the request line has no target")
	}
	if err := checkVersion(p.method.of(b), p.proto.of(b)); err != nil {
		return err
	}
	from, to, err := checkTarget(p.method.of(b), p.target.of(b))
	p.authority = span{p.target.from + from, p.target.from + to}
	return err
}

func checkVersion(method, v []byte) *Error {
	const form = "HTTP/1.1"
	digit := func(c byte) bool { return '0' <= c && c <= '9' }
	if len(v) != len(form) || string(v[:5]) != form[:5] || !digit(v[5]) || v[6] != '.' || !digit(v[7]) {
		return bad("the request line does not end in HTTP/1.1")
	}
	if v[5] == '1' {
		return nil
	}
	if v[5] == '2' && string(method) == "PRI" {
		return bad("HTTP/2 without negotiation is not spoken here; use HTTP/1.1")
	}
	return refuse(http.StatusHTTPVersionNotSupported, "HTTP/1.1 is spoken here")
}

func (p *Parser) head(b []byte) Head {
	s := string(b[:p.line])
	part := func(x span) string { return s[x.from:x.to] }
	h := Head{
		Method:         part(p.method),
		Target:         part(p.target),
		Proto:          part(p.proto),
		Host:           part(p.authority),
		Length:         p.line,
		ContentLength:  p.contentLength,
		Chunked:        p.chunked,
		Upgrade:        p.upgrade && p.upgradeOption,
		ExpectContinue: p.expectContinue,
		Close:          p.closeOption,
		fields:         s[p.fields : p.line-len("\r\n")],
	}
	if h.Host == "" {
		h.Host = part(p.host)
	}
	if h.Proto == "HTTP/1.0" {
		h.Close = p.closeOption || !p.keepAliveOption
		h.Upgrade, h.ExpectContinue = false, false // RFC 9110, sections 7.8 and 10.1.1
	}
	return h
}
