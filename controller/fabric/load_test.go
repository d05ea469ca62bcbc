package fabric

import (
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"
)

// TestSteeringManySessions steers and ends 50,000 sessions, and prints what one
// more costs while they live.
func TestSteeringManySessions(t *testing.T) {
	const sessions = 50_000
	for _, m := range []Mode{ExactFlow, Conntrack} {
		r := newRig(t)
		r.start(m)
		r.fabric.Replace(nil)
		one := func(i int) Session {
			s := session(families[0], uint16(1024+i%60000), "server1")
			s.Client = netip.AddrPortFrom(netip.AddrFrom4([4]byte{192, 0, 2, byte(i / 60000)}), s.Client.Port())
			return s
		}
		p50 := func(from int) time.Duration {
			var took []time.Duration
			for i := range 200 {
				start := time.Now()
				r.steer(one(from + i))
				took = append(took, time.Since(start))
			}
			slices.Sort(took)
			return took[len(took)/2]
		}
		few := p50(0)
		var wg sync.WaitGroup
		start := time.Now()
		for i := range sessions {
			wg.Add(1)
			r.fabric.Steer(one(1000+i), func(err error) {
				if err != nil {
					t.Error(err)
				}
				wg.Done()
			})
		}
		wg.Wait()
		rate := sessions / time.Since(start).Seconds()
		many := p50(55_000)
		if got := len(r.fabric.Sessions()); got != sessions+400 {
			t.Errorf("%d sessions", got)
		}
		start = time.Now()
		for _, s := range r.fabric.Sessions() {
			r.fabric.End(s.Client, s.VIP)
		}
		eventually(t, "all sessions are gone", func() error {
			if n := r.fabric.devices[0].sessions.Len(); n != 0 {
				return fmt.Errorf("%d sessions", n)
			}
			return nil
		})
		ended := time.Since(start)
		eventually(t, "the switch holds nothing of them", func() error {
			if flows, tracked := r.steered(); flows+tracked != 0 {
				return fmt.Errorf("%d flows, %d tracked connections", flows, tracked)
			}
			return nil
		})
		t.Logf("%s: %.0f sessions/s; one at a time p50 %v, with %d others %v; all ended after %v", m, rate, few, sessions, many, ended)
	}
}
