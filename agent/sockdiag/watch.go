package sockdiag

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Event says that the kernel has destroyed a socket, or that it lost count.
//
// A socket is destroyed when no process has it and its connection has ended on
// both sides, or is about to: the kernel keeps a small record instead of a
// socket in TIME-WAIT, and also in FIN-WAIT-2 if no process has it; the event
// comes when it does so. A connection that the peer has reset ends in an event
// only when the process closes its descriptor.
//
// Remote's port is 0 if the kernel had disconnected the socket before: when
// its process closed it with SO_LINGER set to zero seconds, or in TCP repair
// mode. Such a socket has lost its local address, too, and is not announced,
// unless it was bound to that address or its listener was; a restored socket
// is. Cookie tells which one it was.
type Event struct {
	Local, Remote netip.AddrPort
	State         uint8  // the last: usually Close
	Cookie        uint64 // Socket.Cookie
	Counts        Counts // zero if the kernel does not say

	// Unread are octets that had come and that no process read, Unacked those
	// that had not been acknowledged; a FIN counts as one.
	Unread, Unacked uint32

	// Overrun: events were lost, because they came faster than they were
	// taken. All other fields are zero. List again.
	Overrun bool
}

// Aborted tells whether the connection was cut off: one end sent the other a RST,
// or gave up on it. The kernel keeps no record of such a connection, and what comes
// late is answered with a RST. It also keeps none of one that the other end closed
// first; that does not count.
//
// A single octet that was not read is not told from a FIN, which need not be.
func (e Event) Aborted() bool { return e.Unread > 1 || e.Unacked > 0 || e.Remote.Port() == 0 }

// Watcher receives the ends of TCP sockets.
type Watcher struct{ conn *netlink.Conn }

// readBuffer holds some 30,000 events. It is only used as far as needed.
const readBuffer = 32 << 20

// Multicast groups of linux/sock_diag.h.
const (
	groupTCPDestroy  = 1 // SKNLGRP_INET_TCP_DESTROY
	groupTCP6Destroy = 3 // SKNLGRP_INET6_TCP_DESTROY
)

// OpenWatcher starts to watch. Sockets that end after it has returned are
// announced, so that a caller who lists afterwards misses none.
func OpenWatcher() (*Watcher, error) {
	w, err := openWatcher(readBuffer)
	if err != nil {
		return nil, fmt.Errorf("watch the ends of TCP sockets: %w", err)
	}
	return w, nil
}

func openWatcher(buffer int) (*Watcher, error) {
	conn, err := netlink.Dial(unix.NETLINK_SOCK_DIAG, &netlink.Config{MessageBufferSize: bufferSize})
	if err != nil {
		return nil, err
	}
	if err := conn.SetReadBuffer(buffer); err != nil {
		conn.Close()
		return nil, fmt.Errorf("set the receive buffer to %d bytes: %w", buffer, err)
	}
	for _, group := range []uint32{groupTCPDestroy, groupTCP6Destroy} {
		if err := conn.JoinGroup(group); err != nil {
			conn.Close()
			return nil, fmt.Errorf("join multicast group %d (the kernel needs CONFIG_INET_TCP_DIAG): %w", group, err)
		}
	}
	return &Watcher{conn}, nil
}

// Run calls f, one call at a time, for the ends of connections, until ctx is
// done; then it returns nil. It must not be called again. Sockets that never were
// connected, such as listeners, end in an event with the zero address and port as
// Remote.
func (w *Watcher) Run(ctx context.Context, f func(Event)) error {
	stop := interrupt(ctx, w.conn)
	defer stop()
	for {
		msgs, err := w.conn.Receive()
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, unix.ENOBUFS) {
			f(Event{Overrun: true})
			continue
		}
		if err != nil {
			return fmt.Errorf("watch the ends of TCP sockets: %w", err)
		}
		for _, m := range msgs {
			if m.Header.Type != byFamily {
				continue
			}
			s, err := parse(m.Data)
			if err != nil {
				return fmt.Errorf("watch the ends of TCP sockets: %w", err)
			}
			e := Event{Local: s.Local, Remote: s.Remote, State: s.State, Cookie: s.Cookie}
			e.Unread, e.Unacked = queues(m.Data)
			if counts, _, err := parseCounts(m.Data); err == nil {
				e.Counts = counts
			}
			f(e)
		}
	}
}

// Close ends the watch, and Run with an error if it still runs.
func (w *Watcher) Close() error { return w.conn.Close() }
