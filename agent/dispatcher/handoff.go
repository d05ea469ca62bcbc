package dispatcher

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"hash/fnv"
	"net/http"
	"runtime"
	"time"

	"github.com/shunt-sdn/shunt/agent/migration"
	"github.com/shunt-sdn/shunt/agent/peer"
	"github.com/shunt-sdn/shunt/agent/routing"
	"github.com/shunt-sdn/shunt/agent/tcprepair"
	"github.com/shunt-sdn/shunt/agent/wire"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

const (
	// askFor is how long after the deadline a target is asked: long enough for its
	// agent to be started again. askAtEnd is that of an agent that is stopping.
	askFor     = 30 * time.Second
	askAtEnd   = 4 * time.Second
	askEvery   = 50 * time.Millisecond
	watchFor   = 10 * time.Minute // how long a lost session's target is asked on
	watchEvery = time.Second
)

// onSocket runs f on the connection's descriptor.
func (s *session) onSocket(f func(fd int) error) error {
	var err error
	if e := s.raw.Control(func(fd uintptr) { err = f(int(fd)) }); e != nil {
		return e
	}
	return err
}

func (s *session) divert() {
	divert := s.d.o.Guard.Divert
	if s.onward == nil {
		divert = s.d.o.Guard.DivertUnanswered // only the head was looked at yet
	}
	// Without the diversion the hand-off is still right: the frozen copy is
	// deaf, and the server's guard returns what the switch sends there early.
	if err := divert(s.client, s.local, s.target.MAC, Owner(s.origin())); err != nil {
		s.d.o.Log.Error("cannot divert a session", "id", s.id, "err", err)
	}
	s.record.step("divert")
}

func (s *session) settle() {
	if err := s.d.o.Guard.Settle(s.client, s.local, Owner(s.origin())); err != nil {
		s.d.o.Log.Error("cannot settle a diversion", "id", s.id, "err", err)
	}
}

func (s *session) undivert() {
	if err := s.d.o.Guard.Undivert(s.client, s.local); err != nil {
		s.d.o.Log.Error("cannot end a diversion", "id", s.id, "err", err)
	}
}

// capture freezes and dumps the connection. What was on its way past the
// diversion when that began may still have reached the socket during the dump,
// so the dump stands only if nothing changed under it.
func (s *session) capture() (migration.Event, bool) {
	err := s.onSocket(func(fd int) error {
		if err := tcprepair.Freeze(fd); err != nil {
			return err
		}
		s.record.step("freeze")
		for range 3 {
			state, err := tcprepair.Dump(fd)
			if err != nil {
				return err
			}
			same, err := state.Unchanged(fd)
			if err != nil {
				return err
			}
			if same {
				if s.onward != nil && s.onward.Idle && (len(state.Received) > 0 || state.FinReceived) {
					return errNotIdle
				}
				s.state = state
				return nil
			}
		}
		return fmt.Errorf("%w: it goes on changing", tcprepair.ErrUnsupportedState)
	})
	s.record.step("dump")
	if err == nil {
		return migration.Captured, true
	}
	s.record.abandon()
	if errors.Is(err, tcprepair.ErrUnsupportedState) && s.dead() {
		return migration.ClientGone, true
	}
	if errors.Is(err, errNotIdle) {
		s.reason = err.Error()
		return migration.Uncapturable, true
	}
	s.d.o.Log.Info("a connection cannot be moved; proxying it", "id", s.id, "client", s.client, "err", err)
	s.proxyTo = s.choice
	return migration.Uncapturable, true
}

// dead tells whether the kernel has given the connection up.
func (s *session) dead() bool {
	var dead bool
	err := s.onSocket(func(fd int) error {
		state, err := tcprepair.TCPState(fd)
		dead = state == tcprepair.StateClose
		return err
	})
	return err != nil || dead
}

func (s *session) offer() (migration.Event, bool) {
	m := &shuntv1.Import{
		Id: s.id, Service: s.service.Name, FromNode: s.d.o.Node, Connection: wire.Connection(s.state), Vip: shuntv1.EndpointOf(s.service.vip),
		SteerAfterMs: uint32(s.steerAfter().Milliseconds()),
	}
	m.Origin, m.Hop = s.lineage()
	s.deadline = time.Now().Add(s.service.ImportTimeout)
	var err error
	s.answers, err = s.link.Import(m, s.service.ImportTimeout)
	// The transport writes it before what follows here: it yields once itself, to
	// whoever has more to send.
	runtime.Gosched()
	runtime.Gosched()
	s.record.step("send")
	switch {
	case err == nil:
		return 0, false
	case errors.Is(err, peer.ErrNotReady):
		s.reason = err.Error()
		return migration.Refused, true
	default:
		s.reason = err.Error()
		return migration.LinkLost, true
	}
}

