package tcprepair

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Freeze puts a connection into repair mode and makes it deaf: from its return
// on, the kernel accepts nothing more on it. It takes the place of any socket
// filter that the socket had. Freezing a frozen socket is harmless.
//
// It fails with ErrUnsupportedState for what is not a TCP connection (a listener,
// MPTCP, another protocol) and with ErrLacks where repair is not permitted; the
// socket is then as it was.
func Freeze(fd int) error {
	if err := freeze(fd); err != nil {
		return fmt.Errorf("freeze a connection: %w", err)
	}
	return nil
}

func freeze(fd int) error {
	// An MPTCP socket that fell back to TCP takes TCP_REPAIR, passes it on to the
	// subflow below, and then shows queues of its own. Hence the question first.
	proto, err := getInt(fd, unix.SOL_SOCKET, unix.SO_PROTOCOL, "SO_PROTOCOL")
	if err != nil {
		return err
	}
	switch proto {
	case unix.IPPROTO_TCP:
	case unix.IPPROTO_MPTCP:
		return unsupported("MPTCP socket; make the listener with SetMultipathTCP(false)")
	default:
		return unsupported("socket of protocol %d", proto)
	}
	if err := repair(fd, unix.TCP_REPAIR_ON); err != nil {
		return err
	}
	if err := deafen(fd); err != nil {
		return errors.Join(err, repair(fd, unix.TCP_REPAIR_OFF_NO_WP))
	}
	return nil
}

// Thaw ends what Freeze began: the connection goes on where it stood. With probe
// it sends a window probe, which makes the peer say at once how far it has
// received; that pays off when acknowledgements may have been dropped meanwhile. A
// connection with unsent bytes is always probed, as Dump has hidden the peer's
// window from it.
//
// SO_REUSEADDR, which leaving repair mode would clear, is set: without it a
// listener on the same port could not be started again during the life of the
// connection.
func Thaw(fd int, probe bool) error {
	if err := thaw(fd, probe); err != nil {
		return fmt.Errorf("thaw a connection: %w", err)
	}
	return nil
}

func thaw(fd int, probe bool) error {
	inFlight, unsent, err := outQueue(fd)
	if err != nil {
		return err
	}
	if unsent == 0 {
		return revive(fd, probe)
	}
	if err := openWindow(fd, inFlight); err != nil {
		return err
	}
	if err := revive(fd, true); err != nil {
		return err
	}
	// The event that would have sent the next bytes may have passed; this looks
	// for bytes to send, and is the default.
	return setInt(fd, unix.IPPROTO_TCP, unix.TCP_CORK, 0, "TCP_CORK")
}

// revive makes a frozen socket an ordinary one.
func revive(fd int, probe bool) error {
	// First the ears, so that the answer to the probe is heard.
	if err := undeafen(fd); err != nil {
		return err
	}
	off := unix.TCP_REPAIR_OFF_NO_WP
	if probe {
		off = unix.TCP_REPAIR_OFF
	}
	if err := repair(fd, off); err != nil {
		return err
	}
	return setInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1, "SO_REUSEADDR")
}

// CloseSilently removes a connection from the kernel without a packet: neither
// FIN nor RST. The connection need not be frozen. fd is closed, unless the error
// says that repair mode could not be entered.
//
// A descriptor that belongs to a net.Conn or an os.File must not be closed under
// it: Freeze it and call the owner's Close, which is then just as silent. In
// either case the connection lives on if the descriptor has duplicates.
func CloseSilently(fd int) error {
	if err := freeze(fd); err != nil {
		return fmt.Errorf("close a connection silently: %w", err)
	}
	if err := unix.Close(fd); err != nil {
		return fmt.Errorf("close a connection silently: %w", err)
	}
	return nil
}

// Vanish takes a frozen connection out of the kernel's tables at once, without a
// packet, although descriptors of it are still open: in repair mode that is what
// dissolving the association does (tcp_disconnect in net/ipv4/tcp.c). Whoever
// reads from one of them gets ECONNABORTED. Another connection with the same ends
// can then be restored.
func Vanish(fd int) error {
	_, _, errno := unix.Syscall(unix.SYS_CONNECT, uintptr(fd), uintptr(unsafe.Pointer(&unix.RawSockaddr{Family: unix.AF_UNSPEC})), unix.SizeofSockaddrInet4)
	if errno != 0 {
		return fmt.Errorf("dissolve a frozen connection: %w", errno)
	}
	return nil
}

// repair switches repair mode and sorts the ways in which Linux refuses.
func repair(fd, mode int) error {
	err := unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_REPAIR, mode)
	if err == nil {
		return nil
	}
	if errors.Is(err, unix.EPERM) {
		// Listeners are refused with the same number as callers without rights.
		if on, e := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ACCEPTCONN); e == nil && on != 0 {
			return unsupported("TCP state LISTEN")
		}
		return fmt.Errorf("%w (%w)", ErrLacks, err)
	}
	if errors.Is(err, unix.ENOPROTOOPT) {
		return fmt.Errorf("%w (%w)", ErrLacks, err)
	}
	return fmt.Errorf("set TCP_REPAIR to %d: %w", mode, err)
}
