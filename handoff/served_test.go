package handoff

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"syscall"
	"testing"
	"time"

	"github.com/shunt-sdn/shunt/internal/handoffproto"
)

func TestHijackedConnectionsAreTransparent(t *testing.T) {
	for _, early := range []bool{true, false} {
		r := serveRouted(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if r.URL.Path == "/first" {
				return
			}
			c, rw, err := w.(http.Hijacker).Hijack()
			if err != nil {
				t.Error(err)
				return
			}
			defer c.Close()
			io.WriteString(c, "HTTP/1.1 101 Switching Protocols\r\n\r\n")
			io.Copy(c, rw)
		})}, func(string) string { return "" })
		p, in := r.connect()
		io.WriteString(p.client, "GET /first HTTP/1.1\r\nHost: x\r\n\r\n")
		respond(t, in, "")
		message := "GET /not a request HTTP/1.1\r\n\r\n"
		upgrade := "GET /up HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: y\r\n\r\n"
		if early {
			upgrade += message // some clients do not wait
		}
		io.WriteString(p.client, upgrade)
		if res, err := http.ReadResponse(in, nil); err != nil || res.StatusCode != 101 {
			t.Fatalf("%v, %v", res, err)
		}
		for i := range 100 {
			if !early || i > 0 {
				io.WriteString(p.client, message)
			}
			b := make([]byte, len(message))
			if _, err := io.ReadFull(in, b); string(b) != message || err != nil {
				t.Fatalf("message %d: %q, %v", i, b, err)
			}
		}
		p.client.CloseWrite()
		if _, err := in.ReadByte(); err != io.EOF {
			t.Errorf("then %v", err)
		}
	}
}

func TestAHandlerLearnsThatItsClientIsGone(t *testing.T) {
	for name, leave := range map[string]func(c *net.TCPConn){
		"FIN": func(c *net.TCPConn) { c.CloseWrite() },
		"RST": func(c *net.TCPConn) { c.SetLinger(0); c.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			inside, gone := make(chan struct{}), make(chan struct{})
			r := serveRouted(t, &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				close(inside)
				<-r.Context().Done()
				close(gone)
			})}, func(string) string { return "" })
			p, _ := r.connect()
			io.WriteString(p.client, "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n")
			wait(t, inside)
			leave(p.client)
			wait(t, gone)
		})
	}
}

func TestTheServersTimeoutsHold(t *testing.T) {
	srv := &http.Server{Handler: echoes, IdleTimeout: 50 * time.Millisecond, ReadHeaderTimeout: 50 * time.Millisecond}
	r := serveRouted(t, srv, func(string) string { return "" })
	for name, part := range map[string]string{"idle": "", "in a head": "GET /2 HT"} {
		p, in := r.connect()
		io.WriteString(p.client, "GET /1 HTTP/1.1\r\nHost: x\r\n\r\n")
		respond(t, in, "/1  <nil>")
		io.WriteString(p.client, part)
		if b, err := io.ReadAll(in); err != nil && !isReset(err) {
			t.Errorf("%s: read %q, %v", name, b, err)
		}
	}
}

// A request is never lost: whatever the agent does, or does not, it is served.
func TestWithoutAnAnswerTheRequestIsServedHere(t *testing.T) {
	for _, what := range []string{"silence", "the agent's end"} {
		t.Run(what, func(t *testing.T) {
			var r *router
			ready := make(chan struct{})
			r = serveRouted(t, &http.Server{Handler: echoes}, func(string) string {
				<-ready
				switch what {
				case "silence":
					return what
				case "the agent's end":
					r.app.conn.Close()
				}
				return ""
			})
			close(ready)
			p, in := r.connect()
			for i := range 4 {
				fmt.Fprintf(p.client, "GET /%d HTTP/1.1\r\nHost: x\r\n\r\n", i)
				respond(t, in, fmt.Sprintf("/%d  <nil>", i))
			}
			if len(r.heads) != 1 {
				t.Errorf("asked %d times", len(r.heads))
			}
		})
	}
}

func TestOnlyServicesThatAreRoutedAreAskedAbout(t *testing.T) {
	r := serveRouted(t, &http.Server{Handler: echoes}, func(string) string { return "" })
	p, in := r.connect()
	exchange := func(asked bool) {
		t.Helper()
		io.WriteString(p.client, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		respond(t, in, "/  <nil>")
		if (len(r.heads) > 0) != asked {
			t.Errorf("asked %d times", len(r.heads))
		}
		for len(r.heads) > 0 {
			<-r.heads
		}
	}
	exchange(false) // the first
	exchange(true)
	r.app.send(handoffproto.PerRequest{Service: "web", On: false}, -1)
	r.connect() // when it is accepted, the frame before was read
	until(t, "the server knows", func() bool {
		io.WriteString(p.client, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		respond(t, in, "/  <nil>")
		asked := len(r.heads) > 0
		for len(r.heads) > 0 {
			<-r.heads
		}
		return !asked
	})
	exchange(false)
	r.app.send(handoffproto.PerRequest{Service: "web", On: true}, -1)
	until(t, "the server knows", func() bool {
		io.WriteString(p.client, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		respond(t, in, "/  <nil>")
		return len(r.heads) > 0
	})
}

func TestWhatConnectionsCanStaysThere(t *testing.T) {
	var c net.Conn = &Conn{}
	for name, ok := range map[string]bool{
		"io.ReaderFrom": is[io.ReaderFrom](c),
		"io.WriterTo":   is[io.WriterTo](c),
		"syscall.Conn":  is[syscall.Conn](c),
		"CloseWrite":    is[interface{ CloseWrite() error }](c),
		"CloseRead":     is[interface{ CloseRead() error }](c),
		"SetNoDelay":    is[interface{ SetNoDelay(bool) error }](c),
	} {
		if !ok {
			t.Errorf("a connection is no %s", name)
		}
	}
}

func is[T any](c net.Conn) bool { _, ok := c.(T); return ok }
