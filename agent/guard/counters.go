package guard

import "fmt"

// Counters says how many packets to session addresses met which decision,
// since the guard was first attached. A packet that the kernel has merged from
// several (GRO) counts once.
type Counters struct {
	DeliveredSocket    uint64 // a socket here has the tuple
	DeliveredHome      uint64 // no socket, but this is home
	DeliveredFragment  uint64 // a later fragment
	Diverted           uint64 // forwarded to the node that has the session
	ReturnedHome       uint64 // forwarded to home
	DroppedFromHome    uint64 // no socket, and it came from home
	DroppedBounced     uint64 // it came from the node that it is diverted to
	DroppedUnknownHome uint64 // the session address has no home
	DroppedHopLimit    uint64 // to be forwarded, but its TTL was used up
	DroppedMalformed   uint64 // the TCP header is cut off, or behind too many others
	DroppedTimeWait    uint64 // a late ACK of a session that has ended here
	SynDelivered       uint64 // a SYN at home
	SynReturned        uint64 // a SYN forwarded to home
	SynDropped         uint64 // a SYN that came from home
	PassedOn           uint64 // passed to another dispatcher, that may know it
	ReturnedEarly      uint64 // sent back to home: its session is still on its way here
	DivertedAgain      uint64 // sent back by the node that has the session in a moment, and forwarded again
}

// fields returns c's fields in the order of enum reason in guard.c.
func (c *Counters) fields() []*uint64 {
	return []*uint64{
		&c.DeliveredSocket, &c.DeliveredHome, &c.DeliveredFragment, &c.Diverted, &c.ReturnedHome,
		&c.DroppedFromHome, &c.DroppedBounced, &c.DroppedUnknownHome, &c.DroppedHopLimit,
		&c.DroppedMalformed, &c.DroppedTimeWait, &c.SynDelivered, &c.SynReturned, &c.SynDropped,
		&c.PassedOn, &c.ReturnedEarly, &c.DivertedAgain,
	}
}

// Counters reads the counters, summed over the CPUs.
func (g *Guard) Counters() (Counters, error) {
	var c Counters
	for reason, sum := range c.fields() {
		var perCPU []uint64
		if err := g.counters.Lookup(uint32(reason), &perCPU); err != nil {
			return Counters{}, fmt.Errorf("read counter %d of the guard on %s: %w", reason, g.name, err)
		}
		for _, n := range perCPU {
			*sum += n
		}
	}
	return c, nil
}
