package lab

import (
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"strings"

	"github.com/shunt-sdn/shunt/lab/netns"
)

// buildNetwork makes namespaces and links; st.Hosts has the controller and the
// switch first.
func buildNetwork(st *state) error {
	stacks := map[string]*netns.Stack{}
	defer func() {
		for _, s := range stacks {
			s.Close()
		}
	}()
	for _, h := range st.Hosts {
		if err := netns.Create(h.Netns); err != nil {
			return err
		}
		s, err := netns.OpenStack(h.Netns)
		if err != nil {
			return err
		}
		stacks[h.Name] = s
		if err := prepare(s, h.Role, st.Options.IPv6); err != nil {
			return err
		}
	}
	controller, sw := stacks[ControllerHost], stacks[SwitchHost]
	var managed []string
	for _, h := range st.Hosts {
		if h.Role == RoleClient || h.Role == RoleController {
			continue
		}
		if err := netns.Veth(netns.Link{Stack: stacks[h.Name], Name: ManagementLink}, netns.Link{Stack: controller, Name: h.Name}); err != nil {
			return err
		}
		if err := stacks[h.Name].Address(ManagementLink, netip.PrefixFrom(h.Management, management.Bits())); err != nil {
			return err
		}
		managed = append(managed, h.Name)
	}
	if err := controller.Bridge(ManagementLink, managed...); err != nil {
		return err
	}
	if err := controller.Address(ManagementLink, netip.PrefixFrom(number4(management, controllerNumber), management.Bits())); err != nil {
		return err
	}
	for _, h := range st.Hosts {
		if h.MAC == "" {
			continue
		}
		if err := connect(h, stacks[h.Name], sw, st.Options.NICRate); err != nil {
			return err
		}
	}
	return nil
}

// connect joins a host to the switch: eth0 there, a port named like the host here.
func connect(h Host, host, sw *netns.Stack, rate uint64) error {
	hw, err := net.ParseMAC(h.MAC)
	if err != nil {
		return err
	}
	if err := netns.Veth(netns.Link{Stack: host, Name: DataLink, MAC: hw}, netns.Link{Stack: sw, Name: h.Name}); err != nil {
		return err
	}
	seg := segmentOf(h.Role)
	for _, a := range h.Addresses {
		gateway := seg.v4
		if a.Is6() {
			gateway = seg.v6
		}
		if err := host.Address(DataLink, netip.PrefixFrom(a, gateway.Bits())); err != nil {
			return err
		}
		if err := host.DefaultRoute(gateway.Addr()); err != nil {
			return err
		}
	}
	if rate == 0 {
		return nil
	}
	if err := host.Rate(DataLink, rate); err != nil {
		return err
	}
	return sw.Rate(h.Name, rate)
}

// prepare sets what a fresh namespace needs before it has links. A kernel
// without IPv6 will do for a lab without it.
func prepare(s *netns.Stack, r Role, ipv6 bool) error {
	keys := [][2]string{
		{"ipv4.ip_forward", "0"},
		{"ipv4.conf.all.rp_filter", "0"}, // the default of some distributions is inherited
		{"ipv4.conf.default.rp_filter", "0"},
		{"ipv6.conf.all.accept_ra", "0"},
		{"ipv6.conf.default.accept_ra", "0"},
		{"ipv6.conf.all.accept_dad", "0"},
		{"ipv6.conf.default.accept_dad", "0"},
		{"ipv6.conf.default.dad_transmits", "0"},
		{"ipv6.conf.default.router_solicitations", "0"},
	}
	switch r {
	case RoleSwitch:
		// The ports are the switch program's; the kernel must not answer or
		// announce anything on them.
		keys = append(keys, [][2]string{{"ipv6.conf.all.disable_ipv6", "1"}, {"ipv6.conf.default.disable_ipv6", "1"}}...)
	case RoleClient:
		// Room for many short connections to one address and port.
		keys = append(keys, [2]string{"ipv4.ip_local_port_range", "10240 65535"})
	}
	for _, k := range keys {
		err := s.Sysctl(k[0], k[1])
		if errors.Is(err, fs.ErrNotExist) && strings.HasPrefix(k[0], "ipv6.") && !ipv6 {
			continue
		}
		if err != nil {
			return err
		}
	}
	return s.Up("lo")
}
