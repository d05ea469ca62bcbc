package tcprepair

import (
	"errors"
	"fmt"
	"net/netip"
	"time"

	"golang.org/x/sys/unix"
)

// Restore makes a connection from s in the network namespace of the calling
// thread: a new non-blocking, close-on-exec descriptor, frozen, which the caller
// owns. Nothing is sent. Activate brings it to life and sends s.Unsent;
// CloseSilently throws it away. A connection that has Unacked bytes should not be
// left frozen for long, as its retransmission timer runs.
//
// For IPv4 the local address must be under a `local` route of the namespace; a
// route to the remote address is needed in any case. What is left of an older
// connection with the same addresses and ports, a TIME_WAIT entry, is removed; a
// socket that is alive gives ErrInUse. s must be valid (Validate).
func Restore(s *State) (fd int, err error) {
	fd, err = s.restore()
	if errors.Is(err, unix.EADDRNOTAVAIL) {
		if err = s.removeTimeWait(); err == nil {
			fd, err = s.restore()
		}
	}
	if err != nil {
		return -1, fmt.Errorf("restore connection %s: %w", s.name(), err)
	}
	return fd, nil
}

func (s *State) restore() (fd int, err error) {
	family := unix.AF_INET6
	if s.Local.Addr().Is4() {
		family = unix.AF_INET
	}
	fd, err = unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_NONBLOCK|unix.SOCK_CLOEXEC, unix.IPPROTO_TCP)
	if err != nil {
		return -1, fmt.Errorf("make a socket: %w", err)
	}
	if err := s.restoreInto(fd); err != nil {
		// In repair mode from its first breath, so this sends nothing.
		unix.Close(fd)
		return -1, err
	}
	return fd, nil
}

func (s *State) restoreInto(fd int) error {
	for _, step := range []func(int) error{
		freeze, beNascent, s.restoreSeqs, s.connect, s.restoreReceived, s.restoreOptions, s.restoreUnacked, s.restoreWindow, s.restoreReadEnd,
	} {
		if err := step(fd); err != nil {
			return err
		}
	}
	return nil
}

// Nascent is the priority (SO_PRIORITY) of a socket that Restore has made, until
// Activate. It is deaf, and what its peer sends meanwhile is lost; a packet filter
// that sees the priority can keep that back.
const Nascent = 0x53480001

func beNascent(fd int) error {
	return setInt(fd, unix.SOL_SOCKET, unix.SO_PRIORITY, Nascent, "SO_PRIORITY")
}

// restoreSeqs sets where both queues begin, which is only possible before
// connect.
func (s *State) restoreSeqs(fd int) error {
	if err := setQueueSeq(fd, sendQueue, s.SndSeq-uint32(len(s.Unacked)+len(s.Unsent))); err != nil {
		return err
	}
	// With a FIN received, the bytes before it take numbers one too high. Nobody
	// can tell: they are all acknowledged.
	return setQueueSeq(fd, recvQueue, s.RcvSeq-uint32(len(s.Received)))
}

// Bounds of TCP_MAXSEG (TCP_MIN_MSS and MAX_TCP_WINDOW in include/net/tcp.h).
const (
	minUserMSS = 88
	maxUserMSS = 32767
)

// connect takes the socket to ESTABLISHED without a packet.
func (s *State) connect(fd int) error {
	if s.Local.Addr().Is6() {
		if err := setInt(fd, unix.IPPROTO_IPV6, unix.IPV6_FREEBIND, 1, "IPV6_FREEBIND"); err != nil {
			return err
		}
	}
	if !s.WscaleOK {
		// connect chooses a receive scale by the largest window that it may offer,
		// and only this keeps it at 0.
		if err := setInt(fd, unix.IPPROTO_TCP, unix.TCP_WINDOW_CLAMP, 0xffff, "TCP_WINDOW_CLAMP"); err != nil {
			return err
		}
	}
	// connect computes the size of segments from the default clamp of 536 (1220)
	// bytes, and TCP_REPAIR_OPTIONS changes the clamp but does not compute anew.
	if mss := min(s.MSSClamp, maxUserMSS); mss >= minUserMSS {
		if err := setInt(fd, unix.IPPROTO_TCP, unix.TCP_MAXSEG, int(mss), "TCP_MAXSEG"); err != nil {
			return err
		}
	}
	if err := unix.Bind(fd, sockaddr(s.Local)); err != nil {
		if errors.Is(err, unix.EADDRNOTAVAIL) {
			return fmt.Errorf("bind to %v: it is not under a local route of this host (%v)", s.Local, err)
		}
		return fmt.Errorf("bind to %v: %w", s.Local, err)
	}
	if err := unix.Connect(fd, sockaddr(s.Remote)); err != nil {
		return fmt.Errorf("connect to %v: %w", s.Remote, err)
	}
	return nil
}

func sockaddr(ap netip.AddrPort) unix.Sockaddr {
	if ap.Addr().Is4() {
		return &unix.SockaddrInet4{Addr: ap.Addr().As4(), Port: int(ap.Port())}
	}
	return &unix.SockaddrInet6{Addr: ap.Addr().As16(), Port: int(ap.Port())}
}

func (s *State) restoreReceived(fd int) error {
	// Room also for what the peer may send into the window it was promised.
	promised := max(0, int32(s.Window.RcvWup+s.Window.RcvWnd-s.RcvSeq))
	if err := makeRoom(fd, unix.SO_RCVBUF, unix.SO_RCVBUFFORCE, len(s.Received)+int(promised), "SO_RCVBUF"); err != nil {
		return err
	}
	if len(s.Received) == 0 {
		return nil
	}
	if err := selectQueue(fd, recvQueue); err != nil {
		return err
	}
	if err := fill(fd, s.Received); err != nil {
		return fmt.Errorf("fill the receive queue: %w", err)
	}
	return nil
}

