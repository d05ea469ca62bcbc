package openflow_test

import (
	"runtime"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/shunt-sdn/shunt/controller/openflow"
	"github.com/shunt-sdn/shunt/internal/testnet"
	"github.com/shunt-sdn/shunt/internal/testovs"
)

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

// BenchmarkApplyFrom64 is BenchmarkApply by 64 callers at once.
func BenchmarkApplyFrom64(b *testing.B) {
	s := testovs.Start(b, testnet.NewNS(b))
	c, _ := dial(b, s.Management())
	var next atomic.Int64
	b.SetParallelism(64 / runtime.GOMAXPROCS(0))
	b.ResetTimer()
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := c.Apply(b.Context(), sessionFlow(int(next.Add(1)%50000), 1)); err != nil {
				b.Error(err)
				return
			}
		}
	})
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "flow_mods/s")
}
