package httpframe

import (
	"errors"
	"io"
	"strings"
	"testing"
)

// feed shows all of s in pieces of size octets, and returns how many were the message's.
func feed(m *Message, s string, size int) (n int, err error) {
	b := []byte(s)
	for n < len(b) && !m.Done() {
		took, err := m.Feed(b[n:min(len(b), n+size)])
		if n += took; err != nil {
			return n, err
		}
	}
	return n, nil
}

const next = "GET /next HTTP/1.1\r\n"

func TestRequestsEndWhereTheirFramingSays(t *testing.T) {
	for name, request := range map[string]string{
		"no body":              "GET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"no fields":            "GET / HTTP/1.0\r\n\r\n",
		"empty line first":     "\r\nGET / HTTP/1.1\r\nHost: x\r\n\r\n",
		"a length":             "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello",
		"a length of nothing":  "POST / HTTP/1.1\r\ncontent-length:0\r\n\r\n",
		"a length, twice":      "POST / HTTP/1.1\r\nContent-Length: 5\r\nContent-Length:\t5 \r\n\r\nhello",
		"chunks":               "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nA\r\n0123456789\r\n0\r\n\r\n",
		"no chunk":             "POST / HTTP/1.1\r\nTransfer-Encoding: Chunked \r\n\r\n0\r\n\r\n",
		"extensions":           "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5;a=b\r\nhello\r\n1 ; c=\"d;e\"\r\nx\r\n000;f\r\n\r\n",
		"trailers":             "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\nTrailer: a\r\n\r\n1\r\nx\r\n0\r\na: b\r\nConnection: close\r\n\r\n",
		"a body like a head":   "POST / HTTP/1.1\r\nContent-Length: 20\r\n\r\n" + next[:20],
		"HEAD":                 "HEAD / HTTP/1.1\r\nHost: x\r\n\r\n",
		"CONNECT":              "CONNECT x:80 HTTP/1.1\r\nHost: x:80\r\n\r\n",
		"upgrade":              "GET / HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\r\n",
		"a name like a length": "GET / HTTP/1.1\r\nContent-Length-X: 5\r\nX-Content-Length: 5\r\nContent-Lengt: 5\r\n\r\n",
		"an empty value":       "GET / HTTP/1.1\r\nHost:\r\nX: \t \r\n\r\n",
	} {
		t.Run(name, func(t *testing.T) {
			for size := 1; size <= len(request)+1; size++ {
				var m Message
				m.Request()
				n, err := feed(&m, request+next, size)
				if n != len(request) || err != nil || !m.Done() || m.End() != nil {
					t.Fatalf("in pieces of %d: %d octets of %d, %v, done %v", size, n, len(request), err, m.Done())
				}
				if again, err := m.Feed([]byte(next)); again != 0 || err != nil {
					t.Errorf("after the end: takes %d octets, %v", again, err)
				}
			}
		})
	}
}

