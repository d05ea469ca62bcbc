package e2e

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shunt-sdn/shunt/internal/testnet"
	"github.com/shunt-sdn/shunt/lab"
)

// What clients see of unmodified servers, as with the other attachments: of
// Node.js, which answers what the built-in server answers, and of nginx, whose
// documents are files.
func TestHTTPThroughPreload(t *testing.T) {
	buildPreload(t)
	t.Run("node", func(t *testing.T) {
		testnet.NeedProgram(t, "node")
		c := up(t, lab.Options{App: "node", Servers: 2})
		vip := netip.AddrPortFrom(c.Service().VIP, c.Service().Port)
		c.handedOff(func() { c.compare("node", vip, nodeCases()) })
		c.refusals(vip)
		c.leaves(vip, conversation)
		c.abandons(vip)
		c.webSocket(vip)
	})
	t.Run("nginx", func(t *testing.T) {
		testnet.NeedProgram(t, "nginx")
		// One server: a file's time is part of the answers.
		c := up(t, lab.Options{App: "nginx", Servers: 1})
		vip := netip.AddrPortFrom(c.Service().VIP, c.Service().Port)
		c.makeUploads()
		c.handedOff(func() { c.compare("nginx", vip, nginxCases()) })
		c.uploaded()
		c.leaves(vip, strings.Replace(conversation, "POST /echo", "PUT /upload/left", 1))
		c.nothingLeft()
	})
}

// handedOff wants f to cause hand-offs only, and none that fails.
func (c *cluster) handedOff(f func()) {
	before := c.status()
	f()
	after := c.status()
	c.t.Logf("%d hand-offs", after.HandoffsCompleted-before.HandoffsCompleted)
	if after.HandoffsCompleted < before.HandoffsCompleted+40 || after.HandoffsFailed != before.HandoffsFailed || after.RequestsProxied != before.RequestsProxied {
		c.t.Errorf("before: %v\nafter: %v", before, after)
	}
}

// nodeCases are all of the built-in server's, and some about what the server
// sees. Node.js has its own ways: it ends CONNECT without an answer, refuses a
// length that comes twice and a space in a chunk's extension, and gives every
// upgrade to the program, which cannot ignore one. All that is the same through
// the service, so no case is left out.
func nodeCases() []httpCase {
	cases := append(httpCases(), []httpCase{
		{name: "the request as the server sees it", talk: say(request("GET /headers?a=b HTTP/1.1", "x-lower: a\r\nX-Lower:  b \r\nVia: 1.1 other\r\nX-Forwarded-For: 192.0.2.1\r\n", last))},
		{name: "absolute-form as the server sees it", talk: say(request("GET http://lab/headers HTTP/1.1", last))},
		{name: "dots as the server sees them", talk: say(request("GET /a/../headers?/../b HTTP/1.1", last))},
		{name: "the second request as the server sees it", talk: say(request("HEAD /bytes/100 HTTP/1.1") + request("GET /headers HTTP/1.1", "X: y\r\n", last))},
	}...)
	for n := range conversation {
		cases = append(cases, httpCase{
			name: fmt.Sprintf("FIN after %d octets", n), refused: true,
			talk: func(k *talk) { k.send(conversation[:n]); k.fin() },
		})
	}
	return cases
}

// conversation is one that a client can leave at any octet.
var conversation = request("POST /echo HTTP/1.1", length(5)) + "hello" + request("GET /whoami HTTP/1.1", last)

// uploads are the bodies that are put, by name. The first is longer than what
// fits in buffers, the others come in special ways.
var uploads = map[string]string{
	"big":      letters(5_000_000),
	"small":    "hello",
	"pieces":   letters(30_000),
	"chunked":  letters(300_000),
	"expected": letters(100_000),
	"piped":    letters(5000),
}

// makeUploads has each upload replace a file: nginx says whether there was one.
func (c *cluster) makeUploads() {
	c.t.Helper()
	for name := range uploads {
		if err := os.WriteFile(c.upload(name), nil, 0o644); err != nil {
			c.t.Fatal(err)
		}
	}
}

