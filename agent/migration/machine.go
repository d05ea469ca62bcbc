// Package migration is the state machine of a hand-off at its source: events
// go in, effects come out, and nothing else happens. The dispatcher performs
// the effects and reports what came of them, so that every interleaving and
// every crash point can be written down as a script (see testdata).
//
// The invariant that it keeps: from the first Offer on, the source's copy of
// the connection is frozen, and exactly one of three things ends that: the
// target has it (Close), the target will never have it (Thaw), or nobody can
// tell (Close, and Watch until somebody can). Two live copies cannot be.
package migration

import "fmt"

// State is where a session stands at its source.
type State uint8

const (
	Choosing  State = iota // no server is involved
	Capturing              // diverting, freezing, dumping
	Offered                // the target has been sent the connection
	Asking                 // the answer was lost or is late: the target is asked
	Proxying               // the source serves it as a plain proxy
	Rejecting              // an error response is being sent
	Done                   // the source holds nothing any more
)

var stateNames = [...]string{"choosing", "capturing", "offered", "asking", "proxying", "rejecting", "done"}

func (s State) String() string { return stateNames[s] }

// Event is what happened. Only ServerChosen carries a name.
type Event uint8

const (
	ServerChosen Event = iota // policy named a server
	NoServer                  // policy has none (left)
	AttachedHere              // this node's own application took it, unmoved
	Captured                  // frozen and dumped; nothing arrived since
	Uncapturable              // in a state that cannot be moved; still alive
	ClientGone                // the connection died before it could be moved
	Imported                  // the target has it
	Refused                   // the target has it not, and never will
	DeadlineOver              // the target may no longer activate it
	LinkLost                  // the stream to the target broke
	Unreachable               // the target could not be asked in time
	ProxyRefused              // no server could be proxied to
	Closed                    // proxying or rejecting is over
)

var eventNames = [...]string{"server-chosen", "no-server", "attached-here", "captured", "uncapturable", "client-gone", "imported",
	"refused", "deadline-over", "link-lost", "unreachable", "proxy-refused", "closed"}

func (e Event) String() string { return eventNames[e] }

// Effect is what the source must do next, in the order returned.
type Effect uint8

const (
	Choose     Effect = iota // pick a server that was not tried yet
	Divert                   // the guard sends the session's packets to the server
	Capture                  // freeze, dump, and check that nothing arrived since
	Offer                    // send the dump to the server; the deadline starts
	Steer                    // tell the controller, at once and without waiting
	Unsteer                  // take that back
	Undivert                 // packets come to the socket again
	Thaw                     // the socket goes on where it was frozen
	Ask                      // ask the server what became of it, which settles it
	Settle                   // the session stays there: its packets may teach the switch the way
	Close                    // close the copy without a packet
	Watch                    // ask on in the background; undivert if the server never had it
	Proxy                    // serve as a plain proxy
	Reject                   // answer 503
	Completed                // record the hand-off: it completed
	RolledBack               // record it: it was taken back
	Failed                   // record it: the session's fate is unknown
)

var effectNames = [...]string{"choose", "divert", "capture", "offer", "steer", "unsteer", "undivert", "thaw", "ask",
	"settle", "close", "watch", "proxy", "reject", "record-completed", "record-rolled-back", "record-failed"}

func (e Effect) String() string { return effectNames[e] }

// Machine is one session's. The zero value is not ready: use New.
type Machine struct {
	state    State
	attempts int // hand-offs begun
	max      int
}

// New returns a machine that begins at most max hand-offs (at least 1) before
// it proxies, and the first effects.
func New(max int) (*Machine, []Effect) {
	return &Machine{max: max}, []Effect{Choose}
}

// State returns where the session stands.
func (m *Machine) State() State { return m.state }

// Attempts returns how many hand-offs were begun.
func (m *Machine) Attempts() int { return m.attempts }

// Step takes an event and returns what to do. An event that cannot happen in
// the present state is an error of the caller and changes nothing.
func (m *Machine) Step(e Event) ([]Effect, error) {
	switch m.state {
	case Choosing:
		switch e {
		case ServerChosen:
			m.attempts++
			m.state = Capturing
			return []Effect{Divert, Capture}, nil
		case NoServer:
			m.state = Proxying
			return []Effect{Proxy}, nil
		case AttachedHere:
			m.state = Done
			return nil, nil
		}
	case Capturing:
		switch e {
		case Captured:
			m.state = Offered
			return []Effect{Offer, Steer}, nil
		case Uncapturable:
			m.state = Proxying
			return []Effect{Undivert, Thaw, Proxy}, nil
		case ClientGone:
			m.state = Done
			return []Effect{Undivert, Close}, nil
		}
	case Offered, Asking:
		switch e {
		case Imported:
			m.state = Done
			return []Effect{Settle, Close, Completed}, nil
		case Refused:
			return m.rollBack(), nil
		case DeadlineOver, LinkLost:
			if m.state == Asking {
				return nil, nil // already asking
			}
			m.state = Asking
			return []Effect{Ask}, nil
		case Unreachable:
			// The target may have it: thawing could make two live copies.
			if m.state == Asking {
				m.state = Done
				return []Effect{Close, Failed, Watch}, nil
			}
		}
	case Proxying:
		switch e {
		case ProxyRefused:
			m.state = Rejecting
			return []Effect{Reject}, nil
		case Closed:
			m.state = Done
			return nil, nil
		}
	case Rejecting:
		if e == Closed {
			m.state = Done
			return nil, nil
		}
	}
	return nil, fmt.Errorf("migration: event %v cannot happen while %v", e, m.state)
}

func (m *Machine) rollBack() []Effect {
	// Steering first: it takes longest, and the guards bear with the rest.
	effects := []Effect{Unsteer, Undivert, Thaw, RolledBack}
	if m.attempts >= m.max {
		m.state = Proxying
		return append(effects, Proxy)
	}
	m.state = Choosing
	return append(effects, Choose)
}
