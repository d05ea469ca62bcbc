package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"

	"golang.org/x/sys/unix"
)

// request asks the panel for a link. The descriptor of the namespace where the
// other end shall be goes with it.
type request struct {
	Port string `json:"port"` // the switch's
	MAC  string `json:"mac"`  // of the other end
}

// answer is empty if the link is there.
type answer struct {
	Error string `json:"error,omitempty"`
}

// mostMessage is longer than any message, octets.
const mostMessage = 1024

// send writes one packet, with a descriptor unless fd is nil.
func send(c *net.UnixConn, message any, fd *os.File) error {
	text, err := json.Marshal(message)
	if err != nil {
		return err
	}
	var rights []byte
	if fd != nil {
		rights = unix.UnixRights(int(fd.Fd()))
	}
	_, _, err = c.WriteMsgUnix(text, rights, nil)
	return err
}

// receive reads one packet. The caller closes the descriptor, nil if none came.
func receive(c *net.UnixConn, message any) (*os.File, error) {
	text, rights := make([]byte, mostMessage), make([]byte, unix.CmsgSpace(4))
	n, rn, flags, _, err := c.ReadMsgUnix(text, rights)
	if err != nil {
		return nil, err
	}
	fd, err := descriptor(rights[:rn])
	switch {
	case err != nil:
		return nil, err
	case flags&(unix.MSG_TRUNC|unix.MSG_CTRUNC) != 0:
		err = fmt.Errorf("a message of more than %d octets, or with more than one descriptor", mostMessage)
	default:
		err = json.Unmarshal(text[:n], message)
	}
	if err != nil && fd != nil {
		fd.Close()
		fd = nil
	}
	return fd, err
}

// descriptor takes the one descriptor out of ancillary data, nil if there is none.
func descriptor(rights []byte) (*os.File, error) {
	if len(rights) == 0 {
		return nil, nil
	}
	messages, err := unix.ParseSocketControlMessage(rights)
	if err != nil {
		return nil, fmt.Errorf("ancillary data: %w", err)
	}
	var all []int
	for _, m := range messages {
		fds, err := unix.ParseUnixRights(&m)
		if err != nil {
			return nil, fmt.Errorf("ancillary data: %w", err)
		}
		all = append(all, fds...)
	}
	if len(all) != 1 {
		for _, fd := range all {
			unix.Close(fd)
		}
		return nil, errors.New("more than one descriptor in a message")
	}
	unix.CloseOnExec(all[0])
	return os.NewFile(uintptr(all[0]), "namespace"), nil
}