func (c *cluster) upload(name string) string { return filepath.Join(c.Root("server1"), "upload", name) }

// uploaded compares what the server has stored last, which came through the service.
func (c *cluster) uploaded() {
	c.t.Helper()
	for name, want := range uploads {
		if got, err := os.ReadFile(c.upload(name)); err != nil || string(got) != want {
			c.t.Errorf("upload %q is stored as %d octets, not as %d, or others: %v", name, len(got), len(want), err)
		}
	}
}

// nginxCases are what a server of static documents supports.
func nginxCases() []httpCase {
	get := func(path string, fields ...string) string { return request("GET "+path+" HTTP/1.1", fields...) }
	put := func(name string, fields ...string) string {
		return request("PUT /upload/"+name+" HTTP/1.1", fields...)
	}
	body := func(name string) string { return uploads[name] }
	burst := strings.Repeat(get("/bytes/100")+request("HEAD /bytes/10000 HTTP/1.1")+get("/nothing")+get("/bytes/1000", "Range: bytes=-7\r\n"), 25)
	return []httpCase{
		{name: "GET", talk: say(get("/bytes/100", last))},
		{name: "GET of 10 MB", talk: say(get("/bytes/10000000", last))},
		{name: "not found", talk: say(get("/nothing", last))},
		{name: "a directory", talk: say(get("/bytes", last) + get("/bytes/", last)), rude: true},
		{name: "HEAD", talk: say(request("HEAD /bytes/100000 HTTP/1.1", last))},
		{name: "a method that it does not know", talk: say(request("PURGE /bytes/100 HTTP/1.1", last))},
		{name: "PUT where it may not be", talk: say(request("PUT /bytes/100 HTTP/1.1", length(5), last) + "hello")},
		{name: "a range", talk: say(get("/bytes/100000", "Range: bytes=500-70000\r\n", last))},
		{name: "a range from the end", talk: say(get("/bytes/100000", "Range: bytes=-50\r\n", last))},
		{name: "a range that cannot be", talk: say(get("/bytes/100", "Range: bytes=500-\r\n", last))},
		{name: "not modified", talk: say(get("/bytes/100", "If-Modified-Since: Fri, 31 Dec 2100 00:00:00 GMT\r\nIf-None-Match: *\r\n", last))},
		{name: "a precondition that fails", talk: say(get("/bytes/100", "If-Match: \"x\"\r\n", last))},
		{name: "unmodified since", talk: say(get("/bytes/100", "If-Unmodified-Since: Fri, 31 Dec 1999 00:00:00 GMT\r\n", last))},
		{name: "a range if it is the same", talk: say(get("/bytes/1000", "If-Range: \"x\"\r\nRange: bytes=1-2\r\n", last))},
		{name: "OPTIONS *", talk: say(request("OPTIONS * HTTP/1.1", last))},
		{name: "absolute-form", talk: say(get("http://other:8080/whoami?a=b", last))},
		{name: "percent-encoding and dots", talk: say(get("/%62ytes/../a/%2e%2e/whoami", last))},
		{name: "dots out of the root", talk: say(get("/../../etc/passwd", last))},
		{name: "a malformed escape", talk: say(get("/%zz", last)), refused: true},
		{name: "a head of 7 KB", talk: say(get("/whoami", "X: "+letters(7000)+"\r\n", last))},
		{name: "a field beyond nginx's limit", talk: say(get("/whoami", "X: "+letters(12_000)+"\r\n", last)), rude: true},
		{name: "a head octet by octet", talk: func(k *talk) { k.pieces(get("/whoami", last), 1) }},
		{name: "HTTP/1.0", talk: say("GET /bytes/1000 HTTP/1.0\r\n\r\n")},
		{name: "HTTP/1.0 kept alive", talk: func(k *talk) {
			k.send("GET /bytes/100 HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
			k.until("\r\n\r\n")
			k.send("HEAD /bytes/100 HTTP/1.0\r\n\r\n")
		}},
		{name: "keep-alive, ten times", talk: func(k *talk) {
			for range 10 {
				k.send(get("/whoami"))
				k.until("server1\n")
			}
			k.send(get("/whoami", last))
		}},
		{name: "keep-alive behind 1 MB", talk: say(get("/bytes/1000000") + get("/whoami", last))},
		{name: "a burst of 100", talk: say(burst + get("/whoami", last))},
		{name: "a burst in pieces", talk: func(k *talk) { k.pieces(burst+get("/whoami", last), 37) }},
		{name: "a bad second request", talk: say(get("/whoami") + "NO REQUEST AT ALL\r\n\r\n"), rude: true},
		{name: "a second request without a host", talk: say(get("/whoami") + "GET /whoami HTTP/1.1\r\n\r\n")},
		{name: "a second request of another version", talk: say(get("/whoami") + "GET /whoami HTTP/9.9\r\n\r\n"), rude: true},
		{name: "a second request with conflicting lengths", talk: say(get("/whoami") + put("small", length(5), chunked) + "0\r\n\r\n"), rude: true},
		{name: "PUT", talk: say(put("small", length(5), last) + body("small"))},
		{name: "PUT of 5 MB", talk: say(put("big", length(len(body("big"))), last) + body("big"))},
		{name: "PUT in pieces", talk: func(k *talk) {
			k.send(put("pieces", length(len(body("pieces"))), last))
			k.pieces(body("pieces"), 101)
		}},
		{name: "PUT in chunks", talk: say(put("chunked", chunked, last) + chunks(body("chunked"), 7000))},
		{name: "PUT with 100-continue", talk: func(k *talk) {
			k.send(put("expected", length(len(body("expected"))), "Expect: 100-continue\r\n", last))
			k.until("100 Continue\r\n\r\n")
			k.send(body("expected"))
		}},
		{name: "PUT, then GET", talk: say(put("piped", length(len(body("piped")))) + body("piped") + get("/bytes/1000", last))},
		{name: "a body that is not wanted", talk: say(request("POST /whoami HTTP/1.1", length(5)) + "hello" + get("/whoami", last))},
		{name: "FIN with a request", talk: func(k *talk) { k.send(get("/bytes/1000")); k.fin() }},
		{name: "FIN with a burst", talk: func(k *talk) { k.send(burst); k.fin() }},
		{name: "FIN between requests", talk: func(k *talk) { k.send(get("/whoami")); k.until("server1\n"); k.fin() }},
		{name: "FIN in a second head", talk: func(k *talk) { k.send(get("/whoami") + "GET /who"); k.fin() }},
		// nginx gives an answer up when it sees FIN while it waits to send.
		{name: "FIN during an answer", talk: func(k *talk) { k.send(get("/bytes/10000000")); k.until("\r\n\r\n"); k.fin() }, rude: true},
		{name: "FIN in a body", talk: func(k *talk) { k.send(put("nothing", length(50)) + "hello"); k.fin() }, rude: true},
		{name: "FIN in a chunk", talk: func(k *talk) { k.send(put("nothing", chunked) + "10\r\nhello"); k.fin() }, rude: true},
	}
}

// leaves: clients that leave after any octet of two requests leave nothing behind.
func (c *cluster) leaves(vip netip.AddrPort, conversation string) {
	for name, leave := range map[string]func(*talk){"FIN": (*talk).fin, "RST": (*talk).rst} {
		c.t.Run(fmt.Sprintf("%s after each of %d octets", name, len(conversation)), func(t *testing.T) {
			c := &cluster{Lab: c.Lab, t: t, operator: c.operator}
			for n := range len(conversation) + 1 {
				c.converse(vip, func(k *talk) { k.send(conversation[:n]); leave(k) })
			}
		})
	}
}
