package fabric

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"
)

// ErrCannotTell means that nobody can ask whether a node is alive: of the switches
// that have the node on a link none is connected, or it never answered them.
var ErrCannotTell = errors.New("no switch can tell")

// barrierTimeout is what a switch has to confirm that it sent the questions.
const barrierTimeout = 2 * time.Second

// Alive asks a node's data interface, over the links of the switches, whether
// somebody is there (ARP, neighbour discovery): the node's kernel answers, with
// or without an agent, and whatever becomes of the management network. It takes
// a round trip if the node answers, and about 2.5 s, in which it is asked five
// times, if not. The error wraps ErrCannotTell, or is the context's.
//
// Of several switches, one that the node answers is enough for it to be alive. It
// is dead if it answers none of those that can ask; those that cannot do not count,
// unless that is all of them.
func (f *Fabric) Alive(ctx context.Context, node string) (bool, error) {
	asking, enough := context.WithCancel(ctx)
	defer enough()
	var wg sync.WaitGroup
	var mu sync.Mutex // guards what follows
	answered, silent := false, false
	var errs []error
	for _, d := range f.reaching(node) {
		wg.Go(func() {
			alive, err := d.alive(asking, node)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case alive:
				answered = true
				enough()
			case err != nil:
				errs = append(errs, err)
			default:
				silent = true
			}
		})
	}
	wg.Wait()
	switch err := ctx.Err(); {
	case answered:
		return true, nil
	case err != nil:
		errs = []error{err}
	case silent:
		return false, nil
	case len(errs) == 0:
		errs = append(errs, ErrCannotTell)
	}
	return false, fmt.Errorf("ask whether node %s is alive: %w", node, errors.Join(errs...))
}

// An inquiry is a question whether a node is alive.
type inquiry struct {
	node   string
	answer chan verdict // capacity 1

	// Of the channel that asks:
	since     time.Time
	addresses []netip.Addr
}

type verdict struct {
	alive bool
	err   error
}

func (d *device) alive(ctx context.Context, node string) (bool, error) {
	q := &inquiry{node: node, answer: make(chan verdict, 1)}
	d.mu.Lock()
	conn := d.conn
	if conn != nil {
		d.inquiries = append(d.inquiries, q)
	}
	d.mu.Unlock()
	if conn == nil {
		return false, fmt.Errorf("%w: switch %016x is not connected", ErrCannotTell, d.cfg.DPID)
	}
	signal(d.inquired)
	var v verdict
	select {
	case v = <-q.answer:
	case <-ctx.Done():
		return false, ctx.Err()
	}
	if v.alive || v.err != nil {
		return v.alive, v.err
	}
	// Silence means something only if the questions were sent: the way to the
	// switch may be broken like that to the node's agent.
	ctx, cancel := context.WithTimeout(ctx, barrierTimeout)
	defer cancel()
	if err := conn.Barrier(ctx); err != nil {
		return false, fmt.Errorf("%w: the switch itself is silent: %w", ErrCannotTell, err)
	}
	return false, nil
}

// takeInquiries takes those that wait.
func (d *device) takeInquiries() []*inquiry {
	d.mu.Lock()
	defer d.mu.Unlock()
	taken := d.inquiries
	d.inquiries = nil
	return taken
}

// inquire begins to ask for the nodes of the inquiries that wait.
func (c *channel) inquire() {
	for _, q := range c.takeInquiries() {
		q.since = c.now()
		for _, n := range c.currentTopology().Nodes {
			if n.Name != q.node {
				continue
			}
			for _, a := range n.Addresses {
				if c.neighbours.askAnew(a, q.since) {
					q.addresses = append(q.addresses, a)
				}
			}
		}
		if len(q.addresses) == 0 {
			q.answer <- verdict{err: fmt.Errorf("%w: none of its addresses has ever answered", ErrCannotTell)}
			continue
		}
		c.open = append(c.open, q)
	}
	c.ask()
}

// conclude answers the inquiries that are decided.
func (c *channel) conclude() {
	open := c.open[:0]
	for _, q := range c.open {
		v, decided := c.neighbours.verdict(q.addresses, q.since, c.now())
		if decided {
			q.answer <- v
		} else {
			open = append(open, q)
		}
	}
	clear(c.open[len(open):])
	c.open = open
}

// abandonInquiries answers those that nobody will: the channel has ended. New
// ones are refused already.
func (c *channel) abandonInquiries() {
	for _, q := range append(c.open, c.takeInquiries()...) {
		q.answer <- verdict{err: fmt.Errorf("%w: the switch was lost meanwhile", ErrCannotTell)}
	}
}

// askAnew has an address that has answered before asked now, and as often as one
// that is new. It reports whether there is such a one.
func (n *neighbours) askAnew(a netip.Addr, now time.Time) bool {
	e, ok := n.entries[a]
	if !ok || !e.resolved {
		return false
	}
	e.asked, e.next = 0, now
	return true
}

// verdict says whether one of the addresses has answered since, or all of them
// have been asked in vain.
func (n *neighbours) verdict(addresses []netip.Addr, since, now time.Time) (v verdict, decided bool) {
	vain := 0
	for _, a := range addresses {
		e, ok := n.entries[a]
		switch {
		case !ok:
			vain++
		case !e.confirmed.Before(since):
			return verdict{alive: true}, true
		case e.asked > asksBeforeGone, e.asked == asksBeforeGone && !now.Before(e.next):
			vain++
		}
	}
	return verdict{}, vain == len(addresses)
}
