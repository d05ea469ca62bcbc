package tcprepair

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// Cookie returns the kernel's number of the socket (SO_COOKIE), which no other
// socket of this kernel's life has, and by which sock_diag names it.
func Cookie(fd int) (uint64, error) {
	c, err := unix.GetsockoptUint64(fd, unix.SOL_SOCKET, unix.SO_COOKIE)
	if err != nil {
		return 0, fmt.Errorf("get SO_COOKIE: %w", err)
	}
	return c, nil
}
