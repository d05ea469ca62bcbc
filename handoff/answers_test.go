package handoff

import (
	"bufio"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/shunt-sdn/shunt/internal/handoffproto"
)

// ways are those in which a handler answers with a status.
func ways(t *testing.T) http.Handler {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, []byte(strings.Repeat("x", 100_000)), 0o600); err != nil {
		t.Fatal(err)
	}
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		way, word, _ := strings.Cut(strings.Trim(r.URL.Path, "/"), "/")
		status, _ := strconv.Atoi(word)
		switch way {
		case "plain":
			w.WriteHeader(status)
		case "long":
			w.WriteHeader(status)
			io.WriteString(w, strings.Repeat("HTTP/1.1 500 no\r\n", 10_000))
		case "flushed":
			w.WriteHeader(status)
			http.NewResponseController(w).Flush()
			io.WriteString(w, "HTTP/1.1 500 no\r\n")
		case "file":
			f, err := os.Open(file)
			if err != nil {
				t.Error(err)
				return
			}
			defer f.Close()
			w.Header().Set("Content-Length", "100000")
			w.WriteHeader(status)
			if n, err := w.(io.ReaderFrom).ReadFrom(f); n != 100_000 || err != nil {
				t.Errorf("ReadFrom: %d, %v", n, err)
			}
		case "early":
			w.WriteHeader(http.StatusEarlyHints)
			io.Copy(io.Discard, r.Body) // writes 100 Continue
			w.WriteHeader(status)
		case "hijacked":
			c, _, err := http.NewResponseController(w).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			fmt.Fprintf(c, "HTTP/1.1 %d Hijacked\r\nContent-Length: 0\r\n\r\n", status)
			c.Close()
		}
	})
}

// sum adds up what the agent is told until it has all errors and, if it waits for them, others.
func (r *router) sum(errors uint32, others bool) (total handoffproto.Answers) {
	r.t.Helper()
	for total.Errors < errors || others && total.InARow > 0 {
		a := wait(r.t, r.answers)
		total.Errors += a.Errors
		if a.Others {
			total.InARow = a.InARow
		} else {
			total.InARow += a.InARow
		}
	}
	return total
}

func TestTheAgentHearsOfAnswersThatFail(t *testing.T) {
	r := serveRouted(t, &http.Server{Handler: ways(t)}, func(string) string { return "" })
	r.app.send(handoffproto.Heed{}, -1)
	p, in := r.connect()
	ask := func(method, path string) {
		t.Helper()
		fields := "Host: x\r\n"
		if method == "POST" {
			fields += "Expect: 100-continue\r\nContent-Length: 1\r\n"
		}
		if _, err := fmt.Fprintf(p.client, "%s %s HTTP/1.1\r\n%s\r\n", method, path, fields); err != nil {
			t.Fatal(err)
		}
		if method == "POST" {
			io.WriteString(p.client, "x")
		}
		for {
			res, err := http.ReadResponse(in, &http.Request{Method: method})
			if err != nil {
				t.Fatalf("%s: %v", path, err)
			}
			io.Copy(io.Discard, res.Body)
			if res.StatusCode >= 200 {
				if want := path[strings.LastIndexByte(path, '/')+1:]; strconv.Itoa(res.StatusCode) != want {
					t.Fatalf("%s: %s", path, res.Status)
				}
				return
			}
		}
	}
	for _, way := range []string{"GET /plain", "GET /long", "HEAD /plain", "GET /flushed", "GET /file", "GET /early", "POST /early"} {
		method, path, _ := strings.Cut(way, " ")
		ask(method, path+"/200")
		ask(method, path+"/404")
		if len(r.answers) > 0 {
			t.Fatalf("%s: told %+v of answers that do not fail", way, <-r.answers)
		}
		ask(method, path+"/500")
		ask(method, path+"/503")
		ask(method, path+"/599")
		if got := r.sum(3, false); got.InARow != 3 {
			t.Errorf("%s: told %+v of three failures", way, got)
		}
		ask(method, path+"/200")
		if got := wait(t, r.answers); got != (handoffproto.Answers{Others: true}) {
			t.Errorf("%s: told %+v of the first that does not fail", way, got)
		}
	}
	// Pipelined, so that many are told of at once.
	go func() {
		for range 100 {
			io.WriteString(p.client, "GET /plain/502 HTTP/1.1\r\nHost: x\r\n\r\nGET /plain/200 HTTP/1.1\r\nHost: x\r\n\r\n")
		}
	}()
	for range 200 {
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
	}
	if got := r.sum(100, true); got.Errors != 100 || got.InARow != 0 {
		t.Errorf("told %+v of a hundred failures", got)
	}
	ask("GET", "/hijacked/500")
	q, in2 := r.connect()
	in = bufio.NewReader(in2)
	p = q
	ask("GET", "/plain/500")
	if got := r.sum(1, false); got.Errors != 1 || got.InARow != 1 {
		t.Errorf("told %+v; what was hijacked is no answer of the server's", got)
	}
}

func TestAnAgentThatDoesNotAskIsToldNothing(t *testing.T) {
	r := serveRouted(t, &http.Server{Handler: ways(t)}, func(string) string { return "" })
	p, in := r.connect()
	for range 20 {
		io.WriteString(p.client, "GET /plain/500 HTTP/1.1\r\nHost: x\r\n\r\n")
		respond(t, in, "")
	}
	// The question comes after whatever would have been told.
	io.WriteString(p.client, "GET /plain/204 HTTP/1.1\r\nHost: x\r\n\r\n")
	respond(t, in, "")
	wait(t, r.heads)
	if len(r.answers) > 0 {
		t.Errorf("told %+v", <-r.answers)
	}
}

func TestStatusLines(t *testing.T) {
	for text, want := range map[string]int{
		"HTTP/1.1 200 OK\r\n": 200, "HTTP/1.0 503 x": 503, "HTTP/1.1 599": 599, "": 0, "HTTP/1.1 59": 0, "HTTP/1.1 5x9 ": 0, "HTTP/2 500 xxx": 0,
		"PRI * HTTP/2.0\r\n\r\n": 0, "xxxxxxxxxxxxxxxxxx": 0,
	} {
		if got := statusOf([]byte(text)); got != want {
			t.Errorf("%q: %d, want %d", text, got, want)
		}
	}
}

func BenchmarkAnswersThatDoNotFail(b *testing.B) {
	l := &Listener{closing: make(chan struct{})}
	l.answers.heeded.Store(true)
	head := []byte("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
	b.ReportAllocs()
	for b.Loop() {
		l.began(head)
	}
}
