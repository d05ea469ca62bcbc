package api

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"
	"google.golang.org/grpc/test/bufconn"

	"github.com/shunt-sdn/shunt/controller/registry"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// seats records what agents did.
type seats struct {
	refuse error

	mu    sync.Mutex
	calls []string
	links map[string]*Link
}

func (s *seats) note(format string, args ...any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.calls = append(s.calls, fmt.Sprintf(format, args...))
}

func (s *seats) Join(h registry.Hello, l *Link) (Agent, error) {
	if s.refuse != nil {
		return nil, s.refuse
	}
	s.note("join %s", h.Name)
	s.mu.Lock()
	s.links[h.Name] = l
	s.mu.Unlock()
	l.Configure(&shuntv1.NodeConfig{Version: 1})
	return seat{s, h.Name}, nil
}

type seat struct {
	*seats
	name string
}

func (s seat) Sync(q uint64, held []Held) { s.note("%s sync %d %v", s.name, q, held) }
func (s seat) Steer(m *shuntv1.Steer, e Ends) {
	s.note("%s steer %s %v to %s %d %d", s.name, m.Id, e, m.ToNode, m.ClientSeq, m.ClientAck)
}
func (s seat) Unsteer(id string, e Ends)      { s.note("%s unsteer %s %v", s.name, id, e) }
func (s seat) Ended(m *shuntv1.Ended, e Ends) { s.note("%s ended %q %v", s.name, m.Id, e) }
func (s seat) Handoff(h *shuntv1.Handoff)     { s.note("%s handoff %s", s.name, h.Id) }
func (s seat) Leave(silent bool) {
	if silent {
		s.note("%s leave, silent", s.name)
		return
	}
	s.note("%s leave", s.name)
}
func (s seat) Report(apps []registry.Application, r *shuntv1.Report) {
	s.note("%s report %v %d", s.name, apps, r.RequestsProxied)
}

// wait waits until the calls satisfy ok.
func (s *seats) wait(t *testing.T, what string, ok func(calls []string) bool) {
	t.Helper()
	eventually(t, what, func() bool {
		s.mu.Lock()
		defer s.mu.Unlock()
		return ok(s.calls)
	})
}

func (s *seats) saw(t *testing.T, call string) {
	t.Helper()
	s.wait(t, call, func(calls []string) bool { return strings.Contains(strings.Join(calls, "\n")+"\n", call+"\n") })
}

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

// ops answers operators with fixed things.
type ops struct{ sessions int }

func (o ops) Status(context.Context) (*shuntv1.GetStatusResponse, error) {
	return nil, errors.New("the switch is on fire")
}
func (o ops) Services() []*shuntv1.Service { return []*shuntv1.Service{{Name: "web"}} }
func (o ops) Sessions(context.Context) ([]*shuntv1.SessionInfo, error) {
	list := make([]*shuntv1.SessionInfo, o.sessions)
	for i := range list {
		list[i] = &shuntv1.SessionInfo{Node: fmt.Sprint(i)}
	}
	return list, nil
}
func (o ops) Handoffs(_ context.Context, limit int) ([]*shuntv1.Handoff, error) {
	return make([]*shuntv1.Handoff, 0, limit)[:0], nil
}
func (o ops) Nodes() []*shuntv1.NodeInfo { return nil }
func (o ops) Flows(context.Context) ([]*shuntv1.FlowInfo, error) {
	return nil, context.DeadlineExceeded
}

// serve runs a server over memory and returns a connection to it.
func serve(t *testing.T, a Agents, o Operations, log *slog.Logger) *grpc.ClientConn {
	t.Helper()
	l := bufconn.Listen(1 << 20)
	run(t, New(nil, silence, a, o, log), l, nil)
	conn, err := grpc.NewClient("passthrough:///x", grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return l.DialContext(ctx) }),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return conn
}

func run(t *testing.T, s *Server, network, operator net.Listener) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Serve(ctx, network, operator) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("server: %v", err)
		}
	})
}

func hello(node string) *shuntv1.AttachRequest {
	return &shuntv1.AttachRequest{Message: &shuntv1.AttachRequest_Hello{Hello: &shuntv1.Hello{
		Node: node, Roles: []shuntv1.Role{shuntv1.Role_ROLE_SERVER}, Mac: []byte{2, 0, 0, 0, 0, 1},
		Addresses: [][]byte{{10, 10, 2, 101}}, TransferEndpoint: "10.99.0.101:6641",
	}}}
}

type stream = grpc.BidiStreamingClient[shuntv1.AttachRequest, shuntv1.AttachResponse]

