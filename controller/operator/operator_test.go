package operator

import (
	"bytes"
	"context"
	"encoding/json"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/status"

	"github.com/shunt-sdn/shunt/internal/tlsconf"
	"github.com/shunt-sdn/shunt/internal/tlsconf/tlstest"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// controller answers with fixed things.
type controller struct {
	shuntv1.UnimplementedOperatorServiceServer
	empty bool
	fail  error
}

var (
	v4 = shuntv1.SessionOf(netip.MustParseAddrPort("10.10.1.2:4000"), netip.MustParseAddrPort("172.31.0.1:80"))
	v6 = shuntv1.SessionOf(netip.MustParseAddrPort("[fd10:1::2]:4000"), netip.MustParseAddrPort("[fd31::1]:80"))
)

func (c controller) GetStatus(context.Context, *shuntv1.GetStatusRequest) (*shuntv1.GetStatusResponse, error) {
	if c.empty || c.fail != nil {
		return &shuntv1.GetStatusResponse{}, c.fail
	}
	return &shuntv1.GetStatusResponse{
		HandoffsCompleted: 20000, HandoffsRolledBack: 2, HandoffsFailed: 1, RequestsProxied: 3, Sessions: 4,
		Switches: []*shuntv1.SwitchStatus{
			{Dpid: 0xabc, Connected: true, Steering: "conntrack", Flows: 57, Address: "10.99.0.2:40000"},
			{Dpid: 0xdef, Steering: "flows", Flows: 60, Error: "the switch does not answer echo requests"},
		},
		Nodes: []*shuntv1.Node{server1()},
	}, nil
}

func server1() *shuntv1.Node {
	return &shuntv1.Node{
		Name: "server1", Roles: []shuntv1.Role{1, 2}, Up: true, Mac: []byte{2, 0, 0, 0, 0, 1},
		Addresses: [][]byte{{10, 10, 2, 101}}, TransferEndpoint: "10.99.0.101:6641",
		Applications: []*shuntv1.Application{{Service: "web", Direct: &shuntv1.Endpoint{Address: []byte{10, 10, 2, 101}, Port: 80}, Ready: true}},
	}
}

func (c controller) ListServices(context.Context, *shuntv1.ListServicesRequest) (*shuntv1.ListServicesResponse, error) {
	if c.empty {
		return &shuntv1.ListServicesResponse{}, nil
	}
	return &shuntv1.ListServicesResponse{Services: []*shuntv1.Service{{
		Name: "web", Vips: []*shuntv1.Endpoint{{Address: []byte{10, 10, 0, 80}, Port: 80}}, Servers: []string{"server1"},
		Leases:       []*shuntv1.Lease{{Dispatcher: "dispatcher1", Local: v4.Local, Vip: &shuntv1.Endpoint{Address: []byte{10, 10, 0, 80}, Port: 80}}},
		MaxHeadBytes: 16384, HeadTimeoutMs: 10000, ImportTimeoutMs: 1000, SteerAfterMs: 20,
	}}}, nil
}

func (c controller) ListSessions(_ *shuntv1.ListSessionsRequest, s grpc.ServerStreamingServer[shuntv1.ListSessionsResponse]) error {
	if c.empty {
		return nil
	}
	for _, part := range [][]*shuntv1.SessionInfo{
		{{Session: v4, Service: "web", Node: "server1", Path: shuntv1.Path_PATH_SWITCHED}, {Session: v6, Service: "web", Node: "dispatcher1", Path: shuntv1.Path_PATH_DISPATCHER}},
		{{Session: v4, Service: "web", Node: "server2", Path: shuntv1.Path_PATH_PROXIED}, {Session: v4, Service: "web", Node: "server2", Path: shuntv1.Path_PATH_DIVERTED}},
	} {
		if err := s.Send(&shuntv1.ListSessionsResponse{Sessions: part}); err != nil {
			return err
		}
	}
	return nil
}

func (c controller) ListHandoffs(_ context.Context, r *shuntv1.ListHandoffsRequest) (*shuntv1.ListHandoffsResponse, error) {
	if c.empty {
		return &shuntv1.ListHandoffsResponse{}, nil
	}
	list := []*shuntv1.Handoff{
		{
			Id: "d1-2", Session: v6, Service: "web", FromNode: "dispatcher1", ToNode: "server1", Outcome: shuntv1.Outcome_OUTCOME_ROLLED_BACK,
			StartedUnixNano: 1767225600000000100, TotalUs: 900, Reason: "refused: not ready",
		},
		{
			Id: "d1-1", Session: v4, Service: "web", FromNode: "dispatcher1", ToNode: "server1", Outcome: shuntv1.Outcome_OUTCOME_COMPLETED,
			StartedUnixNano: 1767225600123456789, TotalUs: 312,
			Steps:   []*shuntv1.Step{{Name: "choose", DurationUs: 3}, {Name: "freeze", DurationUs: 12}},
			TraceId: "0af7651916cd43dd8448eb211c80319c",
		},
	}
	return &shuntv1.ListHandoffsResponse{Handoffs: list[:min(int(r.Limit), len(list))]}, nil
}

func (c controller) ListNodes(context.Context, *shuntv1.ListNodesRequest) (*shuntv1.ListNodesResponse, error) {
	if c.empty {
		return &shuntv1.ListNodesResponse{}, nil
	}
	return &shuntv1.ListNodesResponse{Nodes: []*shuntv1.NodeInfo{
		{Node: server1(), Sessions: 7, Report: &shuntv1.Report{RequestsProxied: 3, RequestsRefused: 1, Guard: map[string]uint64{"delivered": 9}, PolicyVersion: 4, PolicyError: "services[0].name: too new"}},
		{Node: &shuntv1.Node{Name: "dispatcher1"}},
	}}, nil
}

func (c controller) ListFlows(context.Context, *shuntv1.ListFlowsRequest) (*shuntv1.ListFlowsResponse, error) {
	if c.empty {
		return &shuntv1.ListFlowsResponse{}, nil
	}
	return &shuntv1.ListFlowsResponse{Flows: []*shuntv1.FlowInfo{{
		Dpid: 1, Table: 2, Priority: 100, Cookie: 0x5348000000000001, Match: "tcp,nw_dst=10.10.0.80", Actions: "output:2", Packets: 5, Bytes: 1 << 60,
	}}}, nil
}

// serve runs a controller on a unix socket and returns its address.
func serve(t *testing.T, c controller) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	serveOn(t, l, c)
	return "unix:" + path
}