// restoreOptions sets what the SYNs agreed on; not after anything was sent.
func (s *State) restoreOptions(fd int) error {
	opts := make([]unix.TCPRepairOpt, 0, 4)
	opts = append(opts, unix.TCPRepairOpt{Code: optMSS, Val: s.MSSClamp})
	if s.WscaleOK {
		opts = append(opts, unix.TCPRepairOpt{Code: optWindow, Val: uint32(s.SndWscale) | uint32(s.RcvWscale)<<16})
	}
	if s.SACK {
		opts = append(opts, unix.TCPRepairOpt{Code: optSACK})
	}
	if s.Timestamps {
		opts = append(opts, unix.TCPRepairOpt{Code: optTimestamp})
	}
	if err := unix.SetsockoptTCPRepairOpt(fd, unix.IPPROTO_TCP, unix.TCP_REPAIR_OPTIONS, opts); err != nil {
		return fmt.Errorf("set TCP_REPAIR_OPTIONS to %v: %w", opts, err)
	}
	if s.Timestamps {
		if err := setInt(fd, unix.IPPROTO_TCP, unix.TCP_TIMESTAMP, int(int32(s.nextTimestamp())), "TCP_TIMESTAMP"); err != nil {
			return err
		}
	}
	if s.NoDelay {
		if err := setInt(fd, unix.IPPROTO_TCP, unix.TCP_NODELAY, 1, "TCP_NODELAY"); err != nil {
			return err
		}
	}
	return s.KeepAlive.restore(fd)
}

// lead is how far the clock of timestamps is set forward at a restore. The frozen
// source can still retransmit, and its clock ran on while the State travelled.
// Were it ahead of the target's, the peer would take such a packet for the newest
// and drop all of the target's as old (PAWS, RFC 7323), in the worst case for ever,
// as both retransmit at the same times. The price: the target's first round-trip
// sample is that much too long, if it is taken from bytes that the source has sent.
//
// It also covers that in milliseconds, bit 0 is the flag of TCP_TIMESTAMP and not
// part of the value, so that a dump can be one behind the last timestamp sent.
const lead = 256 * time.Millisecond

// nextTimestamp is the clock's value at the restore.
func (s *State) nextTimestamp() uint32 {
	if s.Timestamp&1 == 0 {
		return s.Timestamp + uint32(lead.Milliseconds())
	}
	return s.Timestamp + uint32(lead.Microseconds())
}

func (k KeepAlive) restore(fd int) error {
	if !k.On {
		return nil
	}
	for _, o := range k.settings() {
		if err := setInt(fd, unix.IPPROTO_TCP, o.opt, int(*o.value), o.name); err != nil {
			return err
		}
	}
	return setInt(fd, unix.SOL_SOCKET, unix.SO_KEEPALIVE, 1, "SO_KEEPALIVE")
}

// restoreUnacked fills the send queue; the kernel takes all of it for sent.
func (s *State) restoreUnacked(fd int) error {
	if len(s.Unacked)+len(s.Unsent) == 0 {
		return nil
	}
	if err := makeRoom(fd, unix.SO_SNDBUF, unix.SO_SNDBUFFORCE, len(s.Unacked)+len(s.Unsent), "SO_SNDBUF"); err != nil {
		return err
	}
	if err := selectQueue(fd, sendQueue); err != nil {
		return err
	}
	if err := fill(fd, s.Unacked); err != nil {
		return fmt.Errorf("fill the send queue: %w", err)
	}
	return nil
}

func (s *State) restoreWindow(fd int) error {
	return setStruct(fd, unix.TCP_REPAIR_WINDOW, &s.Window, "TCP_REPAIR_WINDOW")
}

// restoreReadEnd gives readers end-of-file after the receive queue; see
// State.FinReceived.
func (s *State) restoreReadEnd(fd int) error {
	if !s.FinReceived {
		return nil
	}
	if err := unix.Shutdown(fd, unix.SHUT_RD); err != nil {
		return fmt.Errorf("shut down reading: %w", err)
	}
	return setInt(fd, unix.IPPROTO_TCP, unix.TCP_LINGER2, 1, "TCP_LINGER2")
}

// Activate brings a restored connection to life: it leaves repair mode, hears
// again, and sends s.Unsent. From here on there is no way back to the source, even
// if it fails; reset the connection then, as bytes may be missing.
//
// Where the peer and this host may disagree about what has arrived, because
// acknowledgements were under way at the time of the dump or were not yet due, it
// sends a window probe, which settles it in one round trip instead of a
// retransmission timeout. A connection with nothing under way stays quiet.
func Activate(fd int, s *State) error {
	probe := len(s.Unacked)+len(s.Unsent) > 0 || s.Window.RcvWup != s.RcvSeq
	err := revive(fd, probe)
	if err == nil {
		err = setInt(fd, unix.SOL_SOCKET, unix.SO_PRIORITY, 0, "SO_PRIORITY")
	}
	if err == nil && len(s.Unsent) > 0 {
		if err = fill(fd, s.Unsent); err != nil {
			err = fmt.Errorf("send what the source had not sent: %w", err)
		}
	}
	if err != nil {
		return fmt.Errorf("activate connection %s: %w", s.name(), err)
	}
	return nil
}
