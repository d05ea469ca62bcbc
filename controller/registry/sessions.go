package registry

import (
	"errors"
	"fmt"
	"iter"
	"time"
)

// maxSessions bounds the table: about 400 octets each.
const maxSessions = 1 << 20

// maxEarly bounds how many ends are remembered that came before their Steer.
const maxEarly = 1 << 16

// ErrFull means that no more sessions are steered; they stay diverted.
var ErrFull = errors.New("too many sessions")

// Sessions is the table of sessions that are not at home: the ones that the
// switch has to steer. It is not safe for concurrent use: its owner has to
// perform the effects of one call before the next call.
//
// Agents' messages reach it over separate streams, so the end of a session may
// arrive before the Steer that brought it to the node; a node's list of
// sessions settles every such doubt.
type Sessions struct {
	timing  Timing
	limit   int  // of the table
	started bool // effects go to the switch: Start was called
	table   map[Key]*entry
	nodes   map[string]*holder
	early   map[string]time.Time // hand-offs whose session ended before their Steer came
	linger  []lingering          // in order of time
}

type entry struct {
	Session
	since    time.Time // of the steering
	ending   bool
	released bool // its home has forgotten the diversion
}

// holder is a node that is away or has sessions.
type holder struct {
	sessions map[Key]*entry
	away     time.Time // since when; zero: it is here
	verify   time.Time // when to ask for a list; zero: not at all
}

type lingering struct {
	at time.Time
	e  *entry
}

// NewSessions returns an empty table.
func NewSessions(t Timing) *Sessions {
	return &Sessions{
		timing: t,
		limit:  maxSessions,
		table:  make(map[Key]*entry),
		nodes:  make(map[string]*holder),
		early:  make(map[string]time.Time),
	}
}

// Steer notes that a hand-off sends s to s.Node. If that is its home, the
// session is not steered any more. There are no effects if a later hand-off of
// the same session was noted before: the nodes that it passes through speak
// over different streams. The error wraps ErrFull.
func (t *Sessions) Steer(now time.Time, s Session) ([]Effect, error) {
	old := t.table[s.Key()]
	if old != nil && s.Origin != "" && old.Origin == s.Origin && s.Hop < old.Hop {
		return nil, nil
	}
	if old == nil && len(t.table) >= t.limit {
		return nil, fmt.Errorf("steer session of %v: %w, the controller tracks at most %d", s.Client, ErrFull, t.limit)
	}
	if old != nil {
		t.drop(old)
	}
	if s.Node == s.Home {
		home := s
		home.ID = ""
		return []Effect{{Action: Unsteer, Session: home}}, nil
	}
	e := t.put(now, s)
	effects := []Effect{{Action: Steer, Session: s}}
	if _, ended := t.early[s.ID]; ended {
		delete(t.early, s.ID)
		effects = append(effects, t.end(now, e)...)
	}
	return effects, nil
}

func (t *Sessions) put(now time.Time, s Session) *entry {
	e := &entry{Session: s, since: now}
	t.table[s.Key()] = e
	h := t.holder(s.Node)
	h.sessions[s.Key()] = e
	if h.verify.IsZero() {
		h.verify = now.Add(t.timing.Audit)
	}
	return e
}

func (t *Sessions) drop(e *entry) {
	if t.table[e.Key()] != e {
		return
	}
	delete(t.table, e.Key())
	h := t.nodes[e.Node]
	delete(h.sessions, e.Key())
	t.tidy(e.Node, h)
}

func (t *Sessions) holder(node string) *holder {
	h := t.nodes[node]
	if h == nil {
		h = &holder{sessions: make(map[Key]*entry)}
		t.nodes[node] = h
	}
	return h
}

// tidy forgets a holder about which there is nothing to know.
func (t *Sessions) tidy(node string, h *holder) {
	if len(h.sessions) == 0 && h.away.IsZero() {
		delete(t.nodes, node)
	}
}

// verify brings a node's next list forward to at.
func (t *Sessions) verify(node string, at time.Time) {
	if h := t.nodes[node]; h != nil && (h.verify.IsZero() || at.Before(h.verify)) {
		h.verify = at
	}
}

// Unsteer notes that the hand-off id was taken back. The effect is demanded
// even if the table does not have the hand-off: the switch may.
func (t *Sessions) Unsteer(s Session) []Effect {
	if e := t.table[s.Key()]; e != nil && (e.ID == s.ID || e.ID == "") {
		t.drop(e)
	}
	return []Effect{{Action: Unsteer, Session: s}}
}

// Ended notes that the socket that the hand-off s.ID brought to s.Node is gone;
// the id is empty if the agent was restarted since. For a session that is
// elsewhere by now it means nothing. One that was never steered, because it was
// over so soon, leaves a diversion at its home.
//
// The diversion of one that was cut off goes at once: nobody has to see its last
// packets, and its home's kernel is to answer them with a RST. That the kernel of
// s.Node has sent one already may not be enough: it can be lost, or overtake octets
// and then be answered by an ACK (RFC 5961).
func (t *Sessions) Ended(now time.Time, s Session) []Effect {
	e := t.table[s.Key()]
	switch here := e != nil && e.Node == s.Node; {
	case here && e.ending:
	case here && (e.ID == s.ID || e.ID == ""):
		e.Octets, e.Lived, e.Aborted = s.Octets, s.Lived, s.Aborted
		return t.end(now, e)
	case here && s.ID == "":
		// Meant, or an earlier session of the same ends: the list will tell.
		t.verify(s.Node, now.Add(t.timing.Settle))
	case s.ID != "":
		if len(t.early) < maxEarly {
			t.early[s.ID] = now
		}
		if s.Origin != "" && s.Aborted && (e == nil || e.Origin != s.Origin) {
			return []Effect{{Action: Release, Session: s}}
		}
		if s.Origin != "" && len(t.linger) < maxSessions {
			t.linger = append(t.linger, lingering{now.Add(t.timing.Linger), &entry{Session: s, since: now, ending: true}})
		}
	}
	return nil
}

