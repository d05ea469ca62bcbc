package leases_test

import (
	"net/netip"
	"testing"

	"go.etcd.io/bbolt"

	"github.com/shunt-sdn/shunt/controller/leases"
)

func TestLeasesAreRestoredAlsoWhereTheyChangePlaces(t *testing.T) {
	s, path := fresh(t)
	a, b, c := key("web", "d1", false), key("web", "d2", false), key("files", "d1", true)
	now := assign(t, s, a, b)
	if _, err := s.Index(leases.KindAddress, now[a].String()); err != nil {
		t.Fatal(err)
	}
	six := netip.MustParseAddr("fd31::5")
	list := []leases.Lease{{Key: a, Address: now[b]}, {Key: b, Address: now[a]}, {Key: c, Address: six}}
	if err := s.DB().Update(func(tx *bbolt.Tx) error { return leases.Restore(tx, list) }); err != nil {
		t.Fatal(err)
	}
	s.Close()
	s = open(t, path)
	got := assign(t, s, a, b, c)
	if got[a] != now[b] || got[b] != now[a] || got[c] != six {
		t.Errorf("got %v", got)
	}
	// None of them is free, and each has one holder.
	seen := make(map[netip.Addr]bool)
	for k, addr := range assign(t, s, a, b, c, key("more", "d1", false), key("more", "d2", false), key("more", "d1", true)) {
		if seen[addr] {
			t.Errorf("%v is leased twice, to %v too", addr, k)
		}
		seen[addr] = true
	}
	for _, wrong := range []leases.Lease{{Key: key("a/b", "d1", false), Address: now[a]}, {Key: a, Address: six}} {
		if err := s.DB().Update(func(tx *bbolt.Tx) error { return leases.Restore(tx, []leases.Lease{wrong}) }); err == nil {
			t.Errorf("%v was restored", wrong)
		}
	}
}

func TestTheEndsOfAPoolAreNotLeasable(t *testing.T) {
	for addr, want := range map[string]bool{
		"172.31.0.0": false, "172.31.0.1": true, "172.31.0.6": true, "172.31.0.7": false, "172.31.0.8": false,
		"fd31::": false, "fd31::1": true, "fd31::7": false, "fd31::8": false,
	} {
		if got := leases.Leasable(pools, netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: %v", addr, got)
		}
	}
}
