package doctor

import (
	"net"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// gatewayTime is what a neighbour has to answer: ARP asks three times, a second
// apart.
const gatewayTime = 3500 * time.Millisecond

// checkGateway has the kernel resolve the next hop of the default route.
func (r *Report) checkGateway(iface string, route netlink.Route) {
	const check = "gateway"
	remedy := "see that the switch is connected to its controller, that this host's port is among the ports of the interface, and that the gateway is the switch's address there"
	// What resolves a neighbour is a packet to it.
	c, err := net.DialUDP("udp", nil, &net.UDPAddr{IP: route.Gw, Port: 9})
	if err != nil {
		r.fail(check, route.Gw.String(), remedy, "no packet can be sent to the gateway: %v", err)
		return
	}
	defer c.Close()
	const good = unix.NUD_REACHABLE | unix.NUD_STALE | unix.NUD_DELAY | unix.NUD_PERMANENT | unix.NUD_NOARP
	for deadline := time.Now().Add(gatewayTime); ; {
		_, _ = c.Write([]byte{0}) // refused, perhaps: that is an answer too
		neighbours, err := netlink.NeighList(route.LinkIndex, 0)
		if err != nil {
			r.warn(check, route.Gw.String(), "", "the host's neighbours could not be read: %v", err)
			return
		}
		for _, n := range neighbours {
			if n.IP.Equal(route.Gw) && n.State&good != 0 && n.State&unix.NUD_FAILED == 0 {
				r.ok(check, route.Gw.String(), "answers as %v", n.HardwareAddr)
				return
			}
		}
		if time.Now().After(deadline) {
			r.fail(check, route.Gw.String(), remedy, "the gateway of %s does not answer", iface)
			return
		}
		<-time.After(100 * time.Millisecond)
	}
}
