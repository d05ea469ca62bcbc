package guard

import (
	"bytes"
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
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

func TestOthersBecomeWhatIsSet(t *testing.T) {
	x := lone(t)
	x.open(Options{MaxDivert: 1024})
	a := netip.MustParseAddr
	m1, m2 := net.HardwareAddr{2, 0, 0, 0, 0, 1}, net.HardwareAddr{2, 0, 0, 0, 0, 2}
	for _, others := range []map[Share]Another{
		{{a("10.9.0.1"), 0}: {a("10.9.0.2"), m1, 64}, {a("fd09::1"), 63}: {a("fd09::2"), m2, 0}},
		{{a("::ffff:10.9.0.1"), 0}: {a("10.9.0.3"), m2, 0}, {a("10.9.0.1"), 1}: {a("::ffff:10.9.0.2"), m1, 0}},
		nil,
	} {
		if err := x.g.SetOthers(others); err != nil {
			t.Fatal(err)
		}
		want := make(map[shareKey]anotherValue)
		for s, o := range others {
			var k shareKey
			var v anotherValue
			s16, o16 := s.Session.As16(), o.Session.As16()
			copy(k[:], s16[:])
			binary.NativeEndian.PutUint32(k[16:], uint32(s.Slot))
			copy(v[:], o16[:])
			copy(v[16:], o.MAC)
			v[22] = o.More
			want[k] = v
		}
		var k shareKey
		var v anotherValue
		for it := x.g.others.Iterate(); it.Next(&k, &v); {
			if w, ok := want[k]; !ok || w != v {
				t.Errorf("after SetOthers(%v): %x is %x", others, k, v)
			}
			delete(want, k)
		}
		if len(want) > 0 {
			t.Errorf("after SetOthers(%v): %v are not there", others, want)
		}
	}
}

func TestOthersThatCannotBeAreRefusedBeforeAnyChange(t *testing.T) {
	x := lone(t)
	x.open(Options{MaxDivert: 1024})
	s4, s6 := families[0].session.Addr(), families[1].session.Addr()
	good := map[Share]Another{{s4, 5}: {s4.Next(), x.mac, 0}}
	if err := x.g.SetOthers(good); err != nil {
		t.Fatal(err)
	}
	// A map that user space cannot write to any more tells whoever tries.
	if err := x.g.others.Freeze(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name    string
		share   Share
		another Another
	}{
		{"no address", Share{netip.Addr{}, 5}, Another{s4, x.mac, 0}},
		{"no other address", Share{s4, 5}, Another{netip.Addr{}, x.mac, 0}},
		{"IPv6 for IPv4", Share{s4, 5}, Another{s6, x.mac, 0}},
		{"IPv4 for IPv6", Share{s6, 5}, Another{s4, x.mac, 0}},
		{"slot 64", Share{s4, 64}, Another{s4, x.mac, 0}},
		{"no MAC", Share{s4, 5}, Another{s4, nil, 0}},
		{"a long MAC", Share{s4, 5}, Another{s4, make(net.HardwareAddr, 8), 0}},
		{"65 more", Share{s4, 5}, Another{s4, x.mac, 65}},
	} {
		err := x.g.SetOthers(map[Share]Another{{s6, 1}: {s6, x.mac, 0}, c.share: c.another})
		if err == nil || errors.Is(err, unix.EPERM) {
			t.Errorf("%s: %v, want an error before any change", c.name, err)
		}
	}
	if err := x.g.SetOthers(good); err != nil {
		t.Errorf("what stays is touched: %v", err)
	}
	if err := x.g.SetOthers(nil); !errors.Is(err, unix.EPERM) {
		t.Errorf("a frozen map: %v, want %v", err, unix.EPERM)
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