// Owner is how the guard is told whose a diversion is: that of the hand-off by
// which the session left its home. Never 0.
func Owner(origin string) uint64 {
	h := fnv.New64a()
	h.Write([]byte(origin))
	return h.Sum64() | 1
}

func (s *session) origin() string {
	origin, _ := s.lineage()
	return origin
}

// lineage is the hand-off by which the session left its home, and how many came
// after that.
func (s *session) lineage() (origin string, hop uint32) {
	if s.onward != nil {
		return s.onward.Origin, s.onward.Hop
	}
	return s.id, 0
}

// largeBody is a request body, in octets, whose rest is worth steering at once.
const largeBody = 64 << 10

// steerAfter is when the session is steered: 0: now, by this node; otherwise by
// its server, if it lives that long. What is known to live long, or to send
// much, is steered now.
func (s *session) steerAfter() time.Duration {
	h := &s.head
	if s.onward != nil || h.ContentLength > largeBody || h.Chunked || h.ExpectContinue || h.Upgrade {
		return 0
	}
	return s.service.SteerAfter
}

func (s *session) unsteer() {
	if s.onward != nil {
		s.steerBack()
		return
	}
	if s.steered {
		s.d.o.Controller.Unsteer(&shuntv1.Unsteer{Id: s.id, Session: shuntv1.SessionOf(s.client, s.local)})
	}
}

func (s *session) steer() {
	if s.steerAfter() >= time.Millisecond {
		return
	}
	r, begun := s.record, time.Now()
	r.expect()
	s.steered = true
	origin, hop := s.lineage()
	s.d.o.Controller.Steer(&shuntv1.Steer{
		Id: s.id, Origin: origin, Hop: hop, Session: shuntv1.SessionOf(s.client, s.local), ToNode: s.target.Node,
		ClientSeq: s.state.RcvSeq, ClientAck: s.state.SndSeq - uint32(len(s.state.Unsent)),
	}, func(err error) {
		if err == nil {
			r.add("steer", time.Since(begun))
		}
		r.done(s.d.o.Controller)
	})
}

// await waits for the target's answer.
func (s *session) await() migration.Event {
	late := time.NewTimer(time.Until(s.deadline))
	defer late.Stop()
	select {
	case a := <-s.answers:
		return s.answered(a)
	case <-late.C:
		s.reason = fmt.Sprintf("%s did not answer within %v", s.target.Node, s.service.ImportTimeout)
		return migration.DeadlineOver
	}
}

func (s *session) answered(a peer.Answer) migration.Event {
	switch {
	case a.Result == nil:
		s.reason = "the link to " + s.target.Node + " was lost"
		return migration.LinkLost
	case a.Result.Outcome == shuntv1.ImportOutcome_IMPORT_OUTCOME_IMPORTED:
		s.record.imported(a.Result, a.Held)
		if load := a.Result.Load; load > 0 {
			s.d.o.Policy.State().Took(s.target.Node, int(load))
		}
		return migration.Imported
	default:
		s.reason = a.Result.Reason
		return migration.Refused
	}
}

// errNodeDead ends the questions to a node.
var errNodeDead = errors.New("the node is dead")

// ask settles with the target what became of the hand-off. It gives up if the
// target's node is dead.
func (s *session) ask() (migration.Event, bool) {
	defer s.link.Forget(s.id)
	ctx, stop := context.WithDeadline(context.Background(), s.deadline.Add(askFor))
	defer stop()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer s.d.asks(s.target.Node, func() { cancel(errNodeDead) })()
	defer context.AfterFunc(s.d.ctx, func() { time.AfterFunc(time.Until(s.deadline.Add(askAtEnd)), stop) })()
	tick := time.NewTicker(askEvery)
	defer tick.Stop()
	for {
		r, err := s.link.Resolve(ctx, s.id, shuntv1.SessionOf(s.client, s.local))
		switch {
		case err != nil:
		case r == shuntv1.Resolution_RESOLUTION_IMPORTED:
			s.record.imported(nil, 0)
			return migration.Imported, true
		case s.answeredThere():
			// Its session is over, and its agent was started anew since.
			s.record.imported(nil, 0)
			return migration.Imported, true
		default:
			return migration.Refused, true
		}
		select {
		case <-ctx.Done():
			if context.Cause(ctx) == errNodeDead && s.unanswered() {
				s.reason = s.target.Node + " died before it answered"
				return migration.Refused, true
			}
			return migration.Unreachable, true
		case <-tick.C:
		}
	}
}

