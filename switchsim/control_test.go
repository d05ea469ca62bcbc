package switchsim_test

import (
	"context"
	"crypto/tls"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/shunt-sdn/shunt/controller/openflow"
	"github.com/shunt-sdn/shunt/internal/testnet"
	"github.com/shunt-sdn/shunt/internal/tlsconf/tlstest"
	"github.com/shunt-sdn/shunt/switchsim"
)

// controller is a listener that takes what dials in through the handshake.
type controller struct {
	t *testing.T
	l net.Listener
}

func listen(t *testing.T, config *tls.Config) *controller {
	t.Helper()
	l, err := openflow.Listen("127.0.0.1:0", config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	return &controller{t, l}
}

// accept waits for the switch. The returned function ends the connection.
func (c *controller) accept() (*openflow.Conn, func()) {
	c.t.Helper()
	nc, err := c.l.Accept()
	if err != nil {
		c.t.Fatal(err)
	}
	conn, err := openflow.Handshake(c.t.Context(), nc, openflow.Config{})
	if err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = conn.Run(ctx) }()
	stop := func() { cancel(); <-done }
	c.t.Cleanup(stop)
	return conn, stop
}

// start runs a switch without ports.
func start(t *testing.T, cfg switchsim.Config) *switchsim.Switch {
	t.Helper()
	s, err := switchsim.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
	})
	return s
}

var drop = openflow.Flow{Priority: 5, Cookie: 1, Match: openflow.Match{openflow.EthType(0x800)}}

func cookies(t *testing.T, c *openflow.Conn) int {
	t.Helper()
	stats, err := c.FlowStats(t.Context(), 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	return len(stats)
}

func TestItDialsAgainAndKeepsItsFlows(t *testing.T) {
	c := listen(t, nil)
	start(t, switchsim.Config{DatapathID: 0xabc, Controllers: []string{"tcp:" + c.l.Addr().String()}})
	conn, stop := c.accept()
	if conn.DatapathID() != 0xabc {
		t.Errorf("datapath id %#x", conn.DatapathID())
	}
	if err := conn.Apply(t.Context(), openflow.FlowMod{Flow: drop}); err != nil {
		t.Fatal(err)
	}
	stop()
	conn, _ = c.accept()
	if n := cookies(t, conn); n != 1 {
		t.Errorf("%d flows after the reconnection, want 1", n)
	}
}

func TestItSpeaksTLS(t *testing.T) {
	ca := tlstest.NewCA(t)
	files := ca.Files(t, "localhost", "127.0.0.1")
	server, err := files.Server()
	if err != nil {
		t.Fatal(err)
	}
	client, err := files.Client("")
	if err != nil {
		t.Fatal(err)
	}
	c := listen(t, server)
	start(t, switchsim.Config{Controllers: []string{"ssl:" + c.l.Addr().String()}, TLS: func() *tls.Config { return client }})
	conn, _ := c.accept()
	if err := conn.Barrier(t.Context()); err != nil {
		t.Error(err)
	}
}

func TestASilentControllerIsGivenUp(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	start(t, switchsim.Config{Controllers: []string{"tcp:" + l.Addr().String()}, ProbeInterval: 50 * time.Millisecond})
	for range 2 { // it dials, gives up, and dials again
		nc, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		nc.SetDeadline(time.Now().Add(10 * time.Second))
		buf := make([]byte, 4096)
		for err == nil {
			_, err = nc.Read(buf)
		}
		if errors.Is(err, context.DeadlineExceeded) {
			t.Fatal("the switch holds on to a controller that says nothing")
		}
		nc.Close()
	}
}

func TestBadConfigurationsAreRefused(t *testing.T) {
	for want, cfg := range map[string]switchsim.Config{
		"tcp:HOST:PORT": {Controllers: []string{"10.0.0.1:6653"}},
		"certificate":   {Controllers: []string{"ssl:10.0.0.1"}},
		"punix":         {Listen: []string{"nonsense"}},
		"255":           {Tables: 255},
		"pattern":       {PortPattern: "["},
		"no-such-link":  {Ports: []string{"no-such-link"}},
	} {
		if _, err := switchsim.New(cfg); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%+v: error %v, want one about %q", cfg, err, want)
		}
	}
}

func TestMisbehaviourInstallDelay(t *testing.T) {
	c := listen(t, nil)
	start(t, switchsim.Config{Controllers: []string{"tcp:" + c.l.Addr().String()}, Misbehaviour: switchsim.Misbehaviour{InstallDelay: 200 * time.Millisecond}})
	conn, _ := c.accept()
	began := time.Now()
	if err := conn.Apply(t.Context(), openflow.FlowMod{Flow: drop}); err != nil {
		t.Fatal(err)
	}
	if n := cookies(t, conn); n != 0 && time.Since(began) < 200*time.Millisecond {
		t.Error("the flow is there before its time")
	}
	eventually(t, "the flow is installed", func() bool { return cookies(t, conn) == 1 })
	if d := time.Since(began); d < 200*time.Millisecond {
		t.Errorf("installed after %v", d)
	}
	bad := drop
	bad.Apply = []openflow.Action{openflow.Group{ID: 9}}
	if err := conn.Apply(t.Context(), openflow.FlowMod{Flow: bad}); !errors.Is(err, openflow.BadActionBadOutGroup) {
		t.Errorf("an error that can be told at once: %v", err)
	}
}

