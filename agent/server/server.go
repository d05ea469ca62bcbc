package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/netip"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/shunt-sdn/shunt/agent/attach"
	"github.com/shunt-sdn/shunt/agent/sockdiag"
	"github.com/shunt-sdn/shunt/agent/tcprepair"
	"github.com/shunt-sdn/shunt/agent/wire"
	"github.com/shunt-sdn/shunt/internal/workers"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// Options of a Server.
type Options struct {
	// Attachment of the service that takes sessions with a session address; nil:
	// none.
	Attachment func(service string, local netip.Addr) attach.Attachment
	// Undivert erases a diversion that this node's guard may have for a session
	// that comes to it.
	Undivert func(client, local netip.AddrPort) error
	// Await waits, at most for limit, until this node has closed its copy of a
	// session that it is handing off itself.
	Await func(client, local netip.AddrPort, limit time.Duration)
	// Held tells whether the kernel has a socket of the session.
	Held func(ctx context.Context, client, local netip.AddrPort) (bool, error)
	// Ended is told of the end of an imported session.
	Ended func(*shuntv1.Ended)
	// Steer asks for a session's packets to come to Node straight from the
	// switch. Its callback is told what came of it.
	Steer func(*shuntv1.Steer, func(error))
	// Counts reads the octets of a session's socket, and its cookie.
	Counts func(local, client netip.AddrPort) (sockdiag.Counts, uint64, error)
	Node   string // this one
	Log    *slog.Logger
}

const (
	keepVerdicts = 60 * time.Second
	maxImports   = 1024 // at work at once, per source

	// answerAfter is how long the answer to an import is kept back that went well. The
	// source only has to tidy up then, and would do so on the processors that the
	// application, or its client, needs to answer the request; and it does it for
	// several sessions at once where there are many.
	answerAfter = 2 * time.Millisecond
)

// Server imports sessions. It implements shuntv1.TransferServiceServer.
type Server struct {
	shuntv1.UnimplementedTransferServiceServer
	o      Options
	epoch  time.Time // zero of the clock that deadlines are given in
	ledger *ledger

	mu       sync.Mutex // guards what follows
	sessions map[session]*held
	byCookie map[uint64]session
}

type session struct{ client, local netip.AddrPort }

// held is a session's socket here.
type held struct {
	id     string // of the hand-off that brought it; empty: not known
	origin string // of the one by which it left its home
	hop    uint32 // how many came after that
	cookie uint64 // tells the sockets of a session apart: tuples are used again
	since  time.Time
	acked  uint64      // octets that the client has acknowledged that the socket did not send
	steer  *time.Timer // until it is steered; nil: somebody else does it, or did
	moving bool        // it is being handed on: see Depart
	gone   bool        // while moving: its socket is destroyed
	cutOff bool        // and was cut off
}

// New returns a server without sessions.
func New(o Options) *Server {
	return &Server{o: o, epoch: time.Now(), ledger: newLedger(keepVerdicts, time.Now), sessions: make(map[session]*held), byCookie: make(map[uint64]session)}
}

func (s *Server) clock() time.Duration { return time.Since(s.epoch) }

// Transfer serves one source.
func (s *Server) Transfer(stream grpc.BidiStreamingServer[shuntv1.TransferRequest, shuntv1.TransferResponse]) error {
	x := &source{s: s, stream: stream, era: s.ledger.present(), slots: make(chan struct{}, maxImports), ended: make(chan error, 1)}
	x.imports.Go(x.receive)
	select {
	case err := <-x.ended:
		x.imports.Close()
		return err
	case <-x.era:
		go x.imports.Close() // receiving ends when the stream does, which is after this
		return status.Error(codes.Aborted, "transfer: this node was given up; begin anew")
	}
}

// Renounce refuses what is on its way here: hand-offs that have not been activated,
// and whatever else comes by streams that are open now, which end. When it returns,
// sessions that are here come from before, or by streams that were opened since.
func (s *Server) Renounce() { s.ledger.renounce() }

