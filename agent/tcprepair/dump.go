package tcprepair

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Dump reads the state of a frozen connection and leaves it as it is: frozen,
// with all of its bytes. It can be repeated; of a connection with unsent bytes, a
// second dump knows the peer's window only as far as it is used, and Activate asks
// for the rest.
//
// It fails with ErrUnsupportedState if the connection cannot be moved; Thaw it and
// go on where it is. A socket that is not in repair mode gives EPERM or EINVAL.
// The socket must not have a peek offset (SO_PEEK_OFF).
func Dump(fd int) (*State, error) {
	s := new(State)
	err := s.dump(fd)
	switch {
	case err == nil:
		return s, nil
	case s.Remote.IsValid():
		return nil, fmt.Errorf("dump connection %s: %w", s.name(), err)
	default:
		return nil, fmt.Errorf("dump a connection: %w", err)
	}
}

func (s *State) dump(fd int) error {
	var info unix.TCPInfo
	if err := getStruct(fd, unix.TCP_INFO, &info, "TCP_INFO"); err != nil {
		return err
	}
	s.seen = progressOf(&info)
	s.TCPState = info.State
	if s.TCPState != StateEstablished && s.TCPState != StateCloseWait {
		return unsupported("TCP state %s", stateName(s.TCPState))
	}
	if err := s.dumpAddrs(fd); err != nil {
		return err
	}
	if err := s.dumpReadEnd(fd); err != nil {
		return err
	}
	if err := s.dumpOptions(fd, &info); err != nil {
		return err
	}
	if err := s.dumpReceived(fd); err != nil {
		return err
	}
	if info.Notsent_bytes == 0 {
		return s.dumpSent(fd, 0)
	}
	return s.dumpUnsent(fd)
}

// dumpUnsent dumps the send queue when part of it was never sent.
//
// A timer, or the completion of an earlier transmission, could send some of it
// later, and the restored socket would then refuse the peer's acknowledgement of
// bytes that it believes unsent, for ever. So the window is closed after what is
// in flight; Thaw opens it again.
//
// While the send queue is selected, the kernel takes every attempt to send for
// part of a repair: it moves all unsent bytes among the sent ones, and sends
// nothing. So their number is read before, and the receive queue is selected
// afterwards. A rare thaw after such an event has to wait for retransmissions.
func (s *State) dumpUnsent(fd int) error {
	unsent, err := s.closeWindow(fd)
	if err != nil {
		return err
	}
	if err := s.dumpSent(fd, unsent); err != nil {
		return err
	}
	if err := selectQueue(fd, recvQueue); err != nil {
		return err
	}
	var info unix.TCPInfo
	if err := getStruct(fd, unix.TCP_INFO, &info, "TCP_INFO"); err != nil {
		return err
	}
	s.seen.notSent = info.Notsent_bytes
	return nil
}

func (s *State) dumpAddrs(fd int) (err error) {
	local, err := unix.Getsockname(fd)
	if err != nil {
		return fmt.Errorf("read the local address: %w", err)
	}
	remote, err := unix.Getpeername(fd)
	if err != nil {
		return fmt.Errorf("read the remote address: %w", err)
	}
	if s.Local, err = addrPort(local); err != nil {
		return err
	}
	s.Remote, err = addrPort(remote)
	return err
}

// addrPort unmaps IPv4 addresses of dual-stack sockets: on the wire, and so on
// the target, they are IPv4.
func addrPort(sa unix.Sockaddr) (netip.AddrPort, error) {
	switch sa := sa.(type) {
	case *unix.SockaddrInet4:
		return netip.AddrPortFrom(netip.AddrFrom4(sa.Addr), uint16(sa.Port)), nil
	case *unix.SockaddrInet6:
		if sa.ZoneId != 0 {
			return netip.AddrPort{}, unsupported("link-local address of interface %d", sa.ZoneId)
		}
		return netip.AddrPortFrom(netip.AddrFrom16(sa.Addr).Unmap(), uint16(sa.Port)), nil
	}
	return netip.AddrPort{}, unsupported("address of type %T", sa)
}

// dumpReadEnd finds out whether reading has an end, and refuses urgent data: its
// mark cannot be restored, and it hides the bytes that follow it.
func (s *State) dumpReadEnd(fd int) error {
	p := [1]unix.PollFd{{Fd: int32(fd), Events: unix.POLLPRI | unix.POLLRDHUP}}
	_, err := unix.Poll(p[:], 0)
	for errors.Is(err, unix.EINTR) { // by the signals with which Go preempts, even without waiting
		_, err = unix.Poll(p[:], 0)
	}
	if err != nil {
		return fmt.Errorf("poll: %w", err)
	}
	if p[0].Revents&unix.POLLPRI != 0 {
		return unsupported("urgent data is pending")
	}
	s.FinReceived = p[0].Revents&unix.POLLRDHUP != 0
	return nil
}

