package handoffproto

import (
	"bytes"
	"encoding/hex"
	"errors"
	"net/netip"
	"strings"
	"testing"
)

var frames = []struct {
	name  string
	frame Frame
	wire  string // hexadecimal, spaces for the reader
}{
	{"hello", Hello{PID: 258, Name: "web"}, "73686e74 01 01 00000102 03 776562"},
	{"empty hello", Hello{}, "73686e74 01 01 00000000 00"},
	{"refusal", Refusal{Reason: "no"}, "73686e74 01 03 02 6e6f"},
	{"session, IPv4", Session{
		ID: "h1", Service: "web",
		Client: netip.MustParseAddrPort("192.0.2.1:1234"),
		Local:  netip.MustParseAddrPort("172.31.0.1:80"),
		VIP:    netip.MustParseAddrPort("10.10.0.80:80"),
	}, "73686e74 01 02 02 6831 03 776562 04 c0000201 04d2 04 ac1f0001 0050 04 0a0a0050 0050"},
	{"session, IPv6, VIP unknown", Session{
		Client: netip.MustParseAddrPort("[2001:db8::1]:1234"),
		Local:  netip.MustParseAddrPort("[fd31::1]:80"),
	}, "73686e74 01 02 00 00 06 20010db8000000000000000000000001 04d2 06 fd310000000000000000000000000001 0050 00"},
	{"willing", Willing{}, "73686e74 01 04"},
	{"per request", PerRequest{Service: "web", On: true}, "73686e74 01 05 03 776562 01"},
	{"not per request", PerRequest{Service: "web"}, "73686e74 01 05 03 776562 00"},
	{"question", Question{Number: 258, Head: "GET /", Session: Session{
		ID: "h1", Service: "web",
		Client: netip.MustParseAddrPort("192.0.2.1:1234"),
		Local:  netip.MustParseAddrPort("172.31.0.1:80"),
	}}, "73686e74 01 06 00000102 02 6831 03 776562 04 c0000201 04d2 04 ac1f0001 0050 00 0005 474554202f"},
	{"answer", Answer{Number: 258, Node: "s2"}, "73686e74 01 07 00000102 02 7332"},
	{"answer: here", Answer{Number: 258}, "73686e74 01 07 00000102 00"},
	{"idle session", Session{
		Idle:   true,
		Client: netip.MustParseAddrPort("192.0.2.1:1234"),
		Local:  netip.MustParseAddrPort("172.31.0.1:80"),
	}, "73686e74 01 09 00 00 04 c0000201 04d2 04 ac1f0001 0050 00"},
	{"vacate", Vacate{Service: "web", On: true}, "73686e74 01 0a 03 776562 01"},
	{"vacate no more", Vacate{Service: "web"}, "73686e74 01 0a 03 776562 00"},
	{"heed", Heed{}, "73686e74 01 0b"},
	{"answers", Answers{Errors: 258, InARow: 3, Others: true}, "73686e74 01 0c 00000102 00000003 01"},
	{"answers, errors alone", Answers{Errors: 2, InARow: 2}, "73686e74 01 0c 00000002 00000002 00"},
	{"give to any", Give{Session: Session{
		Client: netip.MustParseAddrPort("192.0.2.1:1234"),
		Local:  netip.MustParseAddrPort("172.31.0.1:80"),
	}}, "73686e74 01 08 00 00 04 c0000201 04d2 04 ac1f0001 0050 00 00"},
	{"give", Give{Node: "s2", Session: Session{
		Client: netip.MustParseAddrPort("192.0.2.1:1234"),
		Local:  netip.MustParseAddrPort("172.31.0.1:80"),
	}}, "73686e74 01 08 00 00 04 c0000201 04d2 04 ac1f0001 0050 00 02 7332"},
}

