package tracing

import (
	"strings"
	"testing"
)

const (
	traceID = "0af7651916cd43dd8448eb211c80319c"
	spanID  = "b7ad6b7169203331"
	parent  = "00-" + traceID + "-" + spanID + "-01"
)

func TestTraceparents(t *testing.T) {
	for _, c := range []struct {
		name, in, out string // out: as it is written again; empty: none
	}{
		{"as the recommendation has it", parent, parent},
		{"not sampled", "00-" + traceID + "-" + spanID + "-00", "00-" + traceID + "-" + spanID + "-00"},
		{"other flags are not ours", "00-" + traceID + "-" + spanID + "-ff", parent},
		{"a later version", "cc-" + traceID + "-" + spanID + "-01-what-comes", parent},
		{"a later version that adds nothing", "cc-" + traceID + "-" + spanID + "-01", parent},
		{"version 0 with more", parent + "-x", ""},
		{"a later version with a tail of its own", "cc-" + traceID + "-" + spanID + "-01x", ""},
		{"version ff", "ff-" + traceID + "-" + spanID + "-01", ""},
		{"no trace", "00-" + strings.Repeat("0", 32) + "-" + spanID + "-01", ""},
		{"no span", "00-" + traceID + "-" + strings.Repeat("0", 16) + "-01", ""},
		{"capitals", "00-" + strings.ToUpper(traceID) + "-" + spanID + "-01", ""},
		{"other digits", "00-" + traceID[:31] + "g-" + spanID + "-01", ""},
		{"other separators", "00_" + traceID + "_" + spanID + "_01", ""},
		{"cut off", parent[:54], ""},
		{"empty", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			got, ok := Parse(c.in)
			if got.String() != c.out || ok != (c.out != "") || ok != got.Valid() {
				t.Errorf("%v, %v; want %q", got, ok, c.out)
			}
		})
	}
}

func TestContextsOfOneTrace(t *testing.T) {
	begun := NewTrace(true)
	child := begun.Child()
	if !begun.Valid() || !child.Valid() || child.Trace != begun.Trace || child.Span == begun.Span || !child.Sampled {
		t.Errorf("%v, %v", begun, child)
	}
	if other := NewTrace(true); other.Trace == begun.Trace {
		t.Error("two traces with one id")
	}
	known, ok := OfTrace(begun.TraceID())
	if !ok || known.Trace != begun.Trace || known.Sampled {
		t.Errorf("by its id: %v, %v", known, ok)
	}
	for _, id := range []string{"", "x", strings.Repeat("0", 32), traceID + "0"} {
		if c, ok := OfTrace(id); ok || c.Valid() && id != "" {
			t.Errorf("%q is %v", id, c)
		}
	}
}

func TestTheRequestsTraceparent(t *testing.T) {
	for _, c := range []struct{ name, request, want string }{
		{"there", "GET / HTTP/1.1\r\nHost: x\r\ntraceparent: " + parent + "\r\n\r\n", parent},
		{"in capitals, with space", "GET / HTTP/1.1\r\nTRACEPARENT: \t " + parent + " \r\n\r\n", parent},
		{"bare newlines", "GET / HTTP/1.1\nTraceparent:" + parent + "\n\n", parent},
		{"in the body", "POST / HTTP/1.1\r\nHost: x\r\n\r\ntraceparent: " + parent + "\r\n\r\n", ""},
		{"in the request line", "GET /?\r\n\r\n", ""},
		{"twice", "GET / HTTP/1.1\r\ntraceparent: " + parent + "\r\ntraceparent: " + parent + "\r\n\r\n", ""},
		{"another field", "GET / HTTP/1.1\r\ntraceparents: " + parent + "\r\nx-traceparent: " + parent + "\r\n\r\n", ""},
		{"malformed", "GET / HTTP/1.1\r\ntraceparent: " + parent[:50] + "\r\n\r\n", ""},
		{"a head without an end", "GET / HTTP/1.1\r\ntraceparent: " + parent + "\r\n", parent},
		{"nothing", "", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got, ok := FromRequest([]byte(c.request)); got.String() != c.want || ok != (c.want != "") {
				t.Errorf("%v, %v", got, ok)
			}
		})
	}
}

func FuzzFromRequest(f *testing.F) {
	f.Add([]byte("GET / HTTP/1.1\r\nHost: x\r\ntraceparent: " + parent + "\r\n\r\n"))
	f.Add([]byte("\ntraceparent:\n"))
	f.Add([]byte("t\rT:\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		c, ok := FromRequest(b)
		if ok != c.Valid() {
			t.Fatalf("%v, %v", c, ok)
		}
		if again, ok2 := Parse(c.String()); ok2 != ok || again != c {
			t.Fatalf("%v reads as %v", c, again)
		}
	})
}

func BenchmarkFromRequest(b *testing.B) {
	request := []byte("GET /index.html HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64)\r\nAccept: */*\r\n" +
		"Accept-Language: en\r\nAccept-Encoding: gzip\r\nReferer: http://www.example.com/\r\nConnection: keep-alive\r\ntraceparent: " + parent + "\r\n\r\n")
	b.ReportAllocs()
	for b.Loop() {
		if _, ok := FromRequest(request); !ok {
			b.Fatal("not found")
		}
	}
}
