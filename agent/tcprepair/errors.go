package tcprepair

import (
	"errors"
	"fmt"
)

var (
	// ErrUnsupportedState says that a connection cannot be moved as it is: it is
	// not a plain TCP connection in ESTABLISHED or CLOSE_WAIT, or holds something
	// that the kernel does not let out. The wrapping error names the reason.
	// Serve such a connection where it is.
	ErrUnsupportedState = errors.New("cannot be moved in its state")

	// ErrLacks says that this process or this kernel cannot repair connections:
	// CAP_NET_ADMIN or CONFIG_CHECKPOINT_RESTORE is missing. No other connection
	// will fare better.
	ErrLacks = errors.New("TCP_REPAIR is not available: run with CAP_NET_ADMIN, on a kernel with CONFIG_CHECKPOINT_RESTORE")

	// ErrInUse says that a live socket with the same addresses and ports exists
	// in the namespace in which Restore was to make one.
	ErrInUse = errors.New("a live socket with these addresses and ports exists")

	// ErrInvalid says that a State does not describe a connection.
	ErrInvalid = errors.New("invalid connection state")
)

func unsupported(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrUnsupportedState, fmt.Sprintf(format, args...))
}
