package fabric

import (
	"bufio"
	"errors"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/shunt-sdn/shunt/controller/openflow"
	"github.com/shunt-sdn/shunt/controller/steering"
)

func TestASwitchThatIsAwayConcernsOnlyItsOwnClients(t *testing.T) {
	onPairs(t, func(t *testing.T, p *pair) {
		p.fabric.Replace(nil)
		taps := p.taps()
		f := families[0]
		p.hosts["dispatcher1"].serve(t, f.session)
		live, err := p.a.client.dial(f.vip)
		if err != nil {
			t.Fatal(err)
		}
		defer live.Close()
		rd := bufio.NewReader(live)
		if _, err := rd.ReadString('\n'); err != nil {
			t.Fatal(err)
		}
		echo := func(line string) {
			t.Helper()
			live.SetDeadline(time.Now().Add(5 * time.Second))
			fmt.Fprintln(live, line)
			if got, err := rd.ReadString('\n'); err != nil || got != line+"\n" {
				t.Errorf("the connection through the other switch: %q, %v", got, err)
			}
		}
		var kept, ended, late []Session
		for _, e := range p.edges() {
			for i, f := range e.families() {
				port := uint16(4000 + 100*e.n + 10*i)
				kept = append(kept, session(f, port, "server1"))
				ended = append(ended, session(f, port+2, "server2"))
				late = append(late, session(f, port+4, "server2"))
			}
		}
		for _, s := range append(kept, ended...) {
			p.steer(s)
		}
		p.b.sw.Kill()
		p.away(p.b)
		echo("the other switch is gone")
		for i, e := range []*edge{p.a, p.a, p.b, p.b} {
			switch err := p.told(late[i]); {
			case e == p.a && err != nil:
				t.Errorf("a session through the switch that is left: %v", err)
			case e == p.b && !errors.Is(err, steering.ErrNoSwitch):
				t.Errorf("a session through the switch that is away: %v", err)
			}
			for _, s := range []Session{kept[i], late[i]} {
				want := map[*edge]string{p.a: "switched to ", p.b: "diverted to "}[e] + s.Node
				if got := p.path(s); got != want {
					t.Errorf("the session of %v is %s, want %s", s.Client, got, want)
				}
				if e != p.a {
					continue
				}
				if got := p.at(taps, e, s, openflow.TCPAck); !strings.HasPrefix(got, s.Node) {
					t.Errorf("the session of %v is at %s", s.Client, got)
				}
			}
			p.fabric.End(ended[i].Client, ended[i].VIP)
		}
		p.a.holds(len(kept) + len(late))
		eventually(t, "the end of sessions is known", func() error {
			if n := p.device(p.a).sessions.Len(); n != len(kept)+len(late) {
				return fmt.Errorf("%d sessions are remembered", n)
			}
			return nil
		})
		p.b.sw.Resume()
		p.ready(p.b)
		echo("and it is back")
		p.b.holds(len(kept) + len(late))
		for i, e := range []*edge{p.a, p.a, p.b, p.b} {
			for _, s := range []Session{kept[i], late[i]} {
				eventually(t, "all sessions are switched", func() error {
					if got := p.path(s); got != "switched to "+s.Node {
						return fmt.Errorf("%v is %s", s.Client, got)
					}
					return nil
				})
				if got := p.at(taps, e, s, openflow.TCPAck); !strings.HasPrefix(got, s.Node) {
					t.Errorf("the session of %v is at %s", s.Client, got)
				}
			}
			if got := p.at(taps, e, ended[i], openflow.TCPAck); !strings.HasPrefix(got, "dispatcher1") {
				t.Errorf("the session of %v, which ended meanwhile, is at %s", ended[i].Client, got)
			}
		}
	})
}

// beyond is a session of a client that is on no link: it may be behind any switch.
func beyond(f family, port uint16, node string) Session {
	f.client = map[string]string{"IPv4": "192.0.2.9", "IPv6": "2001:db8::9"}[f.name]
	return session(f, port, node)
}

