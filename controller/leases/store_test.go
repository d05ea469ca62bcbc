package leases_test

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/shunt-sdn/shunt/controller/leases"
)

var pools = []netip.Prefix{netip.MustParsePrefix("172.31.0.0/29"), netip.MustParsePrefix("fd31::/125")}

func open(t *testing.T, path string) *leases.Store {
	t.Helper()
	s, err := leases.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

func fresh(t *testing.T) (*leases.Store, string) {
	path := filepath.Join(t.TempDir(), "sub", "controller.db")
	return open(t, path), path
}

func key(service, dispatcher string, v6 bool) leases.Key {
	return leases.Key{Service: service, Dispatcher: dispatcher, IPv6: v6}
}

func assign(t *testing.T, s *leases.Store, keys ...leases.Key) map[leases.Key]netip.Addr {
	t.Helper()
	got, err := s.Assign(pools, keys...)
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestALeaseIsStableAcrossRestarts(t *testing.T) {
	s, path := fresh(t)
	keys := []leases.Key{key("web", "d1", false), key("web", "d1", true), key("web", "d2", false), key("files", "d1", true)}
	first := assign(t, s, keys...)
	if len(first) != len(keys) {
		t.Fatalf("%d leases, want %d", len(first), len(keys))
	}
	seen := map[netip.Addr]bool{}
	for k, a := range first {
		if a.Is6() != k.IPv6 || seen[a] {
			t.Errorf("%v has %v", k, a)
		}
		seen[a] = true
	}
	index, err := s.Index(leases.KindAddress, first[keys[0]].String())
	if err != nil {
		t.Fatal(err)
	}
	s.Close()
	s = open(t, path)
	again := assign(t, s, append(keys, key("files", "d2", false))...)
	for _, k := range keys {
		if again[k] != first[k] {
			t.Errorf("%v had %v, has %v", k, first[k], again[k])
		}
	}
	if got, _ := s.Index(leases.KindAddress, first[keys[0]].String()); got != index {
		t.Errorf("index was %d, is %d", index, got)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("database: %v, %v; want mode 0600", info.Mode(), err)
	}
}

func TestNetworkAndBroadcastAreNotLeasedAndAPoolEnds(t *testing.T) {
	s, _ := fresh(t)
	var keys []leases.Key
	for i := range 7 {
		keys = append(keys, key("web", fmt.Sprint("d", i), false))
	}
	got, err := s.Assign(pools, keys...)
	if !errors.Is(err, leases.ErrExhausted) || !strings.Contains(err.Error(), "web/d6/4") || len(got) != 6 {
		t.Fatalf("%d leases and %v, want 6 and an error", len(got), err)
	}
	for k, a := range got {
		if last := a.As4()[3]; last == 0 || last == 7 {
			t.Errorf("%v has %v", k, a)
		}
	}
	// The other family and the next pool still work.
	assign(t, s, key("web", "d0", true))
	more := append(pools, netip.MustParsePrefix("172.31.1.0/30"))
	if got, err = s.Assign(more, keys...); err != nil || got[keys[6]] != netip.MustParseAddr("172.31.1.1") {
		t.Errorf("with a second pool: %v, %v", got[keys[6]], err)
	}
}

func TestAFreedAddressIsTheLastToBeTaken(t *testing.T) {
	s, _ := fresh(t)
	k := func(i int) leases.Key { return key("web", fmt.Sprint("d", i), false) }
	first := assign(t, s, k(0), k(1))
	index, _ := s.Index(leases.KindAddress, first[k(0)].String())
	freed, err := s.Retain(func(k leases.Key, _ netip.Addr) bool { return k.Dispatcher != "d0" })
	if err != nil || !cmp.Equal(freed, []leases.Key{k(0)}) {
		t.Fatalf("freed %v, %v", freed, err)
	}
	for i := 2; i < 6; i++ {
		if a := assign(t, s, k(i))[k(i)]; a == first[k(0)] {
			t.Errorf("d%d got the freed %v while others were free", i, a)
		}
	}
	if a := assign(t, s, k(6))[k(6)]; a != first[k(0)] {
		t.Errorf("the last one got %v, want the freed %v", a, first[k(0)])
	}
	if again, _ := s.Index(leases.KindAddress, first[k(0)].String()); again == index {
		t.Errorf("index %d was not freed with its lease", index)
	}
}

func TestALeaseOutsideThePoolsIsReplaced(t *testing.T) {
	s, _ := fresh(t)
	k := key("web", "d1", false)
	before := assign(t, s, k)[k]
	other := []netip.Prefix{netip.MustParsePrefix("192.168.0.0/29")}
	got, err := s.Assign(other, k)
	if err != nil || !other[0].Contains(got[k]) {
		t.Fatalf("%v, %v", got, err)
	}
	all, err := s.All()
	if want := []leases.Lease{{Key: k, Address: got[k]}}; err != nil || fmt.Sprint(all) != fmt.Sprint(want) {
		t.Errorf("leases %v, want %v; %v was not freed", all, want, before)
	}
}

func TestConcurrentCallersNeverShareAnAddress(t *testing.T) {
	s, _ := fresh(t)
	wide := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/24")}
	var wg sync.WaitGroup
	var mu sync.Mutex
	holders := map[netip.Addr]leases.Key{}
	for i := range 8 {
		wg.Go(func() {
			for j := range 8 {
				k := key("web", fmt.Sprintf("d%d", (i+j)%10), false)
				got, err := s.Assign(wide, k)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				if h, ok := holders[got[k]]; ok && h != k {
					t.Errorf("%v leased to %v and %v", got[k], h, k)
				}
				holders[got[k]] = k
				mu.Unlock()
			}
		})
	}
	wg.Wait()
}

func TestIndicesAreDistinctPerKindAndStartAtOne(t *testing.T) {
	s, path := fresh(t)
	get := func(kind, name string) uint16 {
		t.Helper()
		n, err := s.Index(kind, name)
		if err != nil {
			t.Fatal(err)
		}
		return n
	}
	if a, b, c := get("node", "a"), get("node", "b"), get("lease", "a"); a != 1 || b != 2 || c != 1 {
		t.Errorf("indices %d, %d, %d; want 1, 2, 1", a, b, c)
	}
	if err := s.FreeIndex("node", "a"); err != nil {
		t.Fatal(err)
	}
	s.Close()
	s = open(t, path)
	if c, b := get("node", "c"), get("node", "b"); c != 3 || b != 2 {
		t.Errorf("c has %d, b has %d; want 3, 2: a freed index is not taken soon", c, b)
	}
	if _, err := s.Index("node", ""); err == nil {
		t.Error("a nameless node got an index")
	}
	if err := s.FreeIndex("never", "seen"); err != nil {
		t.Error(err)
	}
}

func TestNodesAreRemembered(t *testing.T) {
	s, path := fresh(t)
	if err := s.PutNodes(map[string][]byte{"a": []byte("1"), "b": []byte("2")}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Index(leases.KindNode, "a"); err != nil {
		t.Fatal(err)
	}
	if err := s.PutNodes(map[string][]byte{"a": nil, "b": []byte("3")}); err != nil {
		t.Fatal(err)
	}
	s.Close()
	got, err := open(t, path).Nodes()
	if want := map[string][]byte{"b": []byte("3")}; err != nil || !cmp.Equal(got, want) {
		t.Errorf("nodes %v, %v; want %v", got, err, want)
	}
}

func TestOneProcessAtATime(t *testing.T) {
	_, path := fresh(t)
	if _, err := leases.Open(path); err == nil || !strings.Contains(err.Error(), "is a controller running already") {
		t.Errorf("second open: %v", err)
	}
}

func TestRubbishIsRefused(t *testing.T) {
	path := filepath.Join(t.TempDir(), "x.db")
	if err := os.WriteFile(path, []byte(strings.Repeat("rubbish", 5000)), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := leases.Open(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("opened: %v", err)
	}
	s, _ := fresh(t)
	for _, k := range []leases.Key{{}, {Service: "a/b", Dispatcher: "d"}, {Service: "a"}} {
		if _, err := s.Assign(pools, k); err == nil {
			t.Errorf("leased to %+v", k)
		}
	}
}
