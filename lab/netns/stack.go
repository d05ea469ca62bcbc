package netns

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/vishvananda/netlink"
	vns "github.com/vishvananda/netns"
)

// A Stack configures the network of one namespace.
type Stack struct {
	name string
	ns   vns.NsHandle
	nl   *netlink.Handle
}

// OpenStack opens the named namespace. The caller closes it.
func OpenStack(name string) (*Stack, error) {
	ns, err := vns.GetFromName(name)
	if err != nil {
		return nil, fmt.Errorf("open network namespace %s: %w", name, err)
	}
	nl, err := netlink.NewHandleAt(ns)
	if err != nil {
		ns.Close()
		return nil, fmt.Errorf("open netlink in network namespace %s: %w", name, err)
	}
	return &Stack{name: name, ns: ns, nl: nl}, nil
}

// Close releases the descriptors; the namespace stays.
func (s *Stack) Close() {
	s.nl.Close()
	s.ns.Close()
}

// Link is one end of a veth pair.
type Link struct {
	Stack *Stack
	Name  string           // at most 15 octets
	MAC   net.HardwareAddr // nil: the kernel's choice
}

// Veth makes a pair of links, both up.
func Veth(a, b Link) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = a.Name
	attrs.HardwareAddr = a.MAC
	v := &netlink.Veth{LinkAttrs: attrs, PeerName: b.Name, PeerHardwareAddr: b.MAC, PeerNamespace: netlink.NsFd(b.Stack.ns)}
	if err := a.Stack.nl.LinkAdd(v); err != nil {
		return fmt.Errorf("make the veth pair %s in %s, %s in %s: %w", a.Name, a.Stack.name, b.Name, b.Stack.name, err)
	}
	for _, end := range []Link{a, b} {
		if err := end.Stack.Up(end.Name); err != nil {
			return err
		}
	}
	return nil
}

// Bridge makes a Linux bridge of existing links, up.
func (s *Stack) Bridge(name string, ports ...string) error {
	attrs := netlink.NewLinkAttrs()
	attrs.Name = name
	if err := s.nl.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
		return fmt.Errorf("make bridge %s in %s: %w", name, s.name, err)
	}
	br, err := s.link(name)
	if err != nil {
		return err
	}
	for _, p := range ports {
		l, err := s.link(p)
		if err != nil {
			return err
		}
		if err := s.nl.LinkSetMasterByIndex(l, br.Attrs().Index); err != nil {
			return fmt.Errorf("add %s to bridge %s in %s: %w", p, name, s.name, err)
		}
	}
	return s.Up(name)
}

// Up sets a link up.
func (s *Stack) Up(name string) error {
	l, err := s.link(name)
	if err != nil {
		return err
	}
	if err := s.nl.LinkSetUp(l); err != nil {
		return fmt.Errorf("set %s up in %s: %w", name, s.name, err)
	}
	return nil
}

// Address adds an address; an IPv6 one without duplicate address detection.
func (s *Stack) Address(link string, p netip.Prefix) error {
	l, err := s.link(link)
	if err != nil {
		return err
	}
	a := &netlink.Addr{IPNet: ipNet(p)}
	if p.Addr().Is6() {
		a.Flags = ifaFNoDAD
	}
	if err := s.nl.AddrAdd(l, a); err != nil {
		return fmt.Errorf("add %s to %s in %s: %w", p, link, s.name, err)
	}
	return nil
}

const ifaFNoDAD = 0x02 // IFA_F_NODAD, linux/if_addr.h

// DefaultRoute sends everything without a better route to via.
func (s *Stack) DefaultRoute(via netip.Addr) error {
	all := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
	if via.Is6() {
		all = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
	}
	if err := s.nl.RouteAdd(&netlink.Route{Dst: ipNet(all), Gw: via.AsSlice()}); err != nil {
		return fmt.Errorf("add the default route via %s in %s: %w", via, s.name, err)
	}
	return nil
}

// Rate limits what a link sends to bits per second, with a token bucket
// (tc-tbf(8)) that holds 10 ms, at least one largest segment, and queues 50 ms.
func (s *Stack) Rate(link string, bits uint64) error {
	l, err := s.link(link)
	if err != nil {
		return err
	}
	bytes := bits / 8
	burst := max(bytes/100, 65536+1514)
	q := &netlink.Tbf{
		QdiscAttrs: netlink.QdiscAttrs{LinkIndex: l.Attrs().Index, Handle: netlink.MakeHandle(1, 0), Parent: netlink.HANDLE_ROOT},
		Rate:       bytes,
		Buffer:     netlink.Xmittime(bytes, uint32(burst)),
		Limit:      uint32(bytes/20 + burst),
	}
	if err := s.nl.QdiscReplace(q); err != nil {
		return fmt.Errorf("limit %s in %s to %d bit/s with tbf: %w", link, s.name, bits, err)
	}
	return nil
}

// Counters are a link's octets since it was made.
type Counters struct{ Received, Sent uint64 }

// Counters reads a link's counters.
func (s *Stack) Counters(link string) (Counters, error) {
	l, err := s.link(link)
	if err != nil {
		return Counters{}, err
	}
	st := l.Attrs().Statistics
	return Counters{Received: st.RxBytes, Sent: st.TxBytes}, nil
}

// Sysctl sets a key below net, such as "ipv4.ip_forward", in the namespace.
func (s *Stack) Sysctl(key, value string) error {
	return Do(s.name, func() error {
		path := filepath.Join("/proc/sys/net", strings.ReplaceAll(key, ".", "/"))
		if err := os.WriteFile(path, []byte(value), 0); err != nil {
			return fmt.Errorf("set net.%s to %s in %s: %w", key, value, s.name, err)
		}
		return nil
	})
}

func (s *Stack) link(name string) (netlink.Link, error) {
	l, err := s.nl.LinkByName(name)
	if err != nil {
		return nil, fmt.Errorf("find link %s in %s: %w", name, s.name, err)
	}
	return l, nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
