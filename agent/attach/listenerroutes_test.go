package attach

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/shunt-sdn/shunt/agent/httphead"
	"github.com/shunt-sdn/shunt/handoff"
)

// serving starts a real server behind a listener.
func serving(t *testing.T, l *Listener, handler http.Handler) {
	t.Helper()
	h, err := handoff.Listen(background(), handoff.Options{Socket: l.cfg.Socket})
	if err != nil {
		t.Fatal(err)
	}
	srv := &http.Server{Handler: handler}
	var wg sync.WaitGroup
	wg.Go(func() { handoff.Serve(srv, h) })
	t.Cleanup(func() {
		srv.Close()
		wg.Wait()
	})
	until(t, "the application lets connections go", func() bool {
		apps := *l.apps.Load()
		if len(apps) == 0 {
			return false
		}
		a := apps[len(apps)-1]
		a.mu.Lock()
		defer a.mu.Unlock()
		return a.willing
	})
}

func TestConnectionsMoveFromApplicationToApplication(t *testing.T) {
	nodes := map[string]*Listener{}
	var mu sync.Mutex
	moves := 0
	for _, name := range []string{"s0", "s1", "s2"} {
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
					return errors.New("not now")
				}
				return nodes[node].Attach(background(), fd, m)
			},
		}
		nodes[name] = newListener(t, ListenerConfig{Router: router})
		serving(t, nodes[name], http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			b, _ := io.ReadAll(r.Body)
			fmt.Fprintf(w, "%s %d", name, len(b))
		}))
	}
	before := descriptors(t)
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
		var name string
		var n int
		fmt.Sscan(string(body), &name, &n)
		if n != i%50 || err != nil {
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
	if now := descriptors(t); now > before+8 {
		t.Errorf("%d descriptors, %d before", now, before)
	}
}

// A head that only a lenient server takes is not routed: nobody could say by what.
func TestHeadsThatAreNotValidStay(t *testing.T) {
	l := newListener(t, ListenerConfig{Router: &routes{route: func(h *httphead.Head) string { return "elsewhere" }}})
	serving(t, l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {}))
	client, fd, m := session(t, "127.0.0.1")
	if err := l.Attach(background(), fd, m); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(client)
	for _, head := range []string{"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "GET /# HTTP/1.1\r\nHost: x\r\n\r\n"} {
		io.WriteString(client, head)
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
	}
}

func TestAConnectionThatNobodyTakesIsReset(t *testing.T) {
	l := newListener(t, ListenerConfig{Router: &routes{}})
	client, fd, m := session(t, "127.0.0.1")
	l.putBack(fd, m) // no application is there
	if _, err := client.Read(make([]byte, 1)); !isReset(err) {
		t.Errorf("the client reads %v, want a reset", err)
	}
}

func TestCloseWaitsForConnectionsThatMove(t *testing.T) {
	moving, release := make(chan struct{}), make(chan struct{})
	l := newListener(t, ListenerConfig{Router: &routes{
		route: func(h *httphead.Head) string { return "elsewhere" },
		move: func(fd int, m Meta, node string) error {
			close(moving)
			<-release
			return errors.New("the agent ends")
		},
	}})
	serving(t, l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "ok") }))
	client, fd, m := session(t, "127.0.0.1")
	if err := l.Attach(background(), fd, m); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(client)
	for i := range 2 {
		io.WriteString(client, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		ended := make(chan error, 1)
		if i == 1 {
			wait(t, moving)
			go func() { ended <- l.Close() }()
			until(t, "it closes", l.isClosed)
			close(release)
		}
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatalf("request %d: %v", i, err)
		}
		res.Body.Close()
		in.Discard(in.Buffered())
		if i == 1 {
			if err := wait(t, ended); err != nil {
				t.Errorf("Close: %v", err)
			}
		}
	}
}

