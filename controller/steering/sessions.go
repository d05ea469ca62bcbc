package steering

import (
	"sync"
	"time"

	"github.com/shunt-sdn/shunt/controller/openflow"
)

// A Channel sends messages to a switch. Calls are carried out in order; done
// runs once, after the switch confirmed or refused the messages or the channel
// ended, possibly before ApplyAsync returns.
type Channel interface {
	ApplyAsync(mods []openflow.FlowMod, outs []openflow.PacketOut, done func(error))
}

// A Resolver says where a session is to go, if the switch knows the way there.
type Resolver func(Session) (Target, bool)

// Patience is how long a request waits for its node to be resolved or for a
// switch to be reconciled.
const Patience = 2 * time.Second

// window is how many sessions' requests are under way at most: a channel that
// is full makes its callers wait, and callers of Sessions must not.
const window = 4096

// retryAfter is how long steering that the switch refused is left alone.
const retryAfter = 5 * time.Second

// Sessions is what one switch should know about every session, and what it was
// told. There is at most one request per session under way; what comes meanwhile
// follows it. All methods may be called at any time from any goroutine; done
// functions run without locks held, on the caller's or the channel's goroutine.
type Sessions struct {
	now    func() time.Time
	linger time.Duration

	mu        sync.Mutex
	records   map[Key]*record
	channel   Channel // nil: none
	method    Method
	resolve   Resolver
	attaching bool   // a channel is being made ready
	epoch     uint64 // counts channels: answers of earlier ones do not count
	complete  bool   // the records are all sessions that there are
	versions  uint64 // the last one given out
	inFlight  int    // requests under way on this channel
	backlog   []Key  // what waits for room among them
	ending    []deadline
	waiting   map[Key]time.Time // since when a request waits for a target or a channel
	refused   map[Key]struct{}  // what the switch refused, to be tried again
}

// A record is one session.
type record struct {
	session   Session
	steered   bool   // wanted: steered, or else that the switch forgets it
	version   uint64 // of what is wanted; grows, and no other record ever had it
	confirmed uint64 // the last version that the switch confirmed on this channel
	inFlight  bool
	queued    bool      // in the backlog
	told      bool      // the switch may hold steering of the session
	retryAt   time.Time // after a refusal
	waiters   []waiter
}

// A waiter is told when the switch confirmed a version, or will not.
type waiter struct {
	version uint64
	done    func(error)
}

// A deadline is the end of a session's linger.
type deadline struct {
	key     Key
	version uint64
	at      time.Time
}

// NewSessions makes the record for a switch that is not connected. linger is
// how long a session's steering outlives the session, for its last packets.
func NewSessions(now func() time.Time, linger time.Duration) *Sessions {
	return &Sessions{now: now, linger: linger, records: map[Key]*record{}, waiting: map[Key]time.Time{}, refused: map[Key]struct{}{}}
}

// Steer has a session's packets go to its node. done is called with nil when
// the switch confirmed it.
func (s *Sessions) Steer(sess Session, done func(error)) {
	s.change(sess.Key(), func(r *record) bool {
		r.session, r.steered = sess, true
		return true
	}, done)
}

// Unsteer has a session's packets go home. With an id, it does so only while
// the session is steered by the hand-off of that id.
func (s *Sessions) Unsteer(k Key, id string, done func(error)) {
	s.change(k, func(r *record) bool {
		if r.steered && id != "" && r.session.ID != id {
			return false
		}
		r.steered = false
		return true
	}, done)
}

// End says that a session ended: its steering goes after the linger, unless it
// is steered again before.
func (s *Sessions) End(k Key) {
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.records[k]
	if !ok && !s.complete {
		r = s.add(k) // it may be steered since before this controller started
		r.steered, r.told, r.confirmed = true, true, r.version
	}
	if r != nil && r.steered {
		s.ending = append(s.ending, deadline{k, r.version, s.now().Add(s.linger)})
	}
}

// Replace sets all sessions that there are; the steering of others is removed.
func (s *Sessions) Replace(sessions []Session) {
	s.mu.Lock()
	s.complete = true
	listed := make(map[Key]bool, len(sessions))
	for _, sess := range sessions {
		k := sess.Key()
		listed[k] = true
		r, ok := s.records[k]
		if !ok {
			r = s.add(k)
		}
		if same := r.steered && r.session.Node == sess.Node && r.session.Local == sess.Local; !same {
			r.version = s.nextVersion()
		}
		r.session, r.steered = sess, true
	}
	for k, r := range s.records {
		if !listed[k] && r.steered {
			s.clear(k, r)
		}
	}
	s.unlockAndRun(s.nextAll())
}

// Attached says whether a switch is connected and ready.
func (s *Sessions) Attached() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.channel != nil
}

// Complete says whether Replace was ever called.
func (s *Sessions) Complete() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.complete
}

// change applies f to a session's record, making one at need, and passes the
// result on to the switch. f returns whether there is anything to do.
func (s *Sessions) change(k Key, f func(*record) bool, done func(error)) {
	if done == nil {
		done = func(error) {}
	}
	s.mu.Lock()
	r, ok := s.records[k]
	if !ok {
		// What an earlier run of the controller told the switch is unknown
		// until Replace.
		r = &record{session: Session{Client: k.Client, VIP: k.VIP}, told: !s.complete}
	}
	if !f(r) || !ok && !r.steered && s.complete {
		s.mu.Unlock()
		done(nil)
		return
	}
	s.records[k] = r
	r.version = s.nextVersion()
	r.retryAt = time.Time{}
	if s.channel == nil && !s.attaching {
		if !r.steered && !r.told {
			delete(s.records, k)
		}
		s.mu.Unlock()
		done(ErrNoSwitch)
		return
	}
	r.waiters = append(r.waiters, waiter{r.version, done})
	s.unlockAndRun(s.next(nil, k, r))
}

// add makes a record. s.mu is held.
func (s *Sessions) add(k Key) *record {
	r := &record{session: Session{Client: k.Client, VIP: k.VIP}, version: s.nextVersion()}
	s.records[k] = r
	return r
}

// clear wants a session forgotten. s.mu is held.
func (s *Sessions) clear(k Key, r *record) {
	r.steered, r.version = false, s.nextVersion()
	if !r.told && s.channel == nil && !s.attaching {
		delete(s.records, k)
	}
}

func (s *Sessions) nextVersion() uint64 {
	s.versions++
	return s.versions
}

// A Path is a session and whether the switch confirmed its steering.
type Path struct {
	Session
	Confirmed bool
}

// Paths calls f for every steered session, with the lock held.
func (s *Sessions) Paths(f func(Path)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, r := range s.records {
		if r.steered && r.session.Node != "" {
			f(Path{r.session, r.confirmed == r.version && s.channel != nil})
		}
	}
}

// Len counts the sessions, with those that the switch is still to forget.
func (s *Sessions) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.records)
}

// Confirmed counts the sessions whose steering the switch confirmed.
func (s *Sessions) Confirmed() int {
	n := 0
	s.Paths(func(p Path) {
		if p.Confirmed {
			n++
		}
	})
	return n
}
