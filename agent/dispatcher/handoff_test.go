package dispatcher

import (
	"context"
	"crypto/sha256"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/shunt-sdn/shunt/internal/testnet"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// target is a server's agent that answers every import alike.
type target struct {
	shuntv1.UnimplementedTransferServiceServer
	node   string
	answer func(*shuntv1.Import) *shuntv1.ImportResult // nil: none
	mute   atomic.Bool                                 // answers no pings
	away   atomic.Bool                                 // answers no questions
	has    atomic.Bool                                 // has every session that it is asked for
	held   time.Duration                               // it says that it kept its answers back for so long

	mu      sync.Mutex
	imports []*shuntv1.Import
}

func (s *target) Transfer(stream grpc.BidiStreamingServer[shuntv1.TransferRequest, shuntv1.TransferResponse]) error {
	for {
		m, err := stream.Recv()
		if err != nil {
			return nil
		}
		var r *shuntv1.TransferResponse
		if i := m.GetImport(); i != nil {
			s.mu.Lock()
			s.imports = append(s.imports, i)
			s.mu.Unlock()
			result := s.answer(i)
			if result == nil {
				continue
			}
			result.Id = i.Id
			r = &shuntv1.TransferResponse{Message: &shuntv1.TransferResponse_Result{Result: result}, HeldUs: uint32(s.held.Microseconds())}
		} else if s.mute.Load() {
			continue
		} else {
			pong := &shuntv1.Pong{SentNano: m.GetPing().SentNano, ClockNano: int64(time.Hour)}
			r = &shuntv1.TransferResponse{Message: &shuntv1.TransferResponse_Pong{Pong: pong}}
		}
		if err := stream.Send(r); err != nil {
			return err
		}
	}
}

// Resolve answers, unless it has them all, that the session is not here, and never
// will be.
func (s *target) Resolve(context.Context, *shuntv1.ResolveRequest) (*shuntv1.ResolveResponse, error) {
	if s.away.Load() {
		return nil, status.Error(codes.Unavailable, "it is away")
	}
	if s.has.Load() {
		return &shuntv1.ResolveResponse{Resolution: shuntv1.Resolution_RESOLUTION_IMPORTED}, nil
	}
	return &shuntv1.ResolveResponse{Resolution: shuntv1.Resolution_RESOLUTION_ABSENT}, nil
}

func (s *target) received() []*shuntv1.Import {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.imports
}

// targets starts agents and links the bed to them.
func (b *bed) targets(targets ...*target) {
	b.t.Helper()
	endpoints := make(map[string]string)
	for _, s := range targets {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			b.t.Fatal(err)
		}
		g := grpc.NewServer()
		shuntv1.RegisterTransferServiceServer(g, s)
		served := make(chan struct{})
		go func() { defer close(served); g.Serve(l) }()
		b.t.Cleanup(func() { g.Stop(); <-served })
		endpoints[s.node] = l.Addr().String()
	}
	b.peers.Set(endpoints)
	for node := range endpoints {
		await(b.t, "the link to "+node, b.peers.Link(node).Ready)
	}
}

func refuses(*shuntv1.Import) *shuntv1.ImportResult {
	return &shuntv1.ImportResult{Outcome: shuntv1.ImportOutcome_IMPORT_OUTCOME_REFUSED, Reason: "no room"}
}

func imports(*shuntv1.Import) *shuntv1.ImportResult {
	return &shuntv1.ImportResult{Outcome: shuntv1.ImportOutcome_IMPORT_OUTCOME_IMPORTED}
}

func silent(*shuntv1.Import) *shuntv1.ImportResult { return nil }

// movable makes a server one that hand-offs may be begun to.
func movable(s Server) Server {
	s.MAC = net.HardwareAddr{2, 0, 0, 0, 0, 1}
	return s
}

