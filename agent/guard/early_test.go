package guard

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"testing"

	"github.com/cilium/ebpf"

	"github.com/shunt-sdn/shunt/agent/tcprepair"
)

const (
	verdictNext     = -1
	verdictDrop     = 2
	verdictRedirect = 7
)

// verdict runs a segment through a node's guard, in its namespace.
func (x *node) verdict(s segment) (verdict int32, sent []byte) {
	x.t.Helper()
	o := &ebpf.RunOptions{Data: s.bytes(x.t), DataOut: make([]byte, 4096)}
	x.Do(func() error {
		v, err := x.g.prog.Run(o)
		verdict = int32(v)
		return err
	})
	return verdict, o.DataOut
}

// What a client says while its connection is handed over goes to and fro between
// home and the other node until it is there, or its hops are used up.
func TestWhatIsEarlyGoesToAndFro(t *testing.T) {
	const owner = 7
	lo := &node{mac: make([]byte, 6)}
	there := &node{mac: net.HardwareAddr{2, 0, 0, 0, 0, 7}}
	client := &node{mac: net.HardwareAddr{2, 0, 0, 0, 0, 9}}
	for _, c := range []struct {
		name    string
		home    bool // at home, with a diversion to there; else there is home
		settled bool
		in      segment
		want    segment // of what is sent on: ttl and early
		dropped bool
	}{
		{name: "home sends it on with the mark", home: true, in: segment{from: client}, want: segment{ttl: 63, early: true}},
		{name: "and again when it comes back", home: true, in: segment{from: there, early: true, ttl: 40}, want: segment{ttl: 39, early: true}},
		{name: "and what the switch has brought there too early", home: true, in: segment{from: there}, want: segment{ttl: 63, early: true}},
		{name: "once more when its connection is there", home: true, settled: true, in: segment{from: there, early: true}, want: segment{ttl: 63}},
		{name: "but not what comes from there later", home: true, settled: true, in: segment{from: there}, dropped: true},
		{name: "later ones have no mark", home: true, settled: true, in: segment{from: client}, want: segment{ttl: 63}},
		{name: "even if the client has set it", home: true, settled: true, in: segment{from: client, early: true}, want: segment{ttl: 63}},
		{name: "the other node sends it back", in: segment{from: there, early: true}, want: segment{ttl: 63, early: true}},
		{name: "with so many hops at most", in: segment{from: there, early: true, ttl: 200}, want: segment{ttl: 64, early: true}},
		{name: "while it has enough to come again", in: segment{from: there, early: true, ttl: 3}, want: segment{ttl: 2, early: true}},
		{name: "and not after that", in: segment{from: there, early: true, ttl: 2}, dropped: true},
		{name: "and not without the mark", in: segment{from: there}, dropped: true},
		{name: "which is home's alone to give", in: segment{from: client, early: true}, want: segment{ttl: 63}},
	} {
		for _, f := range families {
			t.Run(f.name+": "+c.name, func(t *testing.T) {
				x := lone(t)
				x.open(Options{MaxDivert: 1024})
				err := x.g.SetHomes(map[netip.Addr]Home{f.session.Addr(): {MAC: there.mac, Self: c.home}})
				if c.home {
					err = errors.Join(err, x.g.Divert(stray(f), f.session, there.mac, owner))
				}
				if c.settled {
					err = errors.Join(err, x.g.Settle(stray(f), f.session, owner))
				}
				if err = errors.Join(err, x.g.SetPools([]netip.Prefix{f.pool})); err != nil {
					t.Fatal(err)
				}
				in := c.in
				in.to, in.src, in.dst, in.flags, in.payload = lo, stray(f), f.session, "A", "hello"
				verdict, sent := x.verdict(in)
				if c.dropped {
					if verdict != verdictDrop {
						t.Errorf("verdict %d, want that it is dropped", verdict)
					}
					return
				}
				want := in
				want.ttl, want.early = c.want.ttl, c.want.early
				if verdict != verdictRedirect || !bytes.Equal(sent[:6], there.mac) || !bytes.Equal(sent[14:], want.bytes(t)[14:]) {
					t.Errorf("verdict %d, to %v: sent on\n%x, want\n%x", verdict, net.HardwareAddr(sent[:6]), sent[14:], want.bytes(t)[14:])
				}
			})
		}
	}
}

// A socket that is being restored hears nothing yet.
func TestWhatComesBeforeASocketIsActivatedIsEarlyToo(t *testing.T) {
	lo := &node{mac: make([]byte, 6)}
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			n := newLAN(t, Options{MaxDivert: 1024})
			s := n.sessionAt(n.a, f)
			raw, err := s.server.SyscallConn()
			if err != nil {
				t.Fatal(err)
			}
			var state *tcprepair.State
			raw.Control(func(fd uintptr) {
				if err = tcprepair.Freeze(int(fd)); err == nil {
					state, err = tcprepair.Dump(int(fd))
				}
			})
			if err != nil {
				t.Fatal(err)
			}
			s.server.Close() // in silence
			var fd int
			n.b.Do(func() (err error) {
				fd, err = tcprepair.Restore(state)
				return err
			})
			t.Cleanup(func() { tcprepair.CloseSilently(fd) })
			for _, from := range []*node{n.client, n.a} {
				in := segment{from: from, to: lo, src: s.peer, dst: f.session, flags: "A"}
				want := in
				want.ttl, want.early = 63, true
				verdict, sent := n.b.verdict(in)
				if verdict != verdictRedirect || !bytes.Equal(sent[:6], n.a.mac) || !bytes.Equal(sent[14:], want.bytes(t)[14:]) {
					t.Errorf("before it is activated: verdict %d, to %v: sent on\n%x, want\n%x", verdict, net.HardwareAddr(sent[:6]), sent[14:], want.bytes(t)[14:])
				}
			}
			if err := tcprepair.Activate(fd, state); err != nil {
				t.Fatal(err)
			}
			for _, from := range []*node{n.client, n.a} {
				if verdict, _ := n.b.verdict(segment{from: from, to: lo, src: s.peer, dst: f.session, flags: "A"}); verdict != verdictNext {
					t.Errorf("after that: verdict %d, want that it is delivered", verdict)
				}
			}
		})
	}
}