func serveOn(t *testing.T, l net.Listener, c controller, o ...grpc.ServerOption) {
	g := grpc.NewServer(o...)
	shuntv1.RegisterOperatorServiceServer(g, c)
	done := make(chan struct{})
	go func() { defer close(done); g.Serve(l) }()
	t.Cleanup(func() { g.Stop(); <-done })
}

// asked returns the answers to every question by verb.
func asked(t *testing.T, c *Client) map[string]Answer {
	t.Helper()
	ctx := t.Context()
	out := make(map[string]Answer)
	keep := func(verb string, a Answer, err error) {
		if err != nil {
			t.Fatalf("%s: %v", verb, err)
		}
		out[verb] = a
	}
	status, err := c.Status(ctx)
	keep("status", status, err)
	services, err := c.Services(ctx)
	keep("services", services, err)
	sessions, err := c.Sessions(ctx)
	keep("sessions", sessions, err)
	handoffs, err := c.Handoffs(ctx, 100)
	keep("handoffs", handoffs, err)
	nodes, err := c.Nodes(ctx)
	keep("nodes", nodes, err)
	flows, err := c.Flows(ctx)
	keep("flows", flows, err)
	return out
}

func dial(t *testing.T, target Target) *Client {
	t.Helper()
	c, err := Dial(target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

// TestTheShapesThatScriptsRelyOn compares what each verb prints with the files
// in testdata, byte for byte.
func TestTheShapesThatScriptsRelyOn(t *testing.T) {
	answers := asked(t, dial(t, Target{Address: serve(t, controller{})}))
	for verb, a := range answers {
		for _, format := range []string{"json", "table"} {
			var got bytes.Buffer
			if err := Print(&got, format, a); err != nil {
				t.Fatal(err)
			}
			want, err := os.ReadFile(filepath.Join("testdata", verb+"."+format))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got.String()); diff != "" {
				t.Errorf("%s -o %s: file -, printed +:\n%s", verb, format, diff)
			}
		}
	}
}

// TestKeysAndTypes holds the JSON against the interface's description, apart
// from the files, which a change of mind could regenerate.
func TestKeysAndTypes(t *testing.T) {
	answers := asked(t, dial(t, Target{Address: serve(t, controller{})}))
	decode := func(verb string) (v any) {
		var out bytes.Buffer
		if err := Print(&out, "json", answers[verb]); err != nil {
			t.Fatal(err)
		}
		if err := json.Unmarshal(out.Bytes(), &v); err != nil {
			t.Fatal(err)
		}
		return v
	}
	status := decode("status").(map[string]any)
	for path, want := range map[string]any{
		"handoffs.completed": 20000.0, "handoffs.rolled_back": 2.0, "handoffs.failed": 1.0, "requests.proxied": 3.0, "sessions": 4.0,
		"switches.0.dpid": "0000000000000abc", "switches.0.connected": true, "switches.0.steering": "conntrack", "switches.0.flows": 57.0,
		"switches.1.dpid": "0000000000000def", "switches.1.connected": false, "switches.1.steering": "flows", "switches.1.flows": 60.0,
		"switches.1.error": "the switch does not answer echo requests",
		"nodes.0.name":     "server1", "nodes.0.roles.1": "server", "nodes.0.up": true,
	} {
		if got := at(status, path); got != want {
			t.Errorf("status %s is %#v, want %#v", path, got, want)
		}
	}
	sessions := decode("sessions")
	for path, want := range map[string]any{
		"0.client": "10.10.1.2:4000", "1.client": "[fd10:1::2]:4000", "0.service": "web", "0.node": "server1",
		"0.path": "switched", "1.path": "dispatcher", "2.path": "proxied", "3.path": "diverted",
	} {
		if got := at(sessions, path); got != want {
			t.Errorf("sessions %s is %#v, want %#v", path, got, want)
		}
	}
	handoffs := decode("handoffs")
	for path, want := range map[string]any{
		"1.id": "d1-1", "1.client": "10.10.1.2:4000", "1.service": "web", "1.from": "dispatcher1", "1.to": "server1",
		"1.outcome": "completed", "0.outcome": "rolled_back", "1.started": "2026-01-01T00:00:00.123456789Z",
		"0.started": "2026-01-01T00:00:00.000000100Z", "1.total_us": 312.0, "1.steps.1.name": "freeze", "1.steps.1.us": 12.0,
	} {
		if got := at(handoffs, path); got != want {
			t.Errorf("handoffs %s is %#v, want %#v", path, got, want)
		}
	}
}

// at follows a path of keys and positions.
func at(v any, path string) any {
	for _, k := range strings.Split(path, ".") {
		switch x := v.(type) {
		case map[string]any:
			v = x[k]
		case []any:
			i := int(k[0] - '0')
			if i >= len(x) {
				return nil
			}
			v = x[i]
		}
	}
	return v
}

func TestEmptyListsAreListsAndNotNull(t *testing.T) {
	for verb, a := range asked(t, dial(t, Target{Address: serve(t, controller{empty: true})})) {
		var out bytes.Buffer
		if err := Print(&out, "json", a); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(out.String(), "null") || verb != "status" && out.String() != "[]\n" {
			t.Errorf("%s: %s", verb, out.String())
		}
	}
}

func TestAnUnknownFormatIsRefused(t *testing.T) {
	if err := Print(&bytes.Buffer{}, "xml", Status{}); err == nil || !strings.Contains(err.Error(), "-o json or -o table") {
		t.Errorf("got %v", err)
	}
}

func TestErrorsSayWhatToDo(t *testing.T) {
	ca := tlstest.NewCA(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	conf, err := ca.Files(t, "controller", "127.0.0.1").Server()
	if err != nil {
		t.Fatal(err)
	}
	serveOn(t, l, controller{}, grpc.Creds(credentials.NewTLS(conf)))
	ask := func(target Target) error {
		c, err := Dial(target)
		if err != nil {
			return err
		}
		defer c.Close()
		_, err = c.Status(t.Context())
		return err
	}
	for want, target := range map[string]Target{
		"":                         {Address: l.Addr().String(), TLS: ca.Files(t, "operator")},
		"does it want TLS?":        {Address: l.Addr().String()},
		"neither unix:/path nor":   {Address: "nowhere"},
		"is it running":            {Address: "unix:/nonexistent/socket"},
		"tls: key is missing":      {Address: l.Addr().String(), TLS: tlsconf.Files{Cert: "/x", CA: "/y"}},
		"the switch is on fire":    {Address: serve(t, controller{fail: status.Error(codes.Internal, "the switch is on fire")})},
		"try a longer --timeout":   {Address: serve(t, controller{fail: status.Error(codes.DeadlineExceeded, "late")})},
		"correct --controller or ": {Address: ":6640"},
	} {
		if err := ask(target); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%v: got %v, want %q", target, err, want)
		}
	}
}
