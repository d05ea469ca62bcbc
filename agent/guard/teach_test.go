package guard

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"

	"github.com/shunt-sdn/shunt/internal/testnet"
)

// through runs a segment through a lone node's guard and returns what it sends on.
func (x *node) through(s segment) []byte {
	x.t.Helper()
	o := &ebpf.RunOptions{Data: s.bytes(x.t), DataOut: make([]byte, 4096)}
	const redirect = 7
	if verdict, err := x.g.prog.Run(o); err != nil || verdict != redirect {
		x.t.Fatalf("verdict %d, %v; want a redirect", int32(verdict), err)
	}
	return o.DataOut
}

func TestWhatTeachesTheSwitch(t *testing.T) {
	const owner = 7
	lo := &node{mac: make([]byte, 6)}
	to := &node{mac: net.HardwareAddr{2, 0, 0, 0, 0, 7}}
	for _, c := range []struct {
		name string
		// Flags of a packet, with + if it acknowledges more than the one before, ~ if it
		// settles the diversion, and ! if it must teach; "settle", "settle other" and
		// "divert" are what they say.
		steps string
	}{
		{"a settled diversion, but not at once", "settle, A, A, A!, A!, A!"},
		{"not before it is settled", "A, A, A, A, settle, A!, A!"},
		{"not before it is settled, though few packets came", "A, settle, A, A!"},
		{"what ends a small answer does not", "settle, A, FA, A, A, A, A"},
		{"nor does what ends it before it is settled", "FA, settle, A, A, A, A"},
		{"nor does a RST", "settle, A, A, R, A, A"},
		{"the end of what was taught is taught", "settle, A, A, A!, FA!, A!, RA!"},
		{"a later diversion begins anew", "settle, A, A, A!, divert, A, A, A, A, settle, A!"},
		{"another's diversion is not settled", "settle other, A, A, A, A"},
		{"nothing to settle", "undivert, settle, divert, A, A, A, A"},
		{"what the client acknowledges settles nothing", "A, A+, A+, A+"},
		{"unless home has sent nothing: then the other node has", "divert unanswered, A, A+~, A!, A!"},
		{"also if the first packet acknowledges some of it", "divert unanswered, A+, A+~, A+!, A!"},
		{"at any time", "divert unanswered, A, A, A, A+~!, A!"},
		{"and if it acknowledges nothing new, it does not", "divert unanswered, A, A, A, A, settle, A!"},
		{"a first packet that ends the connection counts", "divert unanswered, FA, A+~, A, A"},
		{"a RST proves nothing", "divert unanswered, A, R+, A+, A+, A+"},
		{"nor does what follows one", "divert unanswered, R, A+, A+"},
		{"a later diversion is not settled by it", "divert unanswered, A, A+~, A!, divert, A+, A+, A+"},
	} {
		for _, f := range families {
			t.Run(f.name+": "+c.name, func(t *testing.T) {
				x := lone(t)
				x.open(Options{MaxDivert: 1024})
				divert := func() error { return x.g.Divert(stray(f), f.session, to.mac, owner) }
				if err := errors.Join(x.g.SetPools([]netip.Prefix{f.pool}), divert()); err != nil {
					t.Fatal(err)
				}
				there, settled, acked := true, false, uint32(2000)
				for i, step := range strings.Split(c.steps, ", ") {
					var err error
					switch step {
					case "settle":
						err = x.g.Settle(stray(f), f.session, owner)
						settled = there
					case "settle other":
						err = x.g.Settle(stray(f), f.session, owner+1)
					case "divert":
						err = divert()
						there, settled = true, false
					case "divert unanswered":
						err = x.g.DivertUnanswered(stray(f), f.session, to.mac, owner)
					case "undivert":
						err = x.g.Undivert(stray(f), f.session)
						there = false
					default:
						flags := strings.TrimRight(step, "+~!")
						if strings.Contains(step, "+") {
							acked += 1448
						}
						settled = settled || strings.Contains(step, "~")
						teaches := strings.HasSuffix(step, "!")
						// What the client has in the reserved bits makes no difference.
						in := segment{from: x, to: lo, src: stray(f), dst: f.session, flags: flags, ack: acked, options: i%2 == 1, teaches: i%3 == 2, early: i%4 == 1, payload: strings.Repeat("x", i)}
						want := in
						want.ttl, want.teaches, want.early = 63, teaches, !settled
						if got := x.through(in); !bytes.Equal(got[14:], want.bytes(t)[14:]) || !bytes.Equal(got[:6], to.mac) {
							t.Fatalf("step %d, %s: sent on\n%x, want\n%x", i, step, got[14:], want.bytes(t)[14:])
						}
					}
					if err != nil {
						t.Fatalf("step %d, %s: %v", i, step, err)
					}
				}
			})
		}
	}
}

