package openflow_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/shunt-sdn/shunt/controller/openflow"
	"github.com/shunt-sdn/shunt/internal/testnet"
	"github.com/shunt-sdn/shunt/internal/testovs"
)

// connect takes nc through the handshake and runs the channel until the test
// ends.
func connect(t testing.TB, nc net.Conn) (*openflow.Conn, <-chan error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	c, err := openflow.Handshake(ctx, nc, openflow.Config{})
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	var wg sync.WaitGroup
	wg.Go(func() { ended <- c.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	return c, ended
}

func dial(t testing.TB, target string) (*openflow.Conn, <-chan error) {
	t.Helper()
	nc, err := openflow.Dial(t.Context(), target, nil)
	if err != nil {
		t.Fatal(err)
	}
	return connect(t, nc)
}

func within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func sessionFlow(i int, port uint32) openflow.FlowMod {
	client := netip.AddrFrom4([4]byte{198, 18, byte(i >> 16), byte(i >> 8)})
	return openflow.FlowMod{Flow: openflow.Flow{
		Table: 3, Priority: 100, Cookie: 0x5348<<48 | 1<<44 | uint64(i),
		Match: openflow.Match{
			openflow.EthType(openflow.EthTypeIPv4), openflow.IPProto(openflow.ProtoTCP),
			openflow.IPSrc(client), openflow.IPDst(netip.MustParseAddr("10.10.0.80")),
			openflow.TCPSrc(uint16(1024 + i&0xff)), openflow.TCPDst(80),
		},
		Apply: []openflow.Action{
			openflow.SetField{FieldValue: openflow.EthDst(net.HardwareAddr{2, 0, 0, 0, 0, 1})},
			openflow.SetField{FieldValue: openflow.IPDst(netip.MustParseAddr("172.31.0.1"))},
			openflow.DecTTL{}, openflow.Output{Port: port},
		},
	}}
}

// BenchmarkApplyAsync adds and removes flows one call at a time from several
// goroutines, as sessions do.
func BenchmarkApplyAsync(b *testing.B) {
	s := testovs.Start(b, testnet.NewNS(b))
	c, _ := dial(b, s.Management())
	b.ResetTimer()
	var wg sync.WaitGroup
	for i := range b.N {
		wg.Add(1)
		mod := sessionFlow(i%50000, 1)
		if i/50000%2 == 1 {
			mod.Command = openflow.DeleteStrict
		}
		c.ApplyAsync([]openflow.FlowMod{mod}, nil, func(err error) {
			if err != nil {
				b.Error(err)
			}
			wg.Done()
		})
	}
	wg.Wait()
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "flow_mods/s")
}

// BenchmarkApply is one flow_mod and its barrier after the other.
func BenchmarkApply(b *testing.B) {
	s := testovs.Start(b, testnet.NewNS(b))
	c, _ := dial(b, s.Management())
	for i := 0; b.Loop(); i++ {
		if err := c.Apply(b.Context(), sessionFlow(i%50000, 1)); err != nil {
			b.Fatal(err)
		}
	}
}

var (
	_ = errors.Is
	_ = fmt.Sprint
	_ = strings.Contains
	_ = cmp.Diff
)
