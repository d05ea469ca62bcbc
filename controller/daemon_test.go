package controller

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/shunt-sdn/shunt/controller/config"
	"github.com/shunt-sdn/shunt/controller/leases"
	"github.com/shunt-sdn/shunt/internal/policyproto"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// testConfig is a cluster with one service in both families.
func testConfig(t *testing.T) config.Config {
	t.Helper()
	dir := t.TempDir()
	text := fmt.Sprintf(`listen: {grpc: "127.0.0.1:1", operator: "unix:%[1]s/c.sock"}
insecure: true
state: %[1]s/c.db
pools: [172.31.0.0/24, "fd31::/120"]
switches:
- {connect: "unix:%[1]s/switch", interfaces: [{name: nodes, mac: "02:00:00:00:00:01", addresses: [10.10.2.1/24, "fd10:2::1/64"], ports: [p1]}]}
services:
- {name: web, vips: [10.10.0.80, "fd10::80"], port: 80}
`, dir)
	cfg, err := config.Parse("c.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	return cfg
}

// daemon is a running controller.
type daemon struct {
	cfg  config.Config
	sw   *recorder
	conn *grpc.ClientConn
	stop func()
}

// start runs a controller with its network listener on a free port.
func start(t *testing.T, cfg config.Config) *daemon {
	t.Helper()
	cfg.Listen.GRPC = freePort(t)
	d := &daemon{cfg: cfg, sw: newRecorder()}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	log := slog.New(slog.NewTextHandler(testWriter(t), &slog.HandlerOptions{Level: slog.LevelDebug}))
	go func() {
		done <- run(ctx, cfg, "test", log, func(*leases.Store) (switches, error) { return d.sw, nil })
	}()
	eventually(t, "it listens", func() bool {
		c, err := net.Dial("tcp", cfg.Listen.GRPC)
		if err == nil {
			c.Close()
		}
		return err == nil
	})
	var err error
	d.conn, err = grpc.NewClient(cfg.Listen.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	d.stop = sync.OnceFunc(func() {
		d.conn.Close()
		cancel()
		if err := <-done; err != nil {
			t.Errorf("controller: %v", err)
		}
	})
	t.Cleanup(d.stop)
	return d
}

func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// testWriter logs to the test until it is over.
func testWriter(t *testing.T) io.Writer {
	w := &logWriter{t: t}
	t.Cleanup(func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.t = nil
	})
	return w
}

type logWriter struct {
	mu sync.Mutex
	t  *testing.T
}

func (w *logWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.t != nil {
		w.t.Log(strings.TrimSpace(string(p)))
	}
	return len(p), nil
}

func (d *daemon) operator() shuntv1.OperatorServiceClient {
	return shuntv1.NewOperatorServiceClient(d.conn)
}

func (d *daemon) status(t *testing.T) *shuntv1.GetStatusResponse {
	t.Helper()
	s, err := d.operator().GetStatus(t.Context(), &shuntv1.GetStatusRequest{}, grpc.WaitForReady(true))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// sessions returns the list as "client service node path".
func (d *daemon) sessions(t *testing.T) (out []string) {
	t.Helper()
	s, err := d.operator().ListSessions(t.Context(), &shuntv1.ListSessionsRequest{}, grpc.WaitForReady(true))
	if err != nil {
		t.Fatal(err)
	}
	for {
		m, err := s.Recv()
		if err == io.EOF {
			return out
		}
		if err != nil {
			t.Fatal(err)
		}
		for _, x := range m.Sessions {
			c, _, _ := x.Session.Ends()
			out = append(out, fmt.Sprintf("%v %s %s %s", c, x.Service, x.Node, strings.TrimPrefix(x.Path.String(), "PATH_")))
		}
	}
}

// peer is an agent that lives in the test.
type peer struct {
	t      *testing.T
	name   string
	stream grpc.BidiStreamingClient[shuntv1.AttachRequest, shuntv1.AttachResponse]
	cancel context.CancelFunc
	done   chan struct{}

	mu       sync.Mutex
	config   *shuntv1.NodeConfig
	configs  int
	held     []*shuntv1.HeldSession
	mute     bool // does not answer queries
	answers  []string
	released []string
	lost     []string
	err      error
}

var roles = map[string]shuntv1.Role{"dispatcher": shuntv1.Role_ROLE_DISPATCHER, "server": shuntv1.Role_ROLE_SERVER}

// helloOf makes the Hello of dispatcherN or serverN.
func helloOf(name string, instance uint64) *shuntv1.Hello {
	kind := strings.TrimRight(name, "0123456789")
	var n byte
	fmt.Sscan(strings.TrimPrefix(name, kind), &n)
	if kind == "server" {
		n += 100
	} else {
		n += 10
	}
	h := &shuntv1.Hello{
		Node: name, Roles: []shuntv1.Role{roles[kind]}, Mac: []byte{2, 0, 0, 0, 2, n},
		Addresses:        [][]byte{{10, 10, 2, n}, netip.MustParseAddr(fmt.Sprintf("fd10:2::%d", n)).AsSlice()},
		TransferEndpoint: fmt.Sprintf("10.99.0.%d:6641", n), Instance: instance,
	}
	if kind == "server" {
		h.Applications = []*shuntv1.Application{{Service: "web", Direct: &shuntv1.Endpoint{Address: []byte{10, 10, 2, n}, Port: 80}, Ready: true}}
	}
	return h
}

// join connects an agent and sends its Sync.
func (d *daemon) join(t *testing.T, name string, held ...*shuntv1.HeldSession) *peer {
	t.Helper()
	p := d.hello(t, helloOf(name, uint64(time.Now().UnixNano())))
	p.hold(held...)
	p.send(&shuntv1.AttachRequest{Message: &shuntv1.AttachRequest_Sync{Sync: &shuntv1.Sync{Sessions: held}}})
	return p
}

// hello connects an agent and waits for its configuration.
func (d *daemon) hello(t *testing.T, h *shuntv1.Hello) *peer {
	t.Helper()
	p := &peer{t: t, name: h.Node, done: make(chan struct{})}
	ctx, cancel := context.WithCancel(context.Background())
	var err error
	if p.stream, err = shuntv1.NewControlServiceClient(d.conn).Attach(ctx, grpc.WaitForReady(true)); err != nil {
		t.Fatal(err)
	}
	p.cancel = func() { cancel(); <-p.done }
	t.Cleanup(p.cancel)
	go p.receive()
	p.send(&shuntv1.AttachRequest{Message: &shuntv1.AttachRequest_Hello{Hello: h}})
	eventually(t, h.Node+" has a configuration", func() bool { return p.latest() != nil || p.ended() != nil })
	return p
}

func (p *peer) receive() {
	defer close(p.done)
	for {
		m, err := p.stream.Recv()
		p.mu.Lock()
		if err != nil {
			p.err = err
			p.mu.Unlock()
			return
		}
		query := m.GetSnapshot()
		switch {
		case m.GetConfig() != nil:
			p.config = whole(p.t, p.config, m.GetConfig())
			p.configs++
		case m.GetSteerDone() != nil:
			p.answers = append(p.answers, fmt.Sprintf("%s %q", m.GetSteerDone().Id, m.GetSteerDone().Error))
		case m.GetRelease() != nil:
			c, l, _ := m.GetRelease().Session.Ends()
			p.released = append(p.released, fmt.Sprintf("%v %v", c, l))
		case m.GetNodeLost() != nil:
			p.lost = append(p.lost, fmt.Sprintf("%s %v", m.GetNodeLost().Node, net.HardwareAddr(m.GetNodeLost().Mac)))
		}
		held, mute := p.held, p.mute
		p.mu.Unlock()
		if query != nil && !mute {
			p.send(&shuntv1.AttachRequest{Message: &shuntv1.AttachRequest_Sync{Sync: &shuntv1.Sync{Query: query.Query, Sessions: held}}})
		}
	}
}

// whole fills in what a configuration's policy has from the one before.
func whole(t *testing.T, before, c *shuntv1.NodeConfig) *shuntv1.NodeConfig {
	s := c.GetPolicy()
	p, err := policyproto.Apply(before.GetPolicy().GetPolicy(), before.GetPolicy().GetVersion(), s)
	if err != nil {
		t.Errorf("a configuration that cannot be applied: %v", err)
		return before
	}
	c.Policy = &shuntv1.PolicySnapshot{Version: s.GetVersion(), Policy: p, States: s.GetStates()}
	return c
}

func (p *peer) send(m *shuntv1.AttachRequest) {
	if err := p.stream.Send(m); err != nil && err != io.EOF {
		p.t.Logf("%s cannot send: %v", p.name, err)
	}
}

func (p *peer) hold(held ...*shuntv1.HeldSession) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.held = held
}

func (p *peer) latest() *shuntv1.NodeConfig {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.config
}

func (p *peer) ended() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.err
}

