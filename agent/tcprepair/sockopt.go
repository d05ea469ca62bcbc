package tcprepair

import (
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"
)

// Queues that TCP_REPAIR_QUEUE selects (include/uapi/linux/tcp.h).
const (
	recvQueue = 1
	sendQueue = 2
)

// Options of the IP header's maximum segment, window scale, … as
// TCP_REPAIR_OPTIONS takes them: the option kinds of RFC 9293 and RFC 7323.
const (
	optMSS       = 2
	optWindow    = 3
	optSACK      = 4
	optTimestamp = 8
)

// Flags in TCPInfo.Options (include/uapi/linux/tcp.h).
const (
	infoTimestamps = 1
	infoSACK       = 2
	infoWscale     = 4
)

func getInt(fd, level, opt int, name string) (int, error) {
	v, err := unix.GetsockoptInt(fd, level, opt)
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", name, err)
	}
	return v, nil
}

func setInt(fd, level, opt, value int, name string) error {
	if err := unix.SetsockoptInt(fd, level, opt, value); err != nil {
		return fmt.Errorf("set %s to %d: %w", name, value, err)
	}
	return nil
}

// ioctlInt reads one of the queue lengths, in bytes.
func ioctlInt(fd int, req uint, name string) (int, error) {
	v, err := unix.IoctlGetInt(fd, req)
	if err != nil {
		return 0, fmt.Errorf("read %s: %w", name, err)
	}
	return v, nil
}

// getStruct fills v from an option whose layout is fixed; T holds no pointers.
func getStruct[T any](fd, opt int, v *T, name string) error {
	n := uint32(unsafe.Sizeof(*v))
	_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, uintptr(fd), unix.IPPROTO_TCP, uintptr(opt),
		uintptr(unsafe.Pointer(v)), uintptr(unsafe.Pointer(&n)), 0)
	if errno != 0 {
		return fmt.Errorf("read %s: %w", name, errno)
	}
	return nil
}

// setStruct is the opposite of getStruct.
func setStruct[T any](fd, opt int, v *T, name string) error {
	_, _, errno := unix.Syscall6(unix.SYS_SETSOCKOPT, uintptr(fd), unix.IPPROTO_TCP, uintptr(opt),
		uintptr(unsafe.Pointer(v)), unsafe.Sizeof(*v), 0)
	if errno != 0 {
		return fmt.Errorf("set %s to %+v: %w", name, *v, errno)
	}
	return nil
}
