package handoffproto

import (
	"errors"
	"fmt"
	"io"
	"net"
	"syscall"
)

// Network is what package net calls the kind of socket.
const Network = "unixpacket"

// ErrDescriptorLost: a frame came without the descriptor that it should have.
// The kernel drops it when the receiving process has no descriptor left.
var ErrDescriptorLost = errors.New("the descriptor of a handed-off session did not arrive: the process may be at its limit of open files (RLIMIT_NOFILE)")

// Send sends one frame, with a descriptor if fd ≥ 0, and never waits: the
// error is syscall.EAGAIN when the peer's queue is full, and another
// syscall.Errno when the peer is gone. It does not close fd; the peer gets a
// duplicate.
func Send(c syscall.RawConn, frame []byte, fd int) error {
	var rights []byte
	if fd >= 0 {
		rights = syscall.UnixRights(fd)
	}
	var err error
	if cerr := c.Control(func(s uintptr) {
		for {
			err = syscall.Sendmsg(int(s), frame, rights, nil, syscall.MSG_DONTWAIT|syscall.MSG_NOSIGNAL)
			if err != syscall.EINTR {
				return
			}
		}
	}); cerr != nil {
		return cerr
	}
	return err
}

// Receiver reads frames from one connection. It is not safe for concurrent use.
type Receiver struct {
	frame    [MaxFrame + 1]byte
	question []byte // used instead, if there is room for questions
	// Room for the control message of one descriptor; the kernel drops those
	// that a misbehaving peer sends beyond it.
	rights [64]byte
}

// NewAgentReceiver returns a receiver that has room for questions.
func NewAgentReceiver() *Receiver { return &Receiver{question: make([]byte, MaxQuestion+1)} }

// Receive waits for the next frame and returns it with the descriptor that came
// along, -1 if none; the caller owns it. The error is io.EOF when the peer
// closed, the connection's for a deadline and the like, and any other says that
// this one frame was unusable: ErrDescriptorLost, or from Parse.
func (r *Receiver) Receive(c *net.UnixConn) (Frame, int, error) {
	room := r.frame[:]
	if r.question != nil {
		room = r.question
	}
	n, oobn, flags, _, err := c.ReadMsgUnix(room, r.rights[:])
	fd := -1
	if oobn > 0 {
		fd = oneDescriptor(r.rights[:oobn])
	}
	f, err := parse(room, n, flags, err)
	var s Session
	switch f := f.(type) {
	case Session:
		s = f
	case Give:
		s = f.Session
	}
	if s.Client.IsValid() && fd < 0 {
		return nil, -1, fmt.Errorf("session %s of %v: %w", s.ID, s.Client, ErrDescriptorLost)
	}
	if err != nil && fd >= 0 {
		syscall.Close(fd)
		fd = -1
	}
	return f, fd, err
}

func parse(room []byte, n, flags int, err error) (Frame, error) {
	switch {
	case errors.Is(err, io.EOF), err == nil && n == 0:
		return nil, io.EOF
	case err != nil:
		return nil, err
	case n == len(room) || flags&syscall.MSG_TRUNC != 0:
		return nil, fmt.Errorf("%w: it is longer than %d octets", errMalformed, len(room)-1)
	}
	return Parse(room[:n])
}

// oneDescriptor returns the first descriptor in control messages and closes the others.
func oneDescriptor(oob []byte) int {
	fd := -1
	msgs, err := syscall.ParseSocketControlMessage(oob)
	if err != nil {
		return -1
	}
	for i := range msgs {
		fds, err := syscall.ParseUnixRights(&msgs[i])
		if err != nil {
			continue
		}
		for _, f := range fds {
			if fd < 0 {
				fd = f
			} else {
				syscall.Close(f)
			}
		}
	}
	return fd
}
