package handoff

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/shunt-sdn/shunt/internal/handoffproto"
)

// router is an agent that answers questions as a test tells it, and keeps what
// it is given.
type router struct {
	t     *testing.T
	app   *app
	given chan given
	heads chan string

	answers chan handoffproto.Answers
}

type given struct {
	handoffproto.Give
	fd int
}

// serveRouted starts a server of h, which knows that requests of "web" may go elsewhere.
func serveRouted(t *testing.T, srv *http.Server, answer func(head string) (node string)) *router {
	t.Helper()
	a := newAgent(t, socketPath(t))
	l, err := Listen(context.Background(), Options{Socket: a.path})
	if err != nil {
		t.Fatal(err)
	}
	if srv.ErrorLog == nil {
		srv.ErrorLog = log.New(io.Discard, "", 0)
	}
	r := &router{t: t, app: a.accept(), given: make(chan given, 10), heads: make(chan string, 10_000), answers: make(chan handoffproto.Answers, 10_000)}
	var wg sync.WaitGroup
	wg.Go(func() { Serve(srv, l) })
	r.app.send(handoffproto.PerRequest{Service: "web", On: true}, -1)
	wg.Go(func() {
		rec := handoffproto.NewAgentReceiver()
		for {
			f, fd, err := rec.Receive(r.app.conn)
			if err != nil {
				return
			}
			switch f := f.(type) {
			case handoffproto.Question:
				r.heads <- f.Head
				if node := answer(f.Head); node != "silence" {
					r.app.send(handoffproto.Answer{Number: f.Number, Node: node}, -1)
				}
			case handoffproto.Give:
				r.given <- given{f, fd}
			case handoffproto.Answers:
				r.answers <- f
			}
		}
	})
	t.Cleanup(func() {
		srv.Close()
		r.app.conn.Close()
		wg.Wait()
	})
	return r
}

// connect hands a connection to the server.
func (r *router) connect() (pair, *bufio.Reader) {
	r.t.Helper()
	p := newPair(r.t, "127.0.0.1")
	r.app.hand(p)
	return p, bufio.NewReader(p.client)
}

func respond(t *testing.T, in *bufio.Reader, want string) {
	t.Helper()
	res, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatalf("want %q: %v", want, err)
	}
	if b, err := io.ReadAll(res.Body); string(b) != want || err != nil {
		t.Fatalf("%s with %q, %v; want %q", res.Status, b, err, want)
	}
}

// echoes answers with path and body.
var echoes = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	fmt.Fprintf(w, "%s %s %v", r.URL.Path, b, err)
})

func TestAConnectionMovesBeforeTheRequestThatBelongsElsewhere(t *testing.T) {
	r := serveRouted(t, &http.Server{Handler: echoes}, func(head string) string {
		if strings.HasPrefix(head, "POST /there ") {
			return "s2"
		}
		return ""
	})
	p, in := r.connect()
	const there = "POST /there HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nxyz"
	// The request that is to move is pipelined, and there before the answers.
	io.WriteString(p.client, "POST /1 HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab"+
		"POST /2 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"+
		"GET /3 HTTP/1.1\r\nHost: x\r\n\r\n"+there)
	respond(t, in, "/1 ab <nil>")
	respond(t, in, "/2 abc <nil>")
	respond(t, in, "/3  <nil>")
	g := wait(t, r.given)
	if g.Node != "s2" || g.Session != p.session {
		t.Errorf("given %+v, want %+v for s2", g.Give, p.session)
	}
	f := os.NewFile(uintptr(g.fd), "session")
	c, err := net.FileConn(f)
	f.Close()
	if err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(there))
	if _, err := io.ReadFull(c, got); string(got) != there || err != nil {
		t.Errorf("read there: %q, %v", got, err)
	}
	io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
	c.Close()
	respond(t, in, "ok")
	if _, err := in.ReadByte(); err != io.EOF {
		t.Errorf("then %v", err)
	}
	for _, want := range []string{"POST /2 ", "GET /3 ", "POST /there "} {
		if head := wait(t, r.heads); !strings.HasPrefix(head, want) || !strings.HasSuffix(head, "\r\n\r\n") {
			t.Errorf("asked about %q, want %q", head, want)
		}
	}
	if len(r.heads) > 0 {
		t.Error("asked too often")
	}
}

