package handoff

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestCloseUnblocksEveryAccept(t *testing.T) {
	for _, with := range []string{"an agent", "no agent", "an agent and Direct", "Direct only"} {
		t.Run(with, func(t *testing.T) {
			opt := Options{Socket: socketPath(t)}
			var a *agent
			if strings.Contains(with, "an agent") {
				a = newAgent(t, opt.Socket)
			}
			if strings.Contains(with, "Direct") {
				opt.Direct = direct(t)
			}
			l := listen(t, opt)
			if a != nil {
				a.accept()
			}
			var got []<-chan arrival
			for range 4 {
				got = append(got, accepting(t, l))
			}
			if err := l.Close(); err != nil {
				t.Errorf("Close: %v", err)
			}
			if err := l.Close(); err != nil {
				t.Errorf("Close again: %v", err)
			}
			for _, ch := range got {
				if r := wait(t, ch); !errors.Is(r.err, net.ErrClosed) {
					t.Errorf("Accept after Close: %v, want net.ErrClosed", r.err)
				}
			}
			if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
				t.Errorf("a later Accept: %v, want net.ErrClosed", err)
			}
		})
	}
}

func TestSessionsHandedOverBeforeCloseAreNotLost(t *testing.T) {
	a := newAgent(t, socketPath(t))
	l := listen(t, Options{Socket: a.path})
	app := a.accept()
	var pairs []pair
	for range 20 {
		p := newPair(t, "127.0.0.1")
		app.hand(p)
		pairs = append(pairs, p)
	}
	l.Close()
	// The agent knows, by its own means: it can neither send nor receive.
	p := newPair(t, "127.0.0.1")
	if err := app.send(p.session, int(p.file.Fd())); !errors.Is(err, syscall.EPIPE) {
		t.Errorf("the agent's next session: %v, want EPIPE", err)
	}
	app.conn.SetReadDeadline(time.Now().Add(patience))
	if _, err := app.conn.Read(make([]byte, 10)); err != io.EOF {
		t.Errorf("the agent reads %v, want EOF", err)
	}
	app.conn.Close() // as agents do then
	for _, p := range pairs {
		c := accept(t, l)
		if c.RemoteAddr().String() != p.session.Client.String() {
			t.Errorf("got %v, want %v", c.RemoteAddr(), p.session.Client)
		}
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("after the last: %v, want net.ErrClosed", err)
	}
}

func TestSessionsThatNobodyAcceptsAreResetInTheEnd(t *testing.T) {
	a := newAgent(t, socketPath(t))
	l, err := Listen(context.Background(), Options{Socket: a.path, Direct: direct(t)})
	if err != nil {
		t.Fatal(err)
	}
	app := a.accept()
	p := newPair(t, "127.0.0.1")
	p.client.Write([]byte("hello?"))
	app.hand(p)
	d, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	d.SetDeadline(time.Now().Add(patience))
	until(t, "Direct's connection waits", func() bool { return len(l.direct) == 1 })
	l.Close()
	l.abandon.Reset(0)
	if _, err := p.client.Read(make([]byte, 1)); !isReset(err) {
		t.Errorf("the client reads %v, want a reset", err)
	}
	if _, err := d.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("Direct's client reads %v, want EOF", err)
	}
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept: %v, want net.ErrClosed", err)
	}
}

// oneRequest sends a request over the pair's client and returns the response's body.
func oneRequest(c net.Conn, path string) (string, error) {
	if _, err := fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n", path); err != nil {
		return "", err
	}
	r, err := http.ReadResponse(bufio.NewReader(c), nil)
	if err != nil {
		return "", err
	}
	b, err := io.ReadAll(r.Body)
	return string(b), err
}

func TestHTTPServerServesAndShutsDownWithoutLoss(t *testing.T) {
	a := newAgent(t, socketPath(t))
	l, err := Listen(context.Background(), Options{Socket: a.path, Direct: direct(t)})
	if err != nil {
		t.Fatal(err)
	}
	app := a.accept()
	inside, release := make(chan struct{}, 100), make(chan struct{})
	srv := &http.Server{
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			if h, ok := c.(*Conn); ok {
				return context.WithValue(ctx, sessionKey{}, h.Session().ID)
			}
			return ctx
		},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/slow" {
				inside <- struct{}{}
				<-release
			}
			fmt.Fprint(w, r.Context().Value(sessionKey{}))
		}),
	}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()

	p := newPair(t, "127.0.0.1")
	app.hand(p)
	if body, err := oneRequest(p.client, "/"); body != "h1" || err != nil {
		t.Errorf("a handed-over request: %q, %v", body, err)
	}
	d, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if body, err := oneRequest(d, "/"); body != "<nil>" || err != nil {
		t.Errorf("a direct request: %q, %v", body, err)
	}

	// Shut down while requests run and others are on their way.
	answers := make(chan error, 100)
	ask := func() {
		p := newPair(t, "127.0.0.1")
		app.hand(p)
		go func() {
			body, err := oneRequest(p.client, "/slow")
			if err == nil && body != "h1" {
				err = fmt.Errorf("body %q", body)
			}
			answers <- err
		}()
	}
	for range 10 {
		ask()
	}
	wait(t, inside)
	for range 10 {
		ask()
	}
	drained := make(chan error, 1)
	go func() { drained <- l.Drain(context.Background()) }()
	if err := wait(t, served); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Serve: %v", err)
	}
	close(release)
	if err := wait(t, drained); err != nil {
		t.Errorf("Drain: %v", err)
	}
	if err := srv.Shutdown(context.Background()); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	for range 20 {
		if err := wait(t, answers); err != nil {
			t.Errorf("a request handed over before Drain: %v", err)
		}
	}
}

func TestShutdownOfAnHTTPServerAloneEndsServe(t *testing.T) {
	a := newAgent(t, socketPath(t))
	l := listen(t, Options{Socket: a.path})
	a.accept()
	srv := &http.Server{}
	served := make(chan error, 1)
	go func() { served <- srv.Serve(l) }()
	until(t, "the server accepts", func() bool { return len(l.turn) == 0 })
	if err := srv.Shutdown(context.Background()); err != nil {
		t.Errorf("Shutdown: %v", err)
	}
	if err := wait(t, served); err != http.ErrServerClosed {
		t.Errorf("Serve: %v", err)
	}
}

func TestDrainWaitsForAnswersAndNoLongerThanItMay(t *testing.T) {
	a := newAgent(t, socketPath(t))
	l := listen(t, Options{Socket: a.path})
	app := a.accept()
	var pairs []pair
	for range 4 {
		p := newPair(t, "127.0.0.1")
		app.hand(p)
		pairs = append(pairs, p)
	}
	first := accept(t, l).(*Conn)
	second := accept(t, l).(*Conn)
	short, cancel := context.WithCancel(context.Background())
	cancel()
	if err := l.Drain(short); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "2 connections") {
		t.Errorf("Drain: %v", err)
	}
	drained := make(chan error, 1)
	go func() { drained <- l.Drain(context.Background()) }()
	first.Write([]byte("x"))
	first.Write([]byte("y"))
	second.Close()
	second.Close()
	third := accept(t, l).(*Conn)
	third.ReadFrom(strings.NewReader("z"))
	fourth := accept(t, l).(*Conn)
	if _, err := l.Accept(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Accept: %v", err)
	}
	select {
	case <-drained:
		t.Error("Drain did not wait for the last connection")
	default:
	}
	fourth.Close()
	if err := wait(t, drained); err != nil {
		t.Errorf("Drain: %v", err)
	}
	_ = pairs
}

// sessionKey is the context's key of a session's id.
type sessionKey struct{}