// TestAHandoffThatIsTakenBackLeavesTheSessionWhole freezes and thaws a real
// connection, with the body's first octets in it.
func TestAHandoffThatIsTakenBackLeavesTheSessionWhole(t *testing.T) {
	testnet.NeedRoot(t)
	for _, c := range []struct {
		name   string
		answer func(*shuntv1.Import) *shuntv1.ImportResult
		reason string
	}{
		{"refused", refuses, "no room"},
		{"no answer", silent, "did not answer within 200ms"},
	} {
		t.Run(c.name, func(t *testing.T) {
			servers := []Server{movable(application(t, "server1")), movable(application(t, "server2"))}
			b := newBed(t, Service{Servers: servers}, nil)
			b.service.ImportTimeout = 200 * time.Millisecond
			b.set(b.service)
			one, two := &target{node: "server1", answer: c.answer}, &target{node: "server2", answer: c.answer}
			b.targets(one, two)

			conn := b.dial()
			head := "POST /a HTTP/1.1\r\nHost: web\r\nContent-Length: 100000\r\n\r\n"
			body := strings.Repeat("0123456789", 10_000)
			conn.say(head + body[:500])
			await(t, "a hand-off", func() bool { return len(one.received())+len(two.received()) > 0 })
			conn.say(body[500:]) // arrives at a frozen socket, or at a thawed one
			if status, got := conn.response(); status != 200 || got != fmt.Sprintf("100000 %x", sha256.Sum256([]byte(body))) {
				t.Errorf("%d %q", status, got)
			}
			if n, m := len(one.received()), len(two.received()); n != 1 || m != 1 {
				t.Errorf("%d and %d imports, want each server asked once", n, m)
			}
			b.checkTakenBack(conn, c.reason)
		})
	}
}

// besideOneThatIsAway makes a dispatcher and its only server's agent, which
// answers neither imports nor questions.
func besideOneThatIsAway(t *testing.T) (*bed, *target) {
	t.Helper()
	testnet.NeedRoot(t)
	b := newBed(t, Service{Servers: []Server{movable(application(t, "server1"))}}, nil)
	b.service.ImportTimeout = 50 * time.Millisecond
	b.service.SteerAfter = time.Second
	b.set(b.service)
	one := &target{node: "server1", answer: silent}
	one.away.Store(true)
	b.targets(one)
	return b, one
}

func TestAnAgentThatIsAwayForSecondsIsWaitedFor(t *testing.T) {
	b, one := besideOneThatIsAway(t)
	c := b.dial()
	c.SetDeadline(time.Now().Add(2 * deadline))
	time.AfterFunc(6*time.Second, func() { one.away.Store(false) })
	c.say(request)
	if status, got := c.response(); status != 200 || got != "server1 /a" {
		t.Errorf("%d %q", status, got)
	}
}

// die has a node die that is asked what became of a hand-off, and returns the record of
// that.
func (b *bed) die(node string) *shuntv1.Handoff {
	b.t.Helper()
	await(b.t, "the question", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return len(b.asking) == 1
	})
	b.NodeLost(node)
	await(b.t, "the end of the hand-off", func() bool {
		b.network.mu.Lock()
		defer b.network.mu.Unlock()
		return len(b.network.records) == 1
	})
	b.network.mu.Lock()
	defer b.network.mu.Unlock()
	return b.network.records[0]
}

func TestARequestThatADeadNodeCannotHaveAnsweredGoesToAnother(t *testing.T) {
	for _, c := range []struct {
		name, text string
		used       bool // the client has spoken since
		steered    bool
		lost       bool
	}{
		{name: "it can be repeated", text: request},
		{name: "it can be repeated, with an empty body", text: "PUT /a HTTP/1.1\r\nHost: web\r\nContent-Length: 0\r\n\r\n"},
		{name: "it cannot", text: "POST /a HTTP/1.1\r\nHost: web\r\nContent-Length: 0\r\n\r\n", lost: true},
		{name: "it has a body", text: "PUT /a HTTP/1.1\r\nHost: web\r\nContent-Length: 1\r\n\r\nx", lost: true},
		{name: "another follows it", text: request + "POST /a HTTP/1.1\r\nHost: web\r\nContent-Length: 0\r\n\r\n", lost: true},
		{name: "its client has spoken since", text: request, used: true, lost: true},
		{name: "its client may have spoken since", text: request, steered: true, lost: true},
	} {
		t.Run(c.name, func(t *testing.T) {
			b, _ := besideOneThatIsAway(t)
			b.network.used = c.used
			if c.steered {
				b.service.SteerAfter = 0
				b.set(b.service)
			}
			client := b.dial()
			client.say(c.text)
			r := b.die("server1")
			if c.lost {
				if r.Outcome != shuntv1.Outcome_OUTCOME_FAILED {
					t.Errorf("the hand-off: %v", r)
				}
				return
			}
			if r.Outcome != shuntv1.Outcome_OUTCOME_ROLLED_BACK || r.Reason != "server1 died before it answered" {
				t.Fatalf("the hand-off: %v", r)
			}
			// server1's application is not as dead as its node.
			if status, got := client.response(); status != 200 || got != "server1 /a" {
				t.Errorf("%d %q", status, got)
			}
		})
	}
}

