package doctor

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"unsafe"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/shunt-sdn/shunt/agent/hostaddr"
)

const (
	minMTU   = 1280 // IPv6 needs it
	usualMTU = 1500
)

// checkInterface looks at the data interface and reports whether it is usable.
func (r *Report) checkInterface(name string) bool {
	i, err := net.InterfaceByName(name)
	if err != nil {
		r.fail("interface", name, "correct interface in the configuration: ip link shows what there is", "there is no interface %s", name)
		return false
	}
	addrs, err := i.Addrs()
	var global []string
	for _, a := range addrs {
		if p, err := netip.ParsePrefix(a.String()); err == nil && p.Addr().IsGlobalUnicast() {
			global = append(global, p.String())
		}
	}
	switch {
	case len(i.HardwareAddr) != 6:
		r.fail("interface", name, "name an Ethernet interface: diverted packets are addressed by MAC", "%s has no Ethernet address", name)
		return false
	case i.Flags&net.FlagUp == 0:
		r.fail("interface", name, "ip link set "+name+" up", "%s is down", name)
		return false
	case i.Flags&net.FlagRunning == 0:
		r.fail("interface", name, "plug it in", "%s has no carrier", name)
	case err != nil || len(global) == 0:
		r.fail("interface", name, "give it an address of the network that the switch routes for", "%s has no address", name)
	default:
		r.ok("interface", name, "up, %v, %s", i.HardwareAddr, strings.Join(global, " "))
	}
	r.checkMTU(i)
	r.checkOffloads(name)
	r.checkDefaultRoute(name, global)
	return true
}

func (r *Report) checkMTU(i *net.Interface) {
	switch {
	case i.MTU < minMTU:
		r.fail("mtu", i.Name, fmt.Sprintf("ip link set %s mtu %d, as on all nodes and on the switch's ports", i.Name, usualMTU), "%s has an MTU of %d: IPv6 needs %d, and a connection that moves here keeps its segments' size", i.Name, i.MTU, minMTU)
	case i.MTU < usualMTU:
		r.warn("mtu", i.Name, "give all nodes and the switch's ports the same MTU", "%s has an MTU of %d: a connection that moves here from a node with %d sends segments that do not fit", i.Name, i.MTU, usualMTU)
	default:
		r.ok("mtu", i.Name, "%d", i.MTU)
	}
}

// Of linux/ethtool.h.
const (
	ethtoolGetFlags = 0x25
	flagLRO         = 1 << 15
)

// checkOffloads looks for large receive offload, which glues packets together
// such that they cannot be forwarded as they came.
func (r *Report) checkOffloads(name string) {
	flags, err := ethtoolValue(name, ethtoolGetFlags)
	switch {
	case err != nil:
		r.ok("lro", name, "the driver has no such offload")
	case flags&flagLRO != 0:
		r.fail("lro", name, "ethtool -K "+name+" lro off", "large receive offload is on: the guard cannot forward packets that were glued together")
	default:
		r.ok("lro", name, "large receive offload is off")
	}
}

// ethtoolValue asks for one number.
func ethtoolValue(name string, command uint32) (uint32, error) {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return 0, err
	}
	defer unix.Close(fd)
	if len(name) >= unix.IFNAMSIZ {
		return 0, unix.ENODEV
	}
	value := struct{ command, data uint32 }{command: command}
	request := struct { // ifreq of linux/if.h
		name [unix.IFNAMSIZ]byte
		data unsafe.Pointer
		_    [16]byte
	}{data: unsafe.Pointer(&value)}
	copy(request.name[:], name)
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCETHTOOL, uintptr(unsafe.Pointer(&request))); errno != 0 {
		return 0, errno
	}
	return value.data, nil
}

// somewhere is where a client might be, to ask for routes.
var somewhere = map[bool]netip.Addr{true: netip.MustParseAddr("192.0.2.1"), false: netip.MustParseAddr("2001:db8::1")}

func (r *Report) checkDefaultRoute(name string, addrs []string) {
	if len(addrs) == 0 {
		return
	}
	for _, a := range addrs {
		p := netip.MustParsePrefix(a)
		to := somewhere[p.Addr().Is4()]
		routes, err := netlink.RouteGet(to.AsSlice())
		family := map[bool]string{true: "IPv4", false: "IPv6"}[p.Addr().Is4()]
		switch {
		case err != nil || len(routes) == 0:
			r.fail("default-route", family, "ip route add default via the switch's address on this network", "there is no route to clients: replies of moved connections could not be sent")
			continue
		case indexName(routes[0].LinkIndex) != name:
			r.fail("default-route", family, "make the default route lead to the switch's address on "+name+"; other networks need routes of their own", "the route to clients leads by %s: replies of moved connections would miss the switch", indexName(routes[0].LinkIndex))
			continue
		}
		r.ok("default-route", family, "by %s to %v", name, routes[0].Gw)
		if routes[0].Gw != nil {
			r.checkGateway(name, routes[0])
		}
	}
}

func indexName(index int) string {
	i, err := net.InterfaceByIndex(index)
	if err != nil {
		return fmt.Sprintf("interface %d", index)
	}
	return i.Name
}

// routesBy tells whether packets to clients leave by the interface.
func (r *Report) routesBy(name string) bool {
	routes, err := netlink.RouteGet(somewhere[true].AsSlice())
	return err == nil && len(routes) > 0 && indexName(routes[0].LinkIndex) == name
}

// checkPools looks for what the host itself wants with session addresses.
func (r *Report) checkPools(pools []netip.Prefix) {
	routes, err := netlink.RouteListFiltered(netlink.FAMILY_ALL, &netlink.Route{Table: unix.RT_TABLE_UNSPEC}, netlink.RT_FILTER_TABLE)
	if err != nil {
		r.warn("pool", "", "", "the host's routes could not be read: %v", err)
		return
	}
	for _, pool := range pools {
		if taken := takenBy(pool, routes); taken != "" {
			r.fail("pool", pool.String(), "choose other pools in the controller's configuration, or move what is there", "%s", taken)
			continue
		}
		if !pool.Addr().Is4() && number("net/ipv6/conf/all/disable_ipv6", 0) != 0 {
			r.fail("pool", pool.String(), "sysctl -w net.ipv6.conf.all.disable_ipv6=0", "IPv6 is disabled on this host")
			continue
		}
		r.ok("pool", pool.String(), "nothing else on this host uses it")
	}
}

// takenBy says which route has part of a pool. Routes that the agent made, and
// those that are less specific, as a default route, are no harm.
func takenBy(pool netip.Prefix, routes []netlink.Route) string {
	for _, route := range routes {
		if route.Protocol == hostaddr.Protocol || route.Dst == nil {
			continue
		}
		a, ok := netip.AddrFromSlice(route.Dst.IP)
		ones, size := route.Dst.Mask.Size()
		if !ok || size != pool.Addr().BitLen() {
			continue
		}
		p := netip.PrefixFrom(a.Unmap(), ones)
		if !p.Overlaps(pool) || ones < pool.Bits() && !connected(route) {
			continue
		}
		return fmt.Sprintf("this host has a route to %v by %s", p, indexName(route.LinkIndex))
	}
	return ""
}

// connected tells whether a route's hosts are on the link: such a network and a
// pool in it would both answer ARP for the same addresses.
func connected(route netlink.Route) bool {
	return route.Gw == nil && route.Scope == netlink.SCOPE_LINK && len(route.MultiPath) == 0
}
