package hostaddr

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// ErrTaken is wrapped by Set's error if a prefix covers what the host needs: a
// whole family, loopback, link-local or multicast addresses, an address of one
// of its interfaces, or the gateway of a route.
var ErrTaken = errors.New("the prefix covers addresses that are not free for sessions")

// reserved are ranges that mean something to the kernel itself.
var reserved = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"),
	netip.MustParsePrefix("127.0.0.0/8"),
	netip.MustParsePrefix("169.254.0.0/16"),
	netip.MustParsePrefix("224.0.0.0/3"), // multicast, reserved, broadcast
	netip.MustParsePrefix("::/127"),      // unspecified, loopback
	netip.MustParsePrefix("::ffff:0:0/96"),
	netip.MustParsePrefix("fe80::/10"),
	netip.MustParsePrefix("ff00::/8"),
}

// normalise returns the prefix without host bits, and an IPv4-mapped one as IPv4.
func normalise(p netip.Prefix) (netip.Prefix, error) {
	if !p.IsValid() {
		return p, fmt.Errorf("%v is not a prefix", p)
	}
	addr, bits := p.Addr(), p.Bits()
	if addr.Is4In6() && bits >= 96 {
		addr, bits = addr.Unmap(), bits-96
	}
	return netip.PrefixFrom(addr, bits).Masked(), nil
}

// check refuses prefixes that the host cannot spare.
func (r *Routes) check(want map[netip.Prefix]bool) error {
	for p := range want {
		if p.Bits() == 0 {
			return fmt.Errorf("%s: %w: it is all there is; use a prefix of private addresses", p, ErrTaken)
		}
		for _, q := range reserved {
			if p.Overlaps(q) {
				return fmt.Errorf("%s: %w: it overlaps %s; use a prefix of private addresses", p, ErrTaken, q)
			}
		}
	}
	addrs, err := r.nl.AddrList(nil, netlink.FAMILY_ALL)
	if err != nil {
		return fmt.Errorf("list the host's addresses: %w", err)
	}
	for _, a := range addrs {
		if p, addr, ok := covering(want, a.IP); ok {
			return fmt.Errorf("%s: %w: it covers %s, an address of the interface with index %d; move one of them", p, ErrTaken, addr, a.LinkIndex)
		}
	}
	routes, err := r.list(&netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE) // of all tables
	if err != nil {
		return err
	}
	for _, route := range routes {
		hops := []net.IP{route.Gw}
		for _, h := range route.MultiPath {
			hops = append(hops, h.Gw)
		}
		for _, gw := range hops {
			if p, addr, ok := covering(want, gw); ok {
				return fmt.Errorf("%s: %w: it covers %s, the gateway of the route to %v; move one of them", p, ErrTaken, addr, route.Dst)
			}
		}
	}
	return nil
}

func covering(want map[netip.Prefix]bool, ip net.IP) (netip.Prefix, netip.Addr, bool) {
	addr, ok := netip.AddrFromSlice(ip)
	if !ok {
		return netip.Prefix{}, addr, false
	}
	addr = addr.Unmap()
	for p := range want {
		if p.Contains(addr) {
			return p, addr, true
		}
	}
	return netip.Prefix{}, addr, false
}

func prefixOf(n *net.IPNet) (netip.Prefix, bool) {
	if n == nil {
		return netip.Prefix{}, false
	}
	addr, ok := netip.AddrFromSlice(n.IP)
	ones, size := n.Mask.Size()
	if size == 32 {
		addr = addr.Unmap()
	}
	return netip.PrefixFrom(addr, ones), ok && addr.BitLen() == size
}
