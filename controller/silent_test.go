package controller

import (
	"context"
	"log/slog"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/shunt-sdn/shunt/controller/fabric"
	"github.com/shunt-sdn/shunt/controller/leases"
	"github.com/shunt-sdn/shunt/internal/testnet"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// apart is a controller with a dispatcher on its host, and a server on another.
type apart struct {
	*daemon
	home, server *peer
	there        func() *daemon // a new connection from the server's host
	cut, mend    func()         // the server's host falls silent, and is back
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
	a := &apart{daemon: from(here), there: func() *daemon { return from(there) }}
	a.home, a.server = a.join(t, "dispatcher1"), a.there().join(t, "server1")
	set := func(change func(netlink.Link) error) {
		link, err := there.Link.LinkByName("eth0")
		if err == nil {
			err = change(link)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	a.cut = func() { set(there.Link.LinkSetDown) }
	a.mend = func() { set(there.Link.LinkSetUp) }
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

// server1 says what the cluster and the switches are told of it.
func (a *apart) server1() (up, fenced bool) {
	for _, n := range a.home.latest().Nodes {
		if n.Name == "server1" {
			up = n.Up
		}
	}
	a.sw.mu.Lock()
	defer a.sw.mu.Unlock()
	for _, n := range a.sw.topologies[len(a.sw.topologies)-1].Nodes {
		if n.Name == "server1" {
			fenced = n.Fenced
		}
	}
	return up, fenced
}

func TestANodeThatWasGivenUpEndsWhatItHeldBeforeItIsUsedAgain(t *testing.T) {
	t.Parallel()
	a := startApart(t, time.Minute, func(string) (bool, error) { return false, nil }, false)
	local := a.home.lease(t, "dispatcher1", false)
	eventually(t, "server1 is up", func() bool { up, fenced := a.server1(); return up && !fenced })
	a.cut()
	a.home.got(t, "server1 02:00:00:00:02:65", &a.home.lost)
	if _, fenced := a.server1(); !fenced {
		t.Error("it is not fenced when its homes are told that it is dead")
	}
	a.mend()
	held := heldAt(client, local, shuntv1.Path_PATH_UNSPECIFIED, "")
	back := a.there().join(t, "server1", held)
	told := func(times int) func() bool {
		return func() bool {
			back.mu.Lock()
			defer back.mu.Unlock()
			return len(back.lost) == times && back.lost[0] == "server1 02:00:00:00:02:65"
		}
	}
	eventually(t, "it is told", told(1))
	eventually(t, "it is told again, as it still holds a session", told(2))
	if up, fenced := a.server1(); up || !fenced {
		t.Errorf("before it has ended what it held server1 is up: %v, fenced: %v", up, fenced)
	}
	back.hold()
	eventually(t, "it is used again", func() bool { up, fenced := a.server1(); return up && !fenced })
	calls := a.sw.did()
	for _, call := range calls[slices.Index(calls, givenUp):] {
		if strings.HasPrefix(call, "steer") {
			t.Errorf("%s: what it held is steered to it again", call)
		}
	}
	a.home.mu.Lock()
	defer a.home.mu.Unlock()
	if len(a.home.lost) != 1 {
		t.Errorf("the home was told of %q", a.home.lost)
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
