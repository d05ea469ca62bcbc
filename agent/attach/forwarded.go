package attach

import (
	"bytes"
	"errors"
	"net/netip"
	"strings"
)

// Forwarded is the field by which an application behind a relay learns the
// client's address.
type Forwarded string

const (
	// ForwardedOff leaves requests as they are.
	ForwardedOff Forwarded = ""
	// ForwardedFor is the field X-Forwarded-For: a list of addresses.
	ForwardedFor Forwarded = "x-forwarded-for"
	// ForwardedStandard is the field Forwarded of RFC 7239.
	ForwardedStandard Forwarded = "forwarded"
)

// element is what is added for one client.
func (f Forwarded) element(client netip.Addr) string {
	client = client.Unmap().WithZone("")
	if f == ForwardedFor {
		return client.String()
	}
	if client.Is6() {
		return `for="[` + client.String() + `]";proto=http`
	}
	return "for=" + client.String() + ";proto=http"
}

func (f Forwarded) name() string {
	if f == ForwardedFor {
		return "X-Forwarded-For"
	}
	return "Forwarded"
}

// errForwardedHop: a proxy further on would take the field away.
var errForwardedHop = errors.New("the field Connection names the field that says who the client is")

// rewrite appends a checked head to b with the client added. The values that
// came with the request stand before it, in one field, so that an application
// that reads the last element, or that has only one, is not deceived; a field that becomes the
// same one in the environment of a CGI program (X_Forwarded_For) is dropped.
func (f Forwarded) rewrite(b, head []byte, client netip.Addr) ([]byte, error) {
	name := f.name()
	var values []byte
	for rest := head; len(rest) > 0; {
		end := bytes.Index(rest, []byte("\r\n")) + len("\r\n")
		line := rest[:end]
		rest = rest[end:]
		if len(rest) == 0 { // the empty line
			b = append(append(append(b, name...), ": "...), values...)
			b = append(append(b, f.element(client)...), "\r\n"...)
			return append(b, line...), nil
		}
		colon := bytes.IndexByte(line, ':')
		switch {
		case colon < 0 || !sameInCGI(line[:colon], name):
			if colon == len("connection") && bytes.EqualFold(line[:colon], []byte("connection")) && lists(line[colon+1:end-2], name) {
				return nil, errForwardedHop
			}
			b = append(b, line...)
		case bytes.EqualFold(line[:colon], []byte(name)):
			if v := bytes.TrimSpace(line[colon+1 : end-2]); len(v) > 0 {
				values = append(append(values, v...), ", "...)
			}
		}
	}
	return b, nil
}

// sameInCGI compares names as CGI programs see them: RFC 3875, section 4.1.18.
func sameInCGI(a []byte, b string) bool {
	return len(a) == len(b) && strings.EqualFold(strings.ReplaceAll(string(a), "_", "-"), b)
}

func lists(value []byte, name string) bool {
	for e := range bytes.SplitSeq(value, []byte(",")) {
		if sameInCGI(bytes.TrimSpace(e), name) {
			return true
		}
	}
	return false
}
