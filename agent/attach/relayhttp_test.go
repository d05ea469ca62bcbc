package attach

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"strings"
	"sync"
	"syscall"
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
		stats, err := relayHTTP(ctx, front, back, &cfg, Meta{ID: "h1", Service: "web", Client: netip.MustParseAddrPort("192.0.2.7:1234")}, orDiscard(nil))
		b.ended <- relayEnd{stats, err}
	})
	t.Cleanup(func() {
		cancel(nil)
		wg.Wait()
	})
	return b
}

// asks and answers write at one end and want it at the other.
func (b *bed) asks(s string)    { b.t.Helper(); io.WriteString(b.client, s); b.hears(s) }
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

func TestTheClientHearsTheConnectionsEnd(t *testing.T) {
	for name, answer := range map[string]string{
		"a body until close": "HTTP/1.1 200 OK\r\n\r\nall of it",
		"close":              "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok",
		"HTTP/1.0":           "HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok",
		"a cut body":         "HTTP/1.1 200 OK\r\nContent-Length: 20\r\n\r\nok",
		"HTTP/0.9":           "<html>nothing else</html>",
		"no answer":          "",
	} {
		t.Run(name, func(t *testing.T) {
			b := startHTTP(t, RelayConfig{Router: here})
			b.asks(aGet)
			b.answers(answer)
			io.WriteString(b.client, bGet) // it cannot know yet
			b.backend.Close()
			b.eof("the client", b.from)
			b.client.Close()
			if end := wait(t, b.ended); end.err != nil {
				t.Errorf("ended with %v", end.err)
			}
		})
	}
}

func TestAnApplicationMayCloseAnIdleConnection(t *testing.T) {
	for _, last := range []string{"", "HTTP/1.1 408 Request Timeout\r\nConnection: close\r\n\r\n"} {
		b := startHTTP(t, RelayConfig{Router: here})
		b.asks(aGet)
		b.answers(anOK)
		b.answers(last)
		b.backend.Close()
		b.eof("the client", b.from)
		b.client.Close()
		if end := wait(t, b.ended); end.err != nil {
			t.Errorf("ended with %v", end.err)
		}
	}
}

// What an application says out of turn must not become the next answer.
func TestAnswersOutOfTurnEndTheConnection(t *testing.T) {
	b := startHTTP(t, RelayConfig{Router: here})
	b.asks(aGet)
	b.answers(anOK + "HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nevil")
	io.WriteString(b.client, bGet)
	b.eof("the application", b.in)
	b.backend.Close()
	b.eof("the client", b.from)
}