func (t *Sessions) end(now time.Time, e *entry) []Effect {
	e.ending, e.released = true, e.Aborted
	t.linger = append(t.linger, lingering{now.Add(t.timing.Linger), e})
	effects := []Effect{{Action: End, Session: e.Session}}
	if e.released {
		effects = append(effects, Effect{Action: Release, Session: e.Session})
	}
	return effects
}

// Listed takes a node's list of the sessions that it holds and whose home it is
// not; asked is when it was asked for the list or, if it was not, when the list
// came. The list is the truth for all that has settled.
func (t *Sessions) Listed(now, asked time.Time, node string, held []Session) (effects []Effect) {
	listed := make(map[Key]bool, len(held))
	for _, s := range held {
		listed[s.Key()] = true
		if t.table[s.Key()] != nil || len(t.table) >= t.limit {
			continue
		}
		t.put(now, s)
		if t.started {
			effects = append(effects, Effect{Action: Steer, Session: s})
		}
	}
	h := t.nodes[node]
	if h == nil {
		return effects
	}
	h.verify = now.Add(t.timing.Audit)
	for k, e := range h.sessions {
		switch {
		case listed[k] || e.ending:
		case asked.Sub(e.since) >= t.timing.Settle:
			effects = append(effects, t.end(now, e)...)
		default:
			t.verify(node, e.since.Add(t.timing.Settle))
		}
	}
	return effects
}

// Here notes that a node's agent is connected.
func (t *Sessions) Here(node string) {
	if h := t.nodes[node]; h != nil {
		h.away = time.Time{}
		t.tidy(node, h)
	}
}

// Away notes that a node's agent is gone. Its sessions keep their steering for
// Timing.Grace: sockets that were passed to applications outlive the agent.
func (t *Sessions) Away(now time.Time, node string) {
	if h := t.nodes[node]; h != nil {
		h.away = now
	}
}

// Kept notes that a node whose agent is gone was alive at a time: its grace
// begins anew.
func (t *Sessions) Kept(now time.Time, node string) {
	if h := t.nodes[node]; h != nil && !h.away.IsZero() {
		h.away = now
	}
}

// Lost notes that a node is dead: its sessions are given up without grace.
func (t *Sessions) Lost(node string) []Effect {
	h := t.nodes[node]
	if h == nil {
		return nil
	}
	return t.giveUp(node, h)
}

// Tick returns what is due. It is to be called several times a second.
func (t *Sessions) Tick(now time.Time) (effects []Effect) {
	effects = t.release(now)
	for id, at := range t.early {
		if now.Sub(at) >= t.timing.Settle {
			delete(t.early, id)
		}
	}
	for node, h := range t.nodes {
		switch {
		case !h.away.IsZero():
			if now.Sub(h.away) >= t.timing.Grace {
				effects = append(effects, t.giveUp(node, h)...)
			}
		case len(h.sessions) > 0 && !now.Before(h.verify):
			h.verify = now.Add(t.timing.Audit)
			effects = append(effects, Effect{Action: Query, Node: node})
		}
	}
	return effects
}

// release forgets sessions whose linger is over, unless a newer hand-off has
// the same ends.
func (t *Sessions) release(now time.Time) (effects []Effect) {
	due := 0
	for ; due < len(t.linger) && !now.Before(t.linger[due].at); due++ {
		e := t.linger[due].e
		present := t.table[e.Key()]
		if present == e {
			t.drop(e)
		}
		switch {
		case e.released:
		case present == e:
			effects = append(effects, Effect{Action: Release, Session: e.Session})
		case e.Origin != "" && (present == nil || present.Origin != e.Origin):
			// Never steered, or its ends are used again; its home can tell the
			// diversions apart.
			effects = append(effects, Effect{Action: Release, Session: e.Session})
		}
	}
	clear(t.linger[:due])
	t.linger = t.linger[due:]
	return effects
}

func (t *Sessions) giveUp(node string, h *holder) (effects []Effect) {
	for _, e := range h.sessions {
		s := e.Session
		s.ID = ""
		effects = append(effects, Effect{Action: Unsteer, Session: s}, Effect{Action: Release, Session: s, Lost: true})
		delete(t.table, e.Key())
	}
	delete(t.nodes, node)
	return effects
}

// Start says that every node that could be heard was heard: from now on lists
// of sessions have effects. It returns all sessions, the truth for the switch.
func (t *Sessions) Start() (all []Session) {
	t.started = true
	for _, e := range t.table {
		if !e.ending {
			all = append(all, e.Session)
		}
	}
	return all
}

// Tracked is a session of the table as it is now.
type Tracked struct {
	Session
	Since  time.Time // of the steering
	Ending bool      // over, but for stray packets
}

// All yields the table in no order.
func (t *Sessions) All() iter.Seq[Tracked] {
	return func(yield func(Tracked) bool) {
		for _, e := range t.table {
			if !yield(Tracked{e.Session, e.since, e.ending}) {
				return
			}
		}
	}
}

// Get returns one session.
func (t *Sessions) Get(k Key) (Tracked, bool) {
	e := t.table[k]
	if e == nil {
		return Tracked{}, false
	}
	return Tracked{e.Session, e.since, e.ending}, true
}

// On counts the sessions that node holds and whose end is not known.
func (t *Sessions) On(node string) (n int) {
	if h := t.nodes[node]; h != nil {
		for _, e := range h.sessions {
			if !e.ending {
				n++
			}
		}
	}
	return n
}