// attach connects an agent and takes its first configuration.
func attach(t *testing.T, conn grpc.ClientConnInterface, node string) stream {
	t.Helper()
	s, err := shuntv1.NewControlServiceClient(conn).Attach(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Send(hello(node)); err != nil {
		t.Fatal(err)
	}
	if m, err := s.Recv(); err != nil || m.GetConfig() == nil {
		t.Fatalf("%s got %v, %v; want a configuration", node, m, err)
	}
	return s
}

func recorder() *seats { return &seats{links: make(map[string]*Link)} }

var session = shuntv1.SessionOf(netip.MustParseAddrPort("10.10.1.2:4000"), netip.MustParseAddrPort("172.31.0.1:80"))

const ends = "{10.10.1.2:4000 172.31.0.1:80}"

// good has one well-formed message of each kind and what becomes of it.
func good() map[string]*shuntv1.AttachRequest {
	return map[string]*shuntv1.AttachRequest{
		"a sync 7 [{" + ends + " PATH_PROXIED server2 0}]": {Message: &shuntv1.AttachRequest_Sync{Sync: &shuntv1.Sync{Query: 7,
			Sessions: []*shuntv1.HeldSession{{Session: session, Path: shuntv1.Path_PATH_PROXIED, ProxiedTo: "server2"}}}}},
		"a steer h1 " + ends + " to server2 1 2": {Message: &shuntv1.AttachRequest_Steer{Steer: &shuntv1.Steer{Id: "h1", Session: session, ToNode: "server2", ClientSeq: 1, ClientAck: 2}}},
		"a unsteer h1 " + ends:                   {Message: &shuntv1.AttachRequest_Unsteer{Unsteer: &shuntv1.Unsteer{Id: "h1", Session: session}}},
		`a ended "h1" ` + ends:                   {Message: &shuntv1.AttachRequest_Ended{Ended: &shuntv1.Ended{Id: "h1", Session: session}}},
		`a ended "" ` + ends:                     {Message: &shuntv1.AttachRequest_Ended{Ended: &shuntv1.Ended{Session: session}}},
		"a handoff h1":                           {Message: &shuntv1.AttachRequest_Handoff{Handoff: &shuntv1.Handoff{Id: "h1", Session: session, Outcome: 1}}},
		"a report [{web invalid AddrPort true}] 3": {Message: &shuntv1.AttachRequest_Report{Report: &shuntv1.Report{RequestsProxied: 3,
			Applications: []*shuntv1.Application{{Service: "web", Ready: true}}}}},
	}
}

func TestWellFormedMessagesReachTheAgentAndAnswersReturn(t *testing.T) {
	r := recorder()
	s := attach(t, serve(t, r, ops{}, slog.New(slog.DiscardHandler)), "a")
	for want, m := range good() {
		if err := s.Send(m); err != nil {
			t.Fatal(err)
		}
		r.saw(t, want)
	}
	link := r.links["a"]
	for i := range 5000 {
		link.Send(&shuntv1.AttachResponse{Message: &shuntv1.AttachResponse_SteerDone{SteerDone: &shuntv1.SteerDone{Id: fmt.Sprint(i)}}})
	}
	for i := range 5000 {
		if m, err := s.Recv(); err != nil || m.GetSteerDone().GetId() != fmt.Sprint(i) {
			t.Fatalf("answer %d is %v, %v", i, m, err)
		}
	}
	if err := s.CloseSend(); err != nil {
		t.Fatal(err)
	}
	r.saw(t, "a leave")
}

func TestAMalformedMessageEndsItsStreamAndNoOther(t *testing.T) {
	r := recorder()
	var log lockedBuffer
	conn := serve(t, r, ops{}, slog.New(slog.NewTextHandler(&log, nil)))
	other := attach(t, conn, "other")
	wrap := func(m any) *shuntv1.AttachRequest {
		switch m := m.(type) {
		case *shuntv1.Sync:
			return &shuntv1.AttachRequest{Message: &shuntv1.AttachRequest_Sync{Sync: m}}
		case *shuntv1.Steer:
			return &shuntv1.AttachRequest{Message: &shuntv1.AttachRequest_Steer{Steer: m}}
		case *shuntv1.Unsteer:
			return &shuntv1.AttachRequest{Message: &shuntv1.AttachRequest_Unsteer{Unsteer: m}}
		case *shuntv1.Ended:
			return &shuntv1.AttachRequest{Message: &shuntv1.AttachRequest_Ended{Ended: m}}
		case *shuntv1.Handoff:
			return &shuntv1.AttachRequest{Message: &shuntv1.AttachRequest_Handoff{Handoff: m}}
		case *shuntv1.Report:
			return &shuntv1.AttachRequest{Message: &shuntv1.AttachRequest_Report{Report: m}}
		}
		return &shuntv1.AttachRequest{}
	}
	portless := &shuntv1.Session{Client: &shuntv1.Endpoint{Address: []byte{1, 2, 3, 4}}, Local: session.Local}
	for i, c := range []struct {
		m    *shuntv1.AttachRequest
		want string
	}{
		{wrap(nil), "a message that says nothing"},
		{hello("again"), "a second Hello"},
		{wrap(&shuntv1.Sync{Sessions: []*shuntv1.HeldSession{{Session: session}, {}}}), "Sync: session 2 of 2: session is missing"},
		{wrap(&shuntv1.Sync{Sessions: []*shuntv1.HeldSession{{Session: session, Path: 99}}}), "path 99 is unknown"},
		{wrap(&shuntv1.Steer{Session: session}), "Steer: hand-off's id has 0 octets"},
		{wrap(&shuntv1.Steer{Id: "h"}), "Steer: hand-off h: session is missing"},
		{wrap(&shuntv1.Unsteer{Id: "h", Session: portless}), "Unsteer: hand-off h: session's client: endpoint has port 0"},
		{wrap(&shuntv1.Ended{Session: portless}), "Ended: session's client"},
		{wrap(&shuntv1.Ended{Session: session, Id: strings.Repeat("x", 200)}), "Ended: hand-off's id has 200 octets"},
		{wrap(&shuntv1.Handoff{Id: "h", Session: session}), "outcome OUTCOME_UNSPECIFIED is unknown"},
		{wrap(&shuntv1.Report{Guard: map[string]uint64{strings.Repeat("x", 1<<17): 1}}), "Report: "},
		{wrap(&shuntv1.Report{Applications: []*shuntv1.Application{{}}}), "application of the service"},
	} {
		node := fmt.Sprint("bad", i)
		s := attach(t, conn, node)
		if err := s.Send(c.m); err != nil {
			t.Fatal(err)
		}
		_, err := s.Recv()
		if status.Code(err) != codes.InvalidArgument || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v, want InvalidArgument with %q", c.m, err, c.want)
		}
		r.saw(t, node+" leave")
		if text := log.String(); !strings.Contains(text, "node="+node) || !strings.Contains(text, "level=ERROR") {
			t.Errorf("the log does not name %s:\n%s", node, text)
		}
	}
	for want, m := range good() {
		if err := other.Send(m); err != nil {
			t.Fatal(err)
		}
		r.saw(t, "other"+strings.TrimPrefix(want, "a"))
	}
}

