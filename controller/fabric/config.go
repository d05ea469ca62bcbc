package fabric

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/shunt-sdn/shunt/controller/pipeline"
	"github.com/shunt-sdn/shunt/controller/steering"
)

// Config is what does not change while the fabric runs.
type Config struct {
	Switches []Switch
	Pools    []netip.Prefix // of session addresses
	Log      *slog.Logger   // nil: none
	// Clock is the time; nil: time.Now.
	Clock func() time.Time
	// Indexes keeps the numbers in marks over restarts; nil: in memory only.
	Indexes steering.Indexes
	// Linger is how long steering outlives its session; 0: 2 s.
	Linger time.Duration
	// Settle is how long after a switch connected flows of an earlier run
	// that seem superfluous are left in it: meanwhile neighbours are
	// resolved, and they turn out to be right. 0: 5 s.
	Settle time.Duration
	// EchoInterval and EchoTimeout are those of openflow.Config.
	EchoInterval, EchoTimeout time.Duration
}

// A Mode is how a switch steers sessions.
type Mode string

// The modes. Auto takes conntrack marks where the switch has them.
const (
	Auto      Mode = "auto"
	ExactFlow Mode = "flows"
	Conntrack Mode = "conntrack"
)

// DefaultZone is the connection tracking zone of marks ("SH").
const DefaultZone = 0x5348

// A Switch is one to drive.
type Switch struct {
	DPID       uint64 // 0: any
	Connect    string // target to dial (see openflow.Dial); "": it dials us
	Steering   Mode   // "": Auto
	Zone       uint16 // of marks; 0: DefaultZone
	Interfaces []Interface
	Routes     []Route
}

// An Interface is a routed interface of a switch.
type Interface struct {
	Name      string
	MAC       net.HardwareAddr // nil: made from the switch's id and the name
	Addresses []netip.Prefix   // the switch's own, with the length of the on-link prefix
	Ports     []string         // names; those that are missing are used when they appear
}

// A Route leads to hosts beyond a router.
type Route = pipeline.Route

// A Topology is what the switches are to serve; it may change at any time.
type Topology struct {
	Services []Service
	Nodes    []Node
}

// A Service is what clients connect to.
type Service = pipeline.Service

// A Home is a dispatcher's lease of a session address.
type Home = pipeline.Home

// A Node is a dispatcher or server.
type Node struct {
	Name      string
	MAC       net.HardwareAddr // of its data interface; nil: as resolved
	Addresses []netip.Addr     // of its data interface
	Up        bool
	Fenced    bool // its replies are to be dropped: see pipeline.Fence
}

// Session is a connection that a node holds.
type Session = steering.Session

// New checks the configuration and returns a fabric that does nothing yet.
func New(c Config) (*Fabric, error) {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.Clock == nil {
		c.Clock = time.Now
	}
	if c.Indexes == nil {
		c.Indexes = steering.NewIndexes()
	}
	if c.Linger == 0 {
		c.Linger = 2 * time.Second
	}
	if c.Settle == 0 {
		c.Settle = 5 * time.Second
	}
	f := &Fabric{cfg: c, log: c.Log}
	for i, s := range c.Switches {
		s, err := s.complete()
		if err != nil {
			return nil, fmt.Errorf("switch %d (dpid %016x): %w", i+1, s.DPID, err)
		}
		if s.DPID == 0 && len(c.Switches) > 1 {
			return nil, fmt.Errorf("switch %d of %d has no dpid: say which is which", i+1, len(c.Switches))
		}
		for _, d := range f.devices {
			if d.cfg.DPID == s.DPID {
				return nil, fmt.Errorf("switch %d has the dpid %016x of another: give each switch its own", i+1, s.DPID)
			}
		}
		f.devices = append(f.devices, newDevice(f, s))
	}
	for _, d := range f.devices {
		for _, ifc := range d.cfg.Interfaces {
			d.others = append(d.others, f.others(d, ifc))
		}
	}
	return f, nil
}

// others returns the hardware addresses that switches other than d have on the
// link of an interface.
func (f *Fabric) others(d *device, ifc Interface) (macs []net.HardwareAddr) {
	for _, other := range f.devices {
		for _, i := range other.cfg.Interfaces {
			if other != d && i.sharesLink(ifc) {
				macs = append(macs, i.MAC)
			}
		}
	}
	return macs
}

// sharesLink tells whether two interfaces, of different switches, have a prefix in
// common.
func (i Interface) sharesLink(other Interface) bool {
	for _, p := range i.Addresses {
		if !p.Addr().IsLinkLocalUnicast() && slices.ContainsFunc(other.Addresses, p.Overlaps) {
			return true
		}
	}
	return false
}

// complete fills in defaults and checks a switch.
func (s Switch) complete() (Switch, error) {
	switch s.Steering {
	case "":
		s.Steering = Auto
	case Auto, ExactFlow, Conntrack:
	default:
		return s, fmt.Errorf("steering is %q: use auto, flows or conntrack", s.Steering)
	}
	if s.Zone == 0 {
		s.Zone = DefaultZone
	}
	if len(s.Interfaces) == 0 {
		return s, errors.New("it has no interfaces: describe at least the one that nodes are on")
	}
	if len(s.Interfaces) > pipeline.MaxInterfaces {
		return s, fmt.Errorf("it has %d interfaces, at most %d are possible", len(s.Interfaces), pipeline.MaxInterfaces)
	}
	s.Interfaces = slices.Clone(s.Interfaces)
	owner := map[string]string{}
	for i := range s.Interfaces {
		ifc := &s.Interfaces[i]
		if ifc.MAC == nil {
			sum := sha256.Sum256(fmt.Appendf(nil, "%016x %s", s.DPID, ifc.Name))
			ifc.MAC = net.HardwareAddr{2, sum[0], sum[1], sum[2], sum[3], sum[4]}
		}
		if len(ifc.MAC) != 6 || ifc.MAC[0]&1 != 0 {
			return s, fmt.Errorf("interface %q has the hardware address %v: want six octets, not multicast", ifc.Name, ifc.MAC)
		}
		for _, p := range ifc.Addresses {
			if !p.IsValid() || p.Addr().Is4In6() {
				return s, fmt.Errorf("interface %q has the address %v: want an address with its prefix length", ifc.Name, p)
			}
		}
		for _, p := range ifc.Ports {
			if other, taken := owner[p]; taken {
				return s, fmt.Errorf("port %q is in the interfaces %q and %q: it can be in one", p, other, ifc.Name)
			}
			owner[p] = ifc.Name
		}
	}
	for _, r := range s.Routes {
		if !r.To.IsValid() || !r.Via.IsValid() || r.To.Addr().Is4() != r.Via.Is4() {
			return s, fmt.Errorf("route to %v via %v: want a prefix and a router of one family", r.To, r.Via)
		}
		if _, ok := onLink(s.Interfaces, r.Via); !ok {
			return s, fmt.Errorf("route to %v: the router %v is on the link of no interface", r.To, r.Via)
		}
	}
	return s, nil
}

// onLink returns the interface whose link an address is on.
func onLink(interfaces []Interface, a netip.Addr) (int, bool) {
	all := make([]pipeline.Interface, len(interfaces))
	for i, ifc := range interfaces {
		all[i].Addresses = ifc.Addresses
	}
	return pipeline.OnLink(all, a)
}
