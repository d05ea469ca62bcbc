package control

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"google.golang.org/protobuf/proto"

	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

func TestSessionsAreListedOnceTheConfigurationIsApplied(t *testing.T) {
	var configured atomic.Bool
	c := startController(t)
	a := startAgent(t, c.addr, func(o *Options) {
		o.Config = func(*shuntv1.NodeConfig) { configured.Store(true) }
		o.Sync = func(context.Context, uint64) (*shuntv1.Sync, error) {
			if !configured.Load() {
				t.Error("the sessions were listed before the agent knew what a session is")
			}
			return &shuntv1.Sync{Sessions: []*shuntv1.HeldSession{{Session: session(1), Path: shuntv1.Path_PATH_PROXIED, ProxiedTo: "server2"}}}, nil
		}
	})
	s := c.attached(t)
	if h := s.next().GetHello(); h.GetNode() != "server1" || h.GetInstance() != 7 {
		t.Fatalf("Hello: %v", h)
	}
	if a.Connected() {
		t.Error("connected before the first configuration")
	}
	s.configure(1)
	sync := s.next().GetSync()
	if len(sync.GetSessions()) != 1 || sync.Query != 0 || sync.Sessions[0].ProxiedTo != "server2" {
		t.Fatalf("Sync: %v", sync)
	}
	if !a.Connected() {
		t.Error("not connected after the first configuration")
	}
}

func TestEveryConfigurationIsPassedOnInOrder(t *testing.T) {
	c := startController(t)
	a := startAgent(t, c.addr)
	s := c.attached(t)
	s.greeted()
	s.configure(2)
	s.configure(3)
	for want := uint64(1); want <= 3; want++ {
		if got := receive(t, a.configs, "a configuration").Version; got != want {
			t.Errorf("version %d, want %d", got, want)
		}
	}
}

func TestSteerIsConfirmedOnce(t *testing.T) {
	c := startController(t)
	a := startAgent(t, c.addr)
	s := c.attached(t)
	s.greeted()
	first, second := a.steer("a"), a.steer("b")
	for _, want := range []string{"a", "b"} {
		if m := s.next().GetSteer(); m.GetId() != want || m.GetToNode() != "server2" || !proto.Equal(m.Session, session(1)) {
			t.Fatalf("Steer: %v, want id %s", m, want)
		}
	}
	s.steerDone("unknown", "")
	s.steerDone("b", "no switch is connected")
	s.steerDone("a", "")
	s.steerDone("a", "again")
	if err := receive(t, first, "the outcome of a"); err != nil {
		t.Errorf("a: %v", err)
	}
	if err := receive(t, second, "the outcome of b"); err == nil || err.Error() != "no switch is connected" {
		t.Errorf("b: %v", err)
	}
	s.configure(2) // behind the repetition
	receive(t, a.configs, "the first configuration")
	receive(t, a.configs, "the second configuration")
	if len(first)+len(second) != 0 {
		t.Error("an outcome was told twice")
	}
}

func TestSteeringFailsWhenTheStreamBreaks(t *testing.T) {
	c := startController(t)
	a := startAgent(t, c.addr)
	s := c.attached(t)
	s.greeted()
	waiting := a.steer("a")
	for s.next().GetSteer().GetId() != "a" {
	}
	close(s.over)
	if err := receive(t, waiting, "the outcome"); !errors.Is(err, ErrDisconnected) {
		t.Errorf("got %v, want %v", err, ErrDisconnected)
	}
	// The next stream begins anew, and the old hand-off's confirmation is nobody's.
	s = c.attached(t)
	s.greeted()
	s.steerDone("a", "")
	again := a.steer("b")
	s.next()
	s.steerDone("b", "")
	if err := receive(t, again, "the outcome of b"); err != nil {
		t.Errorf("b: %v", err)
	}
	if len(waiting) != 0 {
		t.Error("an outcome was told twice")
	}
}

func TestSteeringFailsAtOnceWithoutAController(t *testing.T) {
	a := New(Options{})
	called := false
	a.Steer(&shuntv1.Steer{Id: "a"}, func(err error) {
		called = true
		if !errors.Is(err, ErrDisconnected) {
			t.Errorf("got %v", err)
		}
	})
	if !called {
		t.Error("the outcome was not told before Steer returned")
	}
}

func TestMessagesOfASessionKeepTheirOrder(t *testing.T) {
	c := startController(t)
	a := startAgent(t, c.addr)
	s := c.attached(t)
	s.greeted()
	a.Steer(&shuntv1.Steer{Id: "a", Session: session(1)}, func(error) {})
	a.Unsteer(&shuntv1.Unsteer{Id: "a", Session: session(1)})
	a.Handoff(handoff(1))
	a.Ended(&shuntv1.Ended{Id: "a", Session: session(1)})
	var got []string
	for range 4 {
		got = append(got, fmt.Sprintf("%T", s.next().Message))
	}
	want := "*shuntv1.AttachRequest_Steer *shuntv1.AttachRequest_Unsteer *shuntv1.AttachRequest_Handoff *shuntv1.AttachRequest_Ended"
	if strings.Join(got, " ") != want {
		t.Errorf("got %v, want %s", got, want)
	}
	a.stop()
}

