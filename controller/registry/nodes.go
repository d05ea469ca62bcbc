package registry

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"

	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// maxNodes bounds how many names agents can bring in.
const maxNodes = 4096

var (
	// ErrNotAllowed means that the configuration lists the nodes and not this one.
	ErrNotAllowed = errors.New("the configuration's nodes do not have it")
	// ErrClash means that another node has the MAC or an address.
	ErrClash = errors.New("address is another node's")
	// ErrTooMany means that no more names are taken.
	ErrTooMany = errors.New("too many nodes")
)

// Nodes is the set of nodes. Its methods may be called concurrently. A change
// that others have to hear of is announced on Changed.
type Nodes struct {
	allowed []string
	limit   int
	changed chan struct{}

	mu      sync.Mutex // guards what follows
	nodes   map[string]*member
	seats   uint64 // counts joins
	proxied map[string]*proxied
	gone    uint64 // proxied by nodes that are forgotten
}

type member struct {
	Node
	seat uint64 // of the latest join; 0: none yet
}

// proxied adds up one node's reports over the instances of its agent.
type proxied struct {
	instance    uint64
	before, now uint64 // of earlier instances, of this one
}

// NewNodes returns a set that takes only the allowed names, or any if there is
// none, and starts with the nodes known from before.
func NewNodes(allowed []string, known []Node) *Nodes {
	n := &Nodes{
		allowed: allowed,
		limit:   maxNodes,
		changed: make(chan struct{}, 1),
		nodes:   make(map[string]*member),
		proxied: make(map[string]*proxied),
	}
	for _, k := range known {
		if n.allows(k.Name) {
			n.nodes[k.Name] = &member{Node: k}
		}
	}
	return n
}

func (n *Nodes) allows(name string) bool {
	return n.allowed == nil || slices.Contains(n.allowed, name)
}

// Changed delivers a value after one or more changes of what Nodes returns,
// apart from reports. It is for one receiver.
func (n *Nodes) Changed() <-chan struct{} { return n.changed }

func (n *Nodes) announce() {
	select {
	case n.changed <- struct{}{}:
	default:
	}
}

// Join seats an agent. An agent of the same name that is seated already is
// unseated: the newer instance wins. The seat stands for this connection in
// the other methods, which do nothing for a seat that is taken again. The error
// wraps ErrNotAllowed, ErrClash or ErrTooMany.
func (n *Nodes) Join(h Hello) (seat uint64, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if !n.allows(h.Name) {
		return 0, fmt.Errorf("node %s: %w; add it there or correct the agent's name", h.Name, ErrNotAllowed)
	}
	givenUp := false
	for _, other := range n.nodes {
		if other.Name == h.Name {
			continue
		}
		what := clash(h, other.Hello)
		if what == "" {
			continue
		}
		if other.Up {
			return 0, fmt.Errorf("node %s says that it has %s, which node %s has: %w; correct one of the agents", h.Name, what, other.Name, ErrClash)
		}
		givenUp = givenUp || other.GivenUp
		n.forget(other.Name) // renamed or replaced
	}
	m := n.nodes[h.Name]
	givenUp = givenUp || m != nil && m.GivenUp
	if m == nil {
		if len(n.nodes) >= n.limit {
			return 0, fmt.Errorf("node %s: %w, %d are known; list the real ones under nodes", h.Name, ErrTooMany, n.limit)
		}
		m = &member{}
		n.nodes[h.Name] = m
	}
	n.seats++
	*m = member{Node: Node{Hello: h, Up: true, GivenUp: givenUp, Fenced: givenUp}, seat: n.seats}
	n.announce()
	return n.seats, nil
}

func (n *Nodes) forget(name string) {
	if p := n.proxied[name]; p != nil {
		n.gone += p.before + p.now
	}
	delete(n.proxied, name)
	delete(n.nodes, name)
}

// seated returns the node if the seat is its present one.
func (n *Nodes) seated(name string, seat uint64) *member {
	if m := n.nodes[name]; m != nil && m.seat == seat && m.Up {
		return m
	}
	return nil
}