func TestAHandoffToADeadNodeIsGivenUpAtOnceAndItsClientToldOnceItIsKnownToBeLost(t *testing.T) {
	b, one := besideOneThatIsAway(t)
	b.network.used = true
	c := b.dial()
	c.say(request)
	asks := func() int {
		b.mu.Lock()
		defer b.mu.Unlock()
		return len(b.asking)
	}
	await(t, "the question", func() bool { return asks() == 1 })
	b.NodeLost("server2")
	if asks() != 1 {
		t.Error("the loss of another node ended it")
	}
	b.NodeLost("server1")
	failed := func() bool {
		b.network.mu.Lock()
		defer b.network.mu.Unlock()
		return len(b.network.records) == 1 && b.network.records[0].Outcome == shuntv1.Outcome_OUTCOME_FAILED
	}
	await(t, "the end of the hand-off", failed)
	b.network.mu.Lock()
	if len(b.network.lost) != 0 {
		t.Errorf("lost, although its server may have it: %v", b.network.lost)
	}
	b.network.mu.Unlock()
	one.away.Store(false)
	want := fmt.Sprint(c.LocalAddr(), " of ", Owner("here-00000007-1"))
	await(t, "the loss", func() bool {
		b.network.mu.Lock()
		defer b.network.mu.Unlock()
		return len(b.network.lost) == 1 && b.network.lost[0] == want
	})
}

func (b *bed) settledOnce(client net.Addr) func() bool {
	want := fmt.Sprint(client, " of ", Owner("here-00000007-1"))
	return func() bool {
		b.network.mu.Lock()
		defer b.network.mu.Unlock()
		return len(b.network.settled) == 1 && b.network.settled[0] == want
	}
}

func TestADiversionIsSettledWhenTheSessionIsThere(t *testing.T) {
	testnet.NeedRoot(t)
	b := newBed(t, Service{Servers: []Server{movable(application(t, "server1"))}}, nil)
	b.targets(&target{node: "server1", answer: imports})
	c := b.dial()
	c.say(request)
	await(t, "the diversion is settled", b.settledOnce(c.LocalAddr()))
}

func TestADiversionIsSettledWhenTheSessionTurnsOutToBeThere(t *testing.T) {
	b, one := besideOneThatIsAway(t)
	b.network.used = true
	c := b.dial()
	c.say(request)
	b.die("server1")
	one.has.Store(true)
	one.away.Store(false)
	await(t, "the diversion is settled", b.settledOnce(c.LocalAddr()))
}

// The target's agent is new, and its session is over: it says that it never had it.
func TestASessionWhoseClientHasAnAnswerIsNotTakenBack(t *testing.T) {
	b, one := besideOneThatIsAway(t)
	b.network.used, b.network.answered = true, true
	c := b.dial()
	c.say(request)
	await(t, "the question", func() bool {
		b.mu.Lock()
		defer b.mu.Unlock()
		return len(b.asking) == 1
	})
	one.away.Store(false)
	await(t, "the diversion is settled", b.settledOnce(c.LocalAddr()))
	await(t, "the end of the hand-off", func() bool {
		b.network.mu.Lock()
		defer b.network.mu.Unlock()
		return len(b.network.records) == 1
	})
	b.network.mu.Lock()
	defer b.network.mu.Unlock()
	if r := b.network.records[0]; r.Outcome != shuntv1.Outcome_OUTCOME_COMPLETED || len(one.received()) != 1 {
		t.Errorf("%d imports, and the record %v", len(one.received()), r)
	}
}

