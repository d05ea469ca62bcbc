// Package hostaddr makes every session address an address of the host, without
// one entry per address: a `local` route for each pool prefix (AnyIP) lets any
// socket bind to, and the kernel answer for, any address in it.
//
// The routes carry a protocol number of their own. That is how those of a
// crashed agent are found and adopted, and how everything else on the host is
// left alone. They outlive the process unless [Routes.Close] removes them.
package hostaddr

import (
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// Protocol marks our routes (`ip route show table local proto 83`). No routing
// daemon in iproute2's rt_protos has this number.
const Protocol = 83

// Routes is the set of pool prefixes that are local to a network namespace.
// Its methods must not be called concurrently.
type Routes struct {
	nl  *netlink.Handle
	log *slog.Logger
	lo  int // index of the loopback interface
}

// Open returns the routes of the calling thread's network namespace. It
// changes nothing yet: routes of an earlier process stay until Set.
func Open(log *slog.Logger) (*Routes, error) {
	if log == nil {
		log = slog.Default()
	}
	nl, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return nil, fmt.Errorf("open a route netlink socket: %w", err)
	}
	lo, err := loopback(nl)
	if err != nil {
		nl.Close()
		return nil, err
	}
	return &Routes{nl: nl, log: log, lo: lo}, nil
}

func loopback(nl *netlink.Handle) (int, error) {
	links, err := nl.LinkList()
	if err != nil {
		return 0, fmt.Errorf("list the host's interfaces: %w", err)
	}
	for _, l := range links {
		if l.Attrs().Flags&net.FlagLoopback != 0 {
			return l.Attrs().Index, nil
		}
	}
	return 0, errors.New("the host has no loopback interface to put local routes on")
}

// Set makes the prefixes, and no others of ours, local to the host. It adds
// before it removes and leaves alone what is right already, also if an earlier
// process made it. It refuses, before any change, prefixes that would take
// something from the host: see [ErrTaken].
func (r *Routes) Set(prefixes []netip.Prefix) error {
	want := make(map[netip.Prefix]bool, len(prefixes))
	for _, p := range prefixes {
		p, err := normalise(p)
		if err != nil {
			return fmt.Errorf("make session addresses local: %w", err)
		}
		want[p] = true
	}
	if err := r.check(want); err != nil {
		return fmt.Errorf("make session addresses local: %w", err)
	}
	have, err := r.ours()
	if err != nil {
		return err
	}
	for p := range want {
		if have[p] {
			continue
		}
		err := r.nl.RouteAdd(r.route(p))
		if errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("add the local route of %s: %w: there is one that is not ours (`ip route show table local %s`): remove it", p, err, p)
		}
		if err != nil {
			return fmt.Errorf("add the local route of %s: %w%s", p, err, remedy(err))
		}
		r.log.Info("local route added", "prefix", p)
	}
	for p := range have {
		if !want[p] {
			if err := r.remove(p); err != nil {
				return err
			}
		}
	}
	return nil
}

// Close removes all our routes, for a clean stop.
func (r *Routes) Close() error {
	defer r.nl.Close()
	have, err := r.ours()
	if err != nil {
		return err
	}
	var errs []error
	for p := range have {
		errs = append(errs, r.remove(p))
	}
	return errors.Join(errs...)
}

// Leave closes the handle and keeps the routes, for a restart. After Close it
// does nothing.
func (r *Routes) Leave() error {
	r.nl.Close()
	return nil
}

func (r *Routes) remove(p netip.Prefix) error {
	if err := r.nl.RouteDel(r.route(p)); err != nil && !errors.Is(err, unix.ESRCH) {
		return fmt.Errorf("remove the local route of %s: %w%s", p, err, remedy(err))
	}
	r.log.Info("local route removed", "prefix", p)
	return nil
}

func (r *Routes) route(p netip.Prefix) *netlink.Route {
	route := &netlink.Route{
		LinkIndex: r.lo,
		Dst:       &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())},
		Type:      unix.RTN_LOCAL,
		Table:     unix.RT_TABLE_LOCAL,
		Protocol:  Protocol,
	}
	if p.Addr().Is4() {
		route.Scope = netlink.SCOPE_HOST
	}
	return route
}

// ours lists our routes.
func (r *Routes) ours() (map[netip.Prefix]bool, error) {
	routes, err := r.list(&netlink.Route{Type: unix.RTN_LOCAL, Table: unix.RT_TABLE_LOCAL, Protocol: Protocol},
		netlink.RT_FILTER_TYPE|netlink.RT_FILTER_TABLE|netlink.RT_FILTER_PROTOCOL)
	if err != nil {
		return nil, err
	}
	have := make(map[netip.Prefix]bool, len(routes))
	for _, route := range routes {
		if p, ok := prefixOf(route.Dst); ok {
			have[p] = true
		}
	}
	return have, nil
}

func (r *Routes) list(filter *netlink.Route, mask uint64) ([]netlink.Route, error) {
	const attempts = 5 // the kernel says when routes changed under a listing
	for i := 1; ; i++ {
		routes, err := r.nl.RouteListFiltered(netlink.FAMILY_ALL, filter, mask)
		if errors.Is(err, netlink.ErrDumpInterrupted) && i < attempts {
			continue
		}
		if err != nil {
			return nil, fmt.Errorf("list the host's routes: %w", err)
		}
		return routes, nil
	}
}

func remedy(err error) string {
	switch {
	case errors.Is(err, unix.EPERM):
		return ": run as root, or with CAP_NET_ADMIN"
	case errors.Is(err, unix.EACCES), errors.Is(err, unix.EAFNOSUPPORT), errors.Is(err, unix.EOPNOTSUPP):
		return ": is IPv6 disabled? See `sysctl net.ipv6.conf.lo.disable_ipv6`"
	}
	return ""
}
