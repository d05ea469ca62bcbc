package tcprepair

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"unsafe"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// diagID names a socket to sock_diag (struct inet_diag_sockid); ports and
// addresses are in network order.
type diagID struct {
	localPort, remotePort [2]byte
	local, remote         [16]byte
	ifindex               uint32
	cookie                [2]uint32
}

// diagRequest is struct inet_diag_req_v2.
type diagRequest struct {
	family, protocol, ext, pad uint8
	states                     uint32
	id                         diagID
}

// diagMessage is struct inet_diag_msg.
type diagMessage struct {
	family, state, timer, retrans       uint8
	id                                  diagID
	expires, rqueue, wqueue, uid, inode uint32
}

// timerTimeWait in diagMessage.timer tells a TIME_WAIT entry, which may wait in
// the sub-state FIN_WAIT2, from every socket.
const timerTimeWait = 3

// removeTimeWait removes the TIME_WAIT entry with the connection's addresses and
// ports from the namespace of the calling thread. It returns nil if there is
// nothing there (any more), and ErrInUse if what is there is a socket: aborting
// that would reset a connection.
func (s *State) removeTimeWait() error {
	c, err := netlink.Dial(unix.NETLINK_SOCK_DIAG, nil)
	if err != nil {
		return fmt.Errorf("open sock_diag: %w", err)
	}
	defer c.Close()

	req := diagRequest{family: unix.AF_INET6, protocol: unix.IPPROTO_TCP, states: ^uint32(0), id: diagID{cookie: [2]uint32{^uint32(0), ^uint32(0)}}}
	if s.Local.Addr().Is4() {
		req.family = unix.AF_INET
	}
	putAddr(&req.id.localPort, &req.id.local, s.Local)
	putAddr(&req.id.remotePort, &req.id.remote, s.Remote)

	found, err := c.Execute(req.message(unix.SOCK_DIAG_BY_FAMILY, 0))
	if errors.Is(err, unix.ENOENT) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("look for an older connection: %w", err)
	}
	var old diagMessage
	if len(found) == 0 || len(found[0].Data) < int(unsafe.Sizeof(old)) {
		return errors.New("look for an older connection: sock_diag answered with a short message")
	}
	old = *(*diagMessage)(unsafe.Pointer(unsafe.SliceData(found[0].Data)))
	const listen = 10 // the lookup falls back to listeners
	switch {
	case old.state == listen:
		return nil
	case old.timer != timerTimeWait:
		return fmt.Errorf("%w: in state %s", ErrInUse, stateName(old.state))
	}
	req.id.cookie = old.id.cookie // that entry and no other
	if _, err := c.Execute(req.message(unix.SOCK_DESTROY, netlink.Acknowledge)); err != nil && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("remove the TIME_WAIT entry of an older connection (needs CONFIG_INET_DIAG_DESTROY): %w", err)
	}
	return nil
}

func putAddr(port *[2]byte, addr *[16]byte, ap netip.AddrPort) {
	binary.BigEndian.PutUint16(port[:], ap.Port())
	copy(addr[:], ap.Addr().AsSlice())
}

func (r diagRequest) message(kind netlink.HeaderType, flags netlink.HeaderFlags) netlink.Message {
	return netlink.Message{
		Header: netlink.Header{Type: kind, Flags: netlink.Request | flags},
		Data:   append([]byte(nil), unsafe.Slice((*byte)(unsafe.Pointer(&r)), unsafe.Sizeof(r))...),
	}
}