func TestMisbehaviourSlowBarrier(t *testing.T) {
	c := listen(t, nil)
	start(t, switchsim.Config{Controllers: []string{"tcp:" + c.l.Addr().String()}, Misbehaviour: switchsim.Misbehaviour{SlowBarrier: 100 * time.Millisecond}})
	conn, _ := c.accept()
	began := time.Now()
	if err := conn.Barrier(t.Context()); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(began); d < 100*time.Millisecond {
		t.Errorf("answered after %v", d)
	}
}

func TestMisbehaviourLateErrors(t *testing.T) {
	c := listen(t, nil)
	start(t, switchsim.Config{Controllers: []string{"tcp:" + c.l.Addr().String()}, TableCapacity: 1, Misbehaviour: switchsim.Misbehaviour{LateErrors: 50 * time.Millisecond}})
	conn, _ := c.accept()
	second := drop
	second.Priority++
	if err := conn.Apply(t.Context(), openflow.FlowMod{Flow: drop}, openflow.FlowMod{Flow: second}); err != nil {
		t.Fatalf("the error came before the barrier's reply: %v", err)
	}
	deadline := time.After(10 * time.Second)
	for {
		select {
		case ev := <-conn.Events():
			if e, ok := ev.(*openflow.SwitchError); ok {
				if !errors.Is(e, openflow.FlowModTableFull) {
					t.Errorf("late error %v", e)
				}
				return
			}
		case <-deadline:
			t.Fatal("the error did not come")
		}
	}
}

func TestMisbehaviourDropAfter(t *testing.T) {
	c := listen(t, nil)
	start(t, switchsim.Config{Controllers: []string{"tcp:" + c.l.Addr().String()}, Misbehaviour: switchsim.Misbehaviour{DropAfter: 10}})
	for range 3 {
		conn, _ := c.accept()
		var err error
		for n := 0; err == nil && n < 20; n++ {
			err = conn.Barrier(t.Context())
		}
		if !errors.Is(err, openflow.ErrClosed) {
			t.Errorf("after 20 barriers: %v, want %v", err, openflow.ErrClosed)
		}
	}
}

func TestPortsComeAndGo(t *testing.T) {
	ns, far := testnet.NewNS(t), testnet.NewNS(t)
	c := listen(t, nil)
	s := start(t, switchsim.Config{PortPattern: "p-*", Enter: ns.Try, Controllers: []string{"tcp:" + c.l.Addr().String()}})
	conn, _ := c.accept()
	await := func(what string, pick func(openflow.PortStatus) bool) openflow.Port {
		t.Helper()
		deadline := time.After(10 * time.Second)
		for {
			select {
			case ev := <-conn.Events():
				if p, ok := ev.(openflow.PortStatus); ok && pick(p) {
					return p.Port
				}
			case <-deadline:
				t.Fatalf("not within 10 s: %s", what)
			}
		}
	}
	is := func(reason openflow.PortReason, name string) func(openflow.PortStatus) bool {
		return func(p openflow.PortStatus) bool { return p.Reason == reason && p.Port.Name == name }
	}
	testnet.Veth(ns, "p-one", far, "w1")
	one := await("p-one is added", is(openflow.PortAdded, "p-one"))
	testnet.Veth(ns, "other", far, "w2")
	testnet.Veth(ns, "p-two", far, "w3")
	two := await("p-two is added", is(openflow.PortAdded, "p-two"))
	if one.No != 1 || two.No != 2 {
		t.Errorf("numbers %d and %d, want 1 and 2", one.No, two.No)
	}
	l, err := ns.Link.LinkByName("p-one")
	if err == nil {
		err = ns.Link.LinkDel(l)
	}
	if err != nil {
		t.Fatal(err)
	}
	await("p-one is deleted", is(openflow.PortDeleted, "p-one"))
	testnet.Veth(ns, "p-one", far, "w4")
	if again := await("p-one is back", is(openflow.PortAdded, "p-one")); again.No != 1 {
		t.Errorf("p-one has the number %d now", again.No)
	}
	if n, err := s.AddPort("other"); err != nil || n != 3 {
		t.Errorf("AddPort: %d, %v", n, err)
	}
	await("other is added", is(openflow.PortAdded, "other"))
	s.RemovePort("p-two")
	await("p-two is removed", is(openflow.PortDeleted, "p-two"))
}

// BenchmarkFlowMod measures a flow mod with its barrier, one after the other, over TCP.
func BenchmarkFlowMod(b *testing.B) {
	l, err := openflow.Listen("127.0.0.1:0", nil)
	if err != nil {
		b.Fatal(err)
	}
	defer l.Close()
	s, err := switchsim.New(switchsim.Config{Controllers: []string{"tcp:" + l.Addr().String()}})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 2)
	go func() { done <- s.Run(ctx) }()
	nc, err := l.Accept()
	if err != nil {
		b.Fatal(err)
	}
	conn, err := openflow.Handshake(ctx, nc, openflow.Config{})
	if err != nil {
		b.Fatal(err)
	}
	go func() { done <- conn.Run(ctx) }()
	defer func() { cancel(); <-done; <-done }()
	for i := 0; b.Loop(); i++ {
		f := drop
		f.Match = openflow.Match{openflow.EthType(0x800), openflow.IPProto(6), openflow.TCPSrc(uint16(i)), openflow.TCPDst(uint16(i >> 16))}
		if err := conn.Apply(ctx, openflow.FlowMod{Flow: f}); err != nil {
			b.Fatal(err)
		}
	}
}
