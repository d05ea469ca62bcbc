package attach

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/shunt-sdn/shunt/agent/httphead"
)

// routes is a Router whose answers a test gives.
type routes struct {
	route func(h *httphead.Head) string
	move  func(fd int, m Meta, node string) error
	off   bool
}

func (r *routes) PerRequest(string) bool { return !r.off }

func (r *routes) Route(_ Meta, h *httphead.Head) string {
	if r.route == nil {
		return ""
	}
	return r.route(h)
}

func (r *routes) Move(_ context.Context, fd int, m Meta, node string) error {
	return r.move(fd, m, node)
}

// bed is a client and a scripted application with an HTTP relay between them.
type bed struct {
	t       *testing.T
	client  *net.TCPConn
	from    *bufio.Reader // what the client reads
	backend *net.TCPConn
	in      *bufio.Reader // what the application reads
	ended   chan relayEnd
	cancel  context.CancelCauseFunc
}

func startHTTP(t *testing.T, cfg RelayConfig) *bed {
	t.Helper()
	client, front := tcpPair(t, "127.0.0.1")
	backend, back := tcpPair(t, "127.0.0.1")
	if cfg.MaxHead == 0 {
		cfg.MaxHead = httphead.DefaultMax
	}
	if cfg.HeadTimeout == 0 {
		cfg.HeadTimeout = time.Minute
	}
	ctx, cancel := context.WithCancelCause(background())
	b := &bed{t: t, client: client, from: bufio.NewReader(client), backend: backend, in: bufio.NewReader(backend),
		ended: make(chan relayEnd, 1), cancel: cancel}
	var wg sync.WaitGroup
	wg.Go(func() {
		stats, err := relayHTTP(ctx, front, back, &cfg, Meta{ID: "h1", Service: "web", Client: netip.MustParseAddrPort("192.0.2.7:1234")}, nil, orDiscard(nil))
		b.ended <- relayEnd{stats, err}
	})
	t.Cleanup(func() {
		cancel(nil)
		wg.Wait()
	})
	return b
}

// asks and answers write at one end and want it at the other.
func (b *bed) asks(s string) { b.t.Helper(); io.WriteString(b.client, s); b.hears(s) }

func (b *bed) answers(s string) { b.t.Helper(); io.WriteString(b.backend, s); b.reads(s) }

func (b *bed) hears(want string) { b.t.Helper(); b.expect("the application", b.in, want) }

func (b *bed) reads(want string) { b.t.Helper(); b.expect("the client", b.from, want) }

func (b *bed) expect(who string, r io.Reader, want string) {
	b.t.Helper()
	got := make([]byte, len(want))
	n, err := io.ReadFull(r, got)
	if string(got[:n]) != want || err != nil {
		b.t.Fatalf("%s reads %q, %v; want %q", who, got[:n], err, want)
	}
}

func (b *bed) eof(who string, r io.Reader) {
	b.t.Helper()
	if rest, err := io.ReadAll(r); len(rest) > 0 || err != nil {
		b.t.Fatalf("%s reads %q, %v; want EOF", who, rest, err)
	}
}

// closes ends both sides and wants a good end.
func (b *bed) closes() {
	b.t.Helper()
	b.client.CloseWrite()
	b.eof("the application", b.in)
	b.backend.Close()
	b.eof("the client", b.from)
	b.client.Close()
	if end := wait(b.t, b.ended); end.err != nil {
		b.t.Errorf("ended with %v", end.err)
	}
}

const (
	aGet   = "GET /a HTTP/1.1\r\nHost: x\r\nX-Odd:   kept as it is \r\n\r\n"
	bGet   = "GET /b HTTP/1.1\r\nHost: x\r\n\r\n"
	anOK   = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"
	chunks = "5;ext=1\r\nhello\r\n0\r\nTrailer: x\r\n\r\n"
)

// here is a router by which everything stays.
var here = &routes{}

