package doctor

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// A listener is a listening TCP or MPTCP socket.
type listener struct {
	at    netip.AddrPort
	mptcp bool
}

// Of linux/inet_diag.h and linux/sock_diag.h.
const (
	sockDiagByFamily = 20
	diagRequestLen   = 56
	diagMessageLen   = 72
	diagProtocol     = 3 // INET_DIAG_REQ_PROTOCOL
	tcpListen        = 10
)

// listeners lists the listening sockets of one protocol.
func listeners(protocol uint32) ([]listener, error) {
	var out []listener
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		conn, err := netlink.Dial(unix.NETLINK_SOCK_DIAG, nil)
		if err != nil {
			return nil, fmt.Errorf("ask the kernel for its sockets: %w", err)
		}
		request := make([]byte, diagRequestLen)
		request[0], request[1] = family, unix.IPPROTO_TCP
		binary.NativeEndian.PutUint32(request[4:], 1<<tcpListen)
		if protocol != unix.IPPROTO_TCP {
			attr, err := netlink.MarshalAttributes([]netlink.Attribute{{Type: diagProtocol, Data: binary.NativeEndian.AppendUint32(nil, protocol)}})
			if err != nil {
				conn.Close()
				return nil, err
			}
			request = append(request, attr...)
		}
		answers, err := conn.Execute(netlink.Message{
			Header: netlink.Header{Type: sockDiagByFamily, Flags: netlink.Request | netlink.Dump}, Data: request})
		conn.Close()
		if errors.Is(err, unix.ENOENT) {
			continue // the kernel does not know the protocol, so nobody listens
		}
		if err != nil {
			return nil, fmt.Errorf("list the kernel's listening sockets: %w", err)
		}
		for _, m := range answers {
			if l, ok := parseListener(m.Data); ok {
				l.mptcp = protocol == unix.IPPROTO_MPTCP
				out = append(out, l)
			}
		}
	}
	return out, nil
}

// parseListener decodes an inet_diag_msg.
func parseListener(b []byte) (l listener, ok bool) {
	if len(b) < diagMessageLen || b[1] != tcpListen {
		return l, false
	}
	port := binary.BigEndian.Uint16(b[4:])
	var a netip.Addr
	switch b[0] {
	case unix.AF_INET:
		a = netip.AddrFrom4([4]byte(b[8:12]))
	case unix.AF_INET6:
		a = netip.AddrFrom16([16]byte(b[8:24]))
	default:
		return l, false
	}
	return listener{at: netip.AddrPortFrom(a, port)}, true
}

// checkListeners looks for sockets that take connections in the agent's place.
// The ends are session addresses with their services' ports.
func (r *Report) checkListeners(ends []netip.AddrPort, pools []netip.Prefix, dispatcher bool) {
	multi, err := listeners(unix.IPPROTO_MPTCP)
	if err != nil {
		r.warn("listener-mptcp", "", "", "%v", err)
		return
	}
	plain, err := listeners(unix.IPPROTO_TCP)
	if err != nil {
		r.warn("listener-port", "", "", "%v", err)
		return
	}
	services := map[uint16]bool{}
	for _, e := range ends {
		services[e.Port()] = true
	}
	inPools := func(a netip.Addr) bool {
		for _, p := range pools {
			if p.Contains(a.Unmap()) {
				return true
			}
		}
		return false
	}
	bad := 0
	for _, l := range multi {
		if inPools(l.at.Addr()) {
			bad++
			r.fail("listener-mptcp", l.at.String(), "make it listen with plain TCP: in Go ListenConfig.SetMultipathTCP(false) or GODEBUG=multipathtcp=0; elsewhere without mptcpize",
				"a listener on a session address speaks MPTCP: its connections cannot be moved")
		}
	}
	if bad == 0 {
		r.ok("listener-mptcp", "", "no listener on a session address speaks MPTCP")
	}
	if !dispatcher {
		return
	}
	bad = 0
	isMulti := map[netip.AddrPort]bool{}
	for _, l := range multi {
		isMulti[l.at] = true
	}
	for _, l := range plain {
		if l.at.Addr().IsUnspecified() && services[l.at.Port()] {
			bad++
			kind := "a program"
			if isMulti[l.at] {
				kind = "a program (with MPTCP)"
			}
			r.fail("listener-port", l.at.String(), "let the program listen on an address of its own, such as that of the data interface, instead of on all",
				"%s listens on port %d of all addresses: the dispatcher cannot listen on its session addresses", kind, l.at.Port())
		}
	}
	if bad == 0 {
		r.ok("listener-port", "", "the services' ports are free on session addresses")
	}
}
