package accesslog

import (
	"fmt"
	"strconv"
	"time"
	"unicode"
	"unicode/utf8"
)

// Format of a log.
type Format string

// Formats.
const (
	Common   Format = "common"   // NCSA common log format, and then fields of ours
	Combined Format = "combined" // the same with Referer and User-Agent
	JSON     Format = "json"     // one object a line
)

// Append appends the entry's line, with its newline, to b.
func (f Format) Append(b []byte, e *Entry) []byte {
	switch f {
	case JSON:
		return appendJSON(b, e)
	case Combined:
		return appendText(b, e, true)
	default:
		return appendText(b, e, false)
	}
}

// appendText writes what Apache's mod_log_config calls
// "%h %l %u %t \"%r\" %>s %b" and, for combined, the two fields more. Behind it
// come ours as key=value, which programs that read the format pass over.
func appendText(b []byte, e *Entry, combined bool) []byte {
	b = e.Client.Addr().AppendTo(b)
	b = append(b, " - - ["...)
	b = e.Time.AppendFormat(b, "02/Jan/2006:15:04:05 -0700")
	b = append(b, `] "`...)
	if e.Method == "" {
		b = append(b, '-')
	} else {
		b = appendEscaped(b, e.Method)
		b = append(b, ' ')
		b = appendEscaped(b, e.Target)
		b = append(b, ' ')
		b = appendEscaped(b, e.Proto)
	}
	b = append(b, `" `...)
	if e.Status > 0 {
		b = strconv.AppendInt(b, int64(e.Status), 10)
	} else {
		b = append(b, '-')
	}
	b = append(b, ' ')
	if e.Octets >= 0 && e.Status > 0 {
		b = strconv.AppendInt(b, e.Octets, 10)
	} else {
		b = append(b, '-')
	}
	if combined {
		b = append(b, ` "`...)
		b = appendEscaped(b, orDash(e.Referer))
		b = append(b, `" "`...)
		b = appendEscaped(b, orDash(e.Agent))
		b = append(b, '"')
	}
	b = append(b, " server="...)
	b = appendEscaped(b, orDash(e.Server))
	b = append(b, " path="...)
	b = append(b, orDash(string(e.Path))...)
	b = append(b, " cost_us="...)
	if e.Cost > 0 {
		b = strconv.AppendInt(b, e.Cost.Microseconds(), 10)
	} else {
		b = append(b, '-')
	}
	b = append(b, " service="...)
	b = appendEscaped(b, orDash(e.Service))
	b = append(b, " trace="...)
	b = appendEscaped(b, orDash(e.Trace))
	return append(b, '\n')
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

const hexDigits = "0123456789abcdef"

// appendEscaped writes s so that nothing in it ends a field or a line, or moves a
// terminal's cursor: as Apache does since 2.0.46, `\"` and `\\`, and `\xhh` for
// each octet that is not printable ASCII.
func appendEscaped(b []byte, s string) []byte {
	for i := range len(s) {
		switch c := s[i]; {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < 0x20 || c >= 0x7f:
			b = append(b, '\\', 'x', hexDigits[c>>4], hexDigits[c&15])
		default:
			b = append(b, c)
		}
	}
	return b
}

func appendJSON(b []byte, e *Entry) []byte {
	text := func(name, s string) {
		if s != "" {
			b = append(b, ',', '"')
			b = append(b, name...)
			b = append(b, '"', ':')
			b = appendString(b, s)
		}
	}
	b = append(b, `{"time":"`...)
	b = e.Time.UTC().AppendFormat(b, time.RFC3339Nano)
	b = append(b, '"')
	text("client", e.Client.Addr().String())
	b = fmt.Appendf(b, `,"client_port":%d`, e.Client.Port())
	if e.VIP.IsValid() {
		text("vip", e.VIP.String())
	}
	text("service", e.Service)
	text("method", e.Method)
	text("target", e.Target)
	text("protocol", e.Proto)
	text("host", e.Host)
	text("referer", e.Referer)
	text("user_agent", e.Agent)
	text("server", e.Server)
	text("path", string(e.Path))
	b = append(b, `,"status":`...)
	if e.Status > 0 {
		b = strconv.AppendInt(b, int64(e.Status), 10)
	} else {
		b = append(b, "null"...)
	}
	b = append(b, `,"octets":`...)
	if e.Octets >= 0 && e.Status > 0 {
		b = strconv.AppendInt(b, e.Octets, 10)
	} else {
		b = append(b, "null"...)
	}
	b = fmt.Appendf(b, `,"attempts":%d,"cost_us":`, e.Attempts)
	if e.Cost > 0 {
		b = strconv.AppendInt(b, e.Cost.Microseconds(), 10)
	} else {
		b = append(b, "null"...)
	}
	text("handoff", e.Handoff)
	text("trace_id", e.Trace)
	return append(b, '}', '\n')
}

// appendString writes a JSON string. Octets that are no UTF-8 become U+FFFD, and
// what is not printable, the second set of control characters and those that
// change the direction of writing included, is escaped.
func appendString(b []byte, s string) []byte {
	b = append(b, '"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b = append(b, '\\', byte(r))
		case r == utf8.RuneError || r == ' ' || unicode.IsPrint(r):
			b = utf8.AppendRune(b, r)
		case r > 0xffff:
			r -= 0x10000
			b = fmt.Appendf(b, `\u%04x\u%04x`, 0xd800+r>>10, 0xdc00+r&0x3ff)
		default:
			b = fmt.Appendf(b, `\u%04x`, r)
		}
	}
	return append(b, '"')
}
