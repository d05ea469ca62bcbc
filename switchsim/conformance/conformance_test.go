package conformance_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/shunt-sdn/shunt/controller/openflow"
	"github.com/shunt-sdn/shunt/internal/testnet"
	"github.com/shunt-sdn/shunt/internal/testovs"
	"github.com/shunt-sdn/shunt/switchsim"
	"github.com/shunt-sdn/shunt/switchsim/afpacket"
	"github.com/shunt-sdn/shunt/switchsim/conformance"
)

// cables makes a namespace for the switch and one for the far ends of its ports
// p1, p2, p3, silent both.
func cables(t *testing.T) (sw *testnet.NS, target conformance.Target) {
	t.Helper()
	sw, far := testnet.NewNS(t), testnet.NewNS(t)
	for _, ns := range []*testnet.NS{sw, far} {
		ns.Do(func() error { return os.WriteFile("/proc/sys/net/ipv6/conf/default/disable_ipv6", []byte("1"), 0) })
	}
	for i := range 3 {
		testnet.Veth(sw, fmt.Sprintf("p%d", i+1), far, fmt.Sprintf("w%d", i+1))
		far.Do(func() (err error) {
			target.Wires[i], err = afpacket.Open(fmt.Sprintf("w%d", i+1))
			return err
		})
	}
	target.SetLink = func(port uint32, up bool) {
		l, err := far.Link.LinkByName(fmt.Sprintf("w%d", port))
		if err == nil && up {
			err = far.Link.LinkSetUp(l)
		} else if err == nil {
			err = far.Link.LinkSetDown(l)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return sw, target
}

func simulated(t *testing.T, change func(*switchsim.Config)) conformance.Target {
	t.Helper()
	sw, target := cables(t)
	socket := filepath.Join(t.TempDir(), "of.sock")
	cfg := switchsim.Config{Ports: []string{"p1", "p2", "p3"}, Listen: []string{"punix:" + socket}, Enter: sw.Try}
	if change != nil {
		change(&cfg)
	}
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
			t.Errorf("the switch ended: %v", err)
		}
	})
	target.Dial = func(ctx context.Context) (net.Conn, error) { return dial(ctx, "unix:"+socket) }
	return target
}

// dial waits for the switch to listen.
func dial(ctx context.Context, address string) (net.Conn, error) {
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		nc, err := openflow.Dial(ctx, address, nil)
		if err == nil {
			return nc, nil
		}
		select {
		case <-ctx.Done():
			return nil, errors.Join(err, ctx.Err())
		case <-tick.C:
		}
	}
}

func TestSwitchsim(t *testing.T) { conformance.Run(t, simulated(t, nil)) }

func TestSwitchsimWithoutExtensions(t *testing.T) {
	target := simulated(t, func(c *switchsim.Config) { c.Misbehaviour.NoNicira = true })
	target.NoExtensions = true
	conformance.Run(t, target)
}

func TestOpenVSwitch(t *testing.T) {
	sw, target := cables(t)
	ovs := testovs.Start(t, sw)
	for i := range uint32(3) {
		ovs.AddPort(fmt.Sprintf("p%d", i+1), i+1)
	}
	target.Dial = func(ctx context.Context) (net.Conn, error) { return dial(ctx, ovs.Management()) }
	// Packets of known connections follow cached megaflows until the revalidator
	// has seen the change.
	target.Settle = func() { ovs.Appctl("revalidator/purge") }
	conformance.Run(t, target)
}
