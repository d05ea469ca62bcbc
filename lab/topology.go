package lab

import (
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strconv"
)

// A Role is what a host of a lab is for.
type Role string

const (
	RoleClient     Role = "client"
	RoleDispatcher Role = "dispatcher"
	RoleServer     Role = "server"
	RoleSwitch     Role = "switch"
	RoleController Role = "controller"
)

// Names of the hosts that a lab has once.
const (
	SwitchHost     = "switch"
	ControllerHost = "controller"
)

// Host is one network namespace of a lab.
type Host struct {
	Name  string `json:"name"`
	Role  Role   `json:"role"`
	Netns string `json:"netns"` // as `ip netns` has it
	// Addresses are those of the data interface, IPv4 first. The switch and
	// the controller, which have none, give their management address.
	Addresses []netip.Addr `json:"addresses"`
	// Management is the address on the management network; clients have none.
	Management netip.Addr `json:"management,omitzero"`
	// MAC is the data interface's, empty where there is none.
	MAC string `json:"mac,omitempty"`
}

// Names of links, the same on every host.
const (
	DataLink       = "eth0"
	ManagementLink = "mgmt0"
)

// Service is what clients connect to.
type Service struct {
	Name string     `json:"-"`
	VIP  netip.Addr `json:"vip"`
	VIP6 netip.Addr `json:"vip6"` // empty without IPv6
	Port uint16     `json:"port"`
}

// VIPs are the virtual addresses, IPv4 first.
func (s Service) VIPs() []netip.Addr {
	if s.VIP6.IsValid() {
		return []netip.Addr{s.VIP, s.VIP6}
	}
	return []netip.Addr{s.VIP}
}

// segment is one of the switch's layer 3 interfaces.
type segment struct {
	name string
	mac  net.HardwareAddr
	v4   netip.Prefix // the gateway's address
	v6   netip.Prefix
}

var (
	clientSegment = segment{"clients", mac(0, 1), netip.MustParsePrefix("10.10.1.1/24"), netip.MustParsePrefix("fd10:1::1/64")}
	nodeSegment   = segment{"nodes", mac(0, 2), netip.MustParsePrefix("10.10.2.1/24"), netip.MustParsePrefix("fd10:2::1/64")}

	management = netip.MustParsePrefix("10.99.0.0/24")

	pool4 = netip.MustParsePrefix("172.31.0.0/24")
	pool6 = netip.MustParsePrefix("fd31::/120")
)

const (
	controllerNumber = 1 // the last octet of management addresses
	switchNumber     = 2
	datapathID       = 1
)

// segmentOf returns the segment that hosts of the role have their eth0 in.
func segmentOf(r Role) segment {
	if r == RoleClient {
		return clientSegment
	}
	return nodeSegment
}

// hosts lists the hosts of a lab: the controller first, because everybody's
// management link ends there, then the switch.
func hosts(o Options) []Host {
	netnsName := func(host string) string { return "shunt-" + o.Name + "-" + host }
	all := []Host{
		{Name: ControllerHost, Role: RoleController, Management: number4(management, controllerNumber)},
		{Name: SwitchHost, Role: RoleSwitch, Management: number4(management, switchNumber)},
	}
	add := func(role Role, count, first, macKind int) {
		for i := range count {
			n := first + i
			h := Host{Name: fmt.Sprintf("%s%d", role, i+1), Role: role, MAC: mac(macKind, i+1).String()}
			seg := segmentOf(role)
			h.Addresses = append(h.Addresses, number4(seg.v4, n))
			if o.IPv6 {
				h.Addresses = append(h.Addresses, number6(seg.v6, n))
			}
			if role != RoleClient {
				h.Management = number4(management, n)
			}
			all = append(all, h)
		}
	}
	add(RoleClient, o.Clients, 11, 1)
	add(RoleDispatcher, o.Dispatchers, 11, 2)
	add(RoleServer, o.Servers, 101, 3)
	for i := range all {
		all[i].Netns = netnsName(all[i].Name)
		if all[i].Addresses == nil {
			all[i].Addresses = []netip.Addr{all[i].Management}
		}
	}
	return all
}

var hostName = regexp.MustCompile(`^(controller|switch|(client|dispatcher|server)[1-9][0-9]*)$`)

// netnsOf tells whether a namespace's name is one of the lab's: labs "a" and
// "a-b" must not take each other's.
func netnsOf(lab string) func(netns string) bool {
	prefix := "shunt-" + lab + "-"
	return func(netns string) bool {
		return len(netns) > len(prefix) && netns[:len(prefix)] == prefix && hostName.MatchString(netns[len(prefix):])
	}
}

// service is the first one.
func service(o Options) Service {
	s := Service{Name: FirstService, VIP: netip.MustParseAddr("10.10.0.80"), Port: firstPort}
	if o.IPv6 {
		s.VIP6 = netip.MustParseAddr("fd10::80")
	}
	return s
}

// number4 is address n of an IPv4 /24.
func number4(p netip.Prefix, n int) netip.Addr {
	a := p.Addr().As4()
	a[3] = byte(n)
	return netip.AddrFrom4(a)
}

// number6 is the address of an IPv6 prefix whose last group reads as the
// decimal number n: fd10:2::101 beside 10.10.2.101.
func number6(p netip.Prefix, n int) netip.Addr {
	group, err := strconv.ParseUint(strconv.Itoa(n), 16, 16)
	if err != nil {
		panic(err) // n is below 1000
	}
	a := p.Masked().Addr().As16()
	a[14], a[15] = byte(group>>8), byte(group)
	return netip.AddrFrom16(a)
}

// mac is a locally administered address: kind 0 is the switch's own.
func mac(kind, n int) net.HardwareAddr {
	return net.HardwareAddr{0x02, 0x53, 0x48, 0x00, byte(kind), byte(n)}
}
