package health

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/shunt-sdn/shunt/policy"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	poll := time.NewTicker(2 * time.Millisecond)
	defer poll.Stop()
	for deadline := time.Now().Add(10 * time.Second); !ok(); <-poll.C {
		if time.Now().After(deadline) {
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}

func httpCheck(address string, change func(*policy.HTTPCheck)) Check {
	spec := policy.HealthCheck{HTTP: &policy.HTTPCheck{Path: "/health"}, Interval: 5 * time.Millisecond, Timeout: time.Second}
	if change != nil {
		change(spec.HTTP)
	}
	return Check{Pool: "p", Service: "web", Address: address, Spec: spec.Or()}
}

func tcpCheck(address string, x policy.TCPCheck) Check {
	spec := policy.HealthCheck{TCP: &x, Interval: 5 * time.Millisecond, Timeout: time.Second}
	return Check{Pool: "p", Service: "web", Address: address, Spec: spec.Or()}
}

// prober returns one that ends with the test, and counts its announcements.
func prober(t *testing.T) (*Prober, *atomic.Int64) {
	var changes atomic.Int64
	p := New(Options{Log: slog.New(slog.DiscardHandler), Changed: func() { changes.Add(1) }})
	t.Cleanup(p.Close)
	return p, &changes
}

func states(p *Prober) string {
	var b strings.Builder
	for _, s := range p.States() {
		fmt.Fprintf(&b, "%s=%s ", s.Pool, strings.TrimPrefix(s.Health.String(), "HEALTH_STATE_"))
	}
	return strings.TrimSpace(b.String())
}

func TestWhatAnHTTPCheckAcceptsAndHowItSaysWhatIsWrong(t *testing.T) {
	mux := http.NewServeMux()
	mux.HandleFunc("/health", func(w http.ResponseWriter, r *http.Request) {
		if r.Host != "web" && r.Host != "shop.example" {
			http.Error(w, r.Host, http.StatusMisdirectedRequest)
			return
		}
		io.WriteString(w, "status: ok, host "+r.Host)
	})
	mux.HandleFunc("/sick", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	mux.HandleFunc("/moved", func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/sick", http.StatusFound) })
	mux.HandleFunc("/big", func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, strings.Repeat("x", bodyLimit)+"needle")
	})
	mux.HandleFunc("/slow", func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	mux.HandleFunc("HEAD /head", func(http.ResponseWriter, *http.Request) {})
	s := httptest.NewServer(mux)
	defer s.Close()
	address := s.Listener.Addr().String()
	for _, c := range []struct {
		name   string
		change func(*policy.HTTPCheck)
		want   string
	}{
		{"plain", nil, ""},
		{"host", func(h *policy.HTTPCheck) { h.Host, h.Body = "shop.example", "host shop.example" }, ""},
		{"other host", func(h *policy.HTTPCheck) { h.Host = "other" }, "GET /health: status 421"},
		{"body", func(h *policy.HTTPCheck) { h.Body = "ok, host web" }, ""},
		{"no such body", func(h *policy.HTTPCheck) { h.Body = "fine" }, `GET /health: status 200, but "fine" is not in the first 20 octets of the body`},
		{"body too far", func(h *policy.HTTPCheck) { h.Path, h.Body = "/big", "needle" }, `GET /big: status 200, but "needle" is not in the first 65536 octets of the body`},
		{"sick", func(h *policy.HTTPCheck) { h.Path = "/sick" }, "GET /sick: status 503"},
		{"expected", func(h *policy.HTTPCheck) { h.Path, h.Statuses = "/sick", []policy.StatusRange{{From: 503, To: 503}} }, ""},
		{"a redirect is an answer", func(h *policy.HTTPCheck) { h.Path = "/moved" }, ""},
		{"method", func(h *policy.HTTPCheck) { h.Path, h.Method = "/head", "HEAD" }, ""},
		{"other method", func(h *policy.HTTPCheck) { h.Path = "/head" }, "GET /head: status 405"},
		{"slow", func(h *policy.HTTPCheck) { h.Path = "/slow" }, "GET /slow: no answer within 50ms"},
	} {
		t.Run(c.name, func(t *testing.T) {
			check := httpCheck(address, c.change)
			if strings.Contains(c.want, "within") {
				check.Spec.Timeout = 50 * time.Millisecond
			}
			if got := text(check.try(t.Context(), (&net.Dialer{}).DialContext)); got != c.want {
				t.Errorf("got %q, want %q", got, c.want)
			}
		})
	}
}

func text(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

func TestWhatATCPCheckAccepts(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			got := make([]byte, 4)
			n, _ := c.Read(got)
			switch string(got[:n]) {
			case "PING":
				io.WriteString(c, "+PONG\r\n")
			case "HALF":
				io.WriteString(c, "+P")
			case "WAIT":
				io.Copy(io.Discard, c)
			}
			c.Close()
		}
	}()
	defer func() { l.Close(); <-done }()
	address := l.Addr().String()
	for _, c := range []struct {
		name, want string
		x          policy.TCPCheck
	}{
		{"connection", "", policy.TCPCheck{}},
		{"answer", "", policy.TCPCheck{Send: "PING", Expect: "+PONG"}},
		{"another answer", `connection to ADDRESS: it sent "+P", not "-E"`, policy.TCPCheck{Send: "PING", Expect: "-E"}},
		{"half", "connection to ADDRESS: it sent 2 of 5 octets: unexpected EOF", policy.TCPCheck{Send: "HALF", Expect: "+PONG"}},
		{"nothing", "connection to ADDRESS: no answer within 50ms", policy.TCPCheck{Send: "WAIT", Expect: "+PONG"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			check := tcpCheck(address, c.x)
			if strings.Contains(c.want, "within") {
				check.Spec.Timeout = 50 * time.Millisecond
			}
			got := text(check.try(t.Context(), (&net.Dialer{}).DialContext))
			if want := strings.ReplaceAll(c.want, "ADDRESS", address); got != want {
				t.Errorf("got %q, want %q", got, want)
			}
		})
	}
	t.Run("refused", func(t *testing.T) {
		closed, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		closed.Close()
		got := text(tcpCheck(closed.Addr().String(), policy.TCPCheck{}).try(t.Context(), (&net.Dialer{}).DialContext))
		if !strings.Contains(got, "connection refused") {
			t.Errorf("got %q", got)
		}
	})
}

func TestAServerThatFailsAndComesBackIsNoticed(t *testing.T) {
	var sick atomic.Bool
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		if sick.Load() {
			w.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
	defer s.Close()
	p, changes := prober(t)
	p.Set([]Check{httpCheck(s.Listener.Addr().String(), nil)})
	if got := states(p); got != "p=UNKNOWN" && got != "p=HEALTHY" {
		t.Errorf("at first %s", got)
	}
	eventually(t, "healthy", func() bool { return states(p) == "p=HEALTHY" })
	sick.Store(true)
	eventually(t, "unhealthy", func() bool { return states(p) == "p=UNHEALTHY" })
	x := p.States()[0]
	if x.Reason != "3 checks in a row failed: GET /health: status 503" || time.Since(time.Unix(0, x.SinceUnixNano)) > time.Minute {
		t.Errorf("state %v", x)
	}
	sick.Store(false)
	eventually(t, "healthy again", func() bool { return states(p) == "p=HEALTHY" })
	eventually(t, "3 announcements", func() bool { return changes.Load() == 3 })
}

func TestChecksComeAndGo(t *testing.T) {
	var asked atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	defer s.Close()
	address := s.Listener.Addr().String()
	p, _ := prober(t)
	a, b := httpCheck(address, nil), httpCheck("127.0.0.1:1", nil)
	a.Pool, b.Pool = "a", "b"
	p.Set([]Check{a, b})
	eventually(t, "verdicts", func() bool { return states(p) == "a=HEALTHY b=UNHEALTHY" })

	changed := a // a verdict stays until the changed check has its own
	changed.Spec.Interval = time.Hour
	p.Set([]Check{changed})
	if got := states(p); got != "a=HEALTHY" {
		t.Errorf("after a change: %s", got)
	}
	p.Set(nil)
	if got := states(p); got != "" {
		t.Errorf("without checks: %s", got)
	}
	deaf := a
	deaf.Address = ""
	p.Set([]Check{deaf})
	if x := p.States(); len(x) != 1 || x[0].Health != shuntv1.HealthState_HEALTH_STATE_UNKNOWN || !strings.Contains(x[0].Reason, "give it one") {
		t.Errorf("without an address: %v", x)
	}
	p.Close()
	p.Set([]Check{a}) // does nothing any more
}

func TestTheWorstApplicationOfANodeDecides(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}))
	defer s.Close()
	p, _ := prober(t)
	good, bad := httpCheck(s.Listener.Addr().String(), nil), httpCheck("127.0.0.1:1", nil)
	bad.Service = "shop"
	p.Set([]Check{good, bad})
	eventually(t, "unhealthy", func() bool { return states(p) == "p=UNHEALTHY" })
	p.Set([]Check{good})
	eventually(t, "healthy", func() bool { return states(p) == "p=HEALTHY" })
}

