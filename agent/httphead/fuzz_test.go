package httphead

import (
	"bufio"
	"bytes"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/shunt-sdn/shunt/internal/httpframe"
)

// FuzzParse holds the parser to three promises: no input makes it panic, the
// way in which octets arrive makes no difference, and what it accepts
// net/http.ReadRequest accepts with the same meaning.
func FuzzParse(f *testing.F) {
	for _, c := range accepted {
		f.Add([]byte(c.input), uint8(7))
	}
	for _, c := range refused {
		if len(c.input) < 1000 {
			f.Add([]byte(c.input), uint8(1))
		}
	}
	const limit = 4096
	f.Fuzz(func(t *testing.T, b []byte, step uint8) {
		h, done, err := Parse(b, limit)
		if done && err != nil {
			t.Fatalf("both done and refused: %v", err)
		}
		piecemeal(t, b, limit, int(step)+1, h, done, err)
		if done {
			compare(t, b, h)
			sameFraming(t, b, h)
		}
	})
}

// sameFraming: those who follow the connection further on see the same message.
func sameFraming(t *testing.T, b []byte, h Head) {
	var m httpframe.Message
	m.Request()
	n, err := m.Feed(b[:h.Length])
	if n != h.Length || err != nil || !m.HeadDone() {
		t.Fatalf("accepted, but internal/httpframe takes %d octets of %d, %v, head complete %v", n, h.Length, err, m.HeadDone())
	}
	if m.Done() == (h.Chunked || h.ContentLength > 0) || m.Plain() != max(h.ContentLength, 0) || m.KeepAlive() == h.Close {
		t.Errorf("internal/httpframe sees an end %v, %d octets, keep-alive %v; this package %+v", m.Done(), m.Plain(), m.KeepAlive(), h)
	}
}

func piecemeal(t *testing.T, b []byte, limit, step int, want Head, wantDone bool, wantErr error) {
	p := NewParser(limit)
	for n := 0; ; n = min(n+step, len(b)) {
		got, done, err := p.Parse(bytes.Clone(b[:n]))
		if !done && err == nil && n < len(b) {
			continue
		}
		if done != wantDone || (err == nil) != (wantErr == nil) {
			t.Fatalf("in pieces of %d: done %v, error %v; at once: done %v, error %v", step, done, err, wantDone, wantErr)
		}
		if d := cmp.Diff(want, got, cmp.AllowUnexported(Head{})); d != "" {
			t.Fatalf("in pieces of %d (-at once +in pieces):\n%s", step, d)
		}
		if err != nil && *err.(*Error) != *wantErr.(*Error) {
			t.Fatalf("in pieces of %d: %v; at once: %v", step, err, wantErr)
		}
		return
	}
}

func compare(t *testing.T, b []byte, h Head) {
	b = bytes.TrimPrefix(b[:h.Length], []byte("\r\n"))
	r, err := http.ReadRequest(bufio.NewReader(bytes.NewReader(b)))
	if err != nil {
		t.Fatalf("accepted, but net/http says: %v", err)
	}
	length := h.ContentLength
	if length < 0 && !h.Chunked {
		length = 0
	}
	chunked := len(r.TransferEncoding) == 1 && r.TransferEncoding[0] == "chunked"
	if r.Host != h.Host || r.ContentLength != length || chunked != h.Chunked || r.Close != h.Close {
		t.Errorf("net/http reads host %q, length %d, chunked %v, close %v; this package %+v",
			r.Host, r.ContentLength, chunked, r.Close, h)
	}
	if r.Method != h.Method || r.RequestURI != h.Target || r.Proto != h.Proto {
		t.Errorf("net/http reads %q %q %q; this package %+v", r.Method, r.RequestURI, r.Proto, h)
	}
	for name, value := range h.Fields() {
		if strings.TrimSpace(value) != value && strings.Trim(value, " \t") != value {
			t.Errorf("the value of %q is not trimmed: %q", name, value)
		}
		if known := r.Header.Get(name); known != "" && known != h.Get(name) {
			t.Errorf("net/http reads %s: %q; this package %q", name, known, h.Get(name))
		}
	}
}
