package sockdiag

import (
	"context"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Listening tells whether a TCP socket of this network namespace listens at an
// address and port: at just that address, or at all. Of a socket that listens at
// all IPv6 addresses it is not known whether it takes IPv4; it is assumed.
func Listening(ctx context.Context, at netip.AddrPort) (bool, error) {
	found := false
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		err := dump(ctx, family, 1<<Listen, func(s Socket) {
			addr := s.Local.Addr()
			everywhere := addr == netip.IPv6Unspecified() || addr == netip.IPv4Unspecified() && at.Addr().Unmap().Is4()
			found = found || s.Local.Port() == at.Port() && (addr == at.Addr().Unmap() || everywhere)
		})
		if err != nil {
			return false, fmt.Errorf("list the listening TCP sockets of address family %d: %w", family, err)
		}
	}
	return found, nil
}
