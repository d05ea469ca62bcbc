package guard

import (
	"errors"
	"io"
	"testing"
	"time"

	"github.com/shunt-sdn/shunt/agent/sockdiag"
)

// ended makes a session on x that is over, the server having closed first: its
// socket is in TIME_WAIT, and the client has none.
func (n *lan) ended(x *node, f family) session {
	n.t.Helper()
	s := n.sessionAt(x, f)
	s.server.Close()
	io.Copy(io.Discard, s.client)
	s.client.Close()
	over := func() (over bool) {
		n.client.Do(func() error {
			_, err := sockdiag.Find(s.peer, f.session)
			over = errors.Is(err, sockdiag.ErrNotFound)
			return nil
		})
		x.Do(func() error {
			k, err := sockdiag.Find(f.session, s.peer)
			over = over && err == nil && k.State == sockdiag.TimeWait
			return nil
		})
		return over
	}
	for deadline := time.Now().Add(patience); !over(); {
		if time.Now().After(deadline) {
			n.t.Fatal("the session does not end")
		}
	}
	return s
}

func TestWhatComesToASocketInTimeWait(t *testing.T) {
	const dropped, delivered, sentHome = 0, 1, 2
	for _, c := range []struct {
		name    string
		segment segment
		want    int
	}{
		{"an ACK is dropped", segment{flags: "A"}, dropped},
		{"an ACK that Ethernet pads is dropped", segment{flags: "A", pad: true}, dropped},
		{"an ACK behind options is dropped", segment{flags: "A", options: true}, dropped},
		{"a FIN is delivered", segment{flags: "FA"}, delivered},
		{"a RST is delivered", segment{flags: "RA"}, delivered},
		{"a SYN with ACK is delivered", segment{flags: "SA"}, delivered},
		{"payload is sent home", segment{flags: "A", payload: "x"}, sentHome},
		{"payload with a FIN is sent home", segment{flags: "FA", payload: "x"}, sentHome},
		{"what is not even an ACK is delivered", segment{}, delivered},
	} {
		for _, f := range families {
			t.Run(f.name+": "+c.name, func(t *testing.T) {
				t.Parallel()
				n := newLAN(t, Options{MaxDivert: 1024})
				s := n.ended(n.b, f)
				before := n.b.counters()
				seg := c.segment
				seg.from, seg.to, seg.src, seg.dst = n.client, n.b, s.peer, f.session
				n.client.send(seg.bytes(t))
				for deadline := time.Now().Add(patience); ; {
					now := n.b.counters()
					// The client's kernel may have refused an answer already.
					d, t := now.DeliveredSocket-before.DeliveredSocket, now.DroppedTimeWait-before.DroppedTimeWait
					h := now.ReturnedHome - before.ReturnedHome
					if c.want == dropped && d == 0 && t == 1 && h == 0 || c.want == delivered && d > 0 && t == 0 && h == 0 ||
						c.want == sentHome && d == 0 && t == 0 && h == 1 {
						return
					}
					if time.Now().After(deadline) {
						n.t.Fatalf("node b counted %+v before and %+v after", before, now)
					}
				}
			})
		}
	}
}

// Payload that home sends on is the old session's.
func TestPayloadFromHomeToASocketInTimeWaitIsDelivered(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			n := newLAN(t, Options{MaxDivert: 1024})
			s := n.ended(n.b, f)
			before := n.b.counters()
			seg := segment{from: n.a, to: n.b, src: s.peer, dst: f.session, flags: "A", payload: "x"}
			n.a.send(seg.bytes(t))
			for deadline := time.Now().Add(patience); n.b.counters().DeliveredSocket == before.DeliveredSocket; {
				if time.Now().After(deadline) {
					t.Fatalf("node b counted %+v before and %+v after", before, n.b.counters())
				}
			}
		})
	}
}

// The client's last ACK and its FIN can change places while the switch changes
// the session's path.
func TestALateACKMakesNobodySendARST(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			n := newLAN(t, Options{MaxDivert: 1024})
			s := n.ended(n.b, f)
			seg := segment{from: n.client, to: n.b, src: s.peer, dst: f.session, flags: "A"}
			n.client.send(seg.bytes(t))
			// An answer is on its way to the client before that of a FIN is.
			seg.flags = "FA"
			n.client.send(seg.bytes(t))
			for deadline := time.Now().Add(patience); n.client.resets() == 0; {
				if time.Now().After(deadline) {
					t.Fatal("the client does not refuse the answer to its FIN")
				}
			}
			if got := n.client.resets(); got != 1 {
				t.Errorf("the client sent %d RSTs, want one, for the FIN", got)
			}
		})
	}
}
