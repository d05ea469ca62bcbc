package tcprepair

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// selectQueue says which queue the following calls mean.
func selectQueue(fd, queue int) error {
	return setInt(fd, unix.IPPROTO_TCP, unix.TCP_REPAIR_QUEUE, queue, "TCP_REPAIR_QUEUE")
}

// queueSeq selects a queue and reads the sequence number at its end.
func queueSeq(fd, queue int) (uint32, error) {
	if err := selectQueue(fd, queue); err != nil {
		return 0, err
	}
	seq, err := getInt(fd, unix.IPPROTO_TCP, unix.TCP_QUEUE_SEQ, "TCP_QUEUE_SEQ")
	return uint32(seq), err
}

// setQueueSeq selects a queue of an unconnected socket and sets the sequence
// number at which it begins.
func setQueueSeq(fd, queue int, seq uint32) error {
	if err := selectQueue(fd, queue); err != nil {
		return err
	}
	return setInt(fd, unix.IPPROTO_TCP, unix.TCP_QUEUE_SEQ, int(int32(seq)), "TCP_QUEUE_SEQ")
}

func (s *State) dumpReceived(fd int) (err error) {
	if s.RcvSeq, err = queueSeq(fd, recvQueue); err != nil {
		return err
	}
	n, err := ioctlInt(fd, unix.SIOCINQ, "SIOCINQ")
	if err != nil || n == 0 {
		return err
	}
	if n > MaxQueue {
		return unsupported("%d unread bytes are more than %d", n, MaxQueue)
	}
	s.Received = make([]byte, n)
	got, _, err := unix.Recvfrom(fd, s.Received, unix.MSG_PEEK|unix.MSG_DONTWAIT)
	if err != nil {
		return fmt.Errorf("peek the receive queue: %w", err)
	}
	if got != n {
		return fmt.Errorf("peek the receive queue: %d of %d bytes; has the socket a peek offset?", got, n)
	}
	return nil
}

// sndSlack is room for bytes that the peer has acknowledged and that are still in
// the queue because they share a buffer with others: at most one buffer's worth.
const sndSlack = 128 << 10

// dumpSent dumps the send queue, of which the last unsent bytes were never sent.
func (s *State) dumpSent(fd, unsent int) (err error) {
	if s.SndSeq, err = queueSeq(fd, sendQueue); err != nil {
		return err
	}
	queued, err := ioctlInt(fd, unix.SIOCOUTQ, "SIOCOUTQ")
	if err != nil || queued == 0 {
		return err
	}
	if queued > 2*MaxQueue {
		return unsupported("%d bytes to send are more than %d", queued, 2*MaxQueue)
	}
	// The kernel gives the whole queue or EFAULT, from the start of its oldest
	// buffer; what counts is the end.
	buf := make([]byte, queued+sndSlack)
	got, _, err := unix.Recvfrom(fd, buf, unix.MSG_PEEK|unix.MSG_DONTWAIT)
	if err != nil {
		return fmt.Errorf("peek the send queue: %w", err)
	}
	if got < queued {
		return fmt.Errorf("peek the send queue: %d of %d bytes", got, queued)
	}
	if unsent > MaxQueue || queued-unsent > MaxQueue {
		return unsupported("%d bytes to send are more than %d", queued, MaxQueue)
	}
	s.Unacked = buf[got-queued : got-unsent : got-unsent]
	s.Unsent = buf[got-unsent : got : got]
	return nil
}

// closeWindow keeps a frozen socket from sending new bytes: it sets the peer's
// window to what is in flight. It returns how many bytes were never sent.
func (s *State) closeWindow(fd int) (unsent int, err error) {
	inFlight, _, err := outQueue(fd)
	if err != nil {
		return 0, err
	}
	w := s.Window
	w.SndWnd = min(w.SndWnd, uint32(inFlight))
	if err := setStruct(fd, unix.TCP_REPAIR_WINDOW, &w, "TCP_REPAIR_WINDOW"); err != nil {
		return 0, err
	}
	_, unsent, err = outQueue(fd)
	return unsent, err
}

