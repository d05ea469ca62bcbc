package tcprepair

import (
	"fmt"
	"net"
	"syscall"

	"golang.org/x/sys/unix"
)

// deferAccept is how long a connection waits for its first data before it is
// accepted without, seconds.
const deferAccept = 1

// ListenConfig returns the configuration of listeners whose connections can be
// moved: not MPTCP, whose sockets have no TCP_REPAIR, and bound also to an IPv6
// address that is only routed to this host (IPV6_FREEBIND; IPv4 binds to those
// by itself). A connection is accepted together with its first data
// (TCP_DEFER_ACCEPT), which spares a wake-up; one that sends nothing is accepted
// after about a second. Keepalive is left to whoever gets the connection.
func ListenConfig() net.ListenConfig {
	lc := net.ListenConfig{
		KeepAlive: -1,
		Control: func(network, _ string, c syscall.RawConn) error {
			var err error
			if e := c.Control(func(fd uintptr) {
				err = setInt(int(fd), unix.IPPROTO_TCP, unix.TCP_DEFER_ACCEPT, deferAccept, "TCP_DEFER_ACCEPT")
				if err == nil && network == "tcp6" {
					err = setInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_FREEBIND, 1, "IPV6_FREEBIND")
				}
			}); e != nil {
				return e
			}
			return err
		},
	}
	lc.SetMultipathTCP(false)
	return lc
}

// StateClose is the state of a connection that is over.
const StateClose = 7

// TCPState returns the kernel's state of a connection (include/net/tcp_states.h).
func TCPState(fd int) (uint8, error) {
	info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
	if err != nil {
		return 0, fmt.Errorf("get TCP_INFO: %w", err)
	}
	return info.State, nil
}
