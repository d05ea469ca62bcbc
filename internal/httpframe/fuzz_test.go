package httpframe

import (
	"bufio"
	"bytes"
	"errors"
	"io"
	"net/http"
	"testing"
)

var seeds = []string{
	"GET / HTTP/1.1\r\nHost: x\r\n\r\nGET /b HTTP/1.1\r\nHost: x\r\n\r\n",
	"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhelloGET /b HTTP/1.1\r\n",
	"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n0\r\na: b\r\n\r\nGET",
	"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5 ;a\r\nhello\r\n00\r\n\r\nGET",
	"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello",
	"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\n",
	"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\nHTTP",
	"HTTP/1.0 200 OK\r\n\r\nhello",
	"HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\nHTTP/1.1",
	"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
	"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n\x00\x01",
}

// follow returns where the message in b ends: -1 if it is cut or refused. The
// pieces that it is shown in, and what is skipped, must not matter.
func follow(t *testing.T, start func(*Message), b []byte, piece uint8) (end int, m Message) {
	t.Helper()
	start(&m)
	n, err := m.Feed(b)
	if n < len(b) && err == nil && !m.Done() || n > len(b) {
		t.Fatalf("%d octets of %d taken, and no end", n, len(b))
	}
	var other Message
	start(&other)
	at := 0
	var oerr error
	for at < len(b) && oerr == nil && !other.Done() {
		if plain := other.Plain(); plain > 0 && piece%2 == 0 {
			skip := min(plain, int64(len(b)-at), int64(piece)+1)
			other.Skip(skip)
			at += int(skip)
			continue
		}
		took := 0
		took, oerr = other.Feed(b[at:min(len(b), at+int(piece)+1)])
		at += took
	}
	if at != n || (oerr == nil) != (err == nil) || other.Done() != m.Done() || other.End() != m.End() && err == nil {
		t.Fatalf("in one piece %d octets, %v, done %v; in pieces %d, %v, %v", n, err, m.Done(), at, oerr, other.Done())
	}
	if err != nil && !errors.Is(err, ErrFraming) {
		t.Fatalf("error %v", err)
	}
	if err != nil || m.End() != nil {
		return -1, m
	}
	return n, m
}

// readTo reads the body and returns where it ended in b.
func readTo(b []byte, r *bytes.Reader, buf *bufio.Reader, body io.Reader) (int, error) {
	if _, err := io.Copy(io.Discard, body); err != nil {
		return 0, err
	}
	return len(b) - r.Len() - buf.Buffered(), nil
}

// Where this package sees an end and net/http a message, it ends in the same place.
func FuzzRequest(f *testing.F) {
	for _, s := range seeds {
		f.Add([]byte(s), uint8(6))
		f.Add([]byte(s), uint8(0))
	}
	f.Fuzz(func(t *testing.T, b []byte, piece uint8) {
		end, m := follow(t, (*Message).Request, b, piece)
		if end < 0 {
			return
		}
		begin := bytes.TrimPrefix(b, []byte("\r\n")) // net/http.Server does so after a POST
		r := bytes.NewReader(begin)
		buf := bufio.NewReader(r)
		req, err := http.ReadRequest(buf)
		if err != nil {
			return // it checks more than framing
		}
		n, err := readTo(begin, r, buf, req.Body)
		if err != nil {
			return
		}
		if n += len(b) - len(begin); n != end {
			t.Errorf("ends at %d, for net/http at %d: %q", end, n, b)
		}
		if (m.Method() == Head) != (req.Method == "HEAD") || (m.Method() == Connect) != (req.Method == "CONNECT") {
			t.Errorf("method %d of %q", m.Method(), b)
		}
		if m.KeepAlive() == req.Close {
			t.Errorf("keep alive %v, for net/http %v: %q", m.KeepAlive(), !req.Close, b)
		}
	})
}

func FuzzResponse(f *testing.F) {
	for _, s := range seeds {
		f.Add([]byte(s), uint8(0), uint8(6))
		f.Add([]byte(s), uint8(1), uint8(0))
		f.Add([]byte(s), uint8(2), uint8(1))
	}
	f.Fuzz(func(t *testing.T, b []byte, method, piece uint8) {
		to := Method(method % 3)
		end, m := follow(t, func(m *Message) { m.Response(to) }, b, piece)
		if end < 0 || m.Tunnel() {
			return
		}
		r := bytes.NewReader(b)
		buf := bufio.NewReader(r)
		res, err := http.ReadResponse(buf, &http.Request{Method: []string{"GET", "HEAD", "CONNECT"}[to]})
		if err != nil {
			return
		}
		if n, err := readTo(b, r, buf, res.Body); err == nil && n != end {
			t.Errorf("ends at %d, for net/http at %d: %q", end, n, b)
		}
		if m.Status() != res.StatusCode {
			t.Errorf("status %d, for net/http %d: %q", m.Status(), res.StatusCode, b)
		}
	})
}
