package tcprepair

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"
)

// Reset ends a connection with a RST, frozen or not, and closes fd.
func Reset(fd int) error {
	err := errors.Join(
		undeafen(fd),
		repair(fd, unix.TCP_REPAIR_OFF_NO_WP),
		unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1}),
		unix.Close(fd))
	if err != nil {
		return fmt.Errorf("reset a connection: %w", err)
	}
	return nil
}