func TestFramesOnTheWire(t *testing.T) {
	for _, c := range frames {
		want, err := hex.DecodeString(strings.ReplaceAll(c.wire, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		got, err := c.frame.Append([]byte("before"))
		if err != nil || string(got) != "before"+string(want) {
			t.Errorf("%s: encoded as %x, %v; want %x", c.name, got, err, want)
		}
		f, err := Parse(want)
		if err != nil || f != c.frame {
			t.Errorf("%s: decoded as %+v, %v; want %+v", c.name, f, err, c.frame)
		}
		for n := range want {
			if f, err := Parse(want[:n]); err == nil {
				t.Errorf("%s: its first %d octets are decoded as %+v", c.name, n, f)
			}
		}
		if f, err := Parse(append(want, 0)); err == nil {
			t.Errorf("%s: with an octet after it decoded as %+v", c.name, f)
		}
	}
}

func TestLongestFrameFits(t *testing.T) {
	long := strings.Repeat("x", MaxText)
	e := netip.MustParseAddrPort("[2001:db8::1]:1234")
	s := Session{ID: long, Service: long, Client: e, Local: e, VIP: e}
	for _, c := range []struct {
		frame Frame
		most  int
	}{{s, MaxFrame}, {Give{Session: s, Node: long}, MaxFrame}, {Question{Session: s, Head: strings.Repeat("x", MaxHead)}, MaxQuestion}} {
		b, err := c.frame.Append(nil)
		if err != nil || len(b) > c.most {
			t.Errorf("%T: %d octets, error %v; at most %d may be needed", c.frame, len(b), err, c.most)
		}
	}
}

func TestWhatCannotBeEncodedIsAnError(t *testing.T) {
	for _, text := range []string{strings.Repeat("x", MaxText+1), "\xff"} {
		for _, f := range []Frame{Hello{Name: text}, Session{ID: text}, Session{Service: text}, Refusal{Reason: text},
			PerRequest{Service: text}, Question{Session: Session{ID: text}}, Question{Head: strings.Repeat("x", MaxHead+1)}, Answer{Node: text},
			Give{Session: Session{Service: text}, Node: "s2"}, Give{Node: text}, Vacate{Service: text}} {
			if b, err := f.Append(nil); err == nil {
				t.Errorf("%T with %q is encoded as %x", f, text, b)
			}
		}
	}
}

func TestMalformedFramesAreRefused(t *testing.T) {
	for name, wire := range map[string]string{
		"empty":                    "",
		"other magic":              "73686e75 01 01 00000000 00",
		"unknown kind":             "73686e74 01 0d",
		"others perhaps":           "73686e74 01 0c 00000102 00000003 02",
		"kind 0":                   "73686e74 01 00",
		"name not UTF-8":           "73686e74 01 01 00000000 01 ff",
		"text longer than frame":   "73686e74 01 03 05 6e6f",
		"session without client":   "73686e74 01 02 00 00 00 04 ac1f0001 0050 00",
		"session without local":    "73686e74 01 02 00 00 04 ac1f0001 0050 00 00",
		"unknown address family":   "73686e74 01 02 00 00 05 c0000201 04d2 04 ac1f0001 0050 00",
		"neither yes nor no":       "73686e74 01 05 03 776562 02",
		"head longer than frame":   "73686e74 01 06 00000102 00 00 04 c0000201 04d2 04 ac1f0001 0050 00 0005 47",
		"head shorter than frame":  "73686e74 01 06 00000102 00 00 04 c0000201 04d2 04 ac1f0001 0050 00 0000 47",
		"vacate perhaps":           "73686e74 01 0a 03 776562 02",
		"idle without client":      "73686e74 01 09 00 00 00 04 ac1f0001 0050 00",
		"address cut":              "73686e74 01 02 00 00 04 c000",
		"port missing at the end":  "73686e74 01 02 00 00 04 c0000201 04d2 04 ac1f0001 0050 04 0a0a0050",
		"endpoint missing, no VIP": "73686e74 01 02 00 00 04 c0000201 04d2 04 ac1f0001 0050",
	} {
		b, err := hex.DecodeString(strings.ReplaceAll(wire, " ", ""))
		if err != nil {
			t.Fatal(err)
		}
		if f, err := Parse(b); err == nil {
			t.Errorf("%s: decoded as %+v", name, f)
		} else if !errors.Is(err, errMalformed) {
			t.Errorf("%s: error %v", name, err)
		}
	}
	var v *VersionError
	if _, err := Parse([]byte(magic + "\x02\x01")); !errors.As(err, &v) || v.Version != 2 {
		t.Errorf("version 2: %v", err)
	}
}

// What is decoded is encoded to the same octets, so no two frames mean the same.
func FuzzParse(f *testing.F) {
	for _, c := range frames {
		b, err := c.frame.Append(nil)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Add([]byte(magic + "\x02\x01"))
	f.Fuzz(func(t *testing.T, b []byte) {
		frame, err := Parse(b)
		if err != nil {
			return
		}
		again, err := frame.Append(nil)
		if err != nil || !bytes.Equal(again, b) {
			t.Errorf("%+v from %x is encoded as %x, %v", frame, b, again, err)
		}
	})
}