type lockedBuffer struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *lockedBuffer) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *lockedBuffer) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func TestWhoDoesNotSayAProperHelloIsRefused(t *testing.T) {
	first := good()["a handoff h1"]
	bad := hello("x")
	bad.GetHello().Mac = nil
	for name, c := range map[string]struct {
		refuse error
		m      *shuntv1.AttachRequest
		want   codes.Code
	}{
		"no Hello":        {nil, first, codes.InvalidArgument},
		"a bad Hello":     {nil, bad, codes.InvalidArgument},
		"not allowed":     {registry.ErrNotAllowed, hello("x"), codes.PermissionDenied},
		"a clash":         {registry.ErrClash, hello("x"), codes.AlreadyExists},
		"too many":        {registry.ErrTooMany, hello("x"), codes.ResourceExhausted},
		"something wrong": {errors.New("disk full"), hello("x"), codes.Internal},
	} {
		t.Run(name, func(t *testing.T) {
			r := recorder()
			r.refuse = c.refuse
			s, err := shuntv1.NewControlServiceClient(serve(t, r, ops{}, slog.New(slog.DiscardHandler))).Attach(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Send(c.m); err != nil {
				t.Fatal(err)
			}
			if _, err := s.Recv(); status.Code(err) != c.want {
				t.Errorf("got %v, want %v", err, c.want)
			}
			if len(r.calls) != 0 {
				t.Errorf("calls %v", r.calls)
			}
		})
	}
}

func TestAClosedLinkEndsTheStreamWithItsStatus(t *testing.T) {
	r := recorder()
	s := attach(t, serve(t, r, ops{}, slog.New(slog.DiscardHandler)), "a")
	r.links["a"].Close(status.Error(codes.Aborted, "another instance"))
	if _, err := s.Recv(); status.Code(err) != codes.Aborted {
		t.Errorf("got %v", err)
	}
	r.saw(t, "a leave")
}

func TestAnAgentThatDoesNotReadIsCutOff(t *testing.T) {
	r := recorder()
	attach(t, serve(t, r, ops{}, slog.New(slog.DiscardHandler)), "a") // and never reads again
	m := &shuntv1.AttachResponse{Message: &shuntv1.AttachResponse_SteerDone{SteerDone: &shuntv1.SteerDone{Id: strings.Repeat("x", 4096)}}}
	for link := r.links["a"]; ; link.Send(m) {
		select {
		case <-link.Done():
			if status.Code(link.cause()) != codes.ResourceExhausted {
				t.Errorf("cause %v", link.cause())
			}
			r.saw(t, "a leave")
			return
		case <-t.Context().Done():
			t.Fatal("memory without end")
		default:
		}
	}
}
