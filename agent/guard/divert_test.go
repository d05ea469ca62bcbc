package guard

import (
	"encoding/binary"
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// peer returns the i-th of many clients, in alternating families.
func peer(i int) (client, session netip.AddrPort) {
	f := families[i%2]
	b := f.client.AsSlice()
	binary.BigEndian.PutUint16(b[len(b)-2:], uint16(i>>8))
	a, _ := netip.AddrFromSlice(b)
	return netip.AddrPortFrom(a, uint16(1000+i&0xff)), f.session
}

func TestDiversionsBeyondTheRoomReplaceOldOnes(t *testing.T) {
	x := lone(t)
	x.open(Options{MaxDivert: 1024})
	for i := range 10000 {
		c, s := peer(i)
		if err := x.g.Divert(c, s, x.mac, 0); err != nil {
			t.Fatal(err)
		}
		if _, ok, err := x.g.Diverted(c, s); !ok || err != nil {
			t.Fatalf("diversion %d: there %v, %v", i, ok, err)
		}
	}
	left, err := x.g.Diversions()
	if n := len(left); err != nil || n == 0 || n > 1024 {
		t.Errorf("%d diversions were left, %v", n, err)
	}
}

func TestMappedAddressesAreIPv4(t *testing.T) {
	x := lone(t)
	x.open(Options{MaxDivert: 1024})
	client, session := netip.MustParseAddrPort("10.1.0.1:1000"), netip.MustParseAddrPort("10.9.0.1:80")
	mapped := func(a netip.AddrPort) netip.AddrPort {
		return netip.AddrPortFrom(netip.AddrFrom16(a.Addr().As16()), a.Port())
	}
	if err := x.g.Divert(mapped(client), session, x.mac, 0); err != nil {
		t.Fatal(err)
	}
	if _, ok, err := x.g.Diverted(client, mapped(session)); !ok || err != nil {
		t.Errorf("diverted %v, %v", ok, err)
	}
	for range 2 { // the second time it is absent
		if err := x.g.Undivert(client, session); err != nil {
			t.Error(err)
		}
	}
	if _, ok, err := x.g.Diverted(mapped(client), mapped(session)); ok || err != nil {
		t.Errorf("diverted %v, %v after Undivert", ok, err)
	}
}

func TestWhatCannotBeDivertedIsRefused(t *testing.T) {
	x := lone(t)
	x.open(Options{MaxDivert: 1024})
	c4, c6 := stray(families[0]), stray(families[1])
	s4, s6 := families[0].session, families[1].session
	for _, c := range []struct {
		client, session netip.AddrPort
		mac             net.HardwareAddr
	}{
		{c4, s6, x.mac},
		{c6, s4, x.mac},
		{netip.AddrPort{}, s4, x.mac},
		{c4, netip.AddrPort{}, x.mac},
		{c4, s4, nil},
		{c4, s4, make(net.HardwareAddr, 8)},
	} {
		if err := x.g.Divert(c.client, c.session, c.mac, 0); err == nil {
			t.Errorf("Divert(%s, %s, %s) succeeded", c.client, c.session, c.mac)
		}
	}
	if err := x.g.Undivert(c4, s6); err == nil {
		t.Error("Undivert of two families succeeded")
	}
	if _, _, err := x.g.Diverted(c4, s6); err == nil {
		t.Error("Diverted of two families succeeded")
	}
	if err := x.g.SetPools([]netip.Prefix{{}}); err == nil {
		t.Error("SetPools of no prefix succeeded")
	}
	for _, h := range []map[netip.Addr]Home{
		{s4.Addr(): {}},
		{s4.Addr(): {MAC: make(net.HardwareAddr, 8)}},
		{{}: {Self: true}},
	} {
		if err := x.g.SetHomes(h); err == nil {
			t.Errorf("SetHomes(%v) succeeded", h)
		}
	}
}

func TestOpenSaysWhatIsMissing(t *testing.T) {
	x := lone(t)
	for _, c := range []struct {
		name string
		o    Options
		want string
	}{
		{"no such interface", Options{Interface: "eth7"}, "eth7"},
		{"not Ethernet", Options{Interface: "lo"}, "Ethernet"},
		{"too little room", Options{Interface: "eth0", MaxDivert: 7}, "1024"},
	} {
		err := x.Try(func() error { _, err := Open(c.o); return err })
		if err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v, want an error with %q", c.name, err, c.want)
		}
	}
	for _, force := range both {
		err := x.Try(func() error {
			if err := dropCapabilities(); err != nil {
				return nil
			}
			_, err := Open(Options{Interface: "eth0", ForceClsact: force})
			return err
		})
		if !errors.Is(err, fs.ErrPermission) || !strings.Contains(err.Error(), "CAP_BPF") {
			t.Errorf("without capabilities: %v, want one that names them", err)
		}
	}
	x.wantAttached(0, 0)
}

// dropCapabilities makes the calling thread, which must be locked and die with
// its goroutine, powerless.
func dropCapabilities() error {
	hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	return unix.Capset(&hdr, &none[0])
}

func BenchmarkDivert(b *testing.B) {
	x := lone(b)
	x.open(Options{})
	c, s := peer(0)
	runtime.GC()
	b.ReportAllocs()
	for b.Loop() {
		if err := x.g.Divert(c, s, x.mac, 0); err != nil {
			b.Fatal(err)
		}
	}
}
