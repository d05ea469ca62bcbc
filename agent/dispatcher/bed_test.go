package dispatcher

import (
	"bufio"
	"context"
	"crypto/sha256"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/shunt-sdn/shunt/agent/attach"
	"github.com/shunt-sdn/shunt/agent/peer"
	"github.com/shunt-sdn/shunt/agent/routing"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const deadline = 10 * time.Second

// network records what a dispatcher asks of the guard and the controller.
type network struct {
	connected atomic.Bool

	mu       sync.Mutex
	diverted map[netip.AddrPort]int // by client: diversions less their ends
	steered  map[string]string      // nodes by hand-off
	records  []*shuntv1.Handoff
	lost     []string // sessions
	settled  []string // "client of owner"
	used     bool     // a client has spoken since it was diverted
	answered bool     // and has acknowledged an answer
}

func (n *network) Divert(client, _ netip.AddrPort, _ net.HardwareAddr, _ uint64) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.diverted[client]++
	return nil
}

func (n *network) DivertUnanswered(client, session netip.AddrPort, mac net.HardwareAddr, owner uint64) error {
	return n.Divert(client, session, mac, owner)
}

func (n *network) Undivert(client, _ netip.AddrPort) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.diverted[client]--
	return nil
}

func (n *network) Settle(client, session netip.AddrPort, owner uint64) error {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.settled = append(n.settled, fmt.Sprint(client, " of ", owner))
	return nil
}

func (n *network) Release(client, session netip.AddrPort, _ uint64) error {
	return n.Undivert(client, session)
}

func (n *network) Unused(client, _ netip.AddrPort, _ uint64) (bool, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.diverted[client] == 1 && !n.used, nil
}

func (n *network) Answered(client, _ netip.AddrPort, _ uint64, _ uint32) (bool, error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.diverted[client] == 1 && n.answered, nil
}

func (n *network) Connected() bool { return n.connected.Load() }

func (n *network) Steer(m *shuntv1.Steer, done func(error)) {
	n.mu.Lock()
	n.steered[m.Id] = m.ToNode
	n.mu.Unlock()
	done(nil)
}

func (n *network) Unsteer(m *shuntv1.Unsteer) {
	n.mu.Lock()
	defer n.mu.Unlock()
	delete(n.steered, m.Id)
}

func (n *network) Lost(client, _ netip.AddrPort, owner uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lost = append(n.lost, fmt.Sprint(client, " of ", owner))
}

func (n *network) Handoff(h *shuntv1.Handoff) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.records = append(n.records, h)
}

// bed is a dispatcher that listens on a port of this host's own.
type bed struct {
	*Dispatcher
	t       *testing.T
	network *network
	peers   *peer.Pool
	service Service
}

// The lease's port is the kernel's choice.
var lease = netip.MustParseAddrPort("127.0.0.1:0")

var vip = netip.MustParseAddrPort("10.10.0.80:80")

func newBed(t *testing.T, s Service, local map[string]attach.Attachment) *bed {
	t.Helper()
	log := slog.New(slog.DiscardHandler)
	b := &bed{t: t, peers: peer.NewPool(insecure.NewCredentials(), log), service: s,
		network: &network{diverted: make(map[netip.AddrPort]int), steered: make(map[string]string)}}
	b.network.connected.Store(true)
	b.Dispatcher = New(Options{Node: "here", Instance: 7, Guard: b.network, Controller: b.network, Peers: b.peers, Local: local, Policy: routing.New(log), Log: log, Lost: b.network.Lost})
	t.Cleanup(b.peers.Close)
	t.Cleanup(b.Close)
	b.service.Name = "web"
	b.service.Leases = []Lease{{Local: lease, VIP: vip}}
	b.service.MaxHead = max(b.service.MaxHead, 1024)
	if b.service.HeadTimeout == 0 {
		b.service.HeadTimeout = deadline
	}
	b.service.ImportTimeout = time.Second
	b.set(b.service)
	return b
}

func (b *bed) set(services ...Service) {
	b.t.Helper()
	b.policy(services)
	if err := b.Set(services); err != nil {
		b.t.Fatal(err)
	}
}

