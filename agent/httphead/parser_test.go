package httphead

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

// get is a request with these field lines after its request line.
func get(fields ...string) string {
	return "GET / HTTP/1.1\r\n" + strings.Join(append(fields, "", ""), "\r\n")
}

var accepted = []struct {
	name  string
	input string
	want  Head // Length 0: the whole input
}{
	{"plain", get("Host: a.example"), Head{Host: "a.example"}},
	{"port", get("Host: a.example:8080"), Head{Host: "a.example:8080"}},
	{"empty port", get("Host: a.example:"), Head{Host: "a.example:"}},
	{"empty host", get("Host:"), Head{}},
	{"IPv4 host", get("Host: 10.0.0.1:80"), Head{Host: "10.0.0.1:80"}},
	{"IPv6 host", get("Host: [2001:db8::1]:80"), Head{Host: "[2001:db8::1]:80"}},
	{"underscore in host", get("Host: a_b.example"), Head{Host: "a_b.example"}},
	{"no whitespace after colon", get("Host:a"), Head{Host: "a"}},
	{"whitespace around value", get("Host: \t a\t "), Head{Host: "a"}},
	{"field name in capitals", get("HOST: a"), Head{Host: "a"}},
	{"empty line first", "\r\n" + get("Host: a"), Head{Host: "a"}},
	{"obs-text in a value", get("Host: a", "X: caf\xc3\xa9 \xff"), Head{Host: "a"}},
	{"tab in a value", get("Host: a", "X: a\tb"), Head{Host: "a"}},
	{"empty value", get("Host: a", "X:"), Head{Host: "a"}},
	{"every token character in a name", get("Host: a", "!#$%&'*+-.^_`|~09azAZ: x"), Head{Host: "a"}},
	{"many fields", get("Host: a" + strings.Repeat("\r\nA: b", 500)), Head{Host: "a"}},
	{"HTTP/1.0 without host", "GET / HTTP/1.0\r\n\r\n", Head{Proto: "HTTP/1.0", Close: true}},
	{"HTTP/1.0 keep-alive", "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n\r\n", Head{Proto: "HTTP/1.0"}},
	{"HTTP/1.0 keep-alive and close", "GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n\r\n", Head{Proto: "HTTP/1.0", Close: true}},
	{"HTTP/1.0 neither upgrades nor expects", "GET / HTTP/1.0\r\nUpgrade: x\r\nConnection: upgrade, keep-alive\r\nExpect: 100-continue\r\n\r\n",
		Head{Proto: "HTTP/1.0"}},
	{"later minor version", "GET / HTTP/1.2\r\nHost: a\r\n\r\n", Head{Proto: "HTTP/1.2", Host: "a"}},
	{"close", get("Host: a", "Connection: foo,Close"), Head{Host: "a", Close: true}},
	{"close in a second field", get("Host: a", "Connection: foo", "Connection: close"), Head{Host: "a", Close: true}},
	{"closer is not close", get("Host: a", "Connection: closer"), Head{Host: "a"}},
	{"content length", get("Host: a", "Content-Length: 42"), Head{Host: "a", ContentLength: 42}},
	{"content length 0", get("Host: a", "Content-Length: 0"), Head{Host: "a", ContentLength: 0}},
	{"content length with zeros", get("Host: a", "Content-Length: 0042"), Head{Host: "a", ContentLength: 42}},
	{"largest content length", get("Host: a", "Content-Length: 9223372036854775807"), Head{Host: "a", ContentLength: 1<<63 - 1}},
	{"same content length twice", get("Host: a", "Content-Length: 5", "Content-Length: 5"), Head{Host: "a", ContentLength: 5}},
	{"chunked", get("Host: a", "Transfer-Encoding: Chunked"), Head{Host: "a", Chunked: true}},
	{"chunked with trailer", get("Host: a", "Transfer-Encoding: chunked", "Trailer: X-Sum"), Head{Host: "a", Chunked: true}},
	{"expect", get("Host: a", "Expect: 100-Continue", "Content-Length: 3"), Head{Host: "a", ContentLength: 3, ExpectContinue: true}},
	{"expect something else", get("Host: a", "Expect: tea"), Head{Host: "a"}},
	{"upgrade", get("Host: a", "Upgrade: websocket", "Connection: keep-alive, Upgrade"), Head{Host: "a", Upgrade: true}},
	{"upgrade without the option", get("Host: a", "Upgrade: websocket"), Head{Host: "a"}},
	{"the option without upgrade", get("Host: a", "Connection: upgrade"), Head{Host: "a"}},
	{"unknown method", "BREW /pot HTTP/1.1\r\nHost: a\r\n\r\n", Head{Method: "BREW", Target: "/pot", Host: "a"}},
	{"query", "GET /a/b?c=d&e HTTP/1.1\r\nHost: a\r\n\r\n", Head{Target: "/a/b?c=d&e", Host: "a"}},
	{"sloppy query", "GET /?q=100%&x={|} HTTP/1.1\r\nHost: a\r\n\r\n", Head{Target: "/?q=100%&x={|}", Host: "a"}},
	{"percent-encoded path", "GET /%7Ea%2f HTTP/1.1\r\nHost: a\r\n\r\n", Head{Target: "/%7Ea%2f", Host: "a"}},
	{"path of two slashes", "GET //b/c HTTP/1.1\r\nHost: a\r\n\r\n", Head{Target: "//b/c", Host: "a"}},
	{"colon in path", "GET /http://x HTTP/1.1\r\nHost: a\r\n\r\n", Head{Target: "/http://x", Host: "a"}},
	{"absolute-form", "GET http://b.example/x HTTP/1.1\r\nHost: a\r\n\r\n", Head{Target: "http://b.example/x", Host: "b.example"}},
	{"absolute-form, https, IPv6", "GET HTTPS://[::1]:1/ HTTP/1.1\r\nHost: a\r\n\r\n", Head{Target: "HTTPS://[::1]:1/", Host: "[::1]:1"}},
	{"absolute-form, no path", "GET http://b?q HTTP/1.1\r\nHost: a\r\n\r\n", Head{Target: "http://b?q", Host: "b"}},
	{"asterisk-form", "OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", Head{Method: "OPTIONS", Target: "*", Host: "a"}},
	{"authority-form", "CONNECT b:443 HTTP/1.1\r\nHost: a\r\n\r\n", Head{Method: "CONNECT", Target: "b:443", Host: "b:443"}},
	{"body follows", get("Host: a", "Content-Length: 3") + "abc", Head{Host: "a", ContentLength: 3, Length: 46}},
	{"another request follows", get("Host: a") + get("Host: b"), Head{Host: "a", Length: 27}},
	{"garbage follows", get("Host: a") + "\x00\xff\n", Head{Host: "a", Length: 27}},
}

