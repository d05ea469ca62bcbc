package e2e

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/net/websocket"

	"github.com/shunt-sdn/shunt/lab"
)

// talk is one connection of a client that writes HTTP as it likes.
type talk struct {
	conn   *net.TCPConn
	got    bytes.Buffer // all that was read
	marked int          // octets that until has passed
	err    error
}

// failed remembers the first failure; nothing is done after it.
func (c *talk) failed(err error) bool {
	if c.err == nil {
		c.err = err
	}
	return c.err != nil
}

func (c *talk) send(s string) {
	if c.err != nil {
		return
	}
	if _, err := io.WriteString(c.conn, s); err != nil {
		c.failed(fmt.Errorf("write: %w", err))
	}
}

// pieces sends so many octets at a time, each in a segment of its own.
func (c *talk) pieces(s string, size int) {
	for rest := s; rest != "" && c.err == nil; {
		n := min(size, len(rest))
		c.send(rest[:n])
		rest = rest[n:]
	}
}

// until reads until the text comes, after what earlier calls have waited for.
func (c *talk) until(text string) {
	b := make([]byte, 64<<10)
	for {
		if i := bytes.Index(c.got.Bytes()[c.marked:], []byte(text)); i >= 0 {
			c.marked += i + len(text)
			return
		}
		if c.err != nil {
			return
		}
		n, err := c.conn.Read(b)
		c.got.Write(b[:n])
		if err != nil {
			c.failed(fmt.Errorf("wait for %q: %w", text, err))
		}
	}
}

func (c *talk) fin() { c.conn.CloseWrite() }

func (c *talk) rst() {
	c.conn.SetLinger(0)
	c.conn.Close()
}

// end reads until the server closes, and says how it did.
func (c *talk) end() string {
	if c.err == nil {
		if _, err := c.got.ReadFrom(c.conn); err != nil {
			c.err = err
		}
	}
	switch {
	case c.err == nil:
		return "FIN"
	case errors.Is(c.err, syscall.ECONNRESET), errors.Is(c.err, syscall.EPIPE):
		return "RST"
	}
	return c.err.Error()
}

var hopByHop = regexp.MustCompile(`^(?i:Date|X-Node|Connection|Keep-Alive): [^\r\n]*\r\n$`) // a line
var refusal = regexp.MustCompile(`(?s)(HTTP/1.1 400 ).*`)
var nodeName = regexp.MustCompile(`server[0-9]`)

// transcript is what the client has read, without what may differ.
func (c *talk) transcript() string {
	b := make([]byte, 0, c.got.Len())
	for line := range bytes.Lines(c.got.Bytes()) {
		if !hopByHop.Match(line) {
			b = append(b, line...)
		}
	}
	return string(nodeName.ReplaceAll(b, []byte("serverN")))
}