func TestWhatIsLeftToSayIsSaidAtTheEnd(t *testing.T) {
	c := startController(t)
	a := startAgent(t, c.addr)
	s := c.attached(t)
	s.greeted()
	a.Handoff(handoff(1))
	a.Ended(&shuntv1.Ended{Id: "a", Session: session(1)})
	stopped := make(chan struct{})
	go func() { defer close(stopped); a.stop() }()
	if m := s.next(); m.GetHandoff().GetId() != "h1" {
		t.Errorf("got %v, want the record of the hand-off", m)
	}
	if m := s.next(); m.GetEnded().GetId() != "a" {
		t.Errorf("got %v, want the end of the session", m)
	}
	if m, err := s.Recv(); err != io.EOF {
		t.Errorf("got %v, %v, want the end", m, err)
	}
	close(s.over)
	receive(t, stopped, "the end of the agent")
}

func TestWhoAsksIsToldOfEverythingBefore(t *testing.T) {
	c := startController(t)
	var a *agent
	awaited := 0
	a = startAgent(t, c.addr, func(o *Options) {
		o.Await = func() {
			if awaited++; awaited == 2 {
				a.Handoff(handoff(3)) // it was almost through
			}
		}
	})
	s := c.attached(t)
	s.greeted()
	for query := range uint64(2) {
		a.Handoff(handoff(int(query) + 1))
		a.Ended(&shuntv1.Ended{Id: "a", Session: session(1)})
		s.say(&shuntv1.AttachResponse{Message: &shuntv1.AttachResponse_Snapshot{Snapshot: &shuntv1.SnapshotQuery{Query: query + 1}}})
		var got []string
		reported := false // last
		for {
			m := s.any()
			if m.GetSync() != nil {
				break
			}
			if reported = m.GetReport() != nil; !reported {
				got = append(got, strings.TrimPrefix(fmt.Sprintf("%T", m.Message), "*shuntv1.AttachRequest_")+m.GetHandoff().GetId())
			}
		}
		want := []string{"Handoffh1 Ended", "Handoffh2 Ended Handoffh3"}[query]
		if all := strings.Join(got, " "); all != want || !reported {
			t.Errorf("question %d: before the list of sessions came %s, want %s and a report", query+1, all, want)
		}
	}
}

func TestASnapshotCarriesItsQuerysNumber(t *testing.T) {
	c := startController(t)
	startAgent(t, c.addr)
	s := c.attached(t)
	s.greeted()
	for _, query := range []uint64{41, 42} {
		s.say(&shuntv1.AttachResponse{Message: &shuntv1.AttachResponse_Snapshot{Snapshot: &shuntv1.SnapshotQuery{Query: query}}})
	}
	for _, want := range []uint64{41, 42} {
		if m := s.next(); m.GetSync().GetQuery() != want {
			t.Errorf("got %v, want a Sync with the number %d", m, want)
		}
	}
}

func TestReleasesAndDeadNodesArePassedOn(t *testing.T) {
	c := startController(t)
	a := startAgent(t, c.addr)
	s := c.attached(t)
	s.greeted()
	s.say(&shuntv1.AttachResponse{Message: &shuntv1.AttachResponse_Release{Release: &shuntv1.Release{Session: session(5)}}})
	if got := receive(t, a.released, "the release"); !proto.Equal(got, session(5)) {
		t.Errorf("released %v, want %v", got, session(5))
	}
	s.say(&shuntv1.AttachResponse{Message: &shuntv1.AttachResponse_NodeLost{NodeLost: &shuntv1.NodeLost{Node: "server1"}}})
	if got := receive(t, a.dead, "the dead node"); got != "server1" {
		t.Errorf("node %s is dead, want server1", got)
	}
}

func TestReportsComeByThemselvesAndWhenAsked(t *testing.T) {
	var made atomic.Uint64
	c := startController(t)
	a := startAgent(t, c.addr, func(o *Options) {
		o.Report = func() *shuntv1.Report { return &shuntv1.Report{RequestsProxied: made.Add(1)} }
	})
	s := c.attached(t)
	s.greeted()
	a.ReportNow()
	for want := uint64(1); want <= 2; want++ {
		if m := s.any().GetReport(); m.GetRequestsProxied() != want {
			t.Errorf("got %v, want report number %d", m, want)
		}
	}
}

func TestAListThatCannotBeMadeIsMadeAgain(t *testing.T) {
	var calls atomic.Int32
	c := startController(t)
	startAgent(t, c.addr, func(o *Options) {
		o.Sync = func(context.Context, uint64) (*shuntv1.Sync, error) {
			if calls.Add(1) == 1 {
				return nil, errors.New("the kernel is busy")
			}
			return &shuntv1.Sync{}, nil
		}
	})
	first := c.attached(t)
	first.next()
	first.configure(1)
	c.attached(t).greeted()
}

func TestAnAgentWaitsForItsController(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	l.Close()
	a := startAgent(t, addr)
	a.Ended(&shuntv1.Ended{Session: session(1)}) // the next list of sessions tells it
	a.stop()
	if a.Connected() {
		t.Error("connected to nobody")
	}
}
