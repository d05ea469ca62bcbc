package fabric

import (
	"errors"
	"net/netip"
	"testing"
	"time"
)

// alive wants Fabric.Alive's answer within a time.
func (r *rig) alive(node string, want bool, wantErr error, within time.Duration) {
	r.t.Helper()
	begun := time.Now()
	got, err := r.fabric.Alive(r.t.Context(), node)
	if got != want || !errors.Is(err, wantErr) {
		r.t.Errorf("%s is alive: %v, %v; want %v, %v", node, got, err, want, wantErr)
	}
	if took := time.Since(begun); took > within {
		r.t.Errorf("%s: that took %v", node, took)
	}
}

func (h *host) setLink(t *testing.T, up bool) {
	t.Helper()
	l, err := h.Link.LinkByName("eth0")
	if err != nil {
		t.Fatal(err)
	}
	change := h.Link.LinkSetDown
	if up {
		change = h.Link.LinkSetUp
	}
	if err := change(l); err != nil {
		t.Fatal(err)
	}
}

func TestANodeIsAliveAsLongAsItsKernelAnswers(t *testing.T) {
	for name, make := range map[string]func(*testing.T) *rig{
		"Open vSwitch": newRig,
		"simulated":    func(t *testing.T) *rig { return newSimRig(t, false) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := make(t)
			r.start(ExactFlow)
			r.alive("server1", true, nil, 2*time.Second)
			r.alive("nobody", false, ErrCannotTell, time.Second)
			r.hosts["server1"].setLink(t, false)
			r.alive("server2", true, nil, 2*time.Second)
			r.alive("server1", false, nil, 6*time.Second)
			r.hosts["server1"].setLink(t, true)
			eventually(t, "server1 answers again", func() error {
				if alive, err := r.fabric.Alive(t.Context(), "server1"); !alive || err != nil {
					return errors.Join(errors.New("it does not"), err)
				}
				return nil
			})
			r.sw.Kill()
			r.alive("server1", false, ErrCannotTell, 6*time.Second)
		})
	}
}

// Where the switch cannot be reached either, the node's silence says nothing.
func TestASwitchThatHangsTellsNothingOfNodes(t *testing.T) {
	t.Parallel()
	r := newRig(t)
	r.start(ExactFlow)
	goOn := r.ovs.Suspend()
	defer goOn()
	r.alive("server1", false, ErrCannotTell, 6*time.Second)
}

func TestAnInquiryIsDecidedByTheFirstAnswerOrByTheLastQuestion(t *testing.T) {
	n, now := newNeighbours(), t0
	both := []netip.Addr{anyHost, v6Host}
	n.pin(map[netip.Addr]int{anyHost: 0, v6Host: 0}, now)
	if n.askAnew(anyHost, now) {
		t.Error("a host that never answered is asked whether it is alive")
	}
	for _, a := range both {
		n.learn(a, 0, "p1", mustMAC(gwNodes), now)
	}
	now = now.Add(time.Second)
	begin := func() (since time.Time) {
		for _, a := range both {
			if !n.askAnew(a, now) {
				t.Fatalf("%v is not asked", a)
			}
		}
		return now
	}
	since := begin()
	q, _ := asked(n, &now, 2300*time.Millisecond)
	if len(q) != 2*asksBeforeGone {
		t.Errorf("%d questions, want %d for each address", len(q), asksBeforeGone)
	}
	if v, decided := n.verdict(both, since, now); decided {
		t.Errorf("decided %v before the last question's time is over", v)
	}
	asked(n, &now, 300*time.Millisecond)
	if v, decided := n.verdict(both, since, now); !decided || v.alive || v.err != nil {
		t.Errorf("%v, decided: %v; want dead", v, decided)
	}
	since = begin()
	asked(n, &now, 300*time.Millisecond)
	n.learn(v6Host, 0, "p1", mustMAC(gwNodes), now)
	if v, decided := n.verdict(both, since, now); !decided || !v.alive {
		t.Errorf("%v, decided: %v; want alive", v, decided)
	}
}