// Whoever asks may have a client answered elsewhere that has not spoken since.
func TestADiversionKnowsWhetherItWasUsed(t *testing.T) {
	const owner = 7
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			x := lone(t)
			x.open(Options{MaxDivert: 1024})
			if err := x.g.SetPools([]netip.Prefix{f.pool}); err != nil {
				t.Fatal(err)
			}
			lo, to := &node{mac: make([]byte, 6)}, net.HardwareAddr{2, 0, 0, 0, 0, 7}
			check := func(what string, owner uint64, want bool) {
				t.Helper()
				if got, err := x.g.Unused(stray(f), f.session, owner); err != nil || got != want {
					t.Errorf("%s: unused: %v, %v", what, got, err)
				}
			}
			check("there is none", owner, false)
			for _, flags := range []string{"A", "FA", "RA"} {
				if err := x.g.Divert(stray(f), f.session, to, owner); err != nil {
					t.Fatal(err)
				}
				check("it is new", owner, true)
				check("it is another's", owner+1, false)
				x.through(segment{from: x, to: lo, src: stray(f), dst: f.session, flags: flags})
				check(flags+" has taken it", owner, false)
			}
			if err := x.g.Undivert(stray(f), f.session); err != nil {
				t.Fatal(err)
			}
			check("it is over", owner, false)
		})
	}
}

func TestADiversionKnowsThatTheClientHasAnAnswer(t *testing.T) {
	const owner, sent = 7, 2000
	lo, to := &node{mac: make([]byte, 6)}, net.HardwareAddr{2, 0, 0, 0, 0, 7}
	for _, c := range []struct {
		name     string
		answered bool // home has sent something
		packets  []segment
		want     bool
	}{
		{name: "nothing came"},
		{name: "it says more", packets: []segment{{flags: "A"}, {flags: "A"}}},
		{name: "it acknowledges an answer", packets: []segment{{flags: "A", ack: sent + 300}}, want: true},
		{name: "and closes", packets: []segment{{flags: "FA", ack: sent + 301}}, want: true},
		{name: "later", packets: []segment{{flags: "A"}, {flags: "FA", ack: sent + 300}}, want: true},
		{name: "it resets", packets: []segment{{flags: "R", ack: sent + 300}}},
		{name: "home may have sent it", answered: true, packets: []segment{{flags: "A"}, {flags: "A", ack: sent + 300}}},
	} {
		for _, f := range families {
			t.Run(f.name+": "+c.name, func(t *testing.T) {
				x := lone(t)
				x.open(Options{MaxDivert: 1024})
				divert := x.g.DivertUnanswered
				if c.answered {
					divert = x.g.Divert
				}
				if err := errors.Join(x.g.SetPools([]netip.Prefix{f.pool}), divert(stray(f), f.session, to, owner)); err != nil {
					t.Fatal(err)
				}
				for _, s := range c.packets {
					s.from, s.to, s.src, s.dst = x, lo, stray(f), f.session
					x.through(s)
				}
				for who, want := range map[uint64]bool{owner: c.want, owner + 1: false} {
					if got, err := x.g.Answered(stray(f), f.session, who, sent); err != nil || got != want {
						t.Errorf("owner %d: answered: %v, %v", who, got, err)
					}
				}
			})
		}
	}
}

// What is sent home, or to another dispatcher, says nothing of where the
// connection is.
func TestOnlyDiversionsTeach(t *testing.T) {
	lo := &node{mac: make([]byte, 6)}
	for _, f := range families {
		for _, passed := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s passed on %v", f.name, passed), func(t *testing.T) {
				x := lone(t)
				x.open(Options{MaxDivert: 1024})
				in := segment{from: x, to: lo, src: stray(f), dst: f.session, flags: "A", teaches: true}
				want := in
				want.teaches, want.ttl = false, 63
				if passed {
					x.askFor(f, f.session.Addr())
					in.dst, want.ttl = f.atB(), 16
				} else if err := errors.Join(
					x.g.SetHomes(map[netip.Addr]Home{f.session.Addr(): {MAC: net.HardwareAddr{2, 0, 0, 0, 0, 7}}}),
					x.g.SetPools([]netip.Prefix{f.pool}),
				); err != nil {
					t.Fatal(err)
				}
				if got := x.through(in); !bytes.Equal(got[14:], want.bytes(t)[14:]) {
					t.Errorf("sent on\n%x, want\n%x", got[14:], want.bytes(t)[14:])
				}
			})
		}
	}
}

func TestTheSumThatANetworkCardGaveStaysRightWhereAPacketTeaches(t *testing.T) {
	const checkSum, redirect = 4, 7 // BPF_F_TEST_SKB_CHECKSUM_COMPLETE
	lo := &node{mac: make([]byte, 6)}
	for _, f := range families {
		x := lone(t)
		x.open(Options{MaxDivert: 1024})
		err := errors.Join(
			x.g.SetPools([]netip.Prefix{f.pool}),
			x.g.Divert(stray(f), f.session, net.HardwareAddr{2, 0, 0, 0, 0, 7}, 1),
			x.g.Settle(stray(f), f.session, 1),
		)
		if err != nil {
			t.Fatal(err)
		}
		for i := range 300 {
			s := segment{from: x, to: lo, src: stray(f), dst: f.session, flags: "A", payload: strings.Repeat("x", i)}
			o := &ebpf.RunOptions{Data: s.bytes(t), DataOut: make([]byte, 4096), Flags: checkSum}
			verdict, err := x.g.prog.Run(o)
			if i == 0 && errors.Is(err, unix.EINVAL) {
				testnet.Lack(t, "the kernel cannot check it: it lacks BPF_F_TEST_SKB_CHECKSUM_COMPLETE")
			}
			if err != nil || verdict != redirect {
				t.Fatalf("%s, %d bytes of payload: verdict %d, %v; want a redirect with the right sum", f.name, i, int32(verdict), err)
			}
		}
	}
}