func TestExchangesPassOctetForOctet(t *testing.T) {
	long := strings.Repeat("0123456789abcdef", 20_000)
	for name, talk := range map[string][]string{ // requests and answers in turn
		"keep-alive":             {aGet, anOK, bGet, anOK, aGet, anOK},
		"a body":                 {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello", anOK, aGet, anOK},
		"a long body":            {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 320000\r\n\r\n" + long, "HTTP/1.1 200 OK\r\nContent-Length: 320000\r\n\r\n" + long, aGet, anOK},
		"chunks":                 {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks, "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks, aGet, anOK},
		"a long chunk":           {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4e200\r\n" + long + "\r\n0\r\n\r\n", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4e200\r\n" + long + "\r\n0\r\n\r\n", aGet, anOK},
		"HEAD":                   {"HEAD / HTTP/1.1\r\nHost: x\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n", aGet, anOK},
		"304 and 204":            {aGet, "HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", aGet, "HTTP/1.1 204 No Content\r\n\r\n", aGet, anOK},
		"interim answers":        {aGet, "HTTP/1.1 103 Early Hints\r\nLink: </s>\r\n\r\nHTTP/1.1 102 Processing\r\n\r\n" + anOK, aGet, anOK},
		"OPTIONS *":              {"OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\n", anOK, aGet, anOK},
		"absolute-form":          {"GET http://x/a?b HTTP/1.1\r\nHost: x\r\n\r\n", anOK, aGet, anOK},
		"HTTP/1.0 kept alive":    {"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", "HTTP/1.0 200 OK\r\nConnection: keep-alive\r\nContent-Length: 2\r\n\r\nok", aGet, anOK},
		"CONNECT refused":        {"CONNECT x:1 HTTP/1.1\r\nHost: x:1\r\n\r\n", "HTTP/1.1 405 No\r\nContent-Length: 0\r\n\r\n", aGet, anOK},
		"upgrade refused":        {"GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: y\r\n\r\n", anOK, aGet, anOK},
		"an empty line before":   {aGet, anOK, "\r\n" + bGet, anOK},
		"lower case, odd spaces": {"post / HTTP/1.1\r\nhost:x\r\ncontent-length:\t 1\t\r\n\r\nx", "HTTP/1.1 200 \r\ncontent-length:1\r\n\r\nx", aGet, anOK},
	} {
		for _, idle := range []time.Duration{0, time.Minute} {
			t.Run(fmt.Sprint(name, " ", idle), func(t *testing.T) {
				b := startHTTP(t, RelayConfig{Router: here, Timeouts: Timeouts{Idle: idle}})
				for i, s := range talk {
					var wg sync.WaitGroup
					to, say := net.Conn(b.client), b.hears
					if i%2 == 1 {
						to, say = b.backend, b.reads
					}
					wg.Go(func() { io.WriteString(to, s) })
					say(s)
					wg.Wait()
				}
				b.closes()
			})
		}
	}
}

// In whatever pieces octets come: everything in one, or each on its own.
func TestPiecesDoNotMatter(t *testing.T) {
	b := startHTTP(t, RelayConfig{Router: here})
	request := "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks
	answer := "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks
	for range 2 {
		for i := range len(request) {
			io.WriteString(b.client, request[i:i+1])
		}
		b.hears(request)
		for i := range len(answer) {
			io.WriteString(b.backend, answer[i:i+1])
			b.reads(answer[i : i+1]) // at once: nothing is held back
		}
	}
	b.closes()
}

func TestAPipelinedRequestWaitsForTheAnswerBefore(t *testing.T) {
	b := startHTTP(t, RelayConfig{Router: here})
	var all strings.Builder
	for i := range 100 {
		fmt.Fprintf(&all, "POST /%d HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n%03d", i, i)
	}
	io.WriteString(b.client, all.String())
	b.client.CloseWrite()
	for i := range 100 {
		b.hears(fmt.Sprintf("POST /%d HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\n%03d", i, i))
		if i < 3 {
			b.backend.SetReadDeadline(time.Now().Add(20 * time.Millisecond))
			if n, err := b.in.Read(make([]byte, 1)); n != 0 || err == nil {
				t.Fatalf("request %d: the next one did not wait", i)
			}
			b.backend.SetReadDeadline(time.Time{})
		}
		answer := fmt.Sprintf("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\n%03d\r\n0\r\n\r\n", i)
		b.answers(answer)
	}
	b.closes()
}

func TestContinueIsPassedOn(t *testing.T) {
	b := startHTTP(t, RelayConfig{Router: here})
	b.asks("POST / HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n")
	b.answers("HTTP/1.1 100 Continue\r\n\r\n")
	b.asks("hello")
	b.answers(anOK)
	// The application may answer before it has the body.
	b.asks("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhello")
	b.answers(anOK)
	b.asks("world")
	b.asks(aGet)
	b.answers(anOK)
	b.closes()
}

func TestTunnelsAreTransparent(t *testing.T) {
	for name, talk := range map[string][2]string{
		"101":     {"GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: y\r\n\r\n", "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: y\r\n\r\n"},
		"CONNECT": {"CONNECT x:1 HTTP/1.1\r\nHost: x:1\r\n\r\n", "HTTP/1.1 200 Go\r\n\r\n"},
	} {
		t.Run(name, func(t *testing.T) {
			b := startHTTP(t, RelayConfig{Router: here, Forwarded: ForwardedOff})
			io.WriteString(b.client, talk[0]+"early ") // a client that does not wait
			b.hears(talk[0])
			io.WriteString(b.backend, talk[1]+"\x00first")
			b.reads(talk[1] + "\x00first")
			b.hears("early ")
			for range 100 {
				b.asks("GET / no HTTP\n")
				b.answers("\xff\xfe")
			}
			b.closes()
		})
	}
}

func TestBodiesArriveUnchangedInBothDirectionsAtOnce(t *testing.T) {
	b := startHTTP(t, RelayConfig{Router: here})
	const size = 24 << 20
	data := make([]byte, size)
	rand.NewChaCha8([32]byte{1}).Read(data)
	sum := sha256.Sum256(data)
	var wg sync.WaitGroup
	check := func(r *bufio.Reader) {
		h := sha256.New()
		if _, err := io.CopyN(h, r, size); err != nil || !bytes.Equal(h.Sum(nil), sum[:]) {
			t.Errorf("other octets than were sent: %v", err)
		}
	}
	head := fmt.Sprintf("Host: x\r\nContent-Length: %d\r\n\r\n", size)
	wg.Go(func() { io.WriteString(b.client, "POST / HTTP/1.1\r\n"+head); b.client.Write(data) })
	b.hears("POST / HTTP/1.1\r\n" + head)
	wg.Go(func() { io.WriteString(b.backend, "HTTP/1.1 200 OK\r\n"+head); b.backend.Write(data) })
	wg.Go(func() { check(b.in) })
	b.reads("HTTP/1.1 200 OK\r\n" + head)
	check(b.from)
	wg.Wait()
	b.asks(aGet)
	b.answers(anOK)
	b.closes()
}

func BenchmarkRelayedExchange(b *testing.B) {
	for _, mode := range []string{"octets", "HTTP"} {
		b.Run(mode, func(b *testing.B) {
			client, front := tcpPair(b, "127.0.0.1")
			backend, back := tcpPair(b, "127.0.0.1")
			client.SetDeadline(time.Time{})
			backend.SetDeadline(time.Time{})
			var wg sync.WaitGroup
			wg.Go(func() {
				if mode == "HTTP" {
					relayHTTP(background(), front, back, &RelayConfig{Router: here, MaxHead: 16 << 10, HeadTimeout: time.Minute}, Meta{}, nil, orDiscard(nil))
				} else {
					Relay(background(), front, back)
				}
			})
			wg.Go(func() {
				buf := make([]byte, len(aGet))
				for {
					if _, err := io.ReadFull(backend, buf); err != nil {
						backend.Close()
						return
					}
					io.WriteString(backend, anOK)
				}
			})
			buf := make([]byte, len(anOK))
			b.ReportAllocs()
			for b.Loop() {
				io.WriteString(client, aGet)
				if _, err := io.ReadFull(client, buf); err != nil {
					b.Fatal(err)
				}
			}
			client.Close()
			wg.Wait()
		})
	}
}