func TestAcceptedHeadsMeanWhatTheySay(t *testing.T) {
	for _, c := range accepted {
		t.Run(c.name, func(t *testing.T) {
			want := c.want
			if want.Method == "" {
				want.Method = "GET"
			}
			if want.Target == "" {
				want.Target = "/"
			}
			if want.Proto == "" {
				want.Proto = "HTTP/1.1"
			}
			if want.Length == 0 {
				want.Length = len(c.input)
			}
			if !strings.Contains(c.input, "Content-Length") {
				want.ContentLength = -1
			}
			check := func(how string, got Head, done bool, err error) {
				t.Helper()
				if err != nil || !done {
					t.Fatalf("%s: done %v, error %v, want a complete head", how, done, err)
				}
				if d := cmp.Diff(want, got, cmpopts.IgnoreUnexported(Head{})); d != "" {
					t.Errorf("%s: head (-want +got):\n%s", how, d)
				}
			}
			got, done, err := Parse([]byte(c.input), 0)
			check("at once", got, done, err)

			p := NewParser(0)
			for n := 0; n < want.Length; n++ {
				if _, done, err := p.Parse([]byte(c.input[:n])); done || err != nil {
					t.Fatalf("after %d octets: done %v, error %v, want to wait", n, done, err)
				}
			}
			for range 2 { // asking again changes nothing
				got, done, err = p.Parse([]byte(c.input))
				check("octet by octet", got, done, err)
			}
			got, done, err = Parse([]byte(c.input), want.Length)
			check("with the length as limit", got, done, err)
			if _, _, err = Parse([]byte(c.input), want.Length-1); err == nil {
				t.Errorf("a limit of one octet less does not matter")
			}
		})
	}
}

