package handoff_test

import (
	"context"
	"errors"
	"fmt"
	"log"
	"net"
	"net/http"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/shunt-sdn/shunt/handoff"
)

// A web server that answers handed-over requests, and direct ones on a port of
// its own, until it is told to end.
func Example() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()

	direct, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		log.Fatal(err)
	}
	l, err := handoff.Listen(ctx, handoff.Options{
		Socket: "/run/shunt/web.sock", // as in the agent's configuration
		Direct: direct,
	})
	if err != nil {
		log.Fatal(err)
	}
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		fmt.Fprintln(w, "hello")
	})}

	// For this example: ask for a page directly, then end.
	go func() {
		r, err := http.Get("http://" + direct.Addr().String())
		if err != nil {
			log.Fatal(err)
		}
		r.Body.Close()
		fmt.Println(r.Status)
		http.DefaultClient.CloseIdleConnections()
		stop()
	}()

	served := make(chan error, 1)
	go func() { served <- handoff.Serve(srv, l) }()
	<-ctx.Done()

	// No request that was handed over is dropped.
	grace, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := l.Drain(grace); err != nil {
		log.Print(err)
	}
	if err := srv.Shutdown(grace); err != nil {
		log.Print(err)
	}
	if err := <-served; !errors.Is(err, net.ErrClosed) && !errors.Is(err, http.ErrServerClosed) {
		log.Print(err)
	}
	// Output: 200 OK
}

// The session of a request is known to its handler.
func ExampleConn_Session() {
	type key struct{}
	srv := &http.Server{
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			if h, ok := c.(*handoff.Conn); ok {
				return context.WithValue(ctx, key{}, h.Session())
			}
			return ctx
		},
		Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if s, ok := r.Context().Value(key{}).(handoff.Session); ok {
				fmt.Fprintf(w, "you asked %v, which chose this server in hand-off %s\n", s.VIP, s.ID)
			}
		}),
	}
	_ = srv
}