func TestClosingEndsAHangingCheck(t *testing.T) {
	began := make(chan struct{}, 10)
	p := New(Options{Log: slog.New(slog.DiscardHandler), Dial: func(ctx context.Context, _, _ string) (net.Conn, error) {
		began <- struct{}{}
		<-ctx.Done()
		return nil, ctx.Err()
	}})
	c := tcpCheck("10.0.0.1:1", policy.TCPCheck{})
	c.Spec.Timeout = time.Hour
	p.Set([]Check{c})
	<-began
	p.Close()
}

func TestWhichChecksANodeDoes(t *testing.T) {
	check := &policy.HealthCheck{TCP: &policy.TCPCheck{}}
	p := policy.Model{
		Services: []policy.Service{
			{Name: "web", DefaultPool: "all", Routes: []policy.Route{{Pool: "named"}, {Pools: []policy.WeightedPool{{Pool: "split"}, {Pool: "unchecked"}}}}},
			{Name: "shop", DefaultPool: "all"},
			{Name: "other", DefaultPool: "elsewhere"},
		},
		Pools: []policy.Pool{
			{Name: "all", Check: check},
			{Name: "named", Check: check, Members: []policy.Member{{Server: "server1"}}, Backup: "spare"},
			{Name: "spare", Check: check, Members: []policy.Member{{Server: "server2"}}, Backup: "named"},
			{Name: "split", Check: check, Members: []policy.Member{{Server: "server1"}, {Server: "server2"}}},
			{Name: "unchecked"},
			{Name: "elsewhere", Check: check},
			{Name: "unused", Check: check},
		},
	}
	services := []*shuntv1.Service{{Name: "web", Servers: []string{"server1", "server2"}}, {Name: "shop", Servers: []string{"server2"}}}
	for node, want := range map[string]string{
		"server1": "named/web@1:80 split/web@1:80 web/all/web@1:80",
		"server2": "spare/web@1:80 split/web@1:80 web/all/web@1:80 shop/all/shop@",
		"server3": "",
	} {
		apps := map[string]string{"web": "1:80", "shop": ""}
		var got []string
		for _, c := range Checks(node, p, services, apps) {
			got = append(got, c.Pool+"/"+c.Service+"@"+c.Address)
			if c.Spec.Interval != policy.DefaultCheckInterval || c.Spec.Fall != policy.DefaultFall {
				t.Errorf("%s: %+v lacks the standard values", node, c)
			}
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %s, want %s", node, strings.Join(got, " "), want)
		}
	}
}
