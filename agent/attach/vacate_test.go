package attach

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/shunt-sdn/shunt/agent/httphead"
)

// leaving is a Leaver that a test turns on.
type leaving struct {
	routes
	on    atomic.Bool
	leave func(fd int, m Meta) error
}

var _ Leaver = (*leaving)(nil)

func (l *leaving) Leaves(string) bool { return l.on.Load() }

func (l *leaving) Leave(_ context.Context, fd int, m Meta) error { return l.leave(fd, m) }

// vacated is an attachment with an application, between the two ways of which tests choose.
type vacated struct {
	name   string
	attach func(t *testing.T, r Router, handler http.Handler) Attachment
}

var bothWays = []vacated{
	{"listener", func(t *testing.T, r Router, handler http.Handler) Attachment {
		l := newListener(t, ListenerConfig{Router: r})
		serving(t, l, handler)
		return l
	}},
	{"relay", func(t *testing.T, r Router, handler http.Handler) Attachment {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		srv := &http.Server{Handler: handler}
		go srv.Serve(l)
		t.Cleanup(func() { srv.Close() })
		return newRelay(t, RelayConfig{Connect: l.Addr().String(), Router: r})
	}},
}

// ask sends a request and wants the answer.
func ask(t *testing.T, c *net.TCPConn, in *bufio.Reader, path, want string) {
	t.Helper()
	fmt.Fprintf(c, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path)
	answered(t, in, want)
}

func answered(t *testing.T, in *bufio.Reader, want string) {
	t.Helper()
	res, err := http.ReadResponse(in, nil)
	if err != nil {
		t.Fatal(err)
	}
	if b, err := io.ReadAll(res.Body); string(b) != want || err != nil {
		t.Fatalf("%q, %v; want %q", b, err, want)
	}
}

func says(name string) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, name+r.URL.Path) })
}

// Idle connections go from one kind of attachment to another; the next request
// is routed where it arrives.
func TestIdleConnectionsAreVacated(t *testing.T) {
	for _, from := range bothWays {
		for _, to := range bothWays {
			t.Run(from.name+" to "+to.name, func(t *testing.T) {
				var asked atomic.Int64
				target := to.attach(t, &leaving{routes: routes{route: func(*httphead.Head) string { asked.Add(1); return "" }}}, says("there"))
				router := &leaving{}
				left := make(chan error, 100)
				router.leave = func(fd int, m Meta) error {
					m.Idle = true // as the importing agent finds out
					err := target.Attach(background(), fd, m)
					left <- err
					return err
				}
				source := from.attach(t, router, says("here"))
				const connections = 20
				clients := make([]*net.TCPConn, connections)
				readers := make([]*bufio.Reader, connections)
				for i := range clients {
					client, fd, m := session(t, "127.0.0.1")
					if err := source.Attach(background(), fd, m); err != nil {
						t.Fatal(err)
					}
					clients[i], readers[i] = client, bufio.NewReader(client)
					ask(t, client, readers[i], "/", "here/")
				}
				source.(Vacater).Vacate("web") // nothing is to leave
				source.(Vacater).Vacate("another service")
				ask(t, clients[0], readers[0], "/", "here/")
				router.on.Store(true)
				source.(Vacater).Vacate("web")
				for range connections {
					if err := wait(t, left); err != nil {
						t.Error(err)
					}
				}
				for i, c := range clients {
					ask(t, c, readers[i], "/", "there/")
				}
				if n := asked.Load(); n != connections {
					t.Errorf("%d first requests were routed, want %d", n, connections)
				}
			})
		}
	}
}

func TestWhatBecomesIdleIsVacated(t *testing.T) {
	for _, from := range bothWays {
		t.Run(from.name, func(t *testing.T) {
			inside, release := make(chan struct{}), make(chan struct{})
			router := &leaving{}
			left := make(chan int, 1)
			router.leave = func(fd int, m Meta) error { left <- fd; return nil }
			source := from.attach(t, router, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				close(inside)
				<-release
				io.WriteString(w, "done")
			}))
			client, fd, m := session(t, "127.0.0.1")
			if err := source.Attach(background(), fd, m); err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(client, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
			wait(t, inside)
			router.on.Store(true)
			for range 3 {
				source.(Vacater).Vacate("web")
			}
			if len(left) > 0 {
				t.Error("it left before its answer was written")
			}
			close(release)
			fd = wait(t, left)
			answered(t, bufio.NewReader(client), "done")
			syscall.Close(fd)
			if _, err := client.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("the client reads %v: something else has its connection still", err)
			}
		})
	}
}