func (s *State) dumpOptions(fd int, info *unix.TCPInfo) error {
	s.SACK = info.Options&infoSACK != 0
	s.Timestamps = info.Options&infoTimestamps != 0
	s.WscaleOK = info.Options&infoWscale != 0
	if s.WscaleOK {
		s.SndWscale, s.RcvWscale = wscales(info)
	}
	mss, err := getInt(fd, unix.IPPROTO_TCP, unix.TCP_MAXSEG, "TCP_MAXSEG")
	if err != nil {
		return err
	}
	s.MSSClamp = uint32(mss)
	if s.Timestamps {
		ts, err := getInt(fd, unix.IPPROTO_TCP, unix.TCP_TIMESTAMP, "TCP_TIMESTAMP")
		if err != nil {
			return err
		}
		s.Timestamp = uint32(ts)
	}
	if err := getStruct(fd, unix.TCP_REPAIR_WINDOW, &s.Window, "TCP_REPAIR_WINDOW"); err != nil {
		return err
	}
	noDelay, err := getInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, "TCP_NODELAY")
	if err != nil {
		return err
	}
	s.NoDelay = noDelay != 0
	return s.KeepAlive.dump(fd)
}

func (k *KeepAlive) dump(fd int) error {
	on, err := getInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, "SO_KEEPALIVE")
	if err != nil || on == 0 {
		return err
	}
	k.On = true
	for _, o := range k.settings() {
		v, err := getInt(fd, unix.IPPROTO_TCP, o.opt, o.name)
		if err != nil {
			return err
		}
		*o.value = uint32(v)
	}
	return nil
}

type keepAliveSetting struct {
	opt   int
	value *uint32
	name  string
}

func (k *KeepAlive) settings() [3]keepAliveSetting {
	return [3]keepAliveSetting{
		{unix.TCP_KEEPIDLE, &k.Idle, "TCP_KEEPIDLE"},
		{unix.TCP_KEEPINTVL, &k.Interval, "TCP_KEEPINTVL"},
		{unix.TCP_KEEPCNT, &k.Count, "TCP_KEEPCNT"},
	}
}

// wscales reads the two window scales, a pair of 4-bit fields after Options that
// unix.TCPInfo leaves out.
func wscales(info *unix.TCPInfo) (snd, rcv uint8) {
	b := *(*uint8)(unsafe.Add(unsafe.Pointer(&info.Options), 1))
	if binary.NativeEndian.Uint16([]byte{1, 0}) == 1 {
		return b & 15, b >> 4
	}
	return b >> 4, b & 15
}

// progress is what any packet that a connection accepts, and any new byte that it
// sends, changes.
type progress struct {
	state         uint8
	bytesReceived uint64 // counts a FIN
	bytesAcked    uint64
	notSent       uint32
}

func progressOf(info *unix.TCPInfo) progress {
	return progress{info.State, info.Bytes_received, info.Bytes_acked, info.Notsent_bytes}
}

// Unchanged reports whether the frozen socket is still exactly as Dump found it.
// It costs one system call. s must be the State that Dump returned for this
// socket, not a copy that travelled. If it is false, dump again.
func (s *State) Unchanged(fd int) (bool, error) {
	var info unix.TCPInfo
	if err := getStruct(fd, unix.TCP_INFO, &info, "TCP_INFO"); err != nil {
		return false, fmt.Errorf("check connection %s: %w", s.name(), err)
	}
	return progressOf(&info) == s.seen, nil
}

// Progress returns how far a frozen connection has come in both directions: the
// next sequence number expected from the peer (RcvSeq of a State) and the oldest
// one that the peer has not acknowledged (SndSeq less both send queues).
func Progress(fd int) (rcvNxt, sndUna uint32, err error) {
	rcvNxt, err = queueSeq(fd, recvQueue)
	if err == nil {
		sndUna, err = queueSeq(fd, sendQueue)
	}
	var queued int
	if err == nil {
		queued, err = ioctlInt(fd, unix.SIOCOUTQ, "SIOCOUTQ")
	}
	if err == nil {
		err = selectQueue(fd, recvQueue) // see dumpUnsent
	}
	if err != nil {
		return 0, 0, fmt.Errorf("read the progress of a connection: %w", err)
	}
	return rcvNxt, sndUna - uint32(queued), nil
}