// unanswered tells whether a session whose target's node is dead can go on here
// as if it had never left: the client has had nothing from there, and the
// request may be answered by another although that one may have begun to (RFC 9110,
// 9.2.2). A client acknowledges what it gets, and, as the session is neither
// settled nor steered, by way of this node. Had the target had it steered, the
// controller would have had the diversion released before it said that the node is dead.
func (s *session) unanswered() bool {
	h := &s.head
	if s.onward != nil || s.steered || !idempotent(h.Method) || h.ContentLength > 0 || h.Chunked {
		return false
	}
	if len(s.state.Received) != h.Length || len(s.state.Unacked)+len(s.state.Unsent) > 0 {
		return false // another request follows, or an answer precedes
	}
	unused, err := s.d.o.Guard.Unused(s.client, s.local, Owner(s.origin()))
	if err != nil {
		s.d.o.Log.Error("cannot tell whether a client has been answered", "id", s.id, "err", err)
	}
	return unused
}

// answeredThere tells whether the client is known to have an answer, which can only be
// the target's, whatever that one says.
func (s *session) answeredThere() bool {
	if s.onward != nil {
		return false
	}
	is, err := s.d.o.Guard.Answered(s.client, s.local, Owner(s.origin()), s.state.SndSeq)
	if err != nil {
		s.d.o.Log.Error("cannot tell whether a client has been answered", "id", s.id, "err", err)
	}
	return is
}

// idempotent tells whether a request may be carried out twice (RFC 9110, 9.2.2).
func idempotent(method string) bool {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodOptions, http.MethodTrace, http.MethodPut, http.MethodDelete:
		return true
	}
	return false
}

// thaw lets the connection go on here. The window probe has the client say what
// it has, should an acknowledgement have been dropped meanwhile.
func (s *session) thaw() (migration.Event, bool) {
	if err := s.onSocket(func(fd int) error { return tcprepair.Thaw(fd, true) }); err != nil {
		s.d.o.Log.Error("cannot thaw a connection", "id", s.id, "client", s.client, "err", err)
	}
	return 0, false
}

// closeCopy closes the frozen copy; nothing is sent. What the kernel accepted on
// it since the dump would be lost, hence the last look.
func (s *session) closeCopy() {
	err := s.onSocket(func(fd int) error {
		if s.state != nil {
			if same, err := s.state.Unchanged(fd); err == nil && !same {
				s.d.o.Log.Error("a frozen connection received data; its client will stall", "id", s.id, "client", s.client)
			}
		}
		if err := tcprepair.Freeze(fd); err != nil {
			return err
		}
		return tcprepair.Vanish(fd)
	})
	if err != nil {
		s.d.o.Log.Debug("closing a copy that is not frozen", "id", s.id, "err", err)
	}
	s.close()
	s.record.step("close")
}

func (s *session) finish(o shuntv1.Outcome) {
	if o == shuntv1.Outcome_OUTCOME_COMPLETED {
		if s.rule != nil && s.rule.Learns() {
			s.d.learnLater(s.id, learning{s.rule, s.choice, time.Since(s.record.begun) - s.record.held})
		}
		s.observe(s.choice, routing.HandedOff, "")
	} else {
		s.observe(s.choice, routing.HandedOff, cmp.Or(s.reason, "the hand-off failed"))
	}
	s.record.outcome(o, s.reason)
	s.record.done(s.d.o.Controller)
}

// watch asks a lost session's target on until it answers. If the target never
// had the session, packets come here again. At home the client is told then;
// elsewhere the guard sends home what the client says.
func (s *session) watch() {
	a, client, local, home, owner := s.attempt, s.client, s.local, s.onward == nil, Owner(s.origin())
	s.d.wg.Go(func() {
		ctx, cancel := context.WithTimeout(s.d.ctx, watchFor)
		defer cancel()
		tick := time.NewTicker(watchEvery)
		defer tick.Stop()
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			r, err := a.link.Resolve(ctx, a.id, shuntv1.SessionOf(client, local))
			switch {
			case err != nil:
			case r == shuntv1.Resolution_RESOLUTION_IMPORTED:
				s.d.o.Log.Info("a hand-off that was given up had completed", "id", a.id, "client", client, "to", a.target.Node)
				if err := s.d.o.Guard.Settle(client, local, owner); err != nil {
					s.d.o.Log.Error("cannot settle a diversion", "id", a.id, "err", err)
				}
				return
			default:
				s.d.o.Controller.Unsteer(&shuntv1.Unsteer{Id: a.id, Session: shuntv1.SessionOf(client, local)})
				if home {
					s.d.o.Lost(client, local, owner)
				} else if err := s.d.o.Guard.Release(client, local, owner); err != nil {
					s.d.o.Log.Error("cannot end a diversion", "id", a.id, "err", err)
				}
				return
			}
		}
	})
}
