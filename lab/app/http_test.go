package app

import (
	"bufio"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"golang.org/x/net/websocket"

	"github.com/shunt-sdn/shunt/handoff"
)

func TestAnswersInTheWaysOfHTTP(t *testing.T) {
	s := httptest.NewServer(Handler("server7"))
	defer s.Close()
	if res, got := get(t, "GET", s.URL+"/chunked?n=2", nil); string(got) != "piece 0\npiece 1\n" || res.ContentLength != -1 {
		t.Errorf("/chunked: %q, length %d", got, res.ContentLength)
	}
	if res, got := get(t, "POST", s.URL+"/trailers", strings.NewReader("body")); string(got) != "body" || res.Trailer.Get("X-Length") != "4" {
		t.Errorf("/trailers: %q, trailers %v", got, res.Trailer)
	}
	if _, got := get(t, "GET", s.URL+"/sse?n=2", nil); string(got) != "id: 0\ndata: event 0\n\nid: 1\ndata: event 1\n\n" {
		t.Errorf("/sse: %q", got)
	}
	if _, got := get(t, "POST", s.URL+"/early", strings.NewReader("body")); string(got) != "before the body\nthen 4 octets, <nil>\n" {
		t.Errorf("/early: %q", got)
	}
	if _, got := get(t, "GET", s.URL+"/hints", nil); string(got) != "after two interim responses\n" {
		t.Errorf("/hints: %q", got)
	}
	if _, got := get(t, "GET", s.URL+"/close", nil); string(got) != "until the connection ends\n" {
		t.Errorf("/close: %q", got)
	}
	for path, want := range map[string]int{
		"/status/204": 204, "/status/503": 503, "/status/100": 400, "/status/x": 400, "/reject": 413,
		"/chunked?n=-1": 400, "/sse?n=x": 400, "/ws": 426, "/old": 200,
	} {
		if res, _ := get(t, "GET", s.URL+path, nil); res.StatusCode != want {
			t.Errorf("%s: %s, want %d", path, res.Status, want)
		}
	}
	res, err := http.Get(s.URL + "/cut")
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	if _, err := io.Copy(io.Discard, res.Body); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("/cut: %v", err)
	}
}

func TestWebSocketMessagesComeBack(t *testing.T) {
	s := httptest.NewServer(Handler("server7"))
	defer s.Close()
	ws, err := websocket.Dial("ws"+strings.TrimPrefix(s.URL, "http")+"/ws", "", s.URL)
	if err != nil {
		t.Fatal(err)
	}
	defer ws.Close()
	ws.SetDeadline(time.Now().Add(10 * time.Second))
	for _, n := range []int{0, 1, 125, 126, 65535, 65536, 100_000} {
		message := strings.Repeat("m", n)
		if err := websocket.Message.Send(ws, message); err != nil {
			t.Fatal(err)
		}
		var back string
		if err := websocket.Message.Receive(ws, &back); err != nil || back != message {
			t.Errorf("a message of %d octets: %d come back, %v", n, len(back), err)
		}
	}
}

func TestServeEndsWithItsContext(t *testing.T) {
	direct, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	handed, err := handoff.Listen(t.Context(), handoff.Options{Socket: filepath.Join(t.TempDir(), "web.sock")})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	served := make(chan error, 1)
	go func() { served <- Serve(ctx, "server7", slog.New(slog.DiscardHandler), direct, handed) }()
	c, err := net.Dial("tcp", direct.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	io.WriteString(c, "GET /whoami HTTP/1.1\r\nHost: x\r\n\r\n")
	if _, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil {
		t.Fatal(err)
	}
	cancel()
	select {
	case err := <-served:
		if err != nil {
			t.Errorf("Serve: %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Error("it does not end")
	}
}
