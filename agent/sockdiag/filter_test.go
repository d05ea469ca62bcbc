package sockdiag

import (
	"encoding/hex"
	"io"
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"
)

// announcement is what the kernel would send of a socket with that local address;
// mapped: a dual-stack socket.
func announcement(t *testing.T, local netip.Addr, mapped bool) []byte {
	t.Helper()
	b, err := hex.DecodeString(message4)
	if err != nil {
		t.Fatal(err)
	}
	b = append(make([]byte, familyAt), b...)
	a := local.As16()
	if local.Is4() && !mapped {
		copy(b[localAt:], a[12:])
		return b
	}
	b[familyAt] = unix.AF_INET6
	copy(b[localAt:], a[:])
	return b
}

func TestTheFilterPassesThePoolsAlone(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	address := func() netip.Addr { // few, so that some fall together
		if r.IntN(2) == 0 {
			return netip.AddrFrom4([4]byte{172, byte(16 + r.IntN(2)), byte(r.IntN(2) << 7), byte(r.IntN(4) << 6)})
		}
		return netip.AddrFrom16([16]byte{0xfd, 0, byte(r.IntN(2)), 7: byte(r.IntN(2)), 8: byte(r.IntN(2) << 7), 15: byte(r.IntN(4))})
	}
	passed := 0
	for range 2000 {
		var pools []netip.Prefix
		var except []netip.Addr
		for range r.IntN(4) {
			a := address()
			pools = append(pools, netip.PrefixFrom(a, r.IntN(a.BitLen()+1)).Masked())
		}
		for range r.IntN(3) {
			except = append(except, address())
		}
		vm, err := bpf.NewVM(filter(pools, except))
		if err != nil {
			t.Fatal(err)
		}
		for range 20 {
			a, mapped := address(), r.IntN(2) == 0
			n, err := vm.Run(announcement(t, a, mapped))
			if err != nil {
				t.Fatal(err)
			}
			want := contains(pools, a) && !slices.Contains(except, a)
			if mapped && a.Is4() && !want { // ::/n holds them all
				want = !slices.Contains(except, a) && contains(pools, netip.AddrFrom16(a.As16()))
			}
			if (n > 0) != want {
				t.Fatalf("pools %v except %v: %v (dual-stack: %v) passes: %v", pools, except, a, mapped, n > 0)
			}
			if want {
				passed++
			}
		}
	}
	if passed < 1000 {
		t.Errorf("only %d addresses were in a pool", passed)
	}
}

func TestOtherSocketsAreNotAnnounced(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			ns := host(t)
			l := listen(t, ns, "tcp", ":80")
			except := []netip.Addr{netip.MustParseAddrPort(f.session).Addr().Next()}
			events := watch(t, ns, f.pools, except...)
			for _, to := range []string{f.elsewhere, netip.AddrPortFrom(except[0], 80).String(), f.session} {
				c := connect(t, ns, l, to)
				c.client.Close()
				io.Copy(io.Discard, c.server)
				c.server.Close()
			}
			for {
				select {
				case e := <-events:
					if e.Local.String() == f.session {
						return
					}
					if e.Local.Port() == 80 {
						t.Errorf("announced: %+v", e)
					}
				case <-time.After(5 * time.Second):
					t.Fatal("the session's end was not announced")
				}
			}
		})
	}
}