// Leave marks the node as not up, unless the seat was taken again. It reports
// whether it did. If its host was there when the agent went, a dispatcher is away
// until Gone.
func (n *Nodes) Leave(name string, seat uint64, host bool) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	m := n.seated(name, seat)
	if m == nil {
		return false
	}
	m.Up, m.Synced = false, false
	if host && m.Has(shuntv1.Role_ROLE_DISPATCHER) {
		m.Dispatcher = shuntv1.DispatcherState_DISPATCHER_STATE_AWAY
	}
	n.announce()
	return true
}

// Gone says that a dispatcher that is away since the seat was left has been so for
// too long.
func (n *Nodes) Gone(name string, seat uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if m := n.nodes[name]; m != nil && m.seat == seat && m.Dispatcher == shuntv1.DispatcherState_DISPATCHER_STATE_AWAY {
		m.Dispatcher = shuntv1.DispatcherState_DISPATCHER_STATE_UNSPECIFIED
		n.announce()
	}
}

// Away returns the node if it is away since the seat was left.
func (n *Nodes) Away(name string, seat uint64) (Node, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if m := n.nodes[name]; m != nil && m.seat == seat && !m.Up {
		return m.Node, true
	}
	return Node{}, false
}

// GiveUp gives up a node that is away since the seat was left. It reports false if
// the node is not.
func (n *Nodes) GiveUp(name string, seat uint64) (Node, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	m := n.nodes[name]
	if m == nil || m.seat != seat || m.Up {
		return Node{}, false
	}
	m.GivenUp, m.Fenced = true, true
	n.announce()
	return m.Node, true
}

// Unfence notes that what a node held that was given up has ended.
func (n *Nodes) Unfence(name string, seat uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if m := n.seated(name, seat); m != nil {
		m.Fenced = false
		n.announce()
	}
}

// Readmit takes back that a node was given up.
func (n *Nodes) Readmit(name string, seat uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if m := n.seated(name, seat); m != nil {
		m.GivenUp, m.Fenced = false, false
		n.announce()
	}
}

// Synced notes that the node has listed its sessions.
func (n *Nodes) Synced(name string, seat uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if m := n.seated(name, seat); m != nil {
		m.Synced = true
	}
}

// Report takes an agent's counters and the state of its applications.
func (n *Nodes) Report(name string, seat uint64, apps []Application, r *shuntv1.Report) {
	n.mu.Lock()
	defer n.mu.Unlock()
	m := n.seated(name, seat)
	if m == nil {
		return
	}
	m.Report = r
	n.count(m, r.GetRequestsProxied())
	if !slices.Equal(m.Applications, apps) || m.Dispatcher != r.GetDispatcher() {
		m.Applications, m.Dispatcher = apps, r.GetDispatcher()
		n.announce()
	}
}

func (n *Nodes) count(m *member, requests uint64) {
	p := n.proxied[m.Name]
	if p == nil {
		p = &proxied{instance: m.Instance}
		n.proxied[m.Name] = p
	}
	if p.instance != m.Instance || requests < p.now {
		p.before += p.now
		p.instance = m.Instance
	}
	p.now = requests
}

// Proxied is the sum of all agents' proxied requests since this process began,
// instances that are gone included.
func (n *Nodes) Proxied() (sum uint64) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, p := range n.proxied {
		sum += p.before + p.now
	}
	return sum + n.gone
}

// StopWaiting stops expecting nodes that have not come back.
func (n *Nodes) StopWaiting() {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, m := range n.nodes {
		if m.Expected {
			m.Expected = false
			n.announce()
		}
	}
}

// Awaited returns the nodes that have yet to come back and list their sessions.
func (n *Nodes) Awaited() (names []string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, m := range n.nodes {
		if m.Expected || m.Up && !m.Synced {
			names = append(names, m.Name)
		}
	}
	slices.SortFunc(names, CompareNames)
	return names
}

// List returns the nodes by name. What their slices and pointers refer to is
// never changed.
func (n *Nodes) List() []Node {
	n.mu.Lock()
	defer n.mu.Unlock()
	out := make([]Node, 0, len(n.nodes))
	for m := range maps.Values(n.nodes) {
		out = append(out, m.Node)
	}
	slices.SortFunc(out, func(a, b Node) int { return CompareNames(a.Name, b.Name) })
	return out
}

// Get returns one node.
func (n *Nodes) Get(name string) (Node, bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if m := n.nodes[name]; m != nil {
		return m.Node, true
	}
	return Node{}, false
}
