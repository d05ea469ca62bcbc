package handoff

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"os"
	"sync"
	"testing"

	"github.com/shunt-sdn/shunt/internal/handoffproto"
)

func (r *router) vacate(on bool) {
	r.t.Helper()
	if err := r.app.send(handoffproto.Vacate{Service: "web", On: on}, -1); err != nil {
		r.t.Error(err)
	}
}

// vacated is vacate(true) that has come: another connection has left.
func (r *router) vacated() {
	r.t.Helper()
	r.vacate(true)
	p, in := r.connect()
	io.WriteString(p.client, "GET /other HTTP/1.1\r\nHost: x\r\n\r\n")
	respond(r.t, in, "/other")
	reopen(r.t, wait(r.t, r.given)).Close()
}

// reopen makes a connection of what was given.
func reopen(t *testing.T, g given) net.Conn {
	t.Helper()
	f := os.NewFile(uintptr(g.fd), "session")
	defer f.Close()
	c, err := net.FileConn(f)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// served answers a client's request at the place to which its connection went.
func served(t *testing.T, p pair, in *bufio.Reader, g given) {
	t.Helper()
	if g.Node != "" || g.Session != p.session {
		t.Errorf("given %+v, want %+v for any", g.Give, p.session)
	}
	c := reopen(t, g)
	const request = "GET /next HTTP/1.1\r\nHost: x\r\n\r\n"
	io.WriteString(p.client, request)
	got := make([]byte, len(request))
	if _, err := io.ReadFull(c, got); string(got) != request || err != nil {
		t.Errorf("read there: %q, %v", got, err)
	}
	io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
	c.Close()
	respond(t, in, "ok")
	if _, err := in.ReadByte(); err != io.EOF {
		t.Errorf("then %v", err)
	}
}

func TestIdleConnectionsLeaveWhenTheAgentSaysSo(t *testing.T) {
	states := make(chan http.ConnState, 10)
	srv := &http.Server{Handler: echoes, ConnState: func(_ net.Conn, s http.ConnState) { states <- s }}
	r := serveRouted(t, srv, func(string) string { return "" })
	p, in := r.connect()
	io.WriteString(p.client, "GET /1 HTTP/1.1\r\nHost: x\r\n\r\n")
	respond(t, in, "/1  <nil>")
	r.vacate(true)
	served(t, p, in, wait(t, r.given))
	for _, want := range []http.ConnState{http.StateNew, http.StateActive, http.StateIdle, http.StateClosed} {
		if s := wait(t, states); s != want {
			t.Errorf("the server sees %v, want %v", s, want)
		}
	}
}

func TestAConnectionLeavesWhenItsAnswerIsWritten(t *testing.T) {
	inside, release := make(chan struct{}), make(chan struct{})
	r := serveRouted(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/1" {
			close(inside)
			<-release
		}
		io.WriteString(w, r.URL.Path)
	})}, func(string) string { return "" })
	p, in := r.connect()
	io.WriteString(p.client, "GET /1 HTTP/1.1\r\nHost: x\r\n\r\n")
	wait(t, inside)
	r.vacated()
	close(release)
	respond(t, in, "/1")
	served(t, p, in, wait(t, r.given))
}

// A pipelined request is there when the answer is written: it is routed, not sent away.
func TestAConnectionWithARequestDoesNotLeave(t *testing.T) {
	release := make(chan struct{})
	r := serveRouted(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/1" {
			<-release
		}
		io.WriteString(w, r.URL.Path)
	})}, func(string) string { return "" })
	p, in := r.connect()
	io.WriteString(p.client, "GET /1 HTTP/1.1\r\nHost: x\r\n\r\nGET /2 HTTP/1.1\r\nHost: x\r\n\r\n")
	r.vacated()
	close(release)
	respond(t, in, "/1")
	if g := wait(t, r.heads); g == "" {
		t.Error("not asked")
	}
	respond(t, in, "/2")
	served(t, p, in, wait(t, r.given))
}

// What came idle may have come back: it stays until the agent says so again, and
// its first request is asked about.
func TestAConnectionThatCameIdleIsRoutedAndStays(t *testing.T) {
	r := serveRouted(t, &http.Server{Handler: echoes}, func(string) string { return "" })
	r.vacate(true)
	p := newPair(t, "127.0.0.1")
	p.session.Idle = true
	r.app.hand(p)
	in := bufio.NewReader(p.client)
	io.WriteString(p.client, "GET /1 HTTP/1.1\r\nHost: x\r\n\r\n")
	respond(t, in, "/1  <nil>")
	wait(t, r.heads)
	g := wait(t, r.given) // now that it was served
	p.session.Idle = false
	c := reopen(t, g)
	c.Close()

	p = newPair(t, "127.0.0.1")
	p.session.Idle = true
	r.app.hand(p)
	r.vacate(true)
	p.session.Idle = false // a Give does not say
	until(t, "it leaves when the agent says so again", func() bool {
		r.vacate(true) // it may not have been accepted the first time
		return len(r.given) > 0
	})
	served(t, p, bufio.NewReader(p.client), wait(t, r.given))
}

func TestConnectionsOfServersWithoutTheHookStay(t *testing.T) {
	a := newAgent(t, socketPath(t))
	l, err := Listen(context.Background(), Options{Socket: a.path})
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: echoes, ErrorLog: log.New(io.Discard, "", 0)}
	var wg sync.WaitGroup
	wg.Go(func() { srv.Serve(l) })
	t.Cleanup(func() {
		srv.Close()
		wg.Wait()
	})
	r := &router{t: t, app: a.accept()}
	p, in := r.connect()
	for i := range 3 {
		fmt.Fprintf(p.client, "GET /%d HTTP/1.1\r\nHost: x\r\n\r\n", i)
		respond(t, in, fmt.Sprintf("/%d  <nil>", i))
		r.vacate(true)
		other, from := r.connect() // when it is served, the frame before was read
		io.WriteString(other.client, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		respond(t, from, "/  <nil>")
	}
}

// More connections than fit into the agent's queue: they leave one after the other.
func TestConnectionsLeaveAlthoughTheAgentIsSlow(t *testing.T) {
	const connections = 400
	r := serveRouted(t, &http.Server{Handler: echoes}, func(string) string { return "" })
	for range connections {
		p, in := r.connect()
		io.WriteString(p.client, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		respond(t, in, "/  <nil>")
	}
	r.vacate(true) // and nobody takes what is given, beyond ten
	until(t, "the first ones leave", func() bool { return len(r.given) == cap(r.given) })
	for range connections {
		reopen(t, wait(t, r.given)).Close()
	}
}

// Drain waits for answers, and nobody expects one on a connection that came idle.
func TestDrainDoesNotWaitForConnectionsThatCameIdle(t *testing.T) {
	a := newAgent(t, socketPath(t))
	l, err := Listen(context.Background(), Options{Socket: a.path})
	if err != nil {
		t.Fatal(err)
	}
	app := a.accept()
	p := newPair(t, "127.0.0.1")
	p.session.Idle = true
	app.hand(p)
	c, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if !c.(*Conn).Session().Idle {
		t.Error("it does not say that it came idle")
	}
	var wg sync.WaitGroup
	wg.Go(func() { l.Accept() })
	if err := l.Drain(t.Context()); err != nil {
		t.Error(err)
	}
	wg.Wait()
}