func TestAClientBehindARouterNeedsTheSwitchesThatAreThere(t *testing.T) {
	p := newPair(t, simConntrack, simFlows)
	p.start()
	p.fabric.Replace(nil)
	for i, f := range families {
		s := beyond(f, uint16(4000+i), "server1")
		p.steer(s)
		p.a.holds(i + 1)
		p.b.holds(i + 1)
	}
	p.b.sw.Kill()
	p.away(p.b)
	for i, f := range families {
		s := beyond(f, uint16(4100+i), "server2")
		p.steer(s)
		if got := p.path(s); got != "switched to server2" {
			t.Errorf("the session is %s", got)
		}
	}
	p.a.sw.Kill()
	p.away(p.a)
	s := beyond(families[0], 4200, "server1")
	if err := p.told(s); !errors.Is(err, steering.ErrNoSwitch) {
		t.Errorf("steering without a switch: %v", err)
	}
	if got := p.path(s); got != "diverted to server1" {
		t.Errorf("the session is %s", got)
	}
	p.b.sw.Resume()
	p.ready(p.b)
	p.b.holds(5)
	if got := p.path(s); got != "switched to server1" {
		t.Errorf("with one switch back, the session is %s", got)
	}
}

func TestASwitchThatHangsHoldsUpNoSessionOfTheOther(t *testing.T) {
	p := newPair(t, ovsFlows, ovsConntrack)
	c := p.config()
	c.EchoInterval, c.EchoTimeout = time.Hour, time.Hour // nobody notices
	p.startWith(c)
	goOn := p.b.rig.ovs.Suspend()
	defer goOn()
	for i, f := range p.a.families() {
		s := session(f, uint16(4000+i), "server1")
		p.steer(s)
		if got := p.path(s); got != "switched to server1" {
			t.Errorf("the session is %s", got)
		}
	}
}

func TestASwitchThatIsLostWhileItIsToldDoesNotCount(t *testing.T) {
	p := newPair(t, ovsFlows, ovsFlows)
	p.start()
	goOn := p.b.rig.ovs.Suspend()
	defer goOn()
	// It could be behind either. That one hangs is noticed after a while.
	p.steer(beyond(families[0], 4000, "server1"))
}

func TestASwitchThatIsBeingMadeReadyHoldsUpNoSession(t *testing.T) {
	p := newPair(t, simFlows, simConntrack)
	c := p.config()
	var stopped atomic.Pointer[time.Time] // where the clock stands still: patience is without end
	c.Clock = func() time.Time {
		if at := stopped.Load(); at != nil {
			return *at
		}
		return time.Now()
	}
	p.startWith(c)
	p.b.sw.Kill()
	p.away(p.b)
	slow := p.b.sw.(*sim)
	slow.cfg.Misbehaviour.SlowBarrier = time.Hour
	now := time.Now()
	stopped.Store(&now)
	slow.Resume()
	eventually(t, "the switch is connected", func() error {
		if s := p.fabric.Status()[p.b.n-1]; !s.Connected {
			return fmt.Errorf("%+v", s)
		}
		return nil
	})
	for i, f := range families {
		s := beyond(f, uint16(4000+i), "server1")
		p.steer(s)
		if got := p.path(s); got != "switched to server1" {
			t.Errorf("the session is %s", got)
		}
	}
}

func TestANodeIsAliveIfItAnswersOneOfTheSwitches(t *testing.T) {
	for name, k := range map[string]kind{"Open vSwitch": ovsFlows, "simulated": simFlows} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPair(t, k, k)
			p.start()
			ask := &rig{t: t, fabric: p.fabric}
			ask.alive("server1", true, nil, 2*time.Second)
			p.cut(p.b, true)
			ask.alive("server1", true, nil, 2*time.Second) // at once: not after the other's questions
			p.hosts["server2"].setLink(t, false)
			ask.alive("server2", false, nil, 6*time.Second)
			p.cut(p.a, true)
			ask.alive("server1", false, nil, 6*time.Second)
			p.cut(p.a, false)
			p.cut(p.b, false)
			ask.alive("server1", true, nil, 2*time.Second)
			p.b.sw.Kill()
			p.away(p.b)
			ask.alive("server1", true, nil, 2*time.Second)
			ask.alive("server2", false, nil, 6*time.Second)
			ask.alive("nobody", false, ErrCannotTell, time.Second)
			p.a.sw.Kill()
			p.away(p.a)
			ask.alive("server1", false, ErrCannotTell, time.Second)
		})
	}
}
