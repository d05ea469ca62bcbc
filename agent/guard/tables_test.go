package guard

import (
	"bytes"
	"net/netip"
	"strings"
	"testing"
)

func TestPoolsAndHomesBecomeWhatIsSet(t *testing.T) {
	x := lone(t)
	x.open(Options{MaxDivert: 1024})
	p := netip.MustParsePrefix
	for _, pools := range [][]netip.Prefix{
		{p("10.9.0.0/16"), p("fd09::/48")},
		{p("10.9.0.0/16"), p("fd09::/48")},
		{p("10.9.3.4/16"), p("::ffff:10.10.0.0/112"), p("fd0a::/128")},
		nil,
	} {
		if err := x.g.SetPools(pools); err != nil {
			t.Fatal(err)
		}
		want := map[prefixKey]bool{}
		for _, q := range pools {
			k, err := newPrefixKey(q)
			if err != nil {
				t.Fatal(err)
			}
			want[k] = true
		}
		var k prefixKey
		var v uint8
		for it := x.g.pools.Iterate(); it.Next(&k, &v); {
			if !want[k] {
				t.Errorf("after SetPools(%v): %x is there", pools, k)
			}
			delete(want, k)
		}
		if len(want) > 0 {
			t.Errorf("after SetPools(%v): %v are not there", pools, want)
		}
	}

	a := netip.MustParseAddr
	m1, m2 := []byte{2, 0, 0, 0, 0, 1}, []byte{2, 0, 0, 0, 0, 2}
	for _, homes := range []map[netip.Addr]Home{
		{a("10.9.0.1"): {MAC: m1}, a("fd09::1"): {Self: true}},
		{a("::ffff:10.9.0.1"): {MAC: m2}, a("fd09::1"): {MAC: m1}, a("fd09::2"): {MAC: m1}},
		{},
	} {
		if err := x.g.SetHomes(homes); err != nil {
			t.Fatal(err)
		}
		var k [16]byte
		var v homeValue
		got := 0
		for it := x.g.homes.Iterate(); it.Next(&k, &v); got++ {
			h, ok := homes[netip.AddrFrom16(k)]
			if !ok {
				h, ok = homes[netip.AddrFrom16(k).Unmap()]
			}
			if !ok || h.Self != (v[6] == 1) || !h.Self && !bytes.Equal(h.MAC, v[:6]) {
				t.Errorf("after SetHomes(%v): %x is at %x", homes, k, v)
			}
		}
		if got != len(homes) {
			t.Errorf("after SetHomes(%v): %d entries", homes, got)
		}
	}
}

func TestMoreThanAMapHoldsIsAnError(t *testing.T) {
	x := lone(t)
	x.open(Options{MaxDivert: 1024})
	fill := func(second byte) (pools []netip.Prefix) {
		for i := range 1024 {
			pools = append(pools, netip.PrefixFrom(netip.AddrFrom4([4]byte{10, second, byte(i >> 8), byte(i)}), 32))
		}
		return pools
	}
	if err := x.g.SetPools(fill(1)); err != nil {
		t.Fatal(err)
	}
	if err := x.g.SetPools(fill(2)); err != nil { // no room for both at once
		t.Fatal(err)
	}
	if err := x.g.SetPools(append(fill(2), fill(1)[0])); err == nil || !strings.Contains(err.Error(), "1024") {
		t.Errorf("1,025 pools: %v", err)
	}
}
