package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const deadline = 10 * time.Second

// controller is a scripted one: each stream of an agent is handed to the test.
type controller struct {
	shuntv1.UnimplementedControlServiceServer
	addr    string
	streams chan *stream
}

// stream is the controller's end of one.
type stream struct {
	grpc.BidiStreamingServer[shuntv1.AttachRequest, shuntv1.AttachResponse]
	t    *testing.T
	over chan struct{} // closed by the test to end it
}

func (c *controller) Attach(s grpc.BidiStreamingServer[shuntv1.AttachRequest, shuntv1.AttachResponse]) error {
	mine := &stream{BidiStreamingServer: s, over: make(chan struct{})}
	select {
	case c.streams <- mine:
	case <-s.Context().Done():
		return s.Context().Err()
	}
	select {
	case <-mine.over:
		return errors.New("the script says so")
	case <-s.Context().Done():
		return s.Context().Err()
	}
}

func startController(t *testing.T) *controller {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c := &controller{addr: l.Addr().String(), streams: make(chan *stream)}
	s := grpc.NewServer()
	shuntv1.RegisterControlServiceServer(s, c)
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	t.Cleanup(func() {
		s.Stop()
		if err := <-served; err != nil {
			t.Errorf("serve: %v", err)
		}
	})
	return c
}

// attached returns the agent's next stream.
func (c *controller) attached(t *testing.T) *stream {
	t.Helper()
	s := receive(t, c.streams, "the agent's stream")
	s.t = t
	return s
}

// next returns the agent's next message that is no report.
func (s *stream) next() *shuntv1.AttachRequest {
	s.t.Helper()
	for {
		if m := s.any(); m.GetReport() == nil {
			return m
		}
	}
}

func (s *stream) any() *shuntv1.AttachRequest {
	s.t.Helper()
	type result struct {
		m   *shuntv1.AttachRequest
		err error
	}
	got := make(chan result, 1)
	go func() {
		m, err := s.Recv()
		got <- result{m, err}
	}()
	r := receive(s.t, got, "a message of the agent")
	if r.err != nil {
		s.t.Fatalf("receive from the agent: %v", r.err)
	}
	return r.m
}

func (s *stream) say(m *shuntv1.AttachResponse) {
	s.t.Helper()
	if err := s.Send(m); err != nil {
		s.t.Fatalf("send to the agent: %v", err)
	}
}

func (s *stream) configure(version uint64) {
	s.t.Helper()
	s.say(&shuntv1.AttachResponse{Message: &shuntv1.AttachResponse_Config{Config: &shuntv1.NodeConfig{Version: version}}})
}

func (s *stream) steerDone(id, err string) {
	s.t.Helper()
	s.say(&shuntv1.AttachResponse{Message: &shuntv1.AttachResponse_SteerDone{SteerDone: &shuntv1.SteerDone{Id: id, Error: err}}})
}

// greeted lets a stream begin as it should, up to and with the list of sessions.
func (s *stream) greeted() {
	s.t.Helper()
	if m := s.next(); m.GetHello() == nil {
		s.t.Fatalf("the first message is %v, want Hello", m)
	}
	s.configure(1)
	if m := s.next(); m.GetSync() == nil {
		s.t.Fatalf("after the configuration came %v, want Sync", m)
	}
}

// agent is a client and what was called of its options.
type agent struct {
	*Client
	configs  chan *shuntv1.NodeConfig
	released chan *shuntv1.Session
	dead     chan string
	stop     func() // ends Run and waits for it
}

func startAgent(t *testing.T, target string, change ...func(*Options)) *agent {
	t.Helper()
	a := &agent{configs: make(chan *shuntv1.NodeConfig, 100), released: make(chan *shuntv1.Session, 100), dead: make(chan string, 100)}
	o := Options{
		Target: target, Creds: insecure.NewCredentials(), Log: slog.New(slog.DiscardHandler),
		Hello:   func() *shuntv1.Hello { return &shuntv1.Hello{Node: "server1", Instance: 7} },
		Sync:    func(context.Context, uint64) (*shuntv1.Sync, error) { return &shuntv1.Sync{}, nil },
		Report:  func() *shuntv1.Report { return &shuntv1.Report{} },
		Config:  func(c *shuntv1.NodeConfig) { a.configs <- c },
		Release: func(r *shuntv1.Release) { a.released <- r.Session },
		Lost:    func(n *shuntv1.NodeLost) { a.dead <- n.Node },
	}
	for _, f := range change {
		f(&o)
	}
	a.Client = New(o)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- a.Run(ctx) }()
	stopped := false
	a.stop = func() {
		t.Helper()
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := receive(t, ended, "the end of Run"); err != nil {
			t.Errorf("Run: %v", err)
		}
	}
	t.Cleanup(a.stop)
	return a
}

// session is the n-th of many.
func session(n int) *shuntv1.Session {
	client := netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 10, byte(n >> 8), byte(n)}), 40000)
	return shuntv1.SessionOf(client, netip.MustParseAddrPort("172.31.0.1:80"))
}

func handoff(n int) *shuntv1.Handoff {
	return &shuntv1.Handoff{Id: fmt.Sprint("h", n), Session: session(n), Outcome: shuntv1.Outcome_OUTCOME_COMPLETED}
}

// steer begins a Steer and returns where its outcome arrives.
func (a *agent) steer(id string) <-chan error {
	done := make(chan error, 2) // a second call is seen by the test, not a deadlock
	a.Steer(&shuntv1.Steer{Id: id, Session: session(1), ToNode: "server2"}, func(err error) { done <- err })
	return done
}

func receive[T any](t *testing.T, from <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-from:
		return v
	case <-time.After(deadline):
		t.Fatalf("%s did not come within %v", what, deadline)
		panic("unreachable")
	}
}

// connected waits until the client is, or is not, connected.
func (a *agent) is(t *testing.T, connected bool) {
	t.Helper()
	for end := time.Now().Add(deadline); a.Connected() != connected; {
		if time.Now().After(end) {
			t.Fatalf("Connected stays %v for %v", !connected, deadline)
		}
		<-time.After(time.Millisecond)
	}
}
