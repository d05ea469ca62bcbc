package hostaddr

import (
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/shunt-sdn/shunt/internal/testnet"
)

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

func prefixes(s ...string) (ps []netip.Prefix) {
	for _, s := range s {
		ps = append(ps, netip.MustParsePrefix(s))
	}
	return ps
}

func open(t *testing.T, ns *testnet.NS) (r *Routes) {
	t.Helper()
	ns.Do(func() (err error) { r, err = Open(quiet); return })
	return r
}

func set(t *testing.T, r *Routes, s ...string) {
	t.Helper()
	if err := r.Set(prefixes(s...)); err != nil {
		t.Fatal(err)
	}
}

// local lists the routes of table local that are ours or, if proto is another
// number, that one's.
func local(t *testing.T, ns *testnet.NS, proto netlink.RouteProtocol) []string {
	t.Helper()
	routes, err := ns.Link.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Table: unix.RT_TABLE_LOCAL, Protocol: proto},
		netlink.RT_FILTER_TABLE|netlink.RT_FILTER_PROTOCOL)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, r := range routes {
		out = append(out, r.Dst.String())
	}
	slices.Sort(out)
	return out
}

func equal(t *testing.T, what string, got []string, want ...string) {
	t.Helper()
	if !slices.Equal(got, want) {
		t.Errorf("%s: got %v, want %v", what, got, want)
	}
}

func TestEverySessionAddressAnswersConnections(t *testing.T) {
	ns := testnet.NewNS(t)
	r := open(t, ns)
	defer r.Close()
	set(t, r, "10.9.0.0/16", "fd09::/64")
	for _, addr := range []string{"10.9.0.1:80", "10.9.255.254:80", "[fd09::1]:80", "[fd09::ffff:1234:5678]:80"} {
		ns.Do(func() error {
			ap := netip.MustParseAddrPort(addr)
			// A wildcard listener, as the dispatcher's may be.
			l, err := net.Listen("tcp", ":80")
			if err != nil {
				return err
			}
			defer l.Close()
			c, err := net.Dial("tcp", ap.String())
			if err != nil {
				return err
			}
			defer c.Close()
			return nil
		})
	}
}

func TestSocketsBindToEverySessionAddress(t *testing.T) {
	ns := testnet.NewNS(t)
	r := open(t, ns)
	defer r.Close()
	set(t, r, "10.9.0.0/16", "fd09::/64")
	for _, addr := range []string{"10.9.3.4:80", "[fd09::3:4]:80"} {
		ap := netip.MustParseAddrPort(addr)
		ns.Do(func() error {
			family, sa := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Addr: ap.Addr().As16(), Port: int(ap.Port())})
			if ap.Addr().Is4() {
				family, sa = unix.AF_INET, &unix.SockaddrInet4{Addr: ap.Addr().As4(), Port: int(ap.Port())}
			}
			fd, err := unix.Socket(family, unix.SOCK_STREAM, 0)
			if err != nil {
				return err
			}
			defer unix.Close(fd)
			if family == unix.AF_INET6 {
				if err := unix.SetsockoptInt(fd, unix.IPPROTO_IPV6, unix.IPV6_FREEBIND, 1); err != nil {
					return err
				}
			}
			if err := unix.Bind(fd, sa); err != nil {
				return fmt.Errorf("bind to %s: %w", ap, err)
			}
			return nil
		})
	}
}

func TestSetMakesRoutesEqualToThePools(t *testing.T) {
	ns := testnet.NewNS(t)
	r := open(t, ns)
	defer r.Close()
	set(t, r, "10.9.0.0/16", "fd09::/64")
	equal(t, "after the first Set", local(t, ns, Protocol), "10.9.0.0/16", "fd09::/64")
	set(t, r, "10.9.0.0/16", "fd09::/64")
	equal(t, "after the same Set again", local(t, ns, Protocol), "10.9.0.0/16", "fd09::/64")
	set(t, r, "10.9.7.7/16", "::ffff:10.9.0.0/112", "10.10.0.0/24") // twice the same, with host bits
	equal(t, "after a change", local(t, ns, Protocol), "10.10.0.0/24", "10.9.0.0/16")
	set(t, r)
	equal(t, "after an empty Set", local(t, ns, Protocol))
}

func TestSetTouchesNothingThatIsRight(t *testing.T) {
	ns := testnet.NewNS(t)
	r := open(t, ns)
	defer r.Close()
	set(t, r, "10.9.0.0/16", "fd09::/64")

	updates := make(chan netlink.RouteUpdate, 16)
	done := make(chan struct{})
	if err := netlink.RouteSubscribeAt(ns.Handle, updates, done); err != nil {
		t.Fatal(err)
	}
	set(t, r, "10.9.0.0/16", "fd09::/64")
	set(t, r, "10.9.0.0/16", "fd09::/64", "10.11.0.0/16") // the sentinel
	if u := <-updates; u.Dst.String() != "10.11.0.0/16" {
		t.Errorf("setting the same pools again changed the route of %s", u.Dst)
	}
	close(done)
	for range updates {
	}
}

