package sockdiag

import (
	"errors"
	"fmt"
	"net/netip"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Errors of Destroy, to be tested for with errors.Is.
var (
	// ErrNotFound: there is no such connection (any more).
	ErrNotFound = errors.New("no socket has these addresses")
	// ErrNotSupported: the kernel is built without CONFIG_INET_DIAG_DESTROY.
	ErrNotSupported = errors.New("the kernel cannot destroy sockets: it needs CONFIG_INET_DIAG_DESTROY")
)

// Destroy aborts the connection with these ends: the peer gets a RST, and the
// process that has the socket ECONNABORTED. It never touches a listener.
func Destroy(local, remote netip.AddrPort) error {
	if err := destroySocket(local, remote); err != nil {
		return fmt.Errorf("destroy the socket from %s to %s: %w", local, remote, err)
	}
	return nil
}

func destroySocket(local, remote netip.AddrPort) error {
	local = netip.AddrPortFrom(local.Addr().Unmap(), local.Port())
	remote = netip.AddrPortFrom(remote.Addr().Unmap(), remote.Port())
	if !local.IsValid() || !remote.IsValid() || local.Addr().Is4() != remote.Addr().Is4() {
		return errors.New("these are not two addresses of one family")
	}
	family := uint8(unix.AF_INET6)
	if local.Addr().Is4() {
		family = unix.AF_INET // finds IPv4 connections of IPv6 sockets, too
	}
	conn, err := netlink.Dial(unix.NETLINK_SOCK_DIAG, nil)
	if err != nil {
		return err
	}
	defer conn.Close()

	// The kernel takes the addresses as a packet's: without a connection it
	// would find, and destroy, the listener. So look first, and then name the
	// very socket by its cookie.
	found, err := conn.Execute(netlink.Message{
		Header: netlink.Header{Type: byFamily, Flags: netlink.Request},
		Data:   request(family, 0, local, remote, noCookie),
	})
	if err != nil {
		return destroyError(err)
	}
	if len(found) != 1 {
		return fmt.Errorf("%w: %d messages instead of one", errMessage, len(found))
	}
	m, err := parse(found[0].Data)
	if err != nil {
		return err
	}
	if m.State == Listen || m.Local != local || m.Remote != remote {
		return ErrNotFound
	}
	_, err = conn.Execute(netlink.Message{
		Header: netlink.Header{Type: destroy, Flags: netlink.Request | netlink.Acknowledge},
		Data:   request(family, 0, local, remote, m.Cookie),
	})
	return destroyError(err)
}

func destroyError(err error) error {
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
