package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// portBuffer is what one port of the switch can hold until the switch gets to
// it, octets. The kernel's default for packet sockets is 208 KiB, which is two
// or three segments of TSO's size: TCP would lose a tenth of them at full rate.
const portBuffer = 4 << 20

// enlargePortBuffers sets the receive buffers of a process's packet sockets and
// returns how many it found. Open vSwitch has no option for them, and the
// kernel's default belongs to the whole machine, which a lab leaves alone.
func enlargePortBuffers(pid int) (found int, err error) {
	pidfd, err := unix.PidfdOpen(pid, 0)
	if err != nil {
		return 0, fmt.Errorf("open process %d: %w", pid, err)
	}
	defer unix.Close(pidfd)
	entries, err := os.ReadDir(filepath.Join("/proc", strconv.Itoa(pid), "fd"))
	if err != nil {
		return 0, fmt.Errorf("list descriptors of process %d: %w", pid, err)
	}
	for _, e := range entries {
		number, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		fd, err := unix.PidfdGetfd(pidfd, number, 0)
		if err != nil {
			continue // closed meanwhile
		}
		domain, err := unix.GetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DOMAIN)
		if err == nil && domain == unix.AF_PACKET { // an error: no socket
			err = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, portBuffer)
			found++
		} else {
			err = nil
		}
		unix.Close(fd)
		if err != nil {
			return found, fmt.Errorf("enlarge the buffer of a port of process %d: %w", pid, err)
		}
	}
	return found, nil
}
