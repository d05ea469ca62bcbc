package registry

import (
	"net/netip"
	"time"
)

// Key is how the switch sees a session.
type Key struct{ Client, VIP netip.AddrPort }

// Session is a session and where its packets are to go.
type Session struct {
	// ID is the hand-off that brought it to Node; empty if it was found there.
	ID string
	// Origin is the hand-off by which it left its home, and Hop how many came
	// after that one; empty and 0 if it was found.
	Origin      string
	Hop         uint32
	Client, VIP netip.AddrPort
	// Local is the session address with the service's port.
	Local   netip.AddrPort
	Service string
	// Home is the dispatcher that owns Local.
	Home string
	// Node holds it.
	Node string
	// ClientSeq and ClientAck are what a segment of the client carries next; 0
	// for a session that was found.
	ClientSeq, ClientAck uint32
	// Octets and Lived are what its last node says of it at its end.
	Octets uint64
	Lived  time.Duration
	// Aborted: at its end it was cut off.
	Aborted bool
}

// Key returns the session's key.
func (s Session) Key() Key { return Key{s.Client, s.VIP} }

// Action is what a change of the sessions demands.
type Action int

const (
	// Steer the session's packets to Session.Node.
	Steer Action = iota + 1
	// Unsteer them: home again at once, if the hand-off is still Session.ID.
	Unsteer
	// End: the session is over; packets may linger.
	End
	// Release: Session.Home has to forget the diversion that Session.Origin made,
	// or any if that is empty.
	Release
	// Query: Node has to list its sessions.
	Query
)

func (a Action) String() string {
	return [...]string{"none", "steer", "unsteer", "end", "release", "query"}[a]
}

// Effect is one thing to do. Effects on one session are to be done in the order
// in which they were returned.
type Effect struct {
	Action  Action
	Session Session
	// Node is set for Query only.
	Node string
	// Lost is set for Release only: nobody has the session any more, and its
	// client may not know.
	Lost bool
}

// Timing is what the rules for sessions wait for.
type Timing struct {
	// Linger is how long after a session's end stray packets are still expected.
	Linger time.Duration
	// Settle is how long a session may be steered to a node that does not list
	// it yet: the import's deadline and what messages take.
	Settle time.Duration
	// Grace is how long a node may be away before its sessions are given up.
	Grace time.Duration
	// Audit is how often a node that has sessions is asked to list them: ends
	// that were lost are found that way.
	Audit time.Duration
}

// DefaultTiming fits import timeouts of up to one second.
var DefaultTiming = Timing{
	Linger: 2 * time.Second,
	Settle: 2 * time.Second,
	Grace:  30 * time.Second,
	Audit:  30 * time.Second,
}
