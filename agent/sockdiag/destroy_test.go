package sockdiag

import (
	"errors"
	"io"
	"net/netip"
	"testing"

	"golang.org/x/sys/unix"
)

func TestDestroyResetsTheConnection(t *testing.T) {
	for _, f := range families {
		for _, listener := range []string{f.session, ":80"} {
			t.Run(f.name+" "+listener, func(t *testing.T) {
				ns := host(t)
				l := listen(t, ns, "tcp", listener)
				c, other := connect(t, ns, l, f.session), connect(t, ns, l, f.session)
				listed := await(t, ns, f.pools, c, Established)
				ns.Do(func() error {
					found, err := Find(c.local, c.remote)
					if found != listed {
						t.Errorf("found %+v, listed %+v", found, listed)
					}
					return err
				})
				ns.Do(func() error { return Destroy(c.local, c.remote) })
				if _, err := c.client.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNRESET) {
					t.Errorf("the peer reads %v, want a reset", err)
				}
				if _, err := c.server.Read(make([]byte, 1)); !errors.Is(err, unix.ECONNABORTED) {
					t.Errorf("the owner reads %v, want an abort", err)
				}
				if _, err := other.client.Write([]byte("x")); err != nil {
					t.Errorf("another connection: %v", err)
				}
				if _, err := other.server.Read(make([]byte, 1)); err != nil {
					t.Errorf("another connection: %v", err)
				}
				if err := ns.Try(func() error { return Destroy(c.local, c.remote) }); !errors.Is(err, ErrNotFound) {
					t.Errorf("Destroy of what is gone: %v, want ErrNotFound", err)
				}
				if err := ns.Try(func() error { _, err := Find(c.local, c.remote); return err }); !errors.Is(err, ErrNotFound) {
					t.Errorf("Find of what is gone: %v, want ErrNotFound", err)
				}
				connect(t, ns, l, f.session) // the listener lives
			})
		}
	}
}

func TestDestroyWithoutAConnectionSparesTheListener(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			ns := host(t)
			l := listen(t, ns, "tcp", f.session)
			local := netip.MustParseAddrPort(f.session)
			for _, remote := range []netip.AddrPort{netip.AddrPortFrom(local.Addr(), 9), netip.AddrPortFrom(local.Addr(), 0)} {
				if err := ns.Try(func() error { return Destroy(local, remote) }); !errors.Is(err, ErrNotFound) {
					t.Errorf("Destroy(%s, %s): %v, want ErrNotFound", local, remote, err)
				}
			}
			connect(t, ns, l, f.session)
		})
	}
}

func TestFindSeesASocketInTimeWait(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			ns := host(t)
			l := listen(t, ns, "tcp", f.session)
			c := connect(t, ns, l, f.session)
			c.server.Close()
			io.Copy(io.Discard, c.client)
			c.client.Close()
			listed := await(t, ns, f.pools, c, TimeWait)
			ns.Do(func() error {
				s, err := Find(c.local, c.remote)
				if s.State != listed.State || s.Inode != 0 {
					t.Errorf("found %+v", s)
				}
				return err
			})
		})
	}
}

func TestDestroyRefusesAddressesOfTwoFamilies(t *testing.T) {
	err := Destroy(netip.MustParseAddrPort("10.9.0.1:80"), netip.MustParseAddrPort("[fd09::1]:80"))
	if err == nil || errors.Is(err, ErrNotFound) {
		t.Errorf("got %v", err)
	}
}