func TestRequestsWhoseEndCouldBeDisputedAreRefused(t *testing.T) {
	const post = "POST / HTTP/1.1\r\n"
	const chunked = post + "Transfer-Encoding: chunked\r\n\r\n"
	for name, request := range map[string]string{
		"both framings":                post + "Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
		"both, the other way":          post + "Transfer-Encoding: chunked\r\nContent-Length: 3\r\n\r\n",
		"different lengths":            post + "Content-Length: 3\r\nContent-Length: 4\r\n\r\n",
		"different digits":             post + "Content-Length: 3\r\nContent-Length: 03\r\n\r\n",
		"a list of lengths":            post + "Content-Length: 3, 3\r\n\r\n",
		"a signed length":              post + "Content-Length: +3\r\n\r\n",
		"a negative length":            post + "Content-Length: -3\r\n\r\n",
		"a hexadecimal length":         post + "Content-Length: 0x3\r\n\r\n",
		"a length in two parts":        post + "Content-Length: 3 4\r\n\r\n",
		"an empty length":              post + "Content-Length: \r\n\r\n",
		"a length beyond 63 bits":      post + "Content-Length: 9223372036854775808\r\n\r\n",
		"two encodings":                post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
		"chunked twice":                post + "Transfer-Encoding: chunked, chunked\r\n\r\n",
		"identity":                     post + "Transfer-Encoding: identity\r\n\r\n",
		"chunked with a tail":          post + "Transfer-Encoding: chunkedfoo\r\n\r\n",
		"chunked with a vertical tab":  post + "Transfer-Encoding: \x0bchunked\r\n\r\n",
		"chunked, quoted":              post + "Transfer-Encoding: \"chunked\"\r\n\r\n",
		"chunked not last":             post + "Transfer-Encoding: chunked, gzip\r\n\r\n",
		"an empty encoding":            post + "Transfer-Encoding:\r\n\r\n",
		"a comma before chunked":       post + "Transfer-Encoding: ,chunked\r\n\r\n",
		"chunked in HTTP/1.0":          "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n",
		"a folded field":               post + "X: y\r\n Content-Length: 3\r\n\r\n",
		"a folded first field":         post + " X: y\r\n\r\n",
		"whitespace before a colon":    post + "Content-Length : 3\r\n\r\n",
		"a line without a colon":       post + "Content-Length\r\n\r\n",
		"an empty name":                post + ": 3\r\n\r\n",
		"a bare LF in the fields":      post + "X: y\nContent-Length: 3\r\n\r\n",
		"a bare LF after the line":     "POST / HTTP/1.1\nX: y\r\n\r\n",
		"a bare LF at the end":         post + "X: y\r\n\n",
		"a bare CR in a value":         post + "X: y\rContent-Length: 3\r\n\r\n",
		"a bare CR in the target":      "POST /\r HTTP/1.1\r\n\r\n",
		"a NUL in a value":             post + "X: \x00\r\n\r\n",
		"a space in the target":        "GET / x HTTP/1.1\r\n\r\n",
		"no target":                    "GET  HTTP/1.1\r\n\r\n",
		"no version":                   "GET /\r\n\r\n",
		"HTTP/2":                       "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"a lower-case version":         "GET / http/1.1\r\n\r\n",
		"TLS":                          "\x16\x03\x01\x02\x00",
		"two empty lines":              "\r\n\r\nGET / HTTP/1.1\r\n\r\n",
		"a chunk's size with 0x":       chunked + "0x5\r\nhello\r\n0\r\n\r\n",
		"a chunk's size with a sign":   chunked + "+5\r\nhello\r\n0\r\n\r\n",
		"a chunk's size that is empty": chunked + "\r\nhello\r\n0\r\n\r\n",
		"whitespace before the size":   chunked + " 5\r\nhello\r\n0\r\n\r\n",
		"whitespace after the size":    chunked + "5 \r\nhello\r\n0\r\n\r\n",
		"a chunk's size of 64 bits":    chunked + "10000000000000005\r\nhello\r\n0\r\n\r\n",
		"a bare LF after the size":     chunked + "5\nhello\r\n0\r\n\r\n",
		"a bare LF in an extension":    chunked + "5;a\nhello\r\n0\r\n\r\n",
		"a bare CR in an extension":    chunked + "5;a\rb\r\nhello\r\n0\r\n\r\n",
		"a longer chunk than its size": chunked + "4\r\nhello\r\n0\r\n\r\n",
		"a bare LF after a chunk":      chunked + "5\r\nhello\n0\r\n\r\n",
		"a length as a trailer":        chunked + "0\r\nContent-Length: 3\r\n\r\n",
		"an encoding as a trailer":     chunked + "0\r\nTransfer-Encoding: chunked\r\n\r\n",
		"a host as a trailer":          chunked + "0\r\nHost: evil\r\n\r\n",
		"a folded trailer":             chunked + "0\r\na: b\r\n c\r\n\r\n",
		"a bare LF as the end":         chunked + "0\r\n\n",
	} {
		t.Run(name, func(t *testing.T) {
			for _, size := range []int{1, 7, len(request)} {
				var m Message
				m.Request()
				if n, err := feed(&m, request, size); !errors.Is(err, ErrFraming) || m.Done() || m.Plain() != 0 {
					t.Errorf("in pieces of %d: %d octets, %v, done %v", size, n, err, m.Done())
				} else if _, again := m.Feed([]byte(next)); again != err || m.End() != err {
					t.Errorf("then %v, at the end %v; want %v for ever", again, m.End(), err)
				}
			}
		})
	}
}

