package server

import (
	"time"

	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// Most requests are over in a few milliseconds, and the switch then has nothing
// to gain from hearing of the session: its few packets take the diversion. So
// the switch is told only of sessions that go on living here.

// progress is where a session's sequence numbers stood when its socket had
// counted so many octets.
type progress struct {
	seq, ack        uint32 // what a segment of the client would have carried
	received, acked uint64
}

// steerLater has the session steered here if it still lives after a while.
func (s *Server) steerLater(key session, h *held, after time.Duration, p *progress) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sessions[key] == h {
		h.steer = time.AfterFunc(after, func() { s.steer(key, h, p) })
	}
}

func (s *Server) steer(key session, h *held, p *progress) {
	now, cookie, err := s.o.Counts(key.local, key.client)
	if err != nil || cookie != h.cookie {
		return // it ends this very moment
	}
	s.mu.Lock()
	live := s.sessions[key] == h && h.steer != nil
	h.steer = nil
	id, hop := h.id, h.hop
	s.mu.Unlock()
	if !live {
		return
	}
	s.o.Steer(&shuntv1.Steer{
		Id: id, Origin: h.origin, Hop: hop, Session: shuntv1.SessionOf(key.client, key.local), ToNode: s.o.Node,
		ClientSeq: p.seq + uint32(now.Received-p.received), ClientAck: p.ack + uint32(now.Acked-p.acked),
	}, func(err error) {
		if err != nil {
			s.o.Log.Debug("a session is not steered; its packets go on by way of its home", "id", id, "client", key.client, "err", err)
		}
	})
}