// source is the stream of one.
type source struct {
	s       *Server
	stream  grpc.BidiStreamingServer[shuntv1.TransferRequest, shuntv1.TransferResponse]
	era     <-chan struct{}
	sending sync.Mutex
	imports workers.Pool
	slots   chan struct{} // one for each import that goes on
	ended   chan error    // why nothing more is received

	keeping sync.Mutex // guards what follows
	kept    []keptAnswer
}

// keptAnswer is one that is kept back.
type keptAnswer struct {
	result *shuntv1.ImportResult
	since  time.Time
}

// receive takes messages until there is an import, hands the stream on and sees
// to the import itself: no other goroutine has to wake up for it.
func (x *source) receive() {
	for {
		m, err := x.stream.Recv()
		if errors.Is(err, io.EOF) {
			err = nil
		} else if err == nil {
			switch m := m.Message.(type) {
			case *shuntv1.TransferRequest_Ping:
				x.send(&shuntv1.TransferResponse{Message: &shuntv1.TransferResponse_Pong{
					Pong: &shuntv1.Pong{SentNano: m.Ping.SentNano, ClockNano: int64(x.s.clock())}}})
				continue
			case *shuntv1.TransferRequest_Import:
				select {
				case x.slots <- struct{}{}:
					x.imports.Go(x.receive)
					r := x.s.importOnce(m.Import, x.era)
					<-x.slots
					x.answer(m.Import, r)
					return
				case <-x.stream.Context().Done():
					err = x.stream.Context().Err()
				}
			default:
				err = status.Errorf(codes.InvalidArgument, "transfer: a message of type %T is not known here", m)
			}
		}
		x.ended <- err
		return
	}
}

// answer sends the answer to an import, or keeps it back for a while. The source of
// one that was handed on has to close its copy before the session can come back.
func (x *source) answer(m *shuntv1.Import, r *shuntv1.ImportResult) {
	if r.Outcome != shuntv1.ImportOutcome_IMPORT_OUTCOME_IMPORTED || m.Hop > 0 {
		x.send(&shuntv1.TransferResponse{Message: &shuntv1.TransferResponse_Result{Result: r}})
		return
	}
	x.keeping.Lock()
	defer x.keeping.Unlock()
	x.kept = append(x.kept, keptAnswer{r, time.Now()})
	if len(x.kept) == 1 {
		x.imports.Go(x.sendKept)
	}
}

// sendKept sends the answers that are kept back, when it is time.
func (x *source) sendKept() {
	late := time.NewTimer(answerAfter)
	defer late.Stop()
	select {
	case <-late.C:
	case <-x.stream.Context().Done():
	}
	x.keeping.Lock()
	kept := x.kept
	x.kept = nil
	x.keeping.Unlock()
	for _, k := range kept {
		x.send(&shuntv1.TransferResponse{
			Message: &shuntv1.TransferResponse_Result{Result: k.result}, HeldUs: uint32(time.Since(k.since).Microseconds()),
		})
	}
}

func (x *source) send(m *shuntv1.TransferResponse) {
	x.sending.Lock()
	defer x.sending.Unlock()
	// An answer that cannot be sent is asked for: see Resolve.
	if err := x.stream.Send(m); err != nil {
		x.s.o.Log.Debug("an answer to a source was not sent", "err", err)
	}
}

