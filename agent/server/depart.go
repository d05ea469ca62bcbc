package server

import (
	"net/netip"
)

// A Departure is a session that is being handed on to another server.
type Departure struct {
	// Origin is the hand-off by which it left its home, Hop how many came after
	// that one, with the one that is beginning.
	Origin string
	Hop    uint32

	s   *Server
	key session
	h   *held
}

// Depart begins to hand a session on: until Gone or Back, its end is not
// reported. It is nil if the session is not known by the hand-off id, as after
// a restart, or is moving already; then it has to stay.
func (s *Server) Depart(id string, client, local netip.AddrPort) *Departure {
	key := session{client, local}
	s.mu.Lock()
	defer s.mu.Unlock()
	h := s.sessions[key]
	if h == nil || h.moving || h.id == "" || h.id != id {
		return nil
	}
	if h.steer != nil {
		h.steer.Stop()
		h.steer = nil
	}
	h.moving = true
	h.hop++
	return &Departure{Origin: h.origin, Hop: h.hop, s: s, key: key, h: h}
}

// Gone ends it: another node has the session, or it is over and reported by who
// knows better.
func (d *Departure) Gone() {
	d.s.mu.Lock()
	defer d.s.mu.Unlock()
	if d.s.sessions[d.key] == d.h {
		d.s.remove(d.key)
	}
}

// Back ends it: the session stays here after all. It returns the hop by which
// it can be steered back.
func (d *Departure) Back() (hop uint32) {
	d.s.mu.Lock()
	d.h.moving = false
	d.h.hop++
	hop = d.h.hop
	over := d.h.gone && d.s.sessions[d.key] == d.h
	if over {
		d.s.remove(d.key)
	}
	d.s.mu.Unlock()
	if over {
		d.s.o.Ended(ended(d.key, d.h))
	}
	return hop
}