func TestAHalfClosedClientGetsItsAnswer(t *testing.T) {
	b := startHTTP(t, RelayConfig{Router: here})
	io.WriteString(b.client, aGet)
	b.client.CloseWrite()
	b.hears(aGet)
	b.eof("the application", b.in) // which learns of it at once, as without a relay
	b.answers("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks)
	b.backend.Close()
	b.eof("the client", b.from)
	if end := wait(t, b.ended); end.err != nil {
		t.Errorf("ended with %v", end.err)
	}
}

func TestAnEndAtAnyStepIsPassedOn(t *testing.T) {
	post := "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 500000\r\n\r\n"
	steps := map[string]func(b *bed){
		"before a request":  func(b *bed) {},
		"in a head":         func(b *bed) { io.WriteString(b.client, aGet[:20]) },
		"after a request":   func(b *bed) { b.asks(aGet) },
		"in a body":         func(b *bed) { b.asks(post + "hello") },
		"in a chunk's size": func(b *bed) { b.asks("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5") },
		"in an answer":      func(b *bed) { b.asks(aGet); b.answers(anOK[:len(anOK)-1]) },
		"in a long answer":  func(b *bed) { b.asks(aGet); b.answers("HTTP/1.1 200 OK\r\nContent-Length: 500000\r\n\r\nx") },
		"in an answer's stream": func(b *bed) {
			b.asks(aGet)
			b.answers("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
		},
		"after an answer":    func(b *bed) { b.asks(aGet); b.answers(anOK) },
		"in the second head": func(b *bed) { b.asks(aGet); b.answers(anOK); io.WriteString(b.client, aGet[:20]) },
	}
	for name, step := range steps {
		t.Run(name+", FIN of the client", func(t *testing.T) {
			b := startHTTP(t, RelayConfig{Router: here})
			step(b)
			b.client.CloseWrite()
			b.eof("the application", b.in)
			b.backend.Close()
			if strings.HasSuffix(name, "head") { // a cut request is answered
				b.reads("HTTP/1.1 400 Bad Request\r\n")
				io.Copy(io.Discard, b.from)
			}
			b.eof("the client", b.from)
			if end := wait(t, b.ended); end.err != nil {
				t.Errorf("ended with %v", end.err)
			}
		})
		t.Run(name+", RST of the client", func(t *testing.T) {
			b := startHTTP(t, RelayConfig{Router: here})
			step(b)
			b.client.SetLinger(0)
			b.client.Close()
			if _, err := io.Copy(io.Discard, b.in); !isReset(err) {
				t.Errorf("the application reads %v, want a reset", err)
			}
		})
		t.Run(name+", RST of the application", func(t *testing.T) {
			b := startHTTP(t, RelayConfig{Router: here})
			step(b)
			b.backend.SetLinger(0)
			b.backend.Close()
			if _, err := io.Copy(io.Discard, b.from); !isReset(err) {
				t.Errorf("the client reads %v, want a reset", err)
			}
		})
	}
}

func TestFurtherRequestsAreRefusedAsTheDispatcherDoes(t *testing.T) {
	for name, c := range map[string]struct {
		request string
		status  int
	}{
		"two lengths":   {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc", 400},
		"both framings": {"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400},
		"a folded line": {"GET / HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\n", 400},
		"a bare LF":     {"GET / HTTP/1.1\r\nHost: x\nA: b\r\n\r\n", 400},
		"no host":       {"GET / HTTP/1.1\r\n\r\n", 400},
		"too large":     {"GET / HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 20_000) + "\r\n\r\n", 431},
		"too slow":      {"GET / HTTP/1.1\r\nHost: x\r\n", 408},
		"a bad chunk":   {"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0x1\r\n", 400},
		"hop by hop":    {"GET / HTTP/1.1\r\nHost: x\r\nConnection: close, X-Forwarded-For\r\n\r\n", 400},
	} {
		t.Run(name, func(t *testing.T) {
			b := startHTTP(t, RelayConfig{Router: here, Forwarded: ForwardedFor, HeadTimeout: 50 * time.Millisecond})
			io.WriteString(b.client, bGet)
			b.hears("GET /b HTTP/1.1\r\nHost: x\r\nX-Forwarded-For: 192.0.2.7\r\n\r\n")
			b.answers(anOK)
			io.WriteString(b.client, c.request)
			res, err := http.ReadResponse(b.from, nil)
			if err != nil {
				t.Fatal(err)
			}
			if body, err := io.ReadAll(res.Body); res.StatusCode != c.status || len(body) == 0 || err != nil || !res.Close {
				t.Errorf("%s with %q, %v", res.Status, body, err)
			}
			b.eof("the client", b.from)
			b.client.Close()
			if heard, _ := io.ReadAll(b.in); strings.Contains(string(heard), "evil") {
				t.Errorf("the application hears %q", heard)
			}
			if end := wait(t, b.ended); end.err != nil {
				t.Errorf("ended with %v", end.err)
			}
		})
	}
}

func TestAnApplicationThatRefusesABodyIsHeard(t *testing.T) {
	b := startHTTP(t, RelayConfig{Router: here})
	go func() {
		fmt.Fprintf(b.client, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n", 100<<20)
		io.Copy(b.client, io.LimitReader(zeros{}, 100<<20))
	}()
	b.hears("POST / HTTP/1.1\r\n")
	io.WriteString(b.backend, "HTTP/1.1 413 Too Large\r\nConnection: close\r\nContent-Length: 2\r\n\r\nno")
	b.backend.Close() // with unread octets: it sends RST
	b.reads("HTTP/1.1 413 Too Large\r\n")
	b.client.Close()
	wait(t, b.ended)
}

type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

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

func TestIdleHTTPSessionsEnd(t *testing.T) {
	b := startHTTP(t, RelayConfig{Router: here, Timeouts: Timeouts{Idle: 40 * time.Millisecond}})
	b.asks(aGet)
	b.answers(anOK)
	if _, err := b.from.ReadByte(); !isReset(err) {
		t.Errorf("the client reads %v, want a reset", err)
	}
	if end := wait(t, b.ended); !errors.Is(end.err, errIdle) {
		t.Errorf("ended with %v", end.err)
	}
	b = startHTTP(t, RelayConfig{Router: here, Timeouts: Timeouts{HalfClosed: 40 * time.Millisecond}})
	b.asks(aGet)
	b.answers(anOK)
	b.backend.Close()
	if end := wait(t, b.ended); !errors.Is(end.err, errIdle) {
		t.Errorf("half closed: ended with %v", end.err)
	}
	b = startHTTP(t, RelayConfig{Router: here})
	b.asks(aGet)
	b.cancel(ErrClosed)
	if end := wait(t, b.ended); !errors.Is(end.err, ErrClosed) {
		t.Errorf("cancelled: ended with %v", end.err)
	}
}

func TestFieldsThatSayWhoTheClientIs(t *testing.T) {
	four, six := netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("2001:db8::7")
	const get = "GET http://a:80/ HTTP/1.1\r\nHost: a\r\n"
	for _, c := range []struct {
		mode     Forwarded
		client   netip.Addr
		in, want string
	}{
		{ForwardedFor, four, "", "X-Forwarded-For: 192.0.2.7\r\n"},
		{ForwardedFor, six, "", "X-Forwarded-For: 2001:db8::7\r\n"},
		{ForwardedFor, netip.MustParseAddr("::ffff:192.0.2.7"), "", "X-Forwarded-For: 192.0.2.7\r\n"},
		{ForwardedFor, four, "A: b\r\nx-forwarded-FOR: 1.1.1.1 \r\nC: d\r\nX-Forwarded-For:2.2.2.2, 3.3.3.3\r\n", "A: b\r\nC: d\r\nX-Forwarded-For: 1.1.1.1, 2.2.2.2, 3.3.3.3, 192.0.2.7\r\n"},
		{ForwardedFor, four, "X_Forwarded_For: 1.1.1.1\r\nX-Forwarded_for: 1.1.1.1\r\nX-Forwarded-For:\r\n", "X-Forwarded-For: 192.0.2.7\r\n"},
		{ForwardedFor, four, "Forwarded: for=1.1.1.1\r\nConnection: close\r\n", "Forwarded: for=1.1.1.1\r\nConnection: close\r\nX-Forwarded-For: 192.0.2.7\r\n"},
		{ForwardedStandard, four, "", "Forwarded: for=192.0.2.7;proto=http\r\n"},
		{ForwardedStandard, six, "", "Forwarded: for=\"[2001:db8::7]\";proto=http\r\n"},
		{ForwardedStandard, four, "forwarded: for=1.1.1.1;by=x\r\n", "Forwarded: for=1.1.1.1;by=x, for=192.0.2.7;proto=http\r\n"},
		{ForwardedStandard, four, "Connection: forwarded\r\n", ""},
		{ForwardedFor, four, "connection: a , x-forwarded-for,b\r\n", ""},
	} {
		got, err := c.mode.rewrite([]byte("before"), []byte(get+c.in+"\r\n"), c.client)
		if c.want == "" {
			if err != errForwardedHop {
				t.Errorf("%q: %q, %v", c.in, got, err)
			}
			continue
		}
		if want := "before" + get + c.want + "\r\n"; string(got) != want || err != nil {
			t.Errorf("%s %v %q: got %q, %v; want %q", c.mode, c.client, c.in, got, err, want)
		}
	}
	if _, err := NewRelay(RelayConfig{Connect: "127.0.0.1:1", Forwarded: "via"}); err == nil {
		t.Error("an unknown field: no error")
	}
}

// Each request goes where the router says, and a connection that cannot move stays.
func TestConnectionsMoveAtTheBoundaryOfRequests(t *testing.T) {
	nodes := map[string]*Relayer{}
	var mu sync.Mutex
	moves := 0
	refused := errors.New("not now")
	for _, name := range []string{"s0", "s1", "s2"} {
		app := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			n, _ := io.Copy(io.Discard, r.Body)
			fmt.Fprintf(w, "%s %d %s", name, n, r.Header.Get("X-Forwarded-For"))
		})}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		go app.Serve(l)
		t.Cleanup(func() { app.Close() })
		router := &routes{
			route: func(h *httphead.Head) string {
				if to := h.Get("To"); to != name {
					return to
				}
				return ""
			},
			move: func(fd int, m Meta, node string) error {
				mu.Lock()
				moves++
				odd := moves%7 == 0
				mu.Unlock()
				if odd {
					return refused
				}
				return nodes[node].Attach(background(), fd, m)
			},
		}
		nodes[name] = newRelay(t, RelayConfig{Connect: l.Addr().String(), Router: router, Forwarded: ForwardedFor})
	}
	client, fd, m := session(t, "127.0.0.1")
	if err := nodes["s0"].Attach(background(), fd, m); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(client)
	elsewhere := 0
	ask := func(i int) string {
		return fmt.Sprintf("POST / HTTP/1.1\r\nHost: x\r\nTo: s%d\r\nContent-Length: %d\r\n\r\n%s", i%3, i%50, strings.Repeat("x", i%50))
	}
	check := func(i int) {
		t.Helper()
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatalf("request %d: %v", i, err)
		}
		body, err := io.ReadAll(res.Body)
		var name, client string
		var n int
		fmt.Sscan(string(body), &name, &n, &client)
		if n != i%50 || client != "127.0.0.1" || err != nil {
			t.Fatalf("request %d: %q, %v", i, body, err)
		}
		if name != fmt.Sprintf("s%d", i%3) {
			elsewhere++
		}
	}
	const rounds = 300
	for i := range rounds {
		io.WriteString(client, ask(i))
		check(i)
	}
	// Pipelined: each waits, unread, and moves with the connection.
	var all strings.Builder
	for i := range rounds {
		all.WriteString(ask(i))
	}
	go io.WriteString(client, all.String())
	for i := range rounds {
		check(i)
	}
	mu.Lock()
	defer mu.Unlock()
	if moves < rounds || elsewhere == 0 || elsewhere > moves/7+1 {
		t.Errorf("%d moves, %d requests answered by another server than was named", moves, elsewhere)
	}
}

// While a connection moves nothing is written to it, and after it nothing either.
func TestAnApplicationThatClosesDuringAMoveIsNotHeard(t *testing.T) {
	for _, fails := range []bool{false, true} {
		backend := make(chan *net.TCPConn, 1)
		taken := make(chan int, 1)
		router := &routes{route: func(*httphead.Head) string { return "there" }, move: func(fd int, _ Meta, _ string) error {
			(<-backend).Close()
			<-time.After(50 * time.Millisecond) // the relay's other goroutine has seen it
			if fails {
				return errors.New("not now")
			}
			taken <- fd
			return nil
		}}
		b := startHTTP(t, RelayConfig{Router: router})
		backend <- b.backend
		b.asks(aGet)
		b.answers(anOK)
		io.WriteString(b.client, bGet)
		if fails {
			b.eof("the client", b.from) // as if there had been no attempt
			continue
		}
		fd := wait(t, taken)
		if end := wait(t, b.ended); end.err != nil {
			t.Errorf("ended with %v", end.err)
		}
		c, err := duplicate(fd)
		if err != nil {
			t.Fatal(err)
		}
		syscall.Close(fd)
		got := make([]byte, len(bGet))
		if _, err := io.ReadFull(c, got); string(got) != bGet || err != nil {
			t.Errorf("there %q is read, %v", got, err)
		}
		io.WriteString(c, anOK)
		c.Close()
		b.reads(anOK)
		b.eof("the client", b.from)
	}
}

func TestWithoutRequestsToRouteNothingMoves(t *testing.T) {
	b := startHTTP(t, RelayConfig{Router: &routes{off: true, route: func(*httphead.Head) string { t.Error("asked"); return "" }}})
	for range 3 {
		b.asks(aGet)
		b.answers(anOK)
	}
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
					relayHTTP(background(), front, back, &RelayConfig{Router: here, MaxHead: 16 << 10, HeadTimeout: time.Minute}, Meta{}, orDiscard(nil))
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
