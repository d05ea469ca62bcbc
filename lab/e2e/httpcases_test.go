package e2e

import (
	"fmt"
	"strings"
)

// httpCase is one way to speak HTTP.
type httpCase struct {
	name string
	talk func(k *talk)
	rude bool // the server may reset, and what it sent before may be cut
	// The request is refused with 400: who does so has words of its own.
	refused bool
}

// say is a client that sends all at once and reads until the server closes.
func say(s string) func(*talk) { return func(k *talk) { k.send(s) } }

// request is one with fields, each ended by CRLF.
func request(line string, fields ...string) string {
	return line + "\r\nHost: lab\r\n" + strings.Join(fields, "") + "\r\n"
}

const (
	last    = "Connection: close\r\n"
	chunked = "Transfer-Encoding: chunked\r\n"
)

func length(n int) string { return fmt.Sprintf("Content-Length: %d\r\n", n) }

// chunks frames a text in chunks of a size.
func chunks(s string, size int) string {
	var b strings.Builder
	for rest := s; rest != ""; {
		n := min(size, len(rest))
		fmt.Fprintf(&b, "%x\r\n%s\r\n", n, rest[:n])
		rest = rest[n:]
	}
	return b.String() + "0\r\n\r\n"
}

func httpCases() []httpCase {
	return append(append(append(append(requestCases(), bodyCases()...), pipelineCases()...), answerCases()...), endCases()...)
}

