package controller

import (
	"context"
	"log/slog"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/shunt-sdn/shunt/controller/fabric"
	"github.com/shunt-sdn/shunt/controller/leases"
	"github.com/shunt-sdn/shunt/internal/testnet"
)

// apart is a controller with a dispatcher on its host, and a server on another.
type apart struct {
	*daemon
	home, server *peer
	cut          func() // the server's host falls silent
}

func startApart(t *testing.T, grace time.Duration, alive func(string) (bool, error), reached bool) *apart {
	t.Helper()
	testnet.NeedRoot(t)
	here, there := testnet.NewNS(t), testnet.NewNS(t)
	testnet.Veth(here, "eth0", there, "eth0")
	here.Addr("eth0", "10.99.0.1/24")
	there.Addr("eth0", "10.99.0.101/24")
	cfg := testConfig(t)
	cfg.Listen.GRPC, cfg.NodeGrace, cfg.NodeSilence = "10.99.0.1:6640", grace, 2*time.Second
	log := slog.New(slog.NewTextHandler(testWriter(t), &slog.HandlerOptions{Level: slog.LevelDebug}))
	store, err := leases.Open(cfg.State)
	if err != nil {
		t.Fatal(err)
	}
	sw := newRecorder()
	sw.alive = alive
	c, err := newCluster(cfg, log, store, sw)
	if err != nil {
		t.Fatal(err)
	}
	c.reach = func(_ context.Context, endpoint string) bool {
		if endpoint != "10.99.0.101:6641" {
			t.Errorf("a connection to %s is tried", endpoint)
		}
		return reached
	}
	if err := c.telemetry.open(t.Context(), cfg, "test", log, c); err != nil {
		t.Fatal(err)
	}
	var l *listeners
	here.Do(func() (err error) {
		l, err = listen(cfg, certificates{})
		return err
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- c.serve(ctx, l, certificates{}) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("controller: %v", err)
		}
		c.telemetry.close()
		store.Close()
	})
	from := func(ns *testnet.NS) *daemon {
		conn, err := grpc.NewClient("passthrough:///"+cfg.Listen.GRPC, grpc.WithTransportCredentials(insecure.NewCredentials()),
			grpc.WithContextDialer(func(ctx context.Context, addr string) (nc net.Conn, err error) {
				err = ns.Try(func() (err error) {
					nc, err = new(net.Dialer).DialContext(ctx, "tcp", addr)
					return err
				})
				return nc, err
			}))
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { conn.Close() })
		return &daemon{cfg: cfg, sw: sw, conn: conn}
	}
	a := &apart{daemon: from(here)}
	a.home, a.server = a.join(t, "dispatcher1"), from(there).join(t, "server1")
	a.cut = func() {
		link, err := there.Link.LinkByName("eth0")
		if err == nil {
			err = there.Link.LinkSetDown(link)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	local := a.home.lease(t, "dispatcher1", false)
	a.home.steer("h1", client, local, "server1")
	a.home.got(t, `h1 ""`, &a.home.answers)
	return a
}

const givenUp = "unsteer " + client + ` by ""`

func (a *apart) isGivenUp() bool { return slices.Contains(a.sw.did(), givenUp) }

func (a *apart) asked() (times int) {
	for _, call := range a.sw.did() {
		if strings.HasPrefix(call, "is server1 alive") {
			times++
		}
	}
	return times
}

func TestANodeThatIsDeadIsGivenUpAtOnce(t *testing.T) {
	t.Parallel()
	a := startApart(t, time.Minute, func(string) (bool, error) { return false, nil }, false)
	a.cut()
	begun := time.Now()
	a.sw.saw(t, givenUp)
	if took := time.Since(begun); took > 6*time.Second {
		t.Errorf("given up after %v", took)
	}
	a.home.got(t, "server1 02:00:00:00:02:65", &a.home.lost)
	a.home.got(t, client+" "+a.home.lease(t, "dispatcher1", false).String(), &a.home.released)
	if n := a.asked(); n != 1 {
		t.Errorf("asked %d times", n)
	}
}

func TestSessionsOfANodeThatOnlyTheManagementNetworkHasLostGoOn(t *testing.T) {
	t.Parallel()
	const grace = 900 * time.Millisecond
	dead := make(chan struct{})
	a := startApart(t, grace, func(string) (bool, error) {
		select {
		case <-dead:
			return false, nil
		default:
			return true, nil
		}
	}, false)
	a.cut()
	eventually(t, "it is asked many times", func() bool { return a.asked() > 9 }) // three in a grace
	if a.isGivenUp() {
		t.Error("its sessions were given up")
	}
	close(dead)
	a.sw.saw(t, givenUp)
}

func TestANodeThatNobodyKnowsOfHasItsGrace(t *testing.T) {
	for name, c := range map[string]struct {
		alive func(string) (bool, error)
		reach bool
	}{
		"no switch can tell": {func(string) (bool, error) { return false, fabric.ErrCannotTell }, false},
		"its host is there":  {func(string) (bool, error) { return true, nil }, true},
		"it could once": {func() func(string) (bool, error) {
			said := false
			return func(string) (bool, error) {
				if said {
					return false, fabric.ErrCannotTell
				}
				said = true
				return true, nil
			}
		}(), false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			const grace = 1500 * time.Millisecond
			a := startApart(t, grace, c.alive, c.reach)
			a.cut()
			eventually(t, "it is asked", func() bool { return a.asked() > 0 })
			begun := time.Now()
			a.sw.saw(t, givenUp)
			if took := time.Since(begun); took < grace-tickEvery || took > 3*grace {
				t.Errorf("given up after %v, want %v", took, grace)
			}
		})
	}
}

func TestANodeWhoseAgentLeavesIsNotAsked(t *testing.T) {
	t.Parallel()
	a := startApart(t, 900*time.Millisecond, func(string) (bool, error) { return false, nil }, false)
	a.server.cancel()
	a.sw.saw(t, givenUp)
	if n := a.asked(); n != 0 {
		t.Errorf("asked %d times", n)
	}
}