var refused = []struct {
	name   string
	input  string
	status int
	reason string // a part of it
}{
	{"TLS", "\x16\x03\x01", 400, "TLS"},
	{"binary", "\x00\x01\x02", 400, "not start with a method"},
	{"space first", " GET / HTTP/1.1\r\n", 400, "not start with a method"},
	{"HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "HTTP/2"},
	{"SSH", "SSH-2.0-OpenSSH_9.2\r\n", 400, "not start with a method"},
	{"SMTP", "EHLO a.example\r\n", 400, "a version"},
	{"two empty lines first", "\r\n\r\n" + get("Host: a"), 400, "not start with a method"},
	{"CR first", "\rGET / HTTP/1.1\r\n", 400, "not start with a method"},
	{"control character in method", "GE\x01T / HTTP/1.1\r\n", 400, "not start with a method"},
	{"control character in method, no line end yet", "GE\x01", 400, "not start with a method"},
	{"colon in method", "GET: / HTTP/1.1\r\n", 400, "not start with a method"},
	{"HTTP/0.9", "GET /\r\n", 400, "a version"},
	{"method only", "GET\r\n", 400, "not start with a method"},
	{"no target", "GET  HTTP/1.1\r\n", 400, "no target"},
	{"two spaces before target", "GET  / HTTP/1.1\r\n", 400, "request target"},
	{"two spaces after target", "GET /  HTTP/1.1\r\n", 400, "request target"},
	{"space in target", "GET /a b HTTP/1.1\r\n", 400, "request target"},
	{"space after version", "GET / HTTP/1.1 \r\n", 400, "HTTP/1.1"},
	{"tab for space", "GET\t/ HTTP/1.1\r\n", 400, "not start with a method"},
	{"lower-case version", "GET / http/1.1\r\n", 400, "HTTP/1.1"},
	{"version with two digits", "GET / HTTP/1.10\r\n", 400, "HTTP/1.1"},
	{"version without minor", "GET / HTTP/2\r\n", 400, "HTTP/1.1"},
	{"not a version", "GET / HTTP/x.1\r\n", 400, "HTTP/1.1"},
	{"HTTP/2", "GET / HTTP/2.0\r\n", 505, "HTTP/1.1"},
	{"HTTP/3", "GET / HTTP/3.0\r\n", 505, "HTTP/1.1"},
	{"HTTP/0.1", "GET / HTTP/0.1\r\n", 505, "HTTP/1.1"},
	{"bare LF after request line", "GET / HTTP/1.1\nHost: a\r\n\r\n", 400, "bare LF"},
	{"bare LF first", "\nGET / HTTP/1.1\r\n", 400, "bare LF"},
	{"bare LF after field", "GET / HTTP/1.1\r\nHost: a\n\r\n", 400, "bare LF"},
	{"bare LF at the end", "GET / HTTP/1.1\r\nHost: a\r\n\n", 400, "bare LF"},
	{"bare CR in target", "GET /\r HTTP/1.1\r\n", 400, "request target"},
	{"bare CR in value", get("Host: a", "X: a\rb"), 400, "bare CR"},
	{"CR CR LF", get("Host: a", "X: a\r"), 400, "bare CR"},
	{"NUL in value", get("Host: a", "X: a\x00b"), 400, "control character"},
	{"DEL in value", get("Host: a", "X: a\x7f"), 400, "control character"},
	{"fragment", "GET /a#b HTTP/1.1\r\n", 400, "request target"},
	{"raw UTF-8 in target", "GET /caf\xc3\xa9 HTTP/1.1\r\n", 400, "percent-encode"},
	{"control character in target", "GET /\x01 HTTP/1.1\r\n", 400, "percent-encode"},
	{"bad percent-encoding", "GET /%zz HTTP/1.1\r\n", 400, "percent-encoding"},
	{"cut percent-encoding", "GET /%a HTTP/1.1\r\n", 400, "percent-encoding"},
	{"cut percent-encoding before query", "GET /%a?b HTTP/1.1\r\n", 400, "percent-encoding"},
	{"relative target", "GET a/b HTTP/1.1\r\n", 400, "neither a path"},
	{"asterisk with GET", "GET * HTTP/1.1\r\n", 400, "OPTIONS"},
	{"authority with GET", "GET a:80 HTTP/1.1\r\n", 400, "neither a path"},
	{"another scheme", "GET ftp://a/ HTTP/1.1\r\n", 400, "neither a path"},
	{"absolute-form without host", "GET http:///x HTTP/1.1\r\n", 400, "no valid host"},
	{"absolute-form, nothing after slashes", "GET http:// HTTP/1.1\r\n", 400, "neither a path"},
	{"absolute-form with user", "GET http://u@h/ HTTP/1.1\r\n", 400, "no valid host"},
	{"absolute-form, bad port", "GET http://h:x/ HTTP/1.1\r\n", 400, "no valid host"},
	{"CONNECT without port", "CONNECT a HTTP/1.1\r\n", 400, "host:port"},
	{"CONNECT with empty port", "CONNECT a: HTTP/1.1\r\n", 400, "host:port"},
	{"CONNECT with a path", "CONNECT / HTTP/1.1\r\n", 400, "host:port"},
	{"folded field", get("Host: a", "X: a", " b"), 400, "folded"},
	{"first field folded", get(" X: a", "Host: a"), 400, "folded"},
	{"whitespace before colon", get("Host : a"), 400, "before its colon"},
	{"tab before colon", get("Host\t: a"), 400, "before its colon"},
	{"no colon", get("Host"), 400, "no colon"},
	{"no name", get(": a"), 400, "name"},
	{"bad name", get("Ho(st: a"), 400, "name"},
	{"non-ASCII name", get("H\xc3\xb6st: a"), 400, "name"},
	{"NUL in name", get("Ho\x00st: a"), 400, "name"},
	{"no host", get("X: a"), 400, "no Host"},
	{"two hosts", get("Host: a", "host: a"), 400, "more than one Host"},
	{"two hosts, HTTP/1.0", "GET / HTTP/1.0\r\nHost: a\r\nHost: b\r\n\r\n", 400, "more than one Host"},
	{"host with path", get("Host: a/b"), 400, "Host is not"},
	{"host with user", get("Host: u@a"), 400, "Host is not"},
	{"host list", get("Host: a, b"), 400, "Host is not"},
	{"host with space", get("Host: a b"), 400, "Host is not"},
	{"host, port too large", get("Host: a:65536"), 400, "Host is not"},
	{"host, bad port", get("Host: a:-1"), 400, "Host is not"},
	{"host, port only", get("Host: :80"), 400, "Host is not"},
	{"host, IPv6 without brackets", get("Host: ::1"), 400, "Host is not"},
	{"host, unclosed bracket", get("Host: [::1"), 400, "Host is not"},
	{"host, IPv4 in brackets", get("Host: [10.0.0.1]"), 400, "Host is not"},
	{"host, zone", get("Host: [fe80::1%eth0]"), 400, "Host is not"},
	{"host, text after bracket", get("Host: [::1]a"), 400, "Host is not"},
	{"empty content length", get("Host: a", "Content-Length:"), 400, "Content-Length"},
	{"negative content length", get("Host: a", "Content-Length: -1"), 400, "Content-Length"},
	{"signed content length", get("Host: a", "Content-Length: +1"), 400, "Content-Length"},
	{"hexadecimal content length", get("Host: a", "Content-Length: 0x1"), 400, "Content-Length"},
	{"content length list", get("Host: a", "Content-Length: 5, 5"), 400, "Content-Length"},
	{"content length with space", get("Host: a", "Content-Length: 1 2"), 400, "Content-Length"},
	{"content length overflow", get("Host: a", "Content-Length: 9223372036854775808"), 400, "Content-Length"},
	{"conflicting content lengths", get("Host: a", "Content-Length: 5", "Content-Length: 6"), 400, "two different"},
	{"same length written differently", get("Host: a", "Content-Length: 5", "Content-Length: 05"), 400, "two different"},
	{"length and chunked", get("Host: a", "Content-Length: 5", "Transfer-Encoding: chunked"), 400, "both"},
	{"chunked and length", get("Host: a", "Transfer-Encoding: chunked", "Content-Length: 5"), 400, "both"},
	{"chunked in HTTP/1.0", "GET / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", 400, "HTTP/1.0"},
	{"chunked twice", get("Host: a", "Transfer-Encoding: chunked, chunked"), 400, "once"},
	{"chunked in two fields", get("Host: a", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked"), 400, "more than one"},
	{"gzip without chunked", get("Host: a", "Transfer-Encoding: gzip"), 400, "end in chunked"},
	{"chunked not last", get("Host: a", "Transfer-Encoding: chunked, gzip"), 400, "end in chunked"},
	{"gzip, chunked", get("Host: a", "Transfer-Encoding: gzip, chunked"), 501, "no Transfer-Encoding but"},
	{"empty transfer encoding", get("Host: a", "Transfer-Encoding:"), 400, "end in chunked"},
	{"transfer encoding with a comma", get("Host: a", "Transfer-Encoding: chunked,"), 400, "Transfer-Encoding"},
	{"transfer encoding, vertical tab", get("Host: a", "Transfer-Encoding: \x0bchunked"), 400, "control character"},
	{"transfer encoding in quotes", get("Host: a", "Transfer-Encoding: \"chunked\""), 400, "malformed"},
	{"framing in a trailer", get("Host: a", "Transfer-Encoding: chunked", "Trailer: X, Content-Length"), 400, "Trailer"},
	{"long target", "GET /" + strings.Repeat("a", DefaultMax), 414, "request line"},
	{"long target, complete", "GET /" + strings.Repeat("a", DefaultMax) + " HTTP/1.1\r\n\r\n", 414, "request line"},
	{"long method", strings.Repeat("A", DefaultMax), 414, "request line"},
	{"long field", "GET / HTTP/1.1\r\nX: " + strings.Repeat("a", DefaultMax), 431, "fields"},
	{"too many fields", get("Host: a" + strings.Repeat("\r\nA: b", DefaultMax/6)), 431, "fields"},
}

func TestRefusedHeads(t *testing.T) {
	for _, c := range refused {
		t.Run(c.name, func(t *testing.T) {
			check := func(how string, done bool, err error) {
				t.Helper()
				var e *Error
				if !errors.As(err, &e) || done {
					t.Fatalf("%s: done %v, error %v, want an *Error", how, done, err)
				}
				if e.Status != c.status || !strings.Contains(e.Reason, c.reason) {
					t.Errorf("%s: %d %q, want %d and %q in it", how, e.Status, e.Reason, c.status, c.reason)
				}
			}
			_, done, err := Parse([]byte(c.input), 0)
			check("at once", done, err)
			p := NewParser(0)
			for n := range len(c.input) {
				if _, done, err = p.Parse([]byte(c.input[:n+1])); done || err != nil {
					break
				}
			}
			check("octet by octet", done, err)
			_, done, err = p.Parse([]byte(c.input))
			check("asked again", done, err)
		})
	}
}

func TestPeersThatDoNotSpeakHTTPAreRefusedAtTheFirstOctet(t *testing.T) {
	for _, first := range []string{"\x16", "\x00", "\x80", " ", "\n", "\t", "(", "\x7f"} {
		if _, _, err := Parse([]byte(first), 0); err == nil {
			t.Errorf("%q: waits for more, want a refusal", first)
		}
	}
}

func TestResetForgetsTheRequest(t *testing.T) {
	p := NewParser(30)
	if _, _, err := p.Parse([]byte("\x00")); err == nil {
		t.Fatal("garbage is accepted")
	}
	p.Reset()
	if _, done, err := p.Parse([]byte(get("Host: a"))); !done || err != nil {
		t.Fatalf("after Reset: done %v, error %v", done, err)
	}
	p.Reset()
	if _, _, err := p.Parse([]byte(get("Host: abcdef"))); err == nil {
		t.Error("Reset lost the limit")
	}
}
