package tcprepair

import (
	"fmt"
	"net/netip"
)

// MaxQueue bounds each of Unacked, Unsent and Received, in bytes. It is above
// what Linux buffers by default (net.ipv4.tcp_rmem, tcp_wmem).
const MaxQueue = 16 << 20

// The kernel's connection states that can be moved (include/net/tcp_states.h).
const (
	StateEstablished = 1
	StateCloseWait   = 8
)

// State is everything that the kernel lets out of a TCP connection. Sequence
// numbers are those on the wire, modulo 2^32.
type State struct {
	// Local is the session address and port, Remote the client's. IPv4 addresses
	// are never in their IPv6-mapped form and IPv6 ones have no zone.
	Local, Remote netip.AddrPort

	// TCPState is the state that the dump found, StateEstablished or
	// StateCloseWait. Restore goes by FinReceived and not by it.
	TCPState uint8

	// SndSeq is the sequence number after the last byte that the application has
	// written: Unsent ends there, Unacked ends len(Unsent) before it, and the
	// oldest unacknowledged byte is len(Unacked) before that. It is the kernel's
	// write_seq, TCP_QUEUE_SEQ of the send queue.
	SndSeq uint32

	// RcvSeq is the sequence number expected next from the peer, the kernel's
	// rcv_nxt, TCP_QUEUE_SEQ of the receive queue: Received ends there, or, with
	// a FIN received, one before it, as a FIN takes one sequence number.
	RcvSeq uint32

	Unacked  []byte // sent and not acknowledged; at most MaxQueue
	Unsent   []byte // written and never sent; at most MaxQueue
	Received []byte // received, acknowledged or about to be, and not read; at most MaxQueue

	// FinReceived says that nothing comes after Received: a reader gets
	// end-of-file there, and may still write.
	//
	// A restored socket cannot be put into CLOSE_WAIT by any option. What the
	// peer and the application can tell is the same nevertheless: the FIN's
	// sequence number is counted in rcv_nxt, and reading is shut down. The
	// difference shows at the end, when the own FIN takes the socket through
	// FIN_WAIT2 rather than LAST_ACK; TCP_LINGER2 limits that to a second.
	FinReceived bool

	// What the two ends agreed on in their SYNs.
	MSSClamp   uint32 // largest segment to send, in bytes, before options
	WscaleOK   bool   // window scaling is used, with these shifts of 0 to 14:
	SndWscale  uint8  // of windows that the peer announces
	RcvWscale  uint8  // of windows that this end announces
	SACK       bool
	Timestamps bool

	// Timestamp is the timestamp clock of this end at the time of the dump, in
	// milliseconds, or in microseconds if bit 0 is set (TCP_TIMESTAMP, Linux
	// 6.7); 0 without Timestamps.
	Timestamp uint32

	Window    Window
	NoDelay   bool // TCP_NODELAY
	KeepAlive KeepAlive

	// What the dump saw, for Unchanged.
	seen progress
}

// Window is what TCP_REPAIR_WINDOW carries, in bytes, scaling applied.
type Window struct {
	SndWl1    uint32 // sequence number of the segment that last updated SndWnd
	SndWnd    uint32 // the window that the peer has announced
	MaxWindow uint32 // the largest that it ever announced
	RcvWnd    uint32 // the window that this end has announced, counted from RcvWup
	RcvWup    uint32 // rcv_nxt when it did
}

// KeepAlive is SO_KEEPALIVE and, if On, its three settings.
type KeepAlive struct {
	On       bool
	Idle     uint32 // seconds before the first probe, 1 to 32767
	Interval uint32 // seconds between probes, 1 to 32767
	Count    uint32 // unanswered probes before the connection fails, 1 to 127
}

// seqAfter reports whether a comes after b, modulo 2^32.
func seqAfter(a, b uint32) bool { return int32(a-b) > 0 }

// name identifies the connection in errors.
func (s *State) name() string { return fmt.Sprintf("%v→%v", s.Local, s.Remote) }

// Validate checks a State that came from elsewhere: everything that Restore would
// otherwise learn from the kernel half way through, or not at all. Errors wrap
// ErrInvalid, or ErrUnsupportedState for a TCPState that cannot be restored.
func (s *State) Validate() error {
	if err := s.validate(); err != nil {
		return fmt.Errorf("state of %s: %w", s.name(), err)
	}
	return nil
}

