package sockdiag

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Errors of Find and Destroy, to be tested for with errors.Is.
var (
	// ErrNotFound: there is no such connection (any more).
	ErrNotFound = errors.New("no socket has these addresses")
	// ErrNotSupported: the kernel is built without CONFIG_INET_DIAG_DESTROY.
	ErrNotSupported = errors.New("the kernel cannot destroy sockets: it needs CONFIG_INET_DIAG_DESTROY")
)

// Find returns the socket of the connection with these ends, in any state but
// LISTEN, without a walk over all sockets.
func Find(local, remote netip.AddrPort) (Socket, error) {
	var s Socket
	err := withConn(func(conn *netlink.Conn) (err error) {
		s, err = find(conn, unmap(local), unmap(remote))
		return err
	})
	if err != nil {
		return Socket{}, fmt.Errorf("find the socket from %s to %s: %w", local, remote, err)
	}
	return s, nil
}

// Destroy aborts the connection with these ends: the peer gets a RST, and the
// process that has the socket ECONNABORTED. It never touches a listener.
func Destroy(local, remote netip.AddrPort) error {
	err := withConn(func(conn *netlink.Conn) error {
		// The kernel takes the addresses as a packet's: without a connection it
		// would find, and destroy, the listener. So look first, and then name the
		// very socket by its cookie.
		s, err := find(conn, unmap(local), unmap(remote))
		if err != nil {
			return err
		}
		_, err = conn.Execute(netlink.Message{
			Header: netlink.Header{Type: destroy, Flags: netlink.Request | netlink.Acknowledge},
			Data:   request(familyOf(s.Local), 0, s.Local, s.Remote, s.Cookie),
		})
		return explain(err)
	})
	if err != nil {
		return fmt.Errorf("destroy the socket from %s to %s: %w", local, remote, err)
	}
	return nil
}

func withConn(f func(*netlink.Conn) error) error {
	conn, err := netlink.Dial(unix.NETLINK_SOCK_DIAG, nil)
	if err != nil {
		return err
	}
	defer conn.Close()
	return f(conn)
}

// find asks for one socket; the addresses are not IPv4-mapped.
func find(conn *netlink.Conn, local, remote netip.AddrPort) (Socket, error) {
	if !local.IsValid() || !remote.IsValid() || local.Addr().Is4() != remote.Addr().Is4() {
		return Socket{}, errors.New("these are not two addresses of one family")
	}
	found, err := conn.Execute(netlink.Message{
		Header: netlink.Header{Type: byFamily, Flags: netlink.Request},
		Data:   request(familyOf(local), 0, local, remote, noCookie),
	})
	if err != nil {
		return Socket{}, explain(err)
	}
	if len(found) != 1 {
		return Socket{}, fmt.Errorf("%w: %d messages instead of one", errMessage, len(found))
	}
	s, err := parse(found[0].Data)
	if err != nil {
		return Socket{}, err
	}
	if s.State == Listen || s.Local != local || s.Remote != remote {
		return Socket{}, ErrNotFound
	}
	return s, nil
}

func unmap(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }

// familyOf returns the family to ask for: AF_INET finds the IPv4 connections
// of IPv6 sockets, too.
func familyOf(a netip.AddrPort) uint8 {
	if a.Addr().Is4() {
		return unix.AF_INET
	}
	return unix.AF_INET6
}

// explain turns the kernel's errors into this package's.
func explain(err error) error {
	switch {
	case errors.Is(err, unix.ENOENT), errors.Is(err, unix.ESTALE):
		return ErrNotFound
	case errors.Is(err, unix.EOPNOTSUPP):
		return ErrNotSupported
	case errors.Is(err, unix.EPERM):
		return fmt.Errorf("%w: run as root, or with CAP_NET_ADMIN", err)
	}
	return err
}
