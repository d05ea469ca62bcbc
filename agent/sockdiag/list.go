package sockdiag

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// Socket is a TCP socket of the kernel's tables.
type Socket struct {
	Local, Remote netip.AddrPort // IPv4-mapped addresses are given as IPv4
	State         uint8          // Established to Closing, never Listen
	Inode         uint32         // of the descriptor; 0 once no process has one
	UID           uint32         // of the owner
	Cookie        uint64         // tells it from every other socket ever; what SO_COOKIE returns
}

// listed are the states of sockets that have a remote end. A socket in
// FIN-WAIT-2 that no process has shows that state although the kernel keeps no
// more of it than in TIME-WAIT.
const listed uint32 = 1<<Established | 1<<SynSent | 1<<SynRecv | 1<<FinWait1 | 1<<FinWait2 | 1<<TimeWait |
	1<<CloseWait | 1<<LastAck | 1<<Closing | 1<<NewSynRecv

// bufferSize is what one read takes from the kernel at most.
const bufferSize = 64 << 10

// List returns the TCP sockets, in every state but LISTEN, whose local address
// is in one of the prefixes. IPv4 connections of IPv6 sockets are IPv4 here.
// Sockets that come or go meanwhile may or may not be among them.
func List(ctx context.Context, prefixes []netip.Prefix) ([]Socket, error) {
	var sockets []Socket
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		err := dump(ctx, family, listed, func(s Socket) {
			if contains(prefixes, s.Local.Addr()) {
				sockets = append(sockets, s)
			}
		})
		if err != nil {
			return nil, fmt.Errorf("list the TCP sockets of address family %d: %w", family, err)
		}
	}
	return sockets, nil
}

func contains(prefixes []netip.Prefix, addr netip.Addr) bool {
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(addr) })
}

// dump calls f for every socket of the family in one of the states.
func dump(ctx context.Context, family uint8, states uint32, f func(Socket)) error {
	if err := context.Cause(ctx); err != nil {
		return err
	}
	conn, err := netlink.Dial(unix.NETLINK_SOCK_DIAG, &netlink.Config{MessageBufferSize: bufferSize})
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := interrupt(ctx, conn)
	defer stop()
	_, err = conn.Send(netlink.Message{
		Header: netlink.Header{Type: byFamily, Flags: netlink.Request | netlink.Dump},
		Data:   request(family, states, netip.AddrPort{}, netip.AddrPort{}, 0),
	})
	if err != nil {
		return orContext(ctx, err)
	}
	for m, err := range conn.ReceiveIter() {
		// Without IPv6 in the kernel nobody answers for its sockets.
		if family == unix.AF_INET6 && errors.Is(err, unix.ENOENT) {
			return nil
		}
		if err != nil {
			return orContext(ctx, err)
		}
		if m.Header.Type != byFamily {
			continue
		}
		s, err := parse(m.Data)
		if err != nil {
			return err
		}
		f(s)
	}
	return nil
}

// interrupt makes reads from conn fail once ctx is done. The caller calls stop
// before it closes conn.
func interrupt(ctx context.Context, conn *netlink.Conn) (stop func()) {
	cancel := context.AfterFunc(ctx, func() { conn.SetDeadline(time.Unix(1, 0)) })
	return func() { cancel() }
}

// orContext prefers the context's error, which caused err if it is set.
func orContext(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}
