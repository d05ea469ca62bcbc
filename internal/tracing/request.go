package tracing

import "bytes"

// FromRequest finds the traceparent of an HTTP/1 request whose head stands at
// the beginning of b and was checked before. It reads no further than the head
// and hardly allocates. Of several none counts: nobody can tell which is right.
func FromRequest(b []byte) (c Context, ok bool) {
	const name = "traceparent:"
	seen := false
	for {
		end := bytes.IndexByte(b, '\n')
		if end < 0 {
			return c, ok
		}
		line := b[:end]
		b = b[end+1:]
		if len(line) == 0 || len(line) == 1 && line[0] == '\r' {
			return c, ok // the end of the head
		}
		if len(line) < len(name) || line[0]|0x20 != 't' || !bytes.EqualFold(line[:len(name)], []byte(name)) {
			continue
		}
		if seen {
			return Context{}, false
		}
		seen = true
		c, ok = Parse(string(bytes.Trim(line[len(name):], " \t\r")))
	}
}
