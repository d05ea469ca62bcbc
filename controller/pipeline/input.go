package pipeline

import (
	"net"
	"net/netip"
)

// An Input is everything that decides a switch's flows, apart from the
// sessions. Slices may be in any order, except that an interface's position is
// its table.
type Input struct {
	Features   Features
	Zone       uint16 // the conntrack zone of marks
	Interfaces []Interface
	Routes     []Route
	Pools      []netip.Prefix // session addresses
	Services   []Service
	Nodes      []Node
	Neighbours []Neighbour
	Leases     []Lease // conntrack steering only
	Fences     []Fence
}

// Features are what the switch can do beyond OpenFlow 1.3's required part.
type Features struct {
	// TCPFlags: SYNs can be told from other packets. Without it a session's
	// flow also catches the SYN of a connection that reuses its port.
	TCPFlags bool
	// Move: ARP is answered in the switch. Without it by the controller.
	Move bool
	// Advertise: neighbour discovery is answered in the switch.
	Advertise bool
	// Conntrack: sessions are steered by marks, not by flows.
	Conntrack bool
}

// An Interface is a routed interface of the switch: one broadcast domain.
type Interface struct {
	Name      string
	MAC       net.HardwareAddr
	Addresses []netip.Prefix // the switch's own, with the on-link prefix
	Ports     []uint32       // those that the switch has now
	// Others are the hardware addresses that other switches have on the link.
	// Replies that nodes send to one of them are that switch's.
	Others []net.HardwareAddr
}

// A Route leads to hosts that are on no interface's link.
type Route struct {
	To  netip.Prefix
	Via netip.Addr // on the link of an interface
}

// A Service is what clients connect to.
type Service struct {
	Name  string
	Port  uint16
	VIPs  []netip.Addr
	Homes []Home
}

// A Home is a dispatcher's lease of a session address of a service. A home
// stays in the list, not up, while sessions of its address may live.
type Home struct {
	Node    string
	VIP     netip.Addr
	Session netip.Addr
	Up      bool
}

// A Node is a dispatcher or server whose place in the network is known.
type Node struct {
	Name      string
	MAC       net.HardwareAddr
	Interface int    // position in Input.Interfaces
	Port      uint32 // of the switch
	Mark      uint16 // conntrack steering: the low half of ct_mark; 0: none
}

// A Fence keeps what a node that was given up still sends, should it be alive,
// from clients: others have its sessions, or nobody. Those of its own session
// addresses were not given up.
type Fence struct {
	Node string
	MAC  net.HardwareAddr
}

// A Neighbour is a resolved address on the link of an interface.
type Neighbour struct {
	Addr      netip.Addr
	MAC       net.HardwareAddr
	Interface int
	Port      uint32
}

// A Lease is a session address with the upper half of ct_mark.
type Lease struct {
	Session netip.Addr
	Mark    uint16 // never 0
}