func TestResponsesEndWhereTheirFramingSays(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\n"
	for _, c := range []struct {
		name, response string
		to             Method
		keepAlive      bool
		tunnel         bool
		untilClose     bool
	}{
		{name: "a length", response: ok + "Content-Length: 5\r\n\r\nhello", keepAlive: true},
		{name: "a length and close", response: ok + "Connection: x, Close          \t                 \r\nContent-Length: 5\r\n\r\nhello"},
		{name: "chunks", response: ok + "Transfer-Encoding: chunked\r\n\r\n5 \r\nhello\r\n0\r\na: b\r\n\r\n", keepAlive: true},
		{name: "chunks of something", response: ok + "Transfer-Encoding: gzip,, chunked\r\n\r\n5;x\r\nhello\r\n0\r\n\r\n", keepAlive: true},
		{name: "another coding", response: ok + "Transfer-Encoding: gzip\r\n\r\nhello", untilClose: true},
		{name: "until close", response: ok + "\r\nhello", untilClose: true},
		{name: "until close, keep-alive or not", response: "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\n\r\nhello", untilClose: true},
		{name: "HTTP/1.0", response: "HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\nhello"},
		{name: "HTTP/1.0 kept alive", response: "HTTP/1.0 200 OK\r\nConnection: Keep-Alive\r\nContent-Length: 5\r\n\r\nhello", keepAlive: true},
		{name: "HEAD", response: ok + "Content-Length: 5\r\n\r\n", to: Head, keepAlive: true},
		{name: "HEAD, chunked", response: ok + "Transfer-Encoding: chunked\r\n\r\n", to: Head, keepAlive: true},
		{name: "HEAD, nothing", response: ok + "\r\n", to: Head, keepAlive: true},
		{name: "204", response: "HTTP/1.1 204 No Content\r\n\r\n", keepAlive: true},
		{name: "304 with a length", response: "HTTP/1.1 304 Not Modified\r\nContent-Length: 5\r\n\r\n", keepAlive: true},
		{name: "100", response: "HTTP/1.1 100 Continue\r\n\r\n", keepAlive: true},
		{name: "103", response: "HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", keepAlive: true},
		{name: "101", response: "HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\n\r\n", keepAlive: true, tunnel: true},
		{name: "CONNECT", response: "HTTP/1.1 200 Fine\r\n\r\n", to: Connect, keepAlive: true, tunnel: true},
		{name: "CONNECT refused", response: "HTTP/1.1 404 No\r\nContent-Length: 2\r\n\r\nno", to: Connect, keepAlive: true},
		{name: "no reason", response: "HTTP/1.1 200\r\nContent-Length: 1\r\n\r\nx", keepAlive: true},
		{name: "an empty reason", response: "HTTP/1.1 200 \r\nContent-Length: 1\r\n\r\nx", keepAlive: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			for size := 1; size <= len(c.response)+1; size++ {
				var m Message
				m.Response(c.to)
				after := "HTTP/1.1 "
				if c.untilClose {
					after = ""
				}
				n, err := feed(&m, c.response+after, size)
				if n != len(c.response) || err != nil {
					t.Fatalf("in pieces of %d: %d octets of %d, %v", size, n, len(c.response), err)
				}
				if m.Done() == c.untilClose || !m.HeadDone() || m.KeepAlive() != c.keepAlive || m.Tunnel() != c.tunnel {
					t.Fatalf("done %v, keep alive %v, tunnel %v; want %+v", m.Done(), m.KeepAlive(), m.Tunnel(), c)
				}
				if c.untilClose && m.Plain() != UntilClose {
					t.Errorf("%d plain octets follow", m.Plain())
				}
				if err := m.End(); err != nil || !m.Done() {
					t.Errorf("at the connection's end: %v, done %v", err, m.Done())
				}
				if want := m.Status() == 100 || m.Status() == 103; m.Interim() != want {
					t.Errorf("interim %v, want %v", m.Interim(), want)
				}
			}
		})
	}
}