func (s *State) validate() error {
	if err := s.validateAddrs(); err != nil {
		return err
	}
	if s.TCPState != StateEstablished && s.TCPState != StateCloseWait {
		return unsupported("TCP state %s", stateName(s.TCPState))
	}
	if s.TCPState == StateCloseWait && !s.FinReceived {
		return invalid("CLOSE_WAIT without a FIN received")
	}
	for _, q := range []struct {
		name string
		data []byte
	}{{"unacknowledged", s.Unacked}, {"unsent", s.Unsent}, {"received", s.Received}} {
		if len(q.data) > MaxQueue {
			return invalid("%d %s bytes are more than %d", len(q.data), q.name, MaxQueue)
		}
	}
	if err := s.validateOptions(); err != nil {
		return err
	}
	return s.validateWindow()
}

func (s *State) validateAddrs() error {
	for _, e := range []struct {
		name string
		ap   netip.AddrPort
	}{{"local", s.Local}, {"remote", s.Remote}} {
		a := e.ap.Addr()
		switch {
		case !a.IsValid():
			return invalid("no %s address", e.name)
		case a.Is4In6():
			return invalid("%s address %v is an IPv4 address in IPv6 form", e.name, a)
		case a.Zone() != "":
			return invalid("%s address %v has a zone", e.name, a)
		case a.IsUnspecified() || a.IsMulticast():
			return invalid("%s address %v is not a unicast address", e.name, a)
		case e.ap.Port() == 0:
			return invalid("%s port is 0", e.name)
		}
	}
	if s.Local.Addr().Is4() != s.Remote.Addr().Is4() {
		return invalid("addresses of two families")
	}
	if s.Local == s.Remote {
		return invalid("connected to itself")
	}
	return nil
}

func (s *State) validateOptions() error {
	switch {
	case s.MSSClamp == 0 || s.MSSClamp > 0xffff:
		return invalid("segment size %d is not in 1…65535", s.MSSClamp)
	case s.SndWscale > 14 || s.RcvWscale > 14:
		return invalid("window scales %d and %d are not in 0…14", s.SndWscale, s.RcvWscale)
	case !s.WscaleOK && (s.SndWscale != 0 || s.RcvWscale != 0):
		return invalid("window scales %d and %d without window scaling", s.SndWscale, s.RcvWscale)
	case !s.Timestamps && s.Timestamp != 0:
		return invalid("a timestamp without timestamps")
	}
	k := s.KeepAlive
	if k.On && (k.Idle < 1 || k.Idle > 32767 || k.Interval < 1 || k.Interval > 32767 || k.Count < 1 || k.Count > 127) {
		return invalid("keepalive settings %+v are out of range", k)
	}
	return nil
}

// validateWindow holds to the kernel's own checks (tcp_repair_set_window) and to
// the limit that the largest scale sets.
func (s *State) validateWindow() error {
	w := s.Window
	const limit = 0xffff << 14
	switch {
	case w.MaxWindow > limit || w.RcvWnd > limit:
		return invalid("windows of %d and %d bytes are above %d", w.MaxWindow, w.RcvWnd, limit)
	case w.SndWnd > w.MaxWindow:
		return invalid("send window %d is above its maximum %d", w.SndWnd, w.MaxWindow)
	case seqAfter(w.SndWl1, s.RcvSeq+w.RcvWnd):
		return invalid("window update at %d is beyond the receive window", w.SndWl1)
	case seqAfter(w.RcvWup, s.RcvSeq):
		return invalid("window announced at %d is after the next expected byte %d", w.RcvWup, s.RcvSeq)
	}
	return nil
}

func invalid(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrInvalid, fmt.Sprintf(format, args...))
}

// stateName is the kernel's name of a connection state.
func stateName(state uint8) string {
	names := [...]string{"0", "ESTABLISHED", "SYN_SENT", "SYN_RECV", "FIN_WAIT1", "FIN_WAIT2", "TIME_WAIT",
		"CLOSE", "CLOSE_WAIT", "LAST_ACK", "LISTEN", "CLOSING", "NEW_SYN_RECV"}
	if int(state) < len(names) {
		return names[state]
	}
	return fmt.Sprint(state)
}