func TestWhatCannotLeaveStaysAndIsAskedAgain(t *testing.T) {
	for _, from := range bothWays {
		t.Run(from.name, func(t *testing.T) {
			router := &leaving{}
			tried := make(chan struct{}, 100)
			router.leave = func(fd int, m Meta) error { tried <- struct{}{}; return errors.New("nowhere to go") }
			source := from.attach(t, router, says("here"))
			client, fd, m := session(t, "127.0.0.1")
			if err := source.Attach(background(), fd, m); err != nil {
				t.Fatal(err)
			}
			in := bufio.NewReader(client)
			ask(t, client, in, "/", "here/")
			router.on.Store(true)
			for i := range 3 {
				until(t, "it is asked to leave", func() bool {
					source.(Vacater).Vacate("web") // while it comes back it does not hear
					return len(tried) > 0
				})
				for len(tried) > 0 {
					<-tried
				}
				ask(t, client, in, fmt.Sprint("/", i), fmt.Sprint("here/", i))
			}
		})
	}
}

// Connections are vacated all the time while requests come, and half the moves fail:
// every request is answered, in order, on its connection.
func TestNothingIsLostBetweenServersThatAreBothVacated(t *testing.T) {
	nodes := make([]Attachment, 2)
	var moves atomic.Int64
	for i, way := range bothWays {
		router := &leaving{}
		router.on.Store(true)
		router.leave = func(fd int, m Meta) error {
			if rand.N(2) == 0 {
				return errors.New("not now")
			}
			m.Idle = true
			moves.Add(1)
			return nodes[1-i].Attach(background(), fd, m)
		}
		nodes[i] = way.attach(t, router, says(""))
	}
	stop := make(chan struct{})
	var pulses, clients sync.WaitGroup
	pulses.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
			}
			for _, n := range nodes {
				n.(Vacater).Vacate("web")
			}
		}
	})
	for k := range 8 {
		client, fd, m := session(t, "127.0.0.1")
		client.SetDeadline(time.Now().Add(3 * patience))
		if err := nodes[k%2].Attach(background(), fd, m); err != nil {
			t.Fatal(err)
		}
		clients.Go(func() {
			in := bufio.NewReader(client)
			random := rand.New(rand.NewPCG(uint64(k), 0))
			for i := range 200 {
				fmt.Fprintf(client, "POST /%d HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\n\r\nhello", i)
				res, err := http.ReadResponse(in, nil)
				if err != nil {
					t.Errorf("connection %d, request %d: %v", k, i, err)
					return
				}
				if b, err := io.ReadAll(res.Body); string(b) != fmt.Sprint("/", i) || err != nil {
					t.Errorf("connection %d, request %d: %q, %v", k, i, b, err)
					return
				}
				<-time.After(time.Duration(random.IntN(3000)) * time.Microsecond)
			}
		})
	}
	clients.Wait()
	close(stop)
	pulses.Wait()
	if moves.Load() < 100 {
		t.Errorf("%d moves", moves.Load())
	}
	t.Logf("%d moves", moves.Load())
}

func TestAnIdleLimitHoldsForWhatCannotLeave(t *testing.T) {
	router := &leaving{}
	router.leave = func(int, Meta) error { return errors.New("nowhere to go") }
	app := startEcho(t, "127.0.0.1:0")
	r := newRelay(t, RelayConfig{Connect: app.addr(), Router: router, Timeouts: Timeouts{Idle: 100 * time.Millisecond}})
	client, fd, m := session(t, "127.0.0.1")
	m.Idle = true
	if err := r.Attach(background(), fd, m); err != nil {
		t.Fatal(err)
	}
	router.on.Store(true)
	ended := make(chan error, 1)
	go func() {
		_, err := client.Read(make([]byte, 1))
		ended <- err
	}()
	until(t, "it ends", func() bool {
		r.Vacate("web")
		return len(ended) > 0
	})
	if err := <-ended; !isReset(err) {
		t.Errorf("the client reads %v", err)
	}
}