// converse has a client on client1 make a connection and talk.
func (c *cluster) converse(to netip.AddrPort, f func(*talk)) (transcript, end string) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 20*time.Second)
	defer cancel()
	conn, err := c.Dial("client1")(ctx, "tcp", to.String())
	if err != nil {
		c.t.Fatalf("connect to %v: %v", to, err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	k := &talk{conn: conn.(*net.TCPConn)}
	f(k)
	end = k.end()
	return k.transcript(), end
}

// server1 is where a server takes ordinary connections.
func (c *cluster) server1() netip.AddrPort {
	c.t.Helper()
	for _, h := range c.Info().Hosts {
		if h.Name == "server1" {
			return netip.AddrPortFrom(h.Addresses[0], c.Service().Port)
		}
	}
	c.t.Fatal("there is no server1")
	return netip.AddrPort{}
}

// attachments are the labs in which HTTP is spoken. The relay adds a field to
// requests, so that it looks at all of them.
var attachments = []lab.Options{
	{Attach: lab.AttachListener},
	{Attach: lab.AttachRelay, Forwarded: "x-forwarded-for"},
}

func TestClientsSeeWhatTheyWouldSeeFromTheServerItself(t *testing.T) {
	for _, o := range attachments {
		t.Run(o.Attach, func(t *testing.T) {
			c := up(t, o)
			vip := netip.AddrPortFrom(c.Service().VIP, c.Service().Port)
			c.compare("one server a connection", vip, httpCases())
			c.refusals(vip)
			c.abandons(vip)
			c.webSocket(vip)
			// Again, with connections that move from request to request.
			c.apply(byPath)
			before := c.status()
			c.compare("servers by path", vip, httpCases())
			after := c.status()
			if moves := after.HandoffsCompleted - before.HandoffsCompleted; moves < 200 {
				t.Errorf("%d hand-offs: connections did not move between requests", moves)
			}
			if after.HandoffsFailed != before.HandoffsFailed {
				t.Errorf("%d hand-offs failed", after.HandoffsFailed-before.HandoffsFailed)
			}
			c.abandons(vip)
		})
	}
}

// byPath spreads the paths of the cases over servers, so that requests of one
// connection belong to different ones.
const byPath = `
services:
- name: web
  routes:
  - {name: bytes, match: {paths: [{prefix: /bytes}, {prefix: /sse}]}, pool: one}
  - {name: echo, match: {paths: [{prefix: /echo}, {prefix: /trailers}, {prefix: /ws}]}, pool: two}
  - {name: others, pool: three}
pools:
- {name: one, members: [{server: server1}]}
- {name: two, members: [{server: server2}]}
- {name: three, members: [{server: server3}]}
`

// compare runs every case against a server itself and through the service.
func (c *cluster) compare(how string, vip netip.AddrPort, cases []httpCase) {
	for _, hc := range cases {
		c.t.Run(how+": "+hc.name, func(t *testing.T) {
			c := &cluster{Lab: c.Lab, t: t, operator: c.operator}
			want, wantEnd := c.converse(c.server1(), hc.talk)
			got, end := c.converse(vip, hc.talk)
			if !hc.rude && (end != "FIN" || wantEnd != "FIN") {
				t.Errorf("the connection ends by %s, that to the server itself by %s", end, wantEnd)
			}
			if hc.refused {
				got, want = refusal.ReplaceAllString(got, "$1"), refusal.ReplaceAllString(want, "$1")
			}
			if got == want {
				return
			}
			// A server that resets may take octets with it.
			if hc.rude && (strings.HasPrefix(got, want) || strings.HasPrefix(want, got)) {
				return
			}
			t.Errorf("the client reads (then %s)\n%s\nand from the server itself (then %s)\n%s", end, excerpt(got), wantEnd, excerpt(want))
		})
	}
}

func excerpt(s string) string {
	if len(s) > 1500 {
		return fmt.Sprintf("%q … %q (%d octets)", s[:1000], s[len(s)-400:], len(s))
	}
	return fmt.Sprintf("%q", s)
}

// refusals: what could be read in two ways is read in none.
func (c *cluster) refusals(vip netip.AddrPort) {
	const post = "POST /echo HTTP/1.1\r\nHost: x\r\n"
	const smuggled = "GET /whoami HTTP/1.1\r\nHost: x\r\n\r\n"
	for name, request := range map[string]string{
		"CL.TE":                        post + "Content-Length: 6\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + smuggled,
		"TE.CL":                        post + "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n5c\r\n" + smuggled,
		"TE.TE":                        post + "Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n\r\n0\r\n\r\n" + smuggled,
		"two lengths":                  post + "Content-Length: 0\r\nContent-Length: 44\r\n\r\n" + smuggled,
		"a list of lengths":            post + "Content-Length: 0, 44\r\n\r\n" + smuggled,
		"a signed length":              post + "Content-Length: +44\r\n\r\n" + smuggled,
		"a length with a comma":        post + "Content-Length: 4,4\r\n\r\n" + smuggled,
		"a space before the colon":     post + "Content-Length : 44\r\n\r\n" + smuggled,
		"a tab before the colon":       post + "Transfer-Encoding\t: chunked\r\n\r\n0\r\n\r\n" + smuggled,
		"a vertical tab":               post + "Transfer-Encoding: \x0bchunked\r\n\r\n0\r\n\r\n" + smuggled,
		"chunked, then identity":       post + "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n" + smuggled,
		"chunked in HTTP/1.0":          "POST /echo HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n" + smuggled,
		"a folded field":               post + "X: y\r\n Transfer-Encoding: chunked\r\n\r\n" + smuggled,
		"a folded first field":         "GET / HTTP/1.1\r\n Host: x\r\n\r\n",
		"a bare LF":                    post + "X: y\nTransfer-Encoding: chunked\r\n\r\n" + smuggled,
		"a bare LF at the end":         post + "\n" + smuggled,
		"a bare CR":                    post + "X: y\rTransfer-Encoding: chunked\r\n\r\n" + smuggled,
		"a NUL":                        post + "X: y\x00z\r\n\r\n",
		"two hosts":                    "GET / HTTP/1.1\r\nHost: x\r\nHost: y\r\n\r\n",
		"no host":                      "GET / HTTP/1.1\r\n\r\n",
		"a space in the target":        "GET /a b HTTP/1.1\r\nHost: x\r\n\r\n",
		"HTTP/0.9":                     "GET /\r\n\r\n",
		"a trailer that frames":        post + "Transfer-Encoding: chunked\r\nTrailer: Content-Length\r\n\r\n0\r\n\r\n",
		"HTTP/2 without negotiation":   "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"a method that is no token":    "GE(T / HTTP/1.1\r\nHost: x\r\n\r\n",
		"a name that is no token":      "GET / HTTP/1.1\r\nHost: x\r\nA{b: c\r\n\r\n",
		"a length that is hexadecimal": post + "Content-Length: 0x2c\r\n\r\n" + smuggled,
	} {
		c.t.Run("refused: "+name, func(t *testing.T) {
			c := &cluster{Lab: c.Lab, t: t, operator: c.operator}
			got, end := c.converse(vip, func(k *talk) { k.send(request) })
			if !strings.HasPrefix(got, "HTTP/1.1 400 ") || strings.Contains(got, "200 OK") || end != "FIN" {
				t.Errorf("the client reads %q, then %s", got, end)
			}
		})
	}
}

// abandons: clients that reset at any step leave nothing behind.
func (c *cluster) abandons(vip netip.AddrPort) {
	long := letters(3_000_000)
	for name, f := range map[string]func(*talk){
		"before a request": func(k *talk) {},
		"in a head":        func(k *talk) { k.send("GET /bytes/100 HTTP/1.1\r\nHo") },
		"after a request":  func(k *talk) { k.send("GET /slow?ms=200 HTTP/1.1\r\nHost: x\r\n\r\n") },
		"at the hand-off":  func(k *talk) { k.send("GET /bytes/1000000 HTTP/1.1\r\nHost: x\r\n\r\n") },
		"in an answer":     func(k *talk) { k.send("GET /bytes/50000000 HTTP/1.1\r\nHost: x\r\n\r\n"); k.until("\r\n\r\n") },
		"in a stream":      func(k *talk) { k.send("GET /sse?n=0 HTTP/1.1\r\nHost: x\r\n\r\n"); k.until("event 3") },
		"in a body":        func(k *talk) { k.send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 100000\r\n\r\nabc") },
		"in a long body": func(k *talk) {
			k.send("POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 4000000\r\n\r\n" + long)
		},
		"in a chunk": func(k *talk) { k.send("POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n10\r\nabc") },
		"before 100": func(k *talk) {
			k.send("POST /echo HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
		},
		"between requests": func(k *talk) { k.send("GET /whoami HTTP/1.1\r\nHost: x\r\n\r\n"); k.until("server") },
		"in a second head": func(k *talk) {
			k.send("GET /whoami HTTP/1.1\r\nHost: x\r\n\r\n")
			k.until("server")
			k.send("GET /who")
		},
		"with one waiting": func(k *talk) {
			k.send(strings.Repeat("GET /sse?n=0 HTTP/1.1\r\nHost: x\r\n\r\n", 2))
			k.until("event 3")
		},
		"in a WebSocket":    func(k *talk) { k.send(upgrade); k.until("\r\n\r\n"); k.send("\x81\x85aaaa\x09\x04\x0d\x0d\x0e") },
		"after FIN":         func(k *talk) { k.send("GET /slow?ms=300 HTTP/1.1\r\nHost: x\r\n\r\n"); k.fin() },
		"with much unread":  func(k *talk) { k.send("GET /bytes/50000000 HTTP/1.1\r\nHost: x\r\n\r\n") },
		"after the last of": func(k *talk) { k.send("GET /whoami HTTP/1.0\r\n\r\n"); k.until("server") },
	} {
		c.t.Run("reset: "+name, func(t *testing.T) {
			c := &cluster{Lab: c.Lab, t: t, operator: c.operator}
			for range 5 {
				c.converse(vip, func(k *talk) { f(k); k.rst() })
			}
		})
	}
	c.nothingLeft()
}

// nothingLeft waits for the sessions of clients that are gone to end.
func (c *cluster) nothingLeft() {
	c.t.Helper()
	// A RST that arrives while the connection is between two nodes is lost; then
	// TCP's keep-alive finds the client gone, after 15 s with Go's servers.
	begun, last := time.Now(), ""
	defer func() { c.t.Logf("%v until no session was left; the last: %s", time.Since(begun), last) }()
	c.await(45*time.Second, func() string {
		if left := c.sessions(); len(left) > 0 {
			last = left[0].String()
			return fmt.Sprintf("%d sessions are left of clients that are gone, the first %v", len(left), left[0])
		}
		return ""
	})
	if err := download(c.t.Context(), c.client("client1"), c.urls("/bytes/100000")[0], 100000); err != nil {
		c.t.Errorf("after that the service is disturbed: %v", err)
	}
}

const upgrade = "GET /ws HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"

// webSocket: one message a second for an hour, and more, in fast motion.
func (c *cluster) webSocket(vip netip.AddrPort) {
	c.t.Run("4,000 messages of a WebSocket", func(t *testing.T) {
		conn, err := c.Dial("client1")(t.Context(), "tcp", vip.String())
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetDeadline(time.Now().Add(time.Minute))
		config, err := websocket.NewConfig("ws://"+vip.String()+"/ws", "http://lab/")
		if err != nil {
			t.Fatal(err)
		}
		ws, err := websocket.NewClient(config, conn)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 4000 {
			size := i % 300
			if i%500 == 499 {
				size = 200_000
			}
			message := fmt.Sprintf("%d %s", i, letters(size))
			if err := websocket.Message.Send(ws, message); err != nil {
				t.Fatalf("message %d: %v", i, err)
			}
			var back string
			if err := websocket.Message.Receive(ws, &back); err != nil || back != message {
				t.Fatalf("message %d: %d octets come back of %d, %v", i, len(back), len(message), err)
			}
		}
		if err := ws.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
}

// letters is a text of n octets that does not repeat soon.
func letters(n int) string {
	var b strings.Builder
	for i := 0; b.Len() < n; i++ {
		fmt.Fprintf(&b, "%d,", i)
	}
	return b.String()[:n]
}
