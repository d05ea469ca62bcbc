package attach

import (
	"errors"
	"fmt"
	"net/netip"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// What a knock looks like to the server's library. No other process can make
// one: the port is privileged. Source: preload/interpose.c.
var (
	knockFrom4 = netip.MustParseAddr("127.83.72.84")
	knockFrom6 = netip.IPv6Loopback()
)

const (
	knockSays    = "shunt\x00k1"
	knockPorts   = 1023 // 1 to 1023
	knockTries   = 32   // ports that may be in use one after the other
	knockTimeout = 20   // milliseconds; on loopback a connection is made at once, or the backlog is full
)

var knockPort atomic.Uint32 // the last one tried, from 0; only so that tries rarely meet

// knocking is a connection to the server's own listener that wakes the server.
type knocking int

// knock connects. The error is ErrBusy or ErrNotReady, or tells what failed.
func knock(target netip.AddrPort) (knocking, error) {
	for range knockTries {
		k, err := knockFrom(uint16(knockPort.Add(1)%knockPorts)+1, target)
		if err == nil {
			return k, nil
		}
		if !errors.Is(err, unix.EADDRINUSE) && !errors.Is(err, unix.EADDRNOTAVAIL) {
			return -1, err
		}
	}
	return -1, fmt.Errorf("%w: %d ports in a row are in use by knocks at %v", ErrBusy, knockTries, target)
}

func knockFrom(port uint16, target netip.AddrPort) (_ knocking, err error) {
	family, from := unix.AF_INET, knockFrom4
	if target.Addr().Is6() {
		family, from = unix.AF_INET6, knockFrom6
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return -1, fmt.Errorf("make a socket to knock at %v: %w", target, err)
	}
	k := knocking(fd)
	defer func() {
		if err != nil {
			unix.Close(fd)
		}
	}()
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		return -1, fmt.Errorf("knock at %v: set SO_REUSEADDR: %w", target, err)
	}
	if err := unix.Bind(fd, sockaddr(netip.AddrPortFrom(from, port))); err != nil {
		return -1, fmt.Errorf("knock at %v: bind to %v port %d (needs the capability CAP_NET_BIND_SERVICE): %w", target, from, port, err)
	}
	err = unix.Connect(fd, sockaddr(target))
	if err == unix.EINPROGRESS {
		err = k.connected()
	}
	switch {
	case err == nil:
		return k, nil
	case errors.Is(err, unix.ECONNREFUSED):
		return -1, fmt.Errorf("%w: knock at %v: %w", ErrNotReady, target, err)
	case errors.Is(err, unix.ECONNRESET): // accepted, but this process was too slow to go on
		return -1, fmt.Errorf("%w: knock at %v: %w", ErrBusy, target, err)
	}
	return -1, fmt.Errorf("knock at %v: %w", target, err)
}

// connected waits for what came of a connect.
func (k knocking) connected() error {
	p := []unix.PollFd{{Fd: int32(k), Events: unix.POLLOUT}}
	for {
		n, err := unix.Poll(p, knockTimeout)
		if err == unix.EINTR {
			continue
		}
		if err != nil {
			return err
		}
		if n == 0 {
			return fmt.Errorf("%w: it did not accept within %d ms", ErrBusy, knockTimeout)
		}
		break
	}
	soError, err := unix.GetsockoptInt(int(k), unix.SOL_SOCKET, unix.SO_ERROR)
	if err == nil && soError != 0 {
		err = unix.Errno(soError)
	}
	return err
}

// announce says that the session is in the queue. A server that is gone has
// reset the connection: watch finds that.
func (k knocking) announce() {
	for {
		if err := unix.Sendto(int(k), []byte(knockSays), unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL, nil); err != unix.EINTR {
			return
		}
	}
}

// withdraw closes with a RST, before anything was announced: the server's
// library takes no notice then.
func (k knocking) withdraw() {
	k.leaveNothing()
	unix.Close(int(k))
}

// leaveNothing makes the connection's close a RST: no TIME_WAIT remains.
func (k knocking) leaveNothing() {
	// It cannot fail on a TCP socket.
	unix.SetsockoptLinger(int(k), unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
}

func sockaddr(a netip.AddrPort) unix.Sockaddr {
	if a.Addr().Is4() {
		return &unix.SockaddrInet4{Addr: a.Addr().As4(), Port: int(a.Port())}
	}
	return &unix.SockaddrInet6{Addr: a.Addr().As16(), Port: int(a.Port())}
}

// openQueue connects to the server's queue: a place for one session.
func openQueue(path string) (int, error) {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("make a socket to pass the session: %w", err)
	}
	for {
		err = unix.Connect(fd, &unix.SockaddrUnix{Name: path})
		if err == nil {
			return fd, nil
		}
		if err != unix.EINTR {
			break
		}
	}
	unix.Close(fd)
	switch err {
	case unix.EAGAIN:
		return -1, fmt.Errorf("%w: %s: %w", ErrBusy, path, err)
	case unix.ENOENT, unix.ECONNREFUSED, unix.EPROTOTYPE:
		return -1, fmt.Errorf("%w: no preloaded server has its queue at %s: %w", ErrNotReady, path, err)
	}
	return -1, fmt.Errorf("connect to the server's queue at %s: %w", path, err)
}

// hasQueue tells whether a process listens at the path, and leaves no trace
// there: a connection of another type is refused with EPROTOTYPE by a socket
// that lives, and with ECONNREFUSED by the file of one that does not. Source:
// Linux net/unix/af_unix.c, unix_find_bsd.
func hasQueue(path string) bool {
	fd, err := unix.Socket(unix.AF_UNIX, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return false
	}
	defer unix.Close(fd)
	return unix.Connect(fd, &unix.SockaddrUnix{Name: path}) == unix.EPROTOTYPE
}

// deliver sends the session. It does not wait.
func deliver(place int, frame []byte, fd int) error {
	rights := unix.UnixRights(fd)
	for {
		err := unix.Sendmsg(place, frame, rights, nil, unix.MSG_DONTWAIT|unix.MSG_NOSIGNAL)
		switch err {
		case nil:
			return nil
		case unix.EINTR:
		case unix.EAGAIN, unix.ENOBUFS, unix.ETOOMANYREFS:
			return fmt.Errorf("%w: pass the session: %w", ErrBusy, err)
		case unix.EPIPE, unix.ECONNRESET, unix.ENOTCONN: // it waited long enough for this process, or is gone
			return fmt.Errorf("%w: pass the session: %w", ErrBusy, err)
		default:
			return fmt.Errorf("pass descriptor %d: %w", fd, err)
		}
	}
}
