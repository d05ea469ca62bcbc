package sockdiag

import (
	"bytes"
	"encoding/hex"
	"errors"
	"net/netip"
	"testing"
)

// What the kernel says of two sockets.
const (
	message4 = "020100000050d5460a0900010000000000000000000000000a080001000000000000000000000000000000002a000000000000000000000000000000000000000a00000007000000"
	message6 = "0a0600000050d546fd090000000000000000000000000001fd0800000000000000000000000000010000000001000000020000000000000000000000000000000000000000000000"
)

func TestMessagesOfBothFamiliesAreDecoded(t *testing.T) {
	for _, c := range []struct {
		hex    string
		local  string
		remote string
		state  uint8
	}{
		{message4, "10.9.0.1:80", "10.8.0.1:54598", Established},
		{message6, "[fd09::1]:80", "[fd08::1]:54598", TimeWait},
	} {
		b, err := hex.DecodeString(c.hex)
		if err != nil {
			t.Fatal(err)
		}
		m, err := parse(b)
		if err != nil || m.Local.String() != c.local || m.Remote.String() != c.remote || m.State != c.state {
			t.Errorf("parse: %+v, %v; want %s to %s in state %d", m, err, c.local, c.remote, c.state)
		}
	}
}

func TestMessagesThatAreNotSocketsAreRefused(t *testing.T) {
	for _, b := range [][]byte{nil, {2}, make([]byte, messageLen), bytes.Repeat([]byte{2}, messageLen-1)} {
		if _, err := parse(b); !errors.Is(err, errMessage) {
			t.Errorf("parse(%x): %v", b, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, s := range []string{message4, message6, ""} {
		b, err := hex.DecodeString(s)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := parse(b)
		if err != nil {
			return
		}
		if !m.Local.IsValid() || !m.Remote.IsValid() || m.Local.Addr().Is4In6() || m.Remote.Addr().Is4In6() {
			t.Fatalf("decoded %+v", m)
		}
		// A request for the same socket has the same ports in the same places.
		r := request(b[0], 0, m.Local, m.Remote, m.Cookie)
		if len(r) != requestLen || !bytes.Equal(r[socketID:socketID+4], b[4:8]) {
			t.Fatalf("request %x for message %x", r, b)
		}
	})
}

func TestUnmappedAddressesAreEncodedAsIPv4(t *testing.T) {
	ap := netip.MustParseAddrPort("10.9.0.1:80")
	r := request(2, 0, ap, ap, noCookie)
	if !bytes.Equal(r[socketID+4:socketID+8], []byte{10, 9, 0, 1}) {
		t.Errorf("request %x", r)
	}
}
