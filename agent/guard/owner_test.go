package guard

import (
	"bytes"
	"net"
	"net/netip"
	"sync"
	"testing"
)

func TestReleaseEndsTheDiversionOfItsOwnerOnly(t *testing.T) {
	x := lone(t)
	x.open(Options{MaxDivert: 1024})
	const old, current = 7, 1<<63 + 8
	for _, f := range families {
		for _, c := range []struct {
			name            string
			has, given      uint64
			diverted, there bool
		}{
			{"its owner's", current, current, true, false},
			{"a later one's", current, old, true, true},
			{"nobody's", 0, current, true, false},
			{"anybody's", current, 0, true, false},
			{"none", 0, current, false, false},
		} {
			if err := x.g.Undivert(stray(f), f.session); err != nil {
				t.Fatal(err)
			}
			if c.diverted {
				if err := x.g.Divert(stray(f), f.session, x.mac, old); err != nil {
					t.Fatal(err)
				}
				if err := x.g.Divert(stray(f), f.session, x.mac, c.has); err != nil { // replaces it
					t.Fatal(err)
				}
			}
			if err := x.g.Release(stray(f), f.session, c.given); err != nil {
				t.Errorf("%s: %s: %v", f.name, c.name, err)
			}
			if _, there, err := x.g.Diverted(stray(f), f.session); there != c.there || err != nil {
				t.Errorf("%s: %s: there %v, %v; want %v", f.name, c.name, there, err, c.there)
			}
		}
	}
}

// A hand-off that ends while the next of the same connection begins must not
// take the next one's diversion away.
func TestReleaseAndDivertOfOneConnectionAtOnce(t *testing.T) {
	x := lone(t)
	x.open(Options{MaxDivert: 1024})
	f := families[0]
	for i := range uint64(2000) {
		if err := x.g.Divert(stray(f), f.session, x.mac, i+1); err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		wg.Go(func() {
			if err := x.g.Release(stray(f), f.session, i+1); err != nil {
				t.Error(err)
			}
		})
		wg.Go(func() {
			if err := x.g.Divert(stray(f), f.session, x.mac, i+2); err != nil {
				t.Error(err)
			}
		})
		wg.Wait()
		if _, ok, err := x.g.Diverted(stray(f), f.session); !ok || err != nil {
			t.Fatalf("round %d: the new diversion is there: %v, %v", i, ok, err)
		}
	}
}

func TestTheNextProcessListsTheDiversions(t *testing.T) {
	x := lone(t)
	x.open(Options{MaxDivert: 16384})
	if ds, err := x.g.Diversions(); len(ds) != 0 || err != nil {
		t.Errorf("a new guard lists %d diversions, %v", len(ds), err)
	}
	type ends struct{ client, session netip.AddrPort }
	want := make(map[ends]uint64)
	for i := range 5000 { // more than one batch
		c, s := peer(i)
		want[ends{c, s}] = uint64(i)<<40 + 1
		if err := x.g.Divert(c, s, x.mac, want[ends{c, s}]); err != nil {
			t.Fatal(err)
		}
	}
	x.g.Close()
	x.open(Options{MaxDivert: 16384})
	ds, err := x.g.Diversions()
	if err != nil || len(ds) != len(want) {
		t.Fatalf("%d diversions, %v; want %d", len(ds), err, len(want))
	}
	for _, d := range ds {
		k := ends{d.Client, d.Session}
		if owner, ok := want[k]; !ok || owner != d.Owner || !bytes.Equal(d.MAC, net.HardwareAddr(x.mac)) {
			t.Fatalf("listed %+v, want owner %d", d, owner)
		}
		delete(want, k)
	}
}
