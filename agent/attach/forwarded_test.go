package attach

import (
	"net/netip"
	"testing"
)

func TestFieldsThatSayWhoTheClientIs(t *testing.T) {
	four, six := netip.MustParseAddr("192.0.2.7"), netip.MustParseAddr("2001:db8::7")
	const get = "GET http://a:80/ HTTP/1.1\r\nHost: a\r\n"
	for _, c := range []struct {
		mode     Forwarded
		client   netip.Addr
		in, want string
	}{
		{ForwardedFor, four, "", "X-Forwarded-For: 192.0.2.7\r\n"},
		{ForwardedFor, six, "", "X-Forwarded-For: 2001:db8::7\r\n"},
		{ForwardedFor, netip.MustParseAddr("::ffff:192.0.2.7"), "", "X-Forwarded-For: 192.0.2.7\r\n"},
		{ForwardedFor, four, "A: b\r\nx-forwarded-FOR: 1.1.1.1 \r\nC: d\r\nX-Forwarded-For:2.2.2.2, 3.3.3.3\r\n", "A: b\r\nC: d\r\nX-Forwarded-For: 1.1.1.1, 2.2.2.2, 3.3.3.3, 192.0.2.7\r\n"},
		{ForwardedFor, four, "X_Forwarded_For: 1.1.1.1\r\nX-Forwarded_for: 1.1.1.1\r\nX-Forwarded-For:\r\n", "X-Forwarded-For: 192.0.2.7\r\n"},
		{ForwardedFor, four, "Forwarded: for=1.1.1.1\r\nConnection: close\r\n", "Forwarded: for=1.1.1.1\r\nConnection: close\r\nX-Forwarded-For: 192.0.2.7\r\n"},
		{ForwardedStandard, four, "", "Forwarded: for=192.0.2.7;proto=http\r\n"},
		{ForwardedStandard, six, "", "Forwarded: for=\"[2001:db8::7]\";proto=http\r\n"},
		{ForwardedStandard, four, "forwarded: for=1.1.1.1;by=x\r\n", "Forwarded: for=1.1.1.1;by=x, for=192.0.2.7;proto=http\r\n"},
		{ForwardedStandard, four, "Connection: forwarded\r\n", ""},
		{ForwardedFor, four, "connection: a , x-forwarded-for,b\r\n", ""},
	} {
		got, err := c.mode.rewrite([]byte("before"), []byte(get+c.in+"\r\n"), c.client)
		if c.want == "" {
			if err != errForwardedHop {
				t.Errorf("%q: %q, %v", c.in, got, err)
			}
			continue
		}
		if want := "before" + get + c.want + "\r\n"; string(got) != want || err != nil {
			t.Errorf("%s %v %q: got %q, %v; want %q", c.mode, c.client, c.in, got, err, want)
		}
	}
	if _, err := NewRelay(RelayConfig{Connect: "127.0.0.1:1", Forwarded: "via"}); err == nil {
		t.Error("an unknown field: no error")
	}
}