// lease returns the session address of a dispatcher, with the service's port.
func (p *peer) lease(t *testing.T, dispatcher string, v6 bool) netip.AddrPort {
	t.Helper()
	var found netip.AddrPort
	eventually(t, "a lease of "+dispatcher, func() bool {
		for _, s := range p.latest().Services {
			for _, l := range s.Leases {
				if local, err := l.Local.AddrPort(); err == nil && l.Dispatcher == dispatcher && local.Addr().Is6() == v6 {
					found = local
				}
			}
		}
		return found.IsValid()
	})
	return found
}

func (p *peer) got(t *testing.T, what string, list *[]string) {
	t.Helper()
	eventually(t, p.name+" gets "+what, func() bool {
		p.mu.Lock()
		defer p.mu.Unlock()
		for _, x := range *list {
			if x == what {
				return true
			}
		}
		return false
	})
}

func (p *peer) steer(id, client string, local netip.AddrPort, node string) {
	p.send(&shuntv1.AttachRequest{Message: &shuntv1.AttachRequest_Steer{Steer: &shuntv1.Steer{
		Id: id, Session: shuntv1.SessionOf(netip.MustParseAddrPort(client), local), ToNode: node, ClientSeq: 1, ClientAck: 2,
	}}})
}

func (p *peer) unsteer(id, client string, local netip.AddrPort) {
	p.send(&shuntv1.AttachRequest{Message: &shuntv1.AttachRequest_Unsteer{Unsteer: &shuntv1.Unsteer{
		Id: id, Session: shuntv1.SessionOf(netip.MustParseAddrPort(client), local),
	}}})
}

func (p *peer) over(id, client string, local netip.AddrPort) {
	p.send(&shuntv1.AttachRequest{Message: &shuntv1.AttachRequest_Ended{Ended: &shuntv1.Ended{
		Id: id, Session: shuntv1.SessionOf(netip.MustParseAddrPort(client), local),
	}}})
}

func heldAt(client string, local netip.AddrPort, path shuntv1.Path, proxied string) *shuntv1.HeldSession {
	return &shuntv1.HeldSession{Session: shuntv1.SessionOf(netip.MustParseAddrPort(client), local), Path: path, ProxiedTo: proxied}
}