// Resolve settles a hand-off whose answer was lost.
func (s *Server) Resolve(ctx context.Context, r *shuntv1.ResolveRequest) (*shuntv1.ResolveResponse, error) {
	client, local, err := r.Session.Ends()
	if err != nil || r.Id == "" {
		return nil, status.Errorf(codes.InvalidArgument, "resolve hand-off %q: %v", r.Id, err)
	}
	for {
		resolution, wait, err := s.ledger.resolve(r.Id, func() (bool, error) { return s.o.Held(ctx, client, local) })
		if err != nil {
			return nil, status.Errorf(codes.Internal, "resolve hand-off %s: %v", r.Id, err)
		}
		if wait == nil {
			return &shuntv1.ResolveResponse{Resolution: resolution}, nil
		}
		select {
		case <-wait:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

// importOnce imports a session, or repeats what it said of the hand-off before.
func (s *Server) importOnce(m *shuntv1.Import, era <-chan struct{}) *shuntv1.ImportResult {
	v, first := s.ledger.begin(m.Id, era)
	if !first {
		<-v.done
		return v.result
	}
	r := &shuntv1.ImportResult{Id: m.Id, Outcome: shuntv1.ImportOutcome_IMPORT_OUTCOME_IMPORTED}
	if err := s.take(m, v, r); err != nil {
		r.Outcome = shuntv1.ImportOutcome_IMPORT_OUTCOME_REFUSED
		r.Reason = err.Error()
		s.o.Log.Info("refused a session", "id", m.Id, "from", m.FromNode, "service", m.Service, "err", err)
	}
	return s.ledger.settle(v, r)
}

// take restores, activates and attaches. When it fails nothing of the session
// is left here and no packet of it was sent.
func (s *Server) take(m *shuntv1.Import, v *verdict, r *shuntv1.ImportResult) error {
	state, err := wire.State(m.Connection)
	if err != nil {
		return err
	}
	a := s.o.Attachment(m.Service, state.Local.Addr())
	switch {
	case a == nil:
		return fmt.Errorf("no application here answers service %q", m.Service)
	case !a.Ready():
		return fmt.Errorf("the application of service %q is not there", m.Service)
	}
	if err := s.o.Undivert(state.Remote, state.Local); err != nil {
		return err
	}
	s.o.Await(state.Remote, state.Local, time.Duration(m.DeadlineNano)-s.clock())
	begun := time.Now()
	fd, err := tcprepair.Restore(state)
	if err != nil {
		return err
	}
	restored := time.Now()
	cookie, err := tcprepair.Cookie(fd)
	if err != nil {
		return errors.Join(err, tcprepair.CloseSilently(fd))
	}
	expired := func() bool { return s.clock() > time.Duration(m.DeadlineNano) }
	if !s.ledger.activate(v, expired) {
		return errors.Join(fmt.Errorf("the time to import it is over"), tcprepair.CloseSilently(fd))
	}
	received, acked, err := tcprepair.Counts(fd)
	if err != nil {
		return errors.Join(err, tcprepair.CloseSilently(fd))
	}
	key := session{state.Remote, state.Local}
	h := &held{id: m.Id, origin: cmp.Or(m.Origin, m.Id), hop: m.Hop, cookie: cookie, since: begun, acked: acked}
	s.mu.Lock()
	s.put(key, h)
	r.Load = uint32(len(s.sessions))
	s.mu.Unlock()
	if err = s.attach(a, fd, state, m); err != nil {
		s.mu.Lock()
		if s.sessions[key] == h {
			s.remove(key)
		}
		s.mu.Unlock()
		return err
	}
	if m.SteerAfterMs > 0 {
		s.steerLater(key, h, time.Duration(m.SteerAfterMs)*time.Millisecond, &progress{
			seq: state.RcvSeq, ack: state.SndSeq - uint32(len(state.Unsent)) - uint32(len(state.Unacked)),
			received: received, acked: acked,
		})
	}
	r.RestoreUs = uint32(restored.Sub(begun).Microseconds())
	r.AttachUs = uint32(time.Since(restored).Microseconds())
	return nil
}

// attach activates the socket and gives it to the application. If the
// application does not take it, nothing was read or written, and the session is
// refused: the source still has all of it. Unless the kernel has acknowledged
// something to the client meanwhile, which the source has not; then the client
// has to be told that the connection is lost.
func (s *Server) attach(a attach.Attachment, fd int, state *tcprepair.State, m *shuntv1.Import) error {
	err := tcprepair.Activate(fd, state)
	if err != nil {
		s.lose(fd, m, state, fmt.Errorf("activate: %w", err))
		return nil
	}
	err = a.Attach(context.Background(), fd, attach.Meta{ID: m.Id, Service: m.Service, Client: state.Remote, Local: state.Local, VIP: vip(m),
		Idle: m.Hop > 0 && len(state.Received) == 0})
	if err == nil {
		return nil
	}
	err = fmt.Errorf("attach: %w", err)
	received := state.RcvSeq + 1
	if e := tcprepair.Freeze(fd); e != nil {
		err = errors.Join(err, e)
	} else if received, _, e = tcprepair.Progress(fd); e != nil {
		err = errors.Join(err, e)
	}
	if received == state.RcvSeq {
		return errors.Join(err, tcprepair.CloseSilently(fd))
	}
	s.lose(fd, m, state, err)
	return nil
}

// lose ends a session that neither this node nor the source can go on with: the
// client is told.
func (s *Server) lose(fd int, m *shuntv1.Import, state *tcprepair.State, err error) {
	s.o.Log.Error("a session was lost while it was taken over", "id", m.Id, "client", state.Remote, "err", err)
	if err := tcprepair.Reset(fd); err != nil {
		s.o.Log.Error("cannot reset a lost session", "id", m.Id, "err", err)
	}
}

// vip is what the client connected to; invalid if the source does not say.
func vip(m *shuntv1.Import) netip.AddrPort {
	v, err := m.Vip.AddrPort()
	if err != nil {
		return netip.AddrPort{}
	}
	return v
}

// SocketGone handles the kernel's word that a socket was destroyed. It is known
// by its cookie: one that was reset has lost its remote end by then.
// acked is what its client had acknowledged, octets; 0: not known. aborted: the
// connection was cut off.
func (s *Server) SocketGone(cookie, acked uint64, aborted bool) {
	s.mu.Lock()
	key, ok := s.byCookie[cookie]
	var h *held
	if ok {
		h = s.sessions[key]
		h.cutOff = aborted
		if h.moving {
			h.gone, ok = true, false
		} else {
			s.remove(key)
		}
	}
	s.mu.Unlock()
	if ok {
		m := ended(key, h)
		if acked > 0 && h.id != "" {
			m.Octets, m.LivedUs = acked-min(acked, h.acked), uint64(time.Since(h.since).Microseconds())
		}
		s.o.Ended(m)
	}
}

// put enters a session, in the place of one that had the same ends. s.mu is held.
func (s *Server) put(key session, h *held) {
	s.remove(key)
	s.sessions[key] = h
	s.byCookie[h.cookie] = key
}

// remove drops a session. s.mu is held.
func (s *Server) remove(key session) {
	h := s.sessions[key]
	if h == nil {
		return
	}
	if h.steer != nil {
		h.steer.Stop()
	}
	delete(s.byCookie, h.cookie)
	delete(s.sessions, key)
}

func ended(key session, h *held) *shuntv1.Ended {
	return &shuntv1.Ended{Id: h.id, Origin: h.origin, Session: shuntv1.SessionOf(key.client, key.local), Aborted: h.cutOff}
}

// Ends are the two ends of a session's socket.
type Ends struct{ Client, Local netip.AddrPort }

// Adopt takes the kernel's list of sockets for the truth: sessions that this
// process does not know are entered without a hand-off's name, and those that
// are gone are reported. listed is when the list was begun: it says nothing of
// younger sessions.
func (s *Server) Adopt(listed time.Time, sockets map[uint64]Ends) {
	var gone []*shuntv1.Ended
	s.mu.Lock()
	for key, h := range s.sessions {
		if _, ok := sockets[h.cookie]; !ok && h.since.Before(listed) && !h.moving {
			s.remove(key)
			gone = append(gone, ended(key, h))
		}
	}
	for cookie, ends := range sockets {
		key := session{ends.Client, ends.Local}
		if _, ok := s.sessions[key]; !ok {
			s.put(key, &held{cookie: cookie, since: listed})
		}
	}
	s.mu.Unlock()
	for _, g := range gone {
		s.o.Ended(g)
	}
}

// Sessions returns how many imported sessions are live.
func (s *Server) Sessions() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sessions)
}