func requestCases() []httpCase {
	many := func(n int) (fields string) {
		for i := range n {
			fields += fmt.Sprintf("X-Field-%d: %s\r\n", i, letters(i))
		}
		return fields
	}
	whoami := request("GET /whoami HTTP/1.1")
	return []httpCase{
		{name: "GET", talk: say(request("GET /bytes/100 HTTP/1.1", last))},
		{name: "GET of nothing", talk: say(request("GET /bytes/0 HTTP/1.1", last))},
		{name: "GET of 100 KB", talk: say(request("GET /bytes/100000 HTTP/1.1", last))},
		{name: "GET of 5 MB", talk: say(request("GET /bytes/5000000 HTTP/1.1", last))},
		{name: "a range", talk: say(request("GET /bytes/100000 HTTP/1.1", "Range: bytes=500-70000\r\n", last))},
		{name: "a range that cannot be", talk: say(request("GET /bytes/100 HTTP/1.1", "Range: bytes=500-\r\n", last))},
		{name: "not modified", talk: say(request("GET /bytes/100 HTTP/1.1", "If-None-Match: \"100\"\r\n", last))},
		{name: "not found", talk: say(request("GET /nothing HTTP/1.1", last))},
		{name: "HEAD", talk: say(request("HEAD /bytes/100000 HTTP/1.1", last))},
		{name: "HEAD, then GET", talk: func(k *talk) {
			k.send(request("HEAD /bytes/100000 HTTP/1.1"))
			k.until("\r\n\r\n")
			k.send(request("GET /bytes/1000 HTTP/1.1", last))
		}},
		{name: "OPTIONS *", talk: say(request("OPTIONS * HTTP/1.1", last))},
		{name: "OPTIONS of a path", talk: say(request("OPTIONS /whoami HTTP/1.1", last))},
		{name: "absolute-form", talk: say(request("GET http://lab/whoami HTTP/1.1", last))},
		{name: "absolute-form of another host", talk: say(request("GET http://other:8080/whoami?a=b HTTP/1.1", last))},
		{name: "a query", talk: say(request("GET /whoami?a=b&c=%20d&&= HTTP/1.1", last))},
		{name: "percent-encoding", talk: say(request("GET /%77hoami HTTP/1.1", last))},
		{name: "dots in the path", talk: say(request("GET /a/../whoami HTTP/1.1", last))},
		{name: "other methods", talk: say(request("PURGE /whoami HTTP/1.1") + request("DELETE /whoami HTTP/1.1", last))},
		{name: "lower-case fields and odd whitespace", talk: say("GET /whoami HTTP/1.1\r\nhost:lab\r\nCONNECTION:\t close \t\r\nx-empty:\r\n\r\n")},
		{name: "octets beyond ASCII in a field", talk: say(request("GET /whoami HTTP/1.1", "X: gr\xc3\xbc\xdf\r\n", last))},
		{name: "100 fields", talk: say(request("GET /whoami HTTP/1.1", many(100), last))},
		{name: "a head of 12 KB", talk: say(request("GET /whoami HTTP/1.1", "X: "+letters(12_000)+"\r\n", last))},
		{name: "a target of 6 KB", talk: say(request("GET /whoami?"+letters(6000)+" HTTP/1.1", last))},
		{name: "an empty line before", talk: say(whoami + "\r\n" + request("GET /whoami HTTP/1.1", last)), rude: true},
		{name: "a head octet by octet", talk: func(k *talk) { k.pieces(request("GET /whoami HTTP/1.1", last), 1) }},
		{name: "HTTP/1.0", talk: say("GET /bytes/1000 HTTP/1.0\r\n\r\n")},
		{name: "HTTP/1.0 with a host", talk: say("GET /bytes/1000 HTTP/1.0\r\nHost: lab\r\n\r\n")},
		{name: "HTTP/1.0, HEAD", talk: say("HEAD /bytes/1000 HTTP/1.0\r\n\r\n")},
		{name: "HTTP/1.0 kept alive", talk: func(k *talk) {
			for range 3 {
				k.send("GET /bytes/100 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
				k.until("\r\n\r\n")
			}
			k.send("GET /bytes/100 HTTP/1.0\r\n\r\n")
		}},
		{name: "HTTP/1.0, chunks cannot be", talk: say("GET /chunked HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")},
		{name: "keep-alive, ten times", talk: func(k *talk) {
			for range 10 {
				k.send(whoami)
				k.until("server")
			}
			k.send(request("GET /whoami HTTP/1.1", last))
		}},
		{name: "keep-alive, different sizes", talk: func(k *talk) {
			for i := range 8 {
				k.send(request(fmt.Sprintf("GET /bytes/%d HTTP/1.1", 1<<(2*i))))
				k.until("\r\n\r\n")
			}
			k.send(request("GET /whoami HTTP/1.1", last))
		}},
		{name: "keep-alive named", talk: say(request("GET /whoami HTTP/1.1", "Connection: keep-alive\r\nKeep-Alive: timeout=5\r\n") + request("GET /whoami HTTP/1.1", last))},
		{name: "CONNECT is refused", talk: say("CONNECT lab:80 HTTP/1.1\r\nHost: lab:80\r\nConnection: close\r\n\r\n")},
		{name: "an upgrade that the server ignores", talk: say(request("GET /whoami HTTP/1.1", "Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABkAAQCAAAAAAIAAAAA\r\n") + request("GET /whoami HTTP/1.1", last))},
	}
}

func bodyCases() []httpCase {
	post := func(fields ...string) string { return request("POST /echo HTTP/1.1", fields...) }
	long := letters(2_000_000)
	return []httpCase{
		{name: "POST", talk: say(post(length(5), last) + "hello")},
		{name: "POST of nothing", talk: say(post(length(0), last))},
		{name: "POST without a length", talk: say(post(last))},
		{name: "POST of 2 MB", talk: say(post(length(len(long)), last) + long)},
		{name: "PUT", talk: say(request("PUT /echo HTTP/1.1", length(5), last) + "hello")},
		{name: "HTTP/1.0 POST", talk: say("POST /echo HTTP/1.0\r\nContent-Length: 5\r\n\r\nhello")},
		{name: "GET with a body", talk: say(request("GET /echo HTTP/1.1", length(5), last) + "hello")},
		{name: "the same length twice", talk: say(post(length(5), length(5), last) + "hello")},
		{name: "a body after its head", talk: func(k *talk) {
			k.send(request("POST /early HTTP/1.1", length(5), last))
			k.until("before the body\n") // the server has the connection
			k.send("hello")
		}},
		{name: "a body in pieces", talk: func(k *talk) { k.send(post(length(3000), last)); k.pieces(letters(3000), 7) }},
		{name: "a body that begins with its head", talk: func(k *talk) {
			k.send(post(length(len(long)), last) + long[:700])
			k.pieces(long[700:], 50_000)
		}},
		{name: "chunks", talk: say(post(chunked, last) + chunks("hello, world", 5))},
		{name: "no chunk", talk: say(post(chunked, last) + chunks("", 1))},
		{name: "chunks of one octet", talk: say(post(chunked, last) + chunks(letters(3000), 1))},
		{name: "chunks of 300 KB", talk: say(post(chunked, last) + chunks(long, 300_000))},
		{name: "chunks octet by octet", talk: func(k *talk) { k.pieces(post(chunked, last)+chunks(letters(100), 9), 1) }},
		{name: "chunks with extensions", talk: say(post(chunked, last) + "5;a=b;c=\"d\"\r\nhello\r\n3 ; x\r\nabc\r\n0;end\r\n\r\n")},
		{name: "chunks with odd sizes", talk: say(post(chunked, last) + "0000A\r\n0123456789\r\n0b\r\n01234567890\r\n000\r\n\r\n")},
		{name: "trailers", talk: say(request("POST /trailers HTTP/1.1", chunked, "Trailer: X-Sum\r\n", last) + "5\r\nhello\r\n0\r\nX-Sum: 42\r\n\r\n")},
		{name: "trailers that were not announced", talk: say(request("POST /trailers HTTP/1.1", chunked, last) + "5\r\nhello\r\n0\r\nX-Sum: 42\r\nX-More: 1\r\n\r\n")},
		{name: "trailers, then a request", talk: say(request("POST /trailers HTTP/1.1", chunked) + "5\r\nhello\r\n0\r\nX-Sum: 42\r\n\r\n" + request("GET /whoami HTTP/1.1", last))},
		{name: "100-continue", talk: func(k *talk) {
			k.send(post(length(5), "Expect: 100-continue\r\n", last))
			k.until("100 Continue\r\n\r\n")
			k.send("hello")
		}},
		{name: "100-continue with chunks", talk: func(k *talk) {
			k.send(post(chunked, "Expect: 100-continue\r\n", last))
			k.until("100 Continue\r\n\r\n")
			k.send(chunks("hello, world", 5))
		}},
		{name: "100-continue, twice", talk: func(k *talk) {
			for range 2 {
				k.send(post(length(5), "Expect: 100-continue\r\n"))
				k.until("100 Continue\r\n\r\n")
				k.send("hello")
				k.until("sha256")
			}
			k.send(request("GET /whoami HTTP/1.1", last))
		}},
		{name: "100-continue of a client that does not wait", talk: say(post(length(5), "Expect: 100-continue\r\n", last) + "hello"), rude: true},
		{name: "100-continue that is refused", talk: say(request("POST /reject HTTP/1.1", length(5), "Expect: 100-continue\r\n", last))},
		{name: "an expectation that cannot be met", talk: say(post(length(5), "Expect: 200-ok\r\n") + "hello"), rude: true},
		{name: "an answer before the body", talk: func(k *talk) {
			k.send(request("POST /early HTTP/1.1", chunked, last))
			k.until("before the body")
			k.send(chunks(letters(100_000), 9000))
		}},
		{name: "a body that is not read", talk: say(request("POST /reject HTTP/1.1", length(5)) + "hello" + request("GET /whoami HTTP/1.1", last))},
		{name: "a long body that is not read", talk: say(request("POST /reject HTTP/1.1", length(len(long)), last) + long), rude: true},
		{name: "a body, then a request", talk: func(k *talk) {
			k.send(post(length(5)) + "hello")
			k.until("sha256")
			k.send(request("GET /whoami HTTP/1.1", last))
		}},
	}
}

func pipelineCases() []httpCase {
	burst := func(n int, f func(i int) string) string {
		var b strings.Builder
		for i := range n {
			b.WriteString(f(i))
		}
		return b.String() + request("GET /whoami HTTP/1.1", last)
	}
	get := func(i int) string { return request(fmt.Sprintf("GET /bytes/%d HTTP/1.1", i*i)) }
	post := func(i int) string { return request("POST /echo HTTP/1.1", length(i*7)) + letters(i*7) }
	mixed := func(i int) string {
		switch i % 4 {
		case 0:
			return get(i)
		case 1:
			return post(i)
		case 2:
			return request("POST /echo HTTP/1.1", chunked) + chunks(letters(i*11), 100)
		}
		return request("HEAD /bytes/1000 HTTP/1.1")
	}
	return []httpCase{
		{name: "two pipelined", talk: say(burst(1, get))},
		{name: "a burst of 100", talk: say(burst(100, get))},
		{name: "a burst of 100 with bodies", talk: say(burst(100, post))},
		{name: "a burst of 100, mixed", talk: say(burst(100, mixed))},
		{name: "a burst in pieces", talk: func(k *talk) { k.pieces(burst(30, mixed), 13) }},
		{name: "a burst behind a slow answer", talk: say(request("GET /slow?ms=100 HTTP/1.1") + burst(20, mixed))},
		{name: "a burst behind a long answer", talk: say(request("GET /bytes/3000000 HTTP/1.1") + burst(20, mixed))},
		{name: "a burst behind a long body", talk: say(request("POST /echo HTTP/1.1", length(1_000_000)) + letters(1_000_000) + burst(20, mixed))},
		{name: "a burst of HEAD", talk: say(burst(50, func(int) string { return request("HEAD /bytes/1000 HTTP/1.1") }))},
		{name: "a burst of answers without bodies", talk: say(burst(30, func(i int) string { return request(fmt.Sprintf("GET /status/%d HTTP/1.1", []int{204, 304, 200}[i%3])) }))},
		{name: "a burst of interim answers", talk: say(burst(10, func(int) string { return request("GET /hints HTTP/1.1") }))},
		{name: "requests after one that closes", talk: say(request("GET /whoami HTTP/1.1", last) + get(3)), rude: true},
		{name: "a burst and FIN", talk: func(k *talk) { k.send(burst(50, mixed)); k.fin() }},
	}
}

func answerCases() []httpCase {
	get := func(path string) func(*talk) { return say(request("GET "+path+" HTTP/1.1", last)) }
	return []httpCase{
		{name: "an answer in chunks", talk: get("/chunked")},
		{name: "an answer in 2,000 chunks", talk: get("/chunked?n=2000")},
		{name: "an answer of no chunk", talk: get("/chunked?n=0")},
		{name: "chunks, then a request", talk: say(request("GET /chunked?n=100 HTTP/1.1") + request("GET /whoami HTTP/1.1", last))},
		{name: "an answer until close", talk: say(request("GET /close HTTP/1.1"))},
		{name: "an answer that is cut", talk: say(request("GET /cut HTTP/1.1"))},
		{name: "an answer of HTTP/1.0", talk: say(request("GET /old HTTP/1.1"))},
		{name: "204", talk: get("/status/204")},
		{name: "304", talk: get("/status/304")},
		{name: "205", talk: get("/status/205")},
		{name: "500", talk: get("/status/500")},
		{name: "interim answers", talk: get("/hints")},
		{name: "server-sent events", talk: get("/sse?n=50")},
		{name: "events, then a request", talk: func(k *talk) {
			k.send(request("GET /sse?n=20 HTTP/1.1"))
			k.until("\r\n0\r\n\r\n")
			k.send(request("GET /whoami HTTP/1.1", last))
		}},
		{name: "a long poll", talk: get("/slow?ms=400")},
		{name: "an upgrade that is not complete", talk: get("/ws")},
		{name: "a WebSocket", talk: func(k *talk) {
			k.send(upgrade)
			k.until("\r\n\r\n")
			for range 100 {
				k.send("\x81\x85aaaa\x09\x04\x0d\x0d\x0e") // "hello", masked
				k.until("hello")
			}
			k.send("\x89\x80aaaa") // ping
			k.until("\x8a\x00")
			k.send("\x88\x80aaaa") // close
		}},
		{name: "a WebSocket of a client that does not wait", talk: say(upgrade + "\x81\x85aaaa\x09\x04\x0d\x0d\x0e" + "\x88\x80aaaa")},
		{name: "a WebSocket after a request", talk: func(k *talk) {
			k.send(request("GET /whoami HTTP/1.1"))
			k.until("server")
			k.send(upgrade)
			k.until("\r\n\r\n")
			k.send("\x81\x85aaaa\x09\x04\x0d\x0d\x0e")
			k.until("hello")
			k.fin()
		}},
	}
}

func endCases() []httpCase {
	then := func(s string) func(*talk) { return func(k *talk) { k.send(s); k.fin() } }
	return []httpCase{
		{name: "FIN at once", talk: then("")},
		{name: "FIN in a head", talk: then("GET /whoami HTTP/1.1\r\nHo"), rude: true, refused: true},
		{name: "FIN with a request", talk: then(request("GET /bytes/100000 HTTP/1.1"))},
		{name: "FIN with HTTP/1.0", talk: then("GET /bytes/1000 HTTP/1.0\r\n\r\n")},
		{name: "FIN with a body", talk: then(request("POST /echo HTTP/1.1", length(5)) + "hello")},
		{name: "FIN with a long body", talk: then(request("POST /echo HTTP/1.1", length(1_000_000)) + letters(1_000_000))},
		{name: "FIN in a body", talk: then(request("POST /echo HTTP/1.1", length(50)) + "hello"), rude: true},
		{name: "FIN in a chunk", talk: then(request("POST /echo HTTP/1.1", chunked) + "10\r\nhello"), rude: true},
		{name: "FIN in a second head", talk: then(request("GET /whoami HTTP/1.1") + "GET /who"), refused: true},
		{name: "FIN during an answer", talk: func(k *talk) {
			k.send(request("GET /bytes/5000000 HTTP/1.1"))
			k.until("\r\n\r\n")
			k.fin()
		}},
		{name: "FIN between requests", talk: func(k *talk) {
			k.send(request("GET /whoami HTTP/1.1"))
			k.until("server")
			k.fin()
		}},
		{name: "FIN during a chunked answer", talk: func(k *talk) {
			k.send(request("GET /chunked?n=3000 HTTP/1.1"))
			k.until("piece 10")
			k.fin()
		}},
		{name: "FIN after 100", talk: func(k *talk) {
			k.send(request("POST /echo HTTP/1.1", length(5), "Expect: 100-continue\r\n"))
			k.until("100 Continue\r\n\r\n")
			k.send("hello")
			k.fin()
		}},
	}
}