func TestRoutesOfACrashedAgentAreAdopted(t *testing.T) {
	ns := testnet.NewNS(t)
	r := open(t, ns)
	set(t, r, "10.9.0.0/16", "10.10.0.0/16", "fd09::/64", "fd10::/64")
	if err := r.Leave(); err != nil { // what the kernel does to a killed process
		t.Fatal(err)
	}
	equal(t, "with no agent", local(t, ns, Protocol), "10.10.0.0/16", "10.9.0.0/16", "fd09::/64", "fd10::/64")
	r = open(t, ns)
	set(t, r, "10.9.0.0/16", "fd09::/64")
	equal(t, "with the next agent", local(t, ns, Protocol), "10.9.0.0/16", "fd09::/64")
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	equal(t, "after a clean stop", local(t, ns, Protocol))
	if err := r.Leave(); err != nil {
		t.Errorf("Leave after Close: %v", err)
	}
}

func TestRoutesOfOthersAreLeftAlone(t *testing.T) {
	ns := testnet.NewNS(t)
	lo, err := ns.Link.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"10.20.0.0/16", "fd20::/64"} {
		_, dst, _ := net.ParseCIDR(s)
		route := &netlink.Route{LinkIndex: lo.Attrs().Index, Dst: dst, Type: unix.RTN_LOCAL, Table: unix.RT_TABLE_LOCAL,
			Protocol: unix.RTPROT_STATIC}
		if dst.IP.To4() != nil {
			route.Scope = netlink.SCOPE_HOST
		}
		if err := ns.Link.RouteAdd(route); err != nil {
			t.Fatal(err)
		}
	}
	r := open(t, ns)
	set(t, r, "10.9.0.0/16", "fd09::/64")
	for _, s := range []string{"10.20.0.0/16", "fd20::/64"} {
		if err := r.Set(prefixes("10.9.0.0/16", "fd09::/64", s)); err == nil || !strings.Contains(err.Error(), "not ours") {
			t.Errorf("Set of another's route %s: error %v, want one that says it is not ours", s, err)
		}
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	equal(t, "another's routes", local(t, ns, unix.RTPROT_STATIC), "10.20.0.0/16", "fd20::/64")
}

func TestPrefixesThatTheHostNeedsAreRefused(t *testing.T) {
	ns, peer := testnet.NewNS(t), testnet.NewNS(t)
	testnet.Veth(ns, "eth0", peer, "eth0")
	ns.Addr("eth0", "192.168.1.2/24", "fd01::2/64")
	eth0, err := ns.Link.LinkByName("eth0")
	if err != nil {
		t.Fatal(err)
	}
	for _, route := range []*netlink.Route{
		{LinkIndex: eth0.Attrs().Index, Gw: net.ParseIP("192.168.1.1")},
		{LinkIndex: eth0.Attrs().Index, Gw: net.ParseIP("fd01::1")},
	} {
		if err := ns.Link.RouteAdd(route); err != nil {
			t.Fatal(err)
		}
	}
	r := open(t, ns)
	defer r.Close()
	set(t, r, "10.9.0.0/16")
	for _, s := range []string{
		"0.0.0.0/0", "::/0", "127.1.0.0/16", "224.0.0.0/8", "169.254.3.0/24", "fe80::/64", "ff02::/16", "::/64",
		"192.168.0.0/16", "192.168.1.2/32", "fd00::/8", "fd01::2/128", // addresses of eth0
		"192.168.1.1/32", "fd01::1/128", // gateways
	} {
		err := r.Set(prefixes("10.10.0.0/16", s))
		if !errors.Is(err, ErrTaken) || !strings.Contains(err.Error(), s) {
			t.Errorf("Set(%s): error %v, want one that names it and is ErrTaken", s, err)
		}
	}
	if err := r.Set([]netip.Prefix{{}}); err == nil {
		t.Error("Set took the zero prefix")
	}
	equal(t, "after refusals", local(t, ns, Protocol), "10.9.0.0/16")
	set(t, r, "192.168.1.128/25", "fd01::8000:0:0:0/65") // part of the subnet, but free
}

func TestADisabledIPv6IsNamed(t *testing.T) {
	ns := testnet.NewNS(t)
	ns.Do(func() error { return os.WriteFile("/proc/sys/net/ipv6/conf/all/disable_ipv6", []byte("1"), 0) })
	r := open(t, ns)
	defer r.Close()
	set(t, r, "10.9.0.0/16")
	if err := r.Set(prefixes("10.9.0.0/16", "fd09::/64")); err == nil || !strings.Contains(err.Error(), "disable_ipv6") {
		t.Errorf("Set: %v, want an error that names disable_ipv6", err)
	}
	equal(t, "IPv4", local(t, ns, Protocol), "10.9.0.0/16")
}