func TestApplicationsHearWhenRoutingBegins(t *testing.T) {
	var mu sync.Mutex
	r := &routes{off: true}
	asked := 0
	r.route = func(*httphead.Head) string { asked++; return "" }
	router := &locked{Router: r, mu: &mu}
	l := newListener(t, ListenerConfig{Router: router})
	serving(t, l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "ok") }))
	client, fd, m := session(t, "127.0.0.1")
	if err := l.Attach(background(), fd, m); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(client)
	exchange := func() {
		t.Helper()
		io.WriteString(client, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		io.Copy(io.Discard, res.Body)
	}
	exchange()
	exchange()
	mu.Lock()
	if asked != 0 {
		t.Error("asked though nothing is routed")
	}
	r.off = false
	mu.Unlock()
	l.RoutesChanged()
	until(t, "requests are asked about", func() bool {
		exchange()
		mu.Lock()
		defer mu.Unlock()
		return asked > 0
	})
}

// locked is a Router that a test changes.
type locked struct {
	Router
	mu *sync.Mutex
}

func (l *locked) PerRequest(s string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Router.PerRequest(s)
}

func (l *locked) Route(m Meta, h *httphead.Head) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.Router.Route(m, h)
}

// More questions at once than answers fit into an application's queue: each is
// answered, and in time.
func TestManyRequestsAtOnceAreAllRouted(t *testing.T) {
	const connections = 200
	var asked sync.Map
	l := newListener(t, ListenerConfig{QueueBytes: 4096, Router: &routes{route: func(h *httphead.Head) string {
		asked.Store(h.Target, true)
		return ""
	}}})
	serving(t, l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { io.WriteString(w, "ok") }))
	var wg sync.WaitGroup
	start := make(chan struct{})
	for i := range connections {
		client, fd, m := session(t, "127.0.0.1")
		l.putBack(fd, m) // as Attach, but for a queue that is full
		in := bufio.NewReader(client)
		ask := func(path string) error {
			fmt.Fprintf(client, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path)
			res, err := http.ReadResponse(in, nil)
			if err == nil {
				_, err = io.Copy(io.Discard, res.Body)
			}
			return err
		}
		if err := ask("/first"); err != nil {
			t.Fatal(err)
		}
		wg.Go(func() {
			<-start
			if err := ask(fmt.Sprint("/", i)); err != nil {
				t.Error(err)
			}
		})
	}
	close(start)
	wg.Wait()
	n := 0
	asked.Range(func(any, any) bool { n++; return true })
	if n != connections {
		t.Errorf("%d requests were routed, want %d", n, connections)
	}
}

func TestApplicationsTellHowTheyAnswer(t *testing.T) {
	heard := make(chan Answers, 100)
	l := newListener(t, ListenerConfig{Router: &routes{}, Answers: func(a Answers) { heard <- a }})
	serving(t, l, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == "/bad" {
			w.WriteHeader(http.StatusBadGateway)
		}
	}))
	until(t, "the application knows that it is to tell", func() bool {
		a := (*l.apps.Load())[0]
		a.mu.Lock()
		defer a.mu.Unlock()
		return a.heeded
	})
	client, fd, m := session(t, "127.0.0.1")
	if err := l.Attach(background(), fd, m); err != nil {
		t.Fatal(err)
	}
	in := bufio.NewReader(client)
	for i, path := range []string{"/", "/bad", "/", "/"} {
		fmt.Fprintf(client, "GET %s HTTP/1.1\r\nHost: x\r\n\r\n", path)
		res, err := http.ReadResponse(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		switch want := (Answers{Errors: 1, InARow: 1}); i {
		case 1:
			if got := wait(t, heard); got != want {
				t.Errorf("heard %+v, want %+v", got, want)
			}
		case 2:
			if got := wait(t, heard); got != (Answers{Others: true}) {
				t.Errorf("heard %+v of an answer that does not fail", got)
			}
		}
	}
	if len(heard) > 0 {
		t.Errorf("heard %+v of answers that do not fail", <-heard)
	}
}
