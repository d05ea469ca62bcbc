package guard

import (
	"errors"
	"syscall"
	"testing"
	"time"

	"github.com/shunt-sdn/shunt/agent/tcprepair"
)

// A home whose agent was killed after it had diverted a session and before
// another node had it: nobody has the session, and the diversion is what is left
// of it. The next agent finds that, and tells the client.
func TestALostSessionIsFoundAndItsClientTold(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			n := newLAN(t, Options{MaxDivert: 1024})
			s := n.sessionAt(n.a, f)
			n.setHome(n.a, n.a)
			if err := n.a.g.Divert(s.peer, f.session, n.b.mac, 42); err != nil {
				t.Fatal(err)
			}
			raw, err := s.server.SyscallConn()
			if err == nil {
				raw.Control(func(fd uintptr) { err = tcprepair.Freeze(int(fd)) })
			}
			if err != nil {
				t.Fatal(err)
			}
			s.server.Close() // in silence, as when a process dies with a frozen copy
			n.a.g.Close()

			n.a.open(Options{MaxDivert: 1024})
			left, err := n.a.g.Diversions()
			if err != nil || len(left) != 1 || left[0].Client != s.peer || left[0].Session != f.session || left[0].Owner != 42 {
				t.Fatalf("the next agent finds %+v, %v", left, err)
			}
			probe := func() { n.a.Do(func() error { return tcprepair.Probe(s.peer, f.session) }) }

			// As long as the diversion stands, no answer reaches a kernel.
			before := n.a.counters()
			probe()
			for deadline := time.Now().Add(patience); n.a.counters().DroppedBounced == before.DroppedBounced && n.b.counters().DroppedFromHome == 0; {
				if time.Now().After(deadline) {
					t.Fatalf("a counts %+v, b %+v", n.a.counters(), n.b.counters())
				}
			}
			if err := n.a.g.Release(s.peer, f.session, left[0].Owner); err != nil {
				t.Fatal(err)
			}
			// The client answers two probes a second.
			tick := time.NewTicker(100 * time.Millisecond)
			defer tick.Stop()
			done := make(chan error, 1)
			go func() {
				s.client.SetReadDeadline(time.Now().Add(patience))
				_, err := s.client.Read(make([]byte, 1))
				done <- err
			}()
			for {
				probe()
				select {
				case err := <-done:
					if !errors.Is(err, syscall.ECONNRESET) {
						t.Errorf("the client read %v, want that it was reset", err)
					}
					return
				case <-tick.C:
				}
			}
		})
	}
}