func TestResponsesThatAreNoneAreRefused(t *testing.T) {
	for name, response := range map[string]string{
		"HTTP/0.9":              "<html>",
		"a status of two":       "HTTP/1.1 20 OK\r\n\r\n",
		"a status of four":      "HTTP/1.1 2000 OK\r\n\r\n",
		"a status below 100":    "HTTP/1.1 099 OK\r\n\r\n",
		"HTTP/2":                "HTTP/2 200\r\n\r\n",
		"both framings":         "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
		"chunked, then another": "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked, gzip\r\n\r\n",
		"chunked in HTTP/1.0":   "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n",
		"different lengths":     "HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n",
		"a bare LF":             "HTTP/1.1 200 OK\nContent-Length: 3\r\n\r\n",
		"a reason with a NUL":   "HTTP/1.1 200 \x00\r\n\r\n",
	} {
		var m Message
		m.Response(Other)
		if n, err := feed(&m, response, 3); !errors.Is(err, ErrFraming) {
			t.Errorf("%s: %d octets, %v", name, n, err)
		}
	}
}

func TestBodiesNeedNotBeShown(t *testing.T) {
	var m Message
	m.Response(Other)
	feed(&m, "HTTP/1.1 200 OK\r\nContent-Length: 1000000000000\r\n\r\n", 100)
	if m.Plain() != 1e12 {
		t.Fatalf("%d plain octets", m.Plain())
	}
	m.Skip(1e12 - 2)
	if n, err := m.Feed([]byte("ab" + next)); n != 2 || err != nil || !m.Done() {
		t.Errorf("%d octets, %v, done %v", n, err, m.Done())
	}
	m.Response(Other)
	feed(&m, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffff\r\n", 100)
	if m.Plain() != 0xfffff {
		t.Fatalf("%d plain octets", m.Plain())
	}
	m.Skip(0xfffff)
	if n, err := m.Feed([]byte("\r\n0\r\n\r\nHTTP")); n != 7 || err != nil || !m.Done() || m.Plain() != 0 {
		t.Errorf("%d octets, %v, done %v, %d plain", n, err, m.Done(), m.Plain())
	}
	m.Response(Other)
	feed(&m, "HTTP/1.1 200 OK\r\n\r\n", 100)
	m.Skip(1 << 50)
	if m.Plain() != UntilClose || m.Done() || m.End() != nil || !m.Done() {
		t.Error("a body until close")
	}
}

func TestEndTellsCutMessages(t *testing.T) {
	for s, want := range map[string]error{
		"":                     io.EOF,
		"\r":                   io.ErrUnexpectedEOF,
		"GET / HTTP/1.1\r\n\r": io.ErrUnexpectedEOF,
		"POST / HTTP/1.1\r\nContent-Length: 3\r\n\r\nab":                   io.ErrUnexpectedEOF,
		"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n":       io.ErrUnexpectedEOF,
		"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\na\r\n0": io.ErrUnexpectedEOF,
	} {
		var m Message
		m.Request()
		if _, err := feed(&m, s, 100); err != nil || m.End() != want || m.Begun() != (s != "") {
			t.Errorf("%q: %v, at the end %v, want %v", s, err, m.End(), want)
		}
	}
}

func TestNothingIsAllocated(t *testing.T) {
	head := []byte("POST /index.html HTTP/1.1\r\nHost: x\r\nConnection: keep-alive\r\nTransfer-Encoding: chunked\r\n\r\n")
	chunk := []byte("5;a=b\r\nhello\r\n")
	var m Message
	if n := testing.AllocsPerRun(100, func() {
		m.Request()
		m.Feed(head)
		for range 100 {
			m.Feed(chunk)
		}
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkRequestHead(b *testing.B) {
	head := []byte("GET /images/logo.png HTTP/1.1\r\nHost: www.example.com\r\nUser-Agent: " + strings.Repeat("Mozilla ", 12) +
		"\r\nAccept: text/html,application/xhtml+xml\r\nAccept-Encoding: gzip, deflate\r\nConnection: keep-alive\r\nCookie: " + strings.Repeat("c=d; ", 40) + "\r\n\r\n")
	b.SetBytes(int64(len(head)))
	b.ReportAllocs()
	var m Message
	for b.Loop() {
		m.Request()
		m.Feed(head)
	}
}