// What a client sees must not depend on whether requests are told apart.
func TestRequestsAreReadAsWithoutFraming(t *testing.T) {
	long := strings.Repeat("long", 100_000)
	for name, talk := range map[string]string{
		"keep-alive":        "GET /1 HTTP/1.1\r\nHost: x\r\n\r\nGET /2 HTTP/1.1\r\nHost: x\r\n\r\nGET /3 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
		"HTTP/1.0":          "GET /1 HTTP/1.0\r\n\r\n",
		"HTTP/1.0, alive":   "GET /1 HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /2 HTTP/1.0\r\n\r\n",
		"long bodies":       fmt.Sprintf("POST /1 HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%sPOST /2 HTTP/1.1\r\nHost: x\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\nA: b\r\n\r\n", len(long), long, len(long), long),
		"a long head":       "GET /1 HTTP/1.1\r\nHost: x\r\nX: " + long[:60_000] + "\r\n\r\nGET /2 HTTP/1.1\r\nHost: x\r\nX: " + long[:100_000] + "\r\n\r\nGET /3 HTTP/1.0\r\n\r\n",
		"a body not read":   "POST /ignore HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhelloGET /2 HTTP/1.0\r\n\r\n",
		"100-continue":      "POST /1 HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhelloGET /2 HTTP/1.0\r\n\r\n",
		"HEAD":              "HEAD /1 HTTP/1.1\r\nHost: x\r\n\r\nGET /2 HTTP/1.0\r\n\r\n",
		"OPTIONS *":         "OPTIONS * HTTP/1.1\r\nHost: x\r\n\r\nGET /2 HTTP/1.0\r\n\r\n",
		"absolute-form":     "GET http://x/1 HTTP/1.1\r\nHost: x\r\n\r\nGET /2 HTTP/1.0\r\n\r\n",
		"CONNECT":           "CONNECT x:1 HTTP/1.1\r\nHost: x:1\r\n\r\nGET /2 HTTP/1.0\r\n\r\n",
		"bare LF":           "GET /1 HTTP/1.1\nHost: x\n\nGET /2 HTTP/1.0\r\n\r\n",
		"bare LF, second":   "GET /1 HTTP/1.1\r\nHost: x\r\n\r\nGET /2 HTTP/1.1\nHost: x\n\nGET /3 HTTP/1.0\r\n\r\n",
		"folded":            "GET /1 HTTP/1.1\r\nHost: x\r\nA: b\r\n c\r\n\r\nGET /2 HTTP/1.0\r\n\r\n",
		"smuggling":         "POST /1 HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /2 HTTP/1.0\r\n\r\n",
		"a bad chunk":       "POST /1 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n\r\n",
		"CRLF after a POST": "POST /1 HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nab\r\nGET /2 HTTP/1.0\r\n\r\n",
		"nonsense":          "nonsense\r\n\r\n",
		"HTTP/2":            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"a cut head":        "GET /1 HTTP/1.1\r\nHost: x\r\n\r\nGET /2 HTTP/1.1\r\nHo",
		"a cut body":        "POST /1 HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhel",
		"a cut chunk":       "POST /1 HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhel",
		"nothing":           "",
	} {
		t.Run(name, func(t *testing.T) {
			handler := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				w.Header()["Date"] = nil
				if r.URL.Path == "/ignore" {
					return
				}
				b, err := io.ReadAll(r.Body)
				fmt.Fprintf(w, "%s %s %d %v %v", r.Method, r.RequestURI, len(b), err != nil, r.Trailer)
			})
			quiet := log.New(io.Discard, "", 0)
			direct, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			plain := &http.Server{Handler: handler, ErrorLog: quiet}
			go plain.Serve(direct)
			defer plain.Close()
			asks := func(c *net.TCPConn, piece int) []byte {
				t.Helper()
				c.SetDeadline(time.Now().Add(patience))
				go func() {
					for rest := talk; rest != ""; {
						n := min(len(rest), piece)
						if _, err := io.WriteString(c, rest[:n]); err != nil {
							return
						}
						rest = rest[n:]
					}
					c.CloseWrite()
				}()
				b, err := io.ReadAll(c)
				if err != nil && !isReset(err) {
					t.Errorf("after %q: %v", b, err)
				}
				return b
			}
			d, err := net.Dial("tcp", direct.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			want := asks(d.(*net.TCPConn), len(talk))
			r := serveRouted(t, &http.Server{Handler: handler, ErrorLog: quiet}, func(string) string { return "" })
			for _, piece := range []int{len(talk), max(1, len(talk)/300)} {
				p, _ := r.connect()
				if got := asks(p.client, piece); !bytes.Equal(got, want) {
					t.Errorf("in pieces of %d the client reads\n%.2000q\nand from an ordinary server\n%.2000q", piece, got, want)
				}
			}
		})
	}
}

func BenchmarkKeepAlive(b *testing.B) {
	for _, followed := range []bool{false, true} {
		b.Run(fmt.Sprint("followed ", followed), func(b *testing.B) {
			a := newAgent(b, socketPath(b))
			l, err := Listen(context.Background(), Options{Socket: a.path})
			if err != nil {
				b.Fatal(err)
			}
			srv := &http.Server{Handler: echoes}
			if followed {
				srv.ConnState = ConnState
			}
			var wg sync.WaitGroup
			wg.Go(func() { srv.Serve(l) })
			app := a.accept()
			p := newPair(b, "127.0.0.1")
			p.client.SetDeadline(time.Time{})
			app.hand(p)
			in := bufio.NewReader(p.client)
			b.ReportAllocs()
			for b.Loop() {
				io.WriteString(p.client, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
				res, err := http.ReadResponse(in, nil)
				if err != nil {
					b.Fatal(err)
				}
				io.Copy(io.Discard, res.Body)
			}
			srv.Close()
			wg.Wait()
		})
	}
}
