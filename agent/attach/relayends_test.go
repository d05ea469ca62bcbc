package attach

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"
)

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

// The service's own limits hold for a session that comes.
func TestHeadsAreLimitedAsTheServiceSays(t *testing.T) {
	long := "GET / HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("x", 20_000) + "\r\n\r\n"
	limits := func(service string) (int, time.Duration) {
		if service != "web" {
			t.Errorf("asked for the limits of %q", service)
		}
		return 30_000, 50 * time.Millisecond
	}
	b := startHTTP(t, RelayConfig{Router: here, Limits: limits})
	b.asks(long)
	b.answers(anOK)
	io.WriteString(b.client, "GET / HTTP/1.1\r\n")
	res, err := http.ReadResponse(b.from, nil)
	if err != nil || res.StatusCode != 408 {
		t.Errorf("a slow head: %v, %v", res, err)
	}
	b = startHTTP(t, RelayConfig{Router: here, Limits: limits})
	io.WriteString(b.client, strings.Replace(long, "X:", "X: "+strings.Repeat("x", 10_000), 1))
	if res, err := http.ReadResponse(b.from, nil); err != nil || res.StatusCode != 431 {
		t.Errorf("a long head: %v, %v", res, err)
	}
	b = startHTTP(t, RelayConfig{Router: here, MaxHead: 1000, Limits: func(string) (int, time.Duration) { return 0, 0 }})
	io.WriteString(b.client, long)
	if res, err := http.ReadResponse(b.from, nil); err != nil || res.StatusCode != 431 {
		t.Errorf("a long head, with limits that the service does not give: %v, %v", res, err)
	}
}

// Once an answer has begun there is no other; the application hears that the
// body is cut.
func TestABodyThatIsNotFramedEndsDuringItsAnswer(t *testing.T) {
	b := startHTTP(t, RelayConfig{Router: here})
	b.asks("POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
	b.answers("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
	io.WriteString(b.client, "0x5\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n")
	b.hears("0")
	b.eof("the application", b.in)
	b.answers("0\r\n\r\n")
	b.backend.Close()
	b.eof("the client", b.from)
	b.client.Close()
	if end := wait(t, b.ended); end.err != nil {
		t.Errorf("ended with %v", end.err)
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
