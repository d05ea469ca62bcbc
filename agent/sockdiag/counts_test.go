package sockdiag

import (
	"io"
	"testing"
)

func TestCountsAreThoseOfTheConnection(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			ns := host(t)
			c := connect(t, ns, listen(t, ns, "tcp", f.session), f.session)
			listed := await(t, ns, f.pools, c, Established)
			if _, err := c.client.Write(make([]byte, 1000)); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(c.server, make([]byte, 1000)); err != nil {
				t.Fatal(err)
			}
			if _, err := c.server.Write(make([]byte, 300)); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(c.client, make([]byte, 300)); err != nil {
				t.Fatal(err)
			}
			ns.Do(func() error {
				counts, cookie, err := CountsOf(c.local, c.remote)
				if counts.Received != 1000 || cookie != listed.Cookie {
					t.Errorf("%+v of socket %x, want 1000 octets received by %x", counts, cookie, listed.Cookie)
				}
				return err
			})
		})
	}
}
