package attach

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"log"
	"math/rand/v2"
	"net"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/shunt-sdn/shunt/agent/httphead"
)

// answersAll is a server whose answers depend on nothing but the request.
var answersAll = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	w.Header()["Date"] = nil
	body, _ := io.ReadAll(r.Body)
	switch r.URL.Path {
	case "/chunks":
		for i := range len(body)%7 + 1 {
			fmt.Fprintf(w, "%d %s", i, body)
			http.NewResponseController(w).Flush()
		}
	case "/nothing":
		w.WriteHeader(http.StatusNoContent)
	case "/early":
		w.WriteHeader(http.StatusEarlyHints)
		w.Write(body)
	case "/large":
		w.Write(bytes.Repeat([]byte("0123456789abcdef"), 8000+len(body)))
	default:
		fmt.Fprintf(w, "%s %d %s", r.Method, len(body), r.Header.Get("N"))
	}
})

// randomTalk is a connection's worth of requests, the last of which closes it.
func randomTalk(r *rand.Rand) string {
	var b strings.Builder
	last := 1 + r.IntN(12)
	for i := range last {
		paths := []string{"/", "/chunks", "/nothing", "/early", "/large"}
		method := []string{"GET", "POST", "HEAD", "PUT"}[r.IntN(4)]
		fmt.Fprintf(&b, "%s %s HTTP/1.1\r\nHost: x\r\nTo: s%d\r\nN: %d\r\n", method, paths[r.IntN(len(paths))], r.IntN(3), i)
		if i == last-1 {
			b.WriteString("Connection: close\r\n")
		}
		n := r.IntN(50)
		if r.IntN(8) == 0 {
			n = r.IntN(150_000)
		}
		body := strings.Repeat("body", n/4+1)[:n]
		switch r.IntN(3) {
		case 0:
			b.WriteString("\r\n")
		case 1:
			fmt.Fprintf(&b, "Content-Length: %d\r\n\r\n%s", n, body)
		case 2:
			b.WriteString("Transfer-Encoding: chunked\r\n\r\n")
			for body != "" {
				part := min(len(body), 1+r.IntN(1+n/2))
				fmt.Fprintf(&b, "%x\r\n%s\r\n", part, body[:part])
				body = body[part:]
			}
			b.WriteString("0\r\n\r\n")
		}
	}
	return b.String()
}

// sayRandomly sends the talk in random pieces and returns all that comes back.
func sayRandomly(c *net.TCPConn, talk string, seed uint64) ([]byte, error) {
	c.SetDeadline(time.Now().Add(3 * patience))
	sent := make(chan error, 1)
	go func() {
		r := rand.New(rand.NewPCG(seed, 0))
		for rest := talk; rest != ""; {
			n := min(len(rest), 1+r.IntN([]int{3, 100, 5000, 1 << 20}[r.IntN(4)]))
			if _, err := io.WriteString(c, rest[:n]); err != nil {
				sent <- err
				return
			}
			rest = rest[n:]
		}
		sent <- nil
	}()
	b, err := io.ReadAll(c)
	return b, errors.Join(err, <-sent)
}

// Many connections at once, with random requests in random pieces, that move at
// random between three servers, by relay and by listener, and sometimes cannot:
// what comes back is what the server itself answers.
func TestRandomTalksMoveWithoutATrace(t *testing.T) {
	quiet := log.New(io.Discard, "", 0)
	direct, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	app := &http.Server{Handler: answersAll, ErrorLog: quiet}
	go app.Serve(direct)
	t.Cleanup(func() { app.Close() })
	nodes := map[string]Attachment{}
	var moves, count atomic.Int64
	for i := range 3 {
		name := fmt.Sprintf("s%d", i)
		router := &routes{
			route: func(h *httphead.Head) string {
				if to := h.Get("To"); to != name {
					return to
				}
				return ""
			},
			move: func(fd int, m Meta, node string) error {
				if count.Add(1)%5 == 0 {
					return errors.New("not now")
				}
				moves.Add(1)
				return nodes[node].Attach(background(), fd, m)
			},
		}
		if i == 1 {
			l := newListener(t, ListenerConfig{Router: router})
			serving(t, l, answersAll)
			nodes[name] = l
			continue
		}
		nodes[name] = newRelay(t, RelayConfig{Connect: direct.Addr().String(), Router: router})
	}
	const connections, each = 6, 15
	var wg sync.WaitGroup
	for k := range connections {
		wg.Go(func() {
			for n := range each {
				seed := uint64(k*each + n)
				talk := randomTalk(rand.New(rand.NewPCG(seed, 1)))
				d, err := net.Dial("tcp", direct.Addr().String())
				if err != nil {
					t.Error(err)
					return
				}
				want, err := sayRandomly(d.(*net.TCPConn), talk, seed)
				d.Close()
				if err != nil {
					t.Errorf("talk %d, to the server itself: %v", seed, err)
					continue
				}
				client, fd, m := session(t, "127.0.0.1")
				if err := nodes[fmt.Sprintf("s%d", seed%3)].Attach(background(), fd, m); err != nil {
					t.Errorf("talk %d: %v", seed, err)
					continue
				}
				got, err := sayRandomly(client, talk, seed)
				client.Close()
				if !bytes.Equal(got, want) || err != nil {
					t.Errorf("talk %d: %d octets, %v; from the server itself %d", seed, len(got), err, len(want))
				}
			}
		})
	}
	wg.Wait()
	if moves.Load() < connections*each {
		t.Errorf("%d moves", moves.Load())
	}
	t.Logf("%d talks, %d moves", connections*each, moves.Load())
}
