package sockdiag

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// TCP states, as in the kernel's include/net/tcp_states.h.
const (
	Established uint8 = iota + 1
	SynSent
	SynRecv
	FinWait1
	FinWait2
	TimeWait
	Close
	CloseWait
	LastAck
	Listen
	Closing
	NewSynRecv // shown as SynRecv by the kernel
)

const (
	byFamily = 20 // SOCK_DIAG_BY_FAMILY
	destroy  = 21 // SOCK_DESTROY

	requestLen = 56 // struct inet_diag_req_v2
	messageLen = 72 // struct inet_diag_msg
	socketID   = 8  // offset of struct inet_diag_sockid in the request
)

// noCookie stands for any socket with the addresses (INET_DIAG_NOCOOKIE).
const noCookie = ^uint64(0)

var errMessage = errors.New("the kernel's message is not an inet_diag_msg")

// parse decodes a struct inet_diag_msg; attributes after it are ignored.
func parse(b []byte) (Socket, error) {
	if len(b) < messageLen {
		return Socket{}, fmt.Errorf("%w: it has %d bytes, want at least %d", errMessage, len(b), messageLen)
	}
	size := 4
	switch b[0] {
	case unix.AF_INET:
	case unix.AF_INET6:
		size = 16
	default:
		return Socket{}, fmt.Errorf("%w: it has address family %d", errMessage, b[0])
	}
	id := b[4:]
	local, _ := netip.AddrFromSlice(id[4 : 4+size])
	remote, _ := netip.AddrFromSlice(id[20 : 20+size])
	return Socket{
		Local:  netip.AddrPortFrom(local.Unmap(), binary.BigEndian.Uint16(id[0:])),
		Remote: netip.AddrPortFrom(remote.Unmap(), binary.BigEndian.Uint16(id[2:])),
		State:  b[1],
		UID:    binary.NativeEndian.Uint32(b[64:]),
		Inode:  binary.NativeEndian.Uint32(b[68:]),
		Cookie: binary.NativeEndian.Uint64(id[40:]),
	}, nil
}

// queues are the lengths of a socket's queues in the same message, octets: what was
// received and not read, and what was written and not acknowledged.
// Source: tcp_diag_get_info in the kernel's net/ipv4/tcp_diag.c.
func queues(b []byte) (unread, unacked uint32) {
	return binary.NativeEndian.Uint32(b[56:]), binary.NativeEndian.Uint32(b[60:])
}

// request encodes a struct inet_diag_req_v2 for TCP.
func request(family uint8, states uint32, local, remote netip.AddrPort, cookie uint64) []byte {
	b := make([]byte, requestLen)
	b[0], b[1] = family, unix.IPPROTO_TCP
	binary.NativeEndian.PutUint32(b[4:], states)
	id := b[socketID:]
	binary.BigEndian.PutUint16(id[0:], local.Port())
	binary.BigEndian.PutUint16(id[2:], remote.Port())
	copy(id[4:20], local.Addr().AsSlice())
	copy(id[20:36], remote.Addr().AsSlice())
	binary.NativeEndian.PutUint64(id[40:], cookie)
	return b
}