// policy has the services dispatched round robin.
func (b *bed) policy(services []Service) {
	b.t.Helper()
	var list []routing.Service
	for _, s := range services {
		r := routing.Service{Name: s.Name}
		for _, srv := range s.Servers {
			r.Servers = append(r.Servers, routing.Server{Node: srv.Node, Up: true})
		}
		list = append(list, r)
	}
	if err := b.o.Policy.Apply(list, nil); err != nil {
		b.t.Fatal(err)
	}
}

// addr is where the service is dispatched.
func (b *bed) addr() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.listeners[lease].Addr().String()
}

// client is a connection to a dispatched service.
type client struct {
	*net.TCPConn
	t *testing.T
	r *bufio.Reader
}

func (b *bed) dial() *client {
	b.t.Helper()
	c, err := net.DialTimeout("tcp", b.addr(), deadline)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(deadline))
	return &client{c.(*net.TCPConn), b.t, bufio.NewReader(c)}
}

func (c *client) say(text string) {
	c.t.Helper()
	if _, err := io.WriteString(c, text); err != nil {
		c.t.Fatalf("send: %v", err)
	}
}

// response reads the next response.
func (c *client) response() (status int, body string) {
	c.t.Helper()
	r, err := http.ReadResponse(c.r, nil)
	if err != nil {
		c.t.Fatalf("read the response: %v", err)
	}
	text, err := io.ReadAll(r.Body)
	if err != nil {
		c.t.Fatalf("read the response's body: %v", err)
	}
	return r.StatusCode, string(text)
}

// closedInOrder asserts that nothing but a FIN follows.
func (c *client) closedInOrder() {
	c.t.Helper()
	if rest, err := io.ReadAll(c.r); err != nil || len(rest) > 0 {
		c.t.Errorf("want a connection closed in order, got %d octets, %v", len(rest), err)
	}
}

// application is a web server that says its name, or the digest of a body.
func application(t *testing.T, name string) Server {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			h := sha256.New()
			n, err := io.Copy(h, r.Body)
			if err != nil {
				return
			}
			fmt.Fprintf(w, "%d %x", n, h.Sum(nil))
			return
		}
		fmt.Fprintf(w, "%s %s", name, r.URL.Path)
	}))
	t.Cleanup(s.Close)
	return Server{Node: name, Up: true, Ready: true, Direct: netip.MustParseAddrPort(s.Listener.Addr().String())}
}

// absent is a server at whose address nobody listens.
func absent(t *testing.T, name string) Server {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return Server{Node: name, Up: true, Ready: true, Direct: netip.MustParseAddrPort(l.Addr().String())}
}

// local is this node's own application: it answers with its name.
type local struct {
	ready  atomic.Bool
	fail   error // of Attach
	metas  chan attach.Meta
	served sync.WaitGroup
}

func newLocal(t *testing.T) *local {
	l := &local{metas: make(chan attach.Meta, 10)}
	l.ready.Store(true)
	t.Cleanup(l.served.Wait)
	return l
}

func (l *local) Ready() bool                    { return l.ready.Load() }
func (l *local) Shutdown(context.Context) error { return nil }
func (l *local) Close() error                   { return nil }

func (l *local) Attach(_ context.Context, fd int, m attach.Meta) error {
	l.metas <- m
	if l.fail != nil {
		return l.fail
	}
	f := os.NewFile(uintptr(fd), "session")
	c, err := net.FileConn(f)
	f.Close()
	if err != nil {
		return err
	}
	l.served.Go(func() {
		defer c.Close()
		c.SetDeadline(time.Now().Add(deadline))
		r, err := http.ReadRequest(bufio.NewReader(c))
		if err != nil {
			return
		}
		text := "local " + r.URL.Path
		fmt.Fprintf(c, "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: %d\r\n\r\n%s", len(text), text)
	})
	return nil
}

func await(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(deadline); !f(); {
		if time.Now().After(end) {
			t.Fatalf("not in time: %s", what)
		}
		<-time.After(time.Millisecond)
	}
}
