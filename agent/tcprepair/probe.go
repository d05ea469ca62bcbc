package tcprepair

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Probe makes the client of a connection that no socket here has say something,
// so that whoever holds its packets can answer: where the kernel has no socket
// for them, that is a RST, and a client that waits for an answer that will never
// come learns it at once. Nobody else could tell it: a RST has to carry a sequence
// number that only the client knows, and its segment names it.
//
// client is the client's end and local the other one, which must be an address of
// this host or under a local route of it. One segment is sent, from local, by the
// route that the kernel's RST will take; the call does not wait for the answer.
// Send it again until the client is known to be gone, at intervals of more than
// 500 ms, which is how often Linux answers such segments: it, or what comes of it,
// may be lost like any packet. The path of the client's packets to this host has
// to be free of what took them elsewhere (steering, diversions) before.
//
// A connection that is alive after all takes no harm: its client repeats its last
// acknowledgement.
//
// The error wraps fs.ErrPermission without CAP_NET_RAW.
func Probe(client, local netip.AddrPort) error {
	if err := probe(unmapped(client), unmapped(local)); err != nil {
		return fmt.Errorf("probe %s from %s: %w", client, local, err)
	}
	return nil
}

func unmapped(a netip.AddrPort) netip.AddrPort { return netip.AddrPortFrom(a.Addr().Unmap(), a.Port()) }

func probe(client, local netip.AddrPort) error {
	if !client.IsValid() || !local.IsValid() || client.Addr().Is4() != local.Addr().Is4() {
		return fmt.Errorf("%w: not two addresses of one family", ErrInvalid)
	}
	if client.Addr().Zone() != "" || local.Addr().Zone() != "" {
		return fmt.Errorf("%w: an address with a zone", ErrInvalid)
	}
	family := unix.AF_INET6
	if local.Addr().Is4() {
		family = unix.AF_INET
	}
	fd, err := unix.Socket(family, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.IPPROTO_TCP)
	if errors.Is(err, unix.EPERM) {
		return fmt.Errorf("open a raw socket: %w: run with CAP_NET_RAW", err)
	}
	if err != nil {
		return fmt.Errorf("open a raw socket: %w", err)
	}
	defer unix.Close(fd)
	// A raw socket gets a copy of what comes in; this one has no use for it.
	if err := deafen(fd); err != nil {
		return err
	}
	if family == unix.AF_INET6 {
		if err := setInt(fd, unix.IPPROTO_IPV6, unix.IPV6_FREEBIND, 1, "IPV6_FREEBIND"); err != nil {
			return err
		}
	}
	// A raw socket's addresses have no ports.
	if err := unix.Bind(fd, sockaddr(netip.AddrPortFrom(local.Addr(), 0))); err != nil {
		return fmt.Errorf("bind a raw socket to %s: %w", local.Addr(), err)
	}
	if err := unix.Connect(fd, sockaddr(netip.AddrPortFrom(client.Addr(), 0))); err != nil {
		return fmt.Errorf("connect a raw socket to %s: %w", client.Addr(), err)
	}
	segment := probeSegment(client, local, rand.Uint32(), rand.Uint32())
	if _, err := unix.Write(fd, segment[:]); err != nil {
		return fmt.Errorf("send a segment: %w", err)
	}
	return nil
}

// probeSegment is a SYN with ACK, from local to client. In an open connection
// that is answered with an ACK and otherwise ignored, whatever its numbers are
// (RFC 5961, section 4; RFC 9293, section 3.10.7.4); an ACK by itself is answered
// only if its number is outside of the client's window, which nobody here knows,
// and firewalls that follow connections drop that one.
func probeSegment(client, local netip.AddrPort, seq, ack uint32) (b [20]byte) {
	const syn, ackFlag = 0x02, 0x10
	binary.BigEndian.PutUint16(b[0:], local.Port())
	binary.BigEndian.PutUint16(b[2:], client.Port())
	binary.BigEndian.PutUint32(b[4:], seq)
	binary.BigEndian.PutUint32(b[8:], ack)
	b[12] = uint8(len(b) / 4 << 4)
	b[13] = syn | ackFlag
	binary.BigEndian.PutUint16(b[14:], 0xffff)
	binary.BigEndian.PutUint16(b[16:], checksum(client.Addr(), local.Addr(), b[:]))
	return b
}

// checksum is TCP's, over the pseudo header of either family, too (RFC 9293,
// section 3.1; RFC 8200, section 8.1). The segment has an even length.
func checksum(a, b netip.Addr, segment []byte) uint16 {
	sum := uint32(unix.IPPROTO_TCP + len(segment))
	for _, part := range [][]byte{a.AsSlice(), b.AsSlice(), segment} {
		for i := 0; i < len(part); i += 2 {
			sum += uint32(binary.BigEndian.Uint16(part[i:]))
		}
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return ^uint16(sum)
}
