package sockdiag

import (
	"context"
	"net"
	"net/netip"
	"testing"

	"github.com/shunt-sdn/shunt/internal/testnet"
)

func TestListeningFindsWhatAcceptsAnAddress(t *testing.T) {
	for _, tc := range []struct {
		network, listen, ask string
		want                 bool
	}{
		{"tcp", "127.0.0.1:80", "127.0.0.1:80", true},
		{"tcp", "127.0.0.1:80", "[::ffff:127.0.0.1]:80", true},
		{"tcp", "127.0.0.1:80", "127.0.0.1:81", false},
		{"tcp", "127.0.0.1:80", "127.0.0.2:80", false},
		{"tcp", "127.0.0.1:80", "[::1]:80", false},
		{"tcp4", "0.0.0.0:80", "127.0.0.2:80", true},
		{"tcp4", "0.0.0.0:80", "[::1]:80", false},
		{"tcp", "[::]:80", "[::1]:80", true},
		{"tcp", "[::]:80", "127.0.0.1:80", true},
		{"tcp", "[::1]:80", "[::1]:80", true},
		{"tcp", "[::1]:80", "127.0.0.1:80", false},
	} {
		ns := testnet.NewNS(t)
		ns.Do(func() error {
			l, err := net.Listen(tc.network, tc.listen)
			if err != nil {
				return err
			}
			defer l.Close()
			got, err := Listening(context.Background(), netip.MustParseAddrPort(tc.ask))
			if got != tc.want || err != nil {
				t.Errorf("%s is listened at, asked for %s: %v, %v", tc.listen, tc.ask, got, err)
			}
			return nil
		})
	}
}
