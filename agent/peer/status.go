package peer

import "time"

// A Status is how a link is doing.
type Status struct {
	Node string
	Up   bool
	// RTT is the last ping's round trip. Ahead is how far the target's clock is
	// ahead of ours, by at least so much and at most RTT more; both clocks count
	// from a start of their own, so only its changes say something. Zero while
	// the link is not up.
	RTT, Ahead time.Duration
}

// Status returns the state of every link, in no order.
func (p *Pool) Status() []Status {
	p.mu.RLock()
	defer p.mu.RUnlock()
	all := make([]Status, 0, len(p.links))
	for node, e := range p.links {
		s := e.link.status()
		s.Node = node
		all = append(all, s)
	}
	return all
}

func (l *Link) status() (s Status) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stream != nil && l.clock.known() {
		s = Status{Up: true, RTT: l.rtt, Ahead: l.clock.ahead()}
	}
	return s
}
