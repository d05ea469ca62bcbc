package peer

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// target is an agent whose answers the test decides.
type target struct {
	shuntv1.UnimplementedTransferServiceServer
	clock   time.Duration // its clock, as it stands
	imports chan *shuntv1.Import
	answers chan *shuntv1.TransferResponse
	mute    atomic.Bool // answers no pings
}

func (s *target) Transfer(stream grpc.BidiStreamingServer[shuntv1.TransferRequest, shuntv1.TransferResponse]) error {
	requests := make(chan *shuntv1.TransferRequest)
	go func() {
		defer close(requests)
		for {
			m, err := stream.Recv()
			if err != nil {
				return
			}
			requests <- m
		}
	}()
	for {
		select {
		case m, ok := <-requests:
			if !ok {
				return nil
			}
			if i := m.GetImport(); i != nil {
				s.imports <- i
			} else if !s.mute.Load() {
				pong := &shuntv1.Pong{SentNano: m.GetPing().SentNano, ClockNano: int64(s.clock)}
				stream.Send(&shuntv1.TransferResponse{Message: &shuntv1.TransferResponse_Pong{Pong: pong}})
			}
		case a := <-s.answers:
			if a == nil {
				return errors.New("the stream breaks")
			}
			stream.Send(a)
		}
	}
}

func (s *target) Resolve(context.Context, *shuntv1.ResolveRequest) (*shuntv1.ResolveResponse, error) {
	return &shuntv1.ResolveResponse{Resolution: shuntv1.Resolution_RESOLUTION_ABSENT}, nil
}

func start(t *testing.T, s *target) *Pool {
	t.Helper()
	s.imports, s.answers = make(chan *shuntv1.Import, 1), make(chan *shuntv1.TransferResponse)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	g := grpc.NewServer()
	shuntv1.RegisterTransferServiceServer(g, s)
	served := make(chan struct{})
	go func() { defer close(served); g.Serve(l) }()
	p := NewPool(insecure.NewCredentials(), slog.New(slog.NewTextHandler(io.Discard, nil)))
	p.Set(map[string]string{"server1": l.Addr().String()})
	t.Cleanup(func() {
		p.Close()
		g.Stop()
		<-served
		goleak.VerifyNone(t)
	})
	return p
}

func await(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !f(); {
		if time.Now().After(end) {
			t.Fatalf("not in time: %s", what)
		}
		<-time.After(time.Millisecond)
	}
}

func TestAnImportAndItsAnswer(t *testing.T) {
	before := time.Now()
	s := &target{clock: time.Hour} // it stands: what passes here is no deadline's gain
	p := start(t, s)
	l := p.Link("server1")
	await(t, "the link is ready", l.Ready)
	answers, err := l.Import(&shuntv1.Import{Id: "h"}, time.Second)
	if err != nil {
		t.Fatal(err)
	}
	got := <-s.imports
	if d, most := time.Duration(got.DeadlineNano), time.Hour+time.Since(before)+time.Second; got.Id != "h" || d > most || d < most-time.Minute {
		t.Errorf("import %q with deadline %v, want just under %v", got.Id, d, most)
	}
	s.answers <- &shuntv1.TransferResponse{Message: &shuntv1.TransferResponse_Result{Result: &shuntv1.ImportResult{Id: "h", Reason: "full"}}, HeldUs: 1500}
	if a := <-answers; a.Result.GetReason() != "full" || a.Held != 1500*time.Microsecond {
		t.Errorf("answer %v", a)
	}
	r, err := l.Resolve(t.Context(), "h", nil)
	if err != nil || r != shuntv1.Resolution_RESOLUTION_ABSENT {
		t.Errorf("resolve: %v, %v", r, err)
	}
}

func TestANodeThatOwesAnAnswerIsNotFresh(t *testing.T) {
	s := &target{}
	l := start(t, s).Link("server1")
	await(t, "the node answers", l.Fresh)
	s.mute.Store(true)
	await(t, "the node is overdue", func() bool { return !l.Fresh() })
	s.mute.Store(false)
	await(t, "the node answers again", l.Fresh)
}

func TestANodeThatIsSilentAboutAHandoffIsNotFresh(t *testing.T) {
	s := &target{}
	l := start(t, s).Link("server1")
	await(t, "the node answers", l.Fresh)
	answers, err := l.Import(&shuntv1.Import{Id: "h"}, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	await(t, "the node is silent between two pings", func() bool { return !l.Fresh() })
	<-s.imports
	s.answers <- &shuntv1.TransferResponse{Message: &shuntv1.TransferResponse_Result{Result: &shuntv1.ImportResult{Id: "h"}}}
	<-answers
	if !l.Fresh() {
		t.Error("not fresh although it has answered")
	}
}

func TestABrokenStreamEndsEveryWait(t *testing.T) {
	s := &target{}
	p := start(t, s)
	l := p.Link("server1")
	await(t, "the link is ready", l.Ready)
	answers, err := l.Import(&shuntv1.Import{Id: "h"}, time.Minute)
	if err != nil {
		t.Fatal(err)
	}
	<-s.imports
	s.mute.Store(true)
	s.answers <- nil
	if a := <-answers; a.Result != nil {
		t.Errorf("answer %v", a)
	}
	if _, err := l.Import(&shuntv1.Import{Id: "i"}, time.Minute); !errors.Is(err, ErrNotReady) {
		t.Errorf("import without a clock: %v", err)
	}
	s.mute.Store(false)
	await(t, "the link is back", l.Ready)
}

func TestSetClosesLinksThatAreNotWanted(t *testing.T) {
	p := start(t, &target{})
	await(t, "the link is ready", p.Link("server1").Ready)
	p.Set(nil)
	if p.Link("server1") != nil {
		t.Error("still linked")
	}
}

// A deadline may be early by as much as the ping took, but never late.
func TestADeadlineIsNeverLateOnTheTargetsClock(t *testing.T) {
	for _, ahead := range []time.Duration{-time.Hour, 0, time.Hour} {
		var o offset
		for i, delay := range []time.Duration{5, 1, 9, 3} {
			sent := time.Duration(i) * time.Second
			for _, there := range []time.Duration{0, delay / 2, delay} { // when the target looked at its clock
				o.add(sent+there*time.Millisecond+ahead, sent+delay*time.Millisecond)
			}
		}
		at := 10 * time.Second
		if d, most := o.deadline(at), at+ahead; d > most || d < most-10*time.Millisecond {
			t.Errorf("target %v ahead: deadline %v, want at most %v", ahead, d, most)
		}
	}
}