// The time for which an answer was kept back is nobody's cost.
func TestARecordLeavesOutThatTheAnswerWasKeptBack(t *testing.T) {
	testnet.NeedRoot(t)
	const held = 300 * time.Millisecond
	b := newBed(t, Service{Servers: []Server{movable(application(t, "server1"))}}, nil)
	b.targets(&target{node: "server1", held: held, answer: func(i *shuntv1.Import) *shuntv1.ImportResult {
		<-time.After(held)
		return imports(i)
	}})
	b.dial().say(request)
	await(t, "the end of the hand-off", func() bool {
		b.network.mu.Lock()
		defer b.network.mu.Unlock()
		return len(b.network.records) == 1
	})
	b.network.mu.Lock()
	defer b.network.mu.Unlock()
	r := b.network.records[0]
	var steps time.Duration
	for _, s := range r.Steps {
		steps += time.Duration(s.DurationUs) * time.Microsecond
	}
	if took := time.Duration(r.TotalUs) * time.Microsecond; took > held || steps > held || r.AnswerHeldUs != uint32(held.Microseconds()) {
		t.Errorf("it took %v, %v in steps, and was held for %d µs", took, steps, r.AnswerHeldUs)
	}
}

func TestRecordsAreAwaited(t *testing.T) {
	testnet.NeedRoot(t)
	b := newBed(t, Service{Servers: []Server{movable(application(t, "server1"))}}, nil)
	b.AwaitRecords(deadline) // of none
	late := make(chan struct{})
	one := &target{node: "server1", answer: func(i *shuntv1.Import) *shuntv1.ImportResult {
		<-late
		return imports(i)
	}}
	b.targets(one)
	b.dial().say(request)
	await(t, "the hand-off", func() bool { return len(one.received()) == 1 })
	b.AwaitRecords(time.Millisecond)
	records := func() int {
		b.network.mu.Lock()
		defer b.network.mu.Unlock()
		return len(b.network.records)
	}
	if n := records(); n != 0 {
		t.Errorf("%d records before the hand-off is through", n)
	}
	close(late)
	b.AwaitRecords(deadline)
	if n := records(); n != 1 {
		t.Errorf("%d records when it is", n)
	}
}

func TestAnAgentThatStopsDoesNotAskForLong(t *testing.T) {
	b, one := besideOneThatIsAway(t)
	b.dial().say(request)
	await(t, "a hand-off", func() bool { return len(one.received()) > 0 })
	closed := make(chan struct{})
	go func() { defer close(closed); b.Close() }()
	select {
	case <-closed:
	case <-time.After(deadline):
		t.Fatal("it goes on asking")
	}
}

// checkTakenBack asserts what the guard and the controller heard of it.
func (b *bed) checkTakenBack(c *client, reason string) {
	b.t.Helper()
	b.network.mu.Lock()
	defer b.network.mu.Unlock()
	if len(b.network.diverted) != 1 {
		b.t.Errorf("diverted %v", b.network.diverted)
	}
	for client, n := range b.network.diverted {
		if client.String() != c.LocalAddr().String() || n != 0 {
			b.t.Errorf("%d diversions of %v are left", n, client)
		}
	}
	if len(b.network.steered)+len(b.network.settled) != 0 {
		b.t.Errorf("still steered: %v; settled: %v", b.network.steered, b.network.settled)
	}
	if len(b.network.records) != 2 {
		b.t.Fatalf("%d records, want 2", len(b.network.records))
	}
	for _, r := range b.network.records {
		if r.Outcome != shuntv1.Outcome_OUTCOME_ROLLED_BACK || !strings.Contains(r.Reason, reason) || r.FromNode != "here" || r.Service != "web" || r.TotalUs == 0 {
			b.t.Errorf("record %v", r)
		}
	}
	if client, local, err := b.network.records[0].Session.Ends(); err != nil || b.Moving(client, local) {
		b.t.Errorf("still moving, or %v", err)
	}
}

func TestNoHandoffIsBegunToAServerThatIsNotReady(t *testing.T) {
	s := application(t, "server1")
	s.Ready = false
	b := newBed(t, Service{Servers: []Server{movable(s), application(t, "server2")}}, nil)
	one, two := &target{node: "server1", answer: refuses}, &target{node: "server2", answer: refuses}
	b.targets(one, two) // server2 has no hardware address
	c := b.dial()
	c.say(request)
	if status, _ := c.response(); status != 200 {
		t.Errorf("status %d", status)
	}
	if len(one.received())+len(two.received()) != 0 {
		t.Error("a hand-off was begun")
	}
}
