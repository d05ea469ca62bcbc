package attach

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/shunt-sdn/shunt/agent/httphead"
)

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