// openWindow makes up for closeWindow where the peer's window is not known any
// more: it lets one more segment out, whose acknowledgement announces the window.
func openWindow(fd, inFlight int) error {
	mss, err := getInt(fd, unix.IPPROTO_TCP, unix.TCP_MAXSEG, "TCP_MAXSEG")
	if err != nil {
		return err
	}
	var w Window
	if err := getStruct(fd, unix.TCP_REPAIR_WINDOW, &w, "TCP_REPAIR_WINDOW"); err != nil {
		return err
	}
	w.SndWnd = max(w.SndWnd, min(w.MaxWindow, uint32(inFlight+mss)))
	return setStruct(fd, unix.TCP_REPAIR_WINDOW, &w, "TCP_REPAIR_WINDOW")
}

// outQueue returns how many bytes of the send queue are in flight and how many
// were never sent.
func outQueue(fd int) (inFlight, unsent int, err error) {
	// In this order: meanwhile bytes may be sent, but none are acknowledged.
	if unsent, err = ioctlInt(fd, unix.SIOCOUTQNSD, "SIOCOUTQNSD"); err != nil {
		return 0, 0, err
	}
	queued, err := ioctlInt(fd, unix.SIOCOUTQ, "SIOCOUTQ")
	return queued - unsent, unsent, err
}

// Bounds of one write into a queue, in bytes. The kernel makes one buffer of it
// and may find no memory for a large one.
const (
	maxChunk = 64 << 10
	minChunk = 1 << 10
)

// fill writes all of data into a selected queue of a socket in repair mode, or,
// outside it, to the peer.
func fill(fd int, data []byte) error {
	for chunk, grown := maxChunk, 0; len(data) > 0; {
		n, err := unix.Write(fd, data[:min(chunk, len(data))])
		switch {
		case err == nil:
			data = data[n:]
		case errors.Is(err, unix.EINTR):
		case (errors.Is(err, unix.ENOMEM) || errors.Is(err, unix.ENOBUFS)) && chunk > minChunk:
			chunk /= 2
		case errors.Is(err, unix.EAGAIN) && grown < maxGrowth:
			// Small segments have much overhead, more than makeRoom has reckoned with.
			grown++
			if err := growSendBuffer(fd); err != nil {
				return err
			}
		default:
			return fmt.Errorf("%d bytes left: %w", len(data), err)
		}
	}
	return nil
}

// maxGrowth is how often fill doubles the send buffer.
const maxGrowth = 6

func growSendBuffer(fd int) error {
	size, err := getInt(fd, unix.SOL_SOCKET, unix.SO_SNDBUF, "SO_SNDBUF")
	if err != nil {
		return err
	}
	return makeRoom(fd, unix.SO_SNDBUF, unix.SO_SNDBUFFORCE, size, "SO_SNDBUF")
}

// makeRoom raises a buffer (SO_RCVBUF or SO_SNDBUF) until n bytes of payload fit,
// beyond the host's limits if need be, and leaves its size to the kernel's
// autotuning, as it was.
func makeRoom(fd, opt, force, n int, name string) error {
	size, err := getInt(fd, unix.SOL_SOCKET, opt, name)
	if err != nil {
		return err
	}
	if size >= 2*n { // Linux counts its own overhead, and doubles what is set for it
		return nil
	}
	if err := setInt(fd, unix.SOL_SOCKET, force, n, name+"FORCE"); err != nil {
		return err
	}
	// A size once set is fixed for good, which would cap the throughput of the
	// connection; since 5.15 this undoes it.
	err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_BUF_LOCK, 0)
	if err != nil && !errors.Is(err, unix.ENOPROTOOPT) {
		return fmt.Errorf("unlock %s: %w", name, err)
	}
	return nil
}
