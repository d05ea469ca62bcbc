package dispatcher

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"github.com/shunt-sdn/shunt/agent/attach"
	"github.com/shunt-sdn/shunt/agent/peer"
	"github.com/shunt-sdn/shunt/agent/routing"
	"github.com/shunt-sdn/shunt/agent/tcprepair"
	"github.com/shunt-sdn/shunt/internal/workers"
	"github.com/shunt-sdn/shunt/policy"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// Guard is the part of the guard that a dispatcher uses.
type Guard interface {
	Divert(client, session netip.AddrPort, mac net.HardwareAddr, owner uint64) error
	// DivertUnanswered diverts a connection on which this node has sent nothing.
	DivertUnanswered(client, session netip.AddrPort, mac net.HardwareAddr, owner uint64) error
	Undivert(client, session netip.AddrPort) error
	Settle(client, session netip.AddrPort, owner uint64) error  // the diversion, if it is the owner's, will stay
	Release(client, session netip.AddrPort, owner uint64) error // Undivert, if it is the owner's
	// Unused tells whether the diversion is the owner's, and no packet has taken it.
	Unused(client, session netip.AddrPort, owner uint64) (bool, error)
	// Answered tells whether the client of what DivertUnanswered has diverted is known
	// to have acknowledged more than this node has sent, up to the sequence number sent.
	Answered(client, session netip.AddrPort, owner uint64, sent uint32) (bool, error)
}

// Controller is the part of the controller's client that a dispatcher uses.
type Controller interface {
	Connected() bool
	Steer(*shuntv1.Steer, func(error))
	Unsteer(*shuntv1.Unsteer)
	Handoff(*shuntv1.Handoff)
}

// Options of a Dispatcher.
type Options struct {
	Node       string
	Instance   uint64 // differs at each start; part of the hand-offs' ids
	Guard      Guard
	Controller Controller
	Peers      *peer.Pool
	// Local are this node's own applications, by service.
	Local map[string]attach.Attachment
	// Policy decides where requests go; it knows every service that is Set.
	Policy *routing.Table
	Log    *slog.Logger
	// Observe, if not nil, is told of requests that were not handed off. It must
	// not block.
	Observe func(Request)
	// Lost is told of a session that this node is the home of when it is known that
	// nobody has it: it ends the diversion, if it is the owner's, and has the client
	// told. It must not block.
	Lost func(client, local netip.AddrPort, owner uint64)
}

// A Server is a node that may answer a service.
type Server struct {
	Node   string
	MAC    net.HardwareAddr
	Up     bool
	Ready  bool           // its application takes sessions
	Direct netip.AddrPort // where its application takes ordinary connections; may be invalid
}

// A Lease is a session address and the virtual IP that it stands behind, both
// with the service's port.
type Lease struct{ Local, VIP netip.AddrPort }

// A Service is what a dispatcher has to know of one.
type Service struct {
	Name    string
	Leases  []Lease // that this node owns
	Servers []Server

	MaxHead       int           // octets
	HeadTimeout   time.Duration // from accept to a complete head
	ImportTimeout time.Duration // that a server has to take a session
	SteerAfter    time.Duration // that a session lives on its server before the switch hears of it; 0: at once
}

// Counters since the start.
type Counters struct{ Proxied, Refused uint64 }

// Dispatcher serves the services that it was last Set to.
type Dispatcher struct {
	o   Options
	ids atomic.Uint64 // hand-offs that were numbered

	proxied, refused, accepted atomic.Uint64

	ctx    context.Context // ends when Close is called
	cancel context.CancelFunc
	wg     sync.WaitGroup // listeners, sessions and watches

	workers workers.Pool // sessions run on them

	mu        sync.Mutex // guards what follows
	listeners map[netip.AddrPort]*listener
	sessions  map[*session]chan struct{} // closed when the session is left
	present   map[ends]*session
	moving    map[ends]int // hand-offs that the controller may not know of yet
	asking    map[*asking]struct{}
	learning  map[string]learning
}

// asking is the wait for what became of a hand-off.
type asking struct {
	node string // its target
	end  func()
}

// ends of a session.
type ends struct{ client, local netip.AddrPort }

// New returns a dispatcher without services.
func New(o Options) *Dispatcher {
	ctx, cancel := context.WithCancel(context.Background())
	return &Dispatcher{o: o, ctx: ctx, cancel: cancel,
		listeners: make(map[netip.AddrPort]*listener), sessions: make(map[*session]chan struct{}), present: make(map[ends]*session), learning: make(map[string]learning), moving: make(map[ends]int), asking: make(map[*asking]struct{})}
}

// service is one configured service behind one virtual IP, and the state that outlives a change.
type service struct {
	Service
	byName map[string]Server // Servers
	vip    netip.AddrPort
	rest   *policy.RoundRobin // where the policy does not decide
}

type listener struct {
	net.Listener
	service atomic.Pointer[service]
}

// Set makes the listeners equal to the services. Connections that are being
// dispatched keep the service that they began with. The error joins what could
// not be listened on; the rest is served.
func (d *Dispatcher) Set(services []Service) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ctx.Err() != nil {
		return nil
	}
	var errs []error
	wanted := make(map[netip.AddrPort]bool)
	for _, s := range services {
		byName := make(map[string]Server, len(s.Servers))
		for _, srv := range s.Servers {
			byName[srv.Node] = srv
		}
		for _, lease := range s.Leases {
			at := lease.Local
			wanted[at] = true
			l := d.listeners[at]
			if l == nil {
				nl, err := listen(d.ctx, at)
				if err != nil {
					errs = append(errs, fmt.Errorf("dispatcher: service %s: %w", s.Name, err))
					continue
				}
				l = &listener{Listener: nl}
				d.listeners[at] = l
				l.service.Store(&service{s, byName, lease.VIP, &policy.RoundRobin{}})
				d.wg.Add(1)
				d.workers.Go(func() { d.accept(l) })
				d.o.Log.Info("dispatching", "service", s.Name, "session_address", at)
				continue
			}
			l.service.Store(&service{s, byName, lease.VIP, l.service.Load().rest})
		}
	}
	for at, l := range d.listeners {
		if !wanted[at] {
			l.Close()
			delete(d.listeners, at)
		}
	}
	return errors.Join(errs...)
}

func listen(ctx context.Context, at netip.AddrPort) (net.Listener, error) {
	lc := tcprepair.ListenConfig()
	network := "tcp4"
	if at.Addr().Is6() {
		network = "tcp6"
	}
	return lc.Listen(ctx, network, at.String())
}

// accept takes the next connection of a listener, hands the listener on and
// sees to the connection itself: were it to hand that on, the request would wait
// until there is nothing left to accept.
func (d *Dispatcher) accept(l *listener) {
	c := d.next(l)
	if c == nil {
		d.wg.Done()
		return
	}
	s := newSession(d, l.service.Load(), c)
	if !d.enter(s) {
		c.Close()
		d.wg.Done()
		return
	}
	defer d.leave(s)
	d.workers.Go(func() { d.accept(l) })
	s.run()
}

// next waits for the next connection; nil: the listener is closed.
func (d *Dispatcher) next(l *listener) *net.TCPConn {
	var pause time.Duration
	for {
		c, err := l.Accept()
		if err == nil {
			return c.(*net.TCPConn)
		}
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		// Out of descriptors or memory: sessions that end will free some.
		pause = min(max(2*pause, 5*time.Millisecond), time.Second)
		d.o.Log.Error("cannot accept connections", "on", l.Addr(), "err", err, "next_try_in", pause)
		select {
		case <-time.After(pause):
		case <-d.ctx.Done():
			return nil
		}
	}
}

func (d *Dispatcher) enter(s *session) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.ctx.Err() != nil {
		return false
	}
	d.sessions[s] = make(chan struct{})
	d.present[ends{s.client, s.local}] = s
	d.accepted.Add(1)
	d.wg.Add(1)
	return true
}

func (d *Dispatcher) leave(s *session) {
	d.mu.Lock()
	close(d.sessions[s])
	delete(d.sessions, s)
	if e := (ends{s.client, s.local}); d.present[e] == s {
		delete(d.present, e)
	}
	d.mu.Unlock()
	d.wg.Done()
}

// AwaitDeparture waits, at most for limit, until this node has closed its copy
// of a session that it is handing off: one that was quick elsewhere may be on
// its way back already.
func (d *Dispatcher) AwaitDeparture(client, local netip.AddrPort, limit time.Duration) {
	d.mu.Lock()
	s := d.present[ends{client, local}]
	left := d.sessions[s]
	d.mu.Unlock()
	if s == nil {
		return
	}
	late := time.NewTimer(limit)
	defer late.Stop()
	select {
	case <-left:
	case <-late.C:
	}
}

// Held lists the sessions that this dispatcher, their home, holds.
func (d *Dispatcher) Held() []*shuntv1.HeldSession {
	d.mu.Lock()
	defer d.mu.Unlock()
	held := make([]*shuntv1.HeldSession, 0, len(d.sessions))
	for s := range d.sessions {
		if s.onward != nil {
			continue // this node is not its home
		}
		h := &shuntv1.HeldSession{Session: shuntv1.SessionOf(s.client, s.local), Path: shuntv1.Path_PATH_DISPATCHER}
		if to := s.proxiedTo.Load(); to != nil {
			h.Path, h.ProxiedTo = shuntv1.Path_PATH_PROXIED, *to
		}
		held = append(held, h)
	}
	return held
}

// AwaitQuiet waits until no connection has come for a while, and then until none is
// here that may be handed off yet, which those that are copied are not; for the
// second at most for done, and for limit in all. It returns whether no more
// connections came.
func (d *Dispatcher) AwaitQuiet(quiet, done, limit time.Duration) bool {
	tick := time.NewTicker(quiet / 25)
	defer tick.Stop()
	begun := time.Now()
	for seen, since := d.accepted.Load(), begun; ; {
		now := <-tick.C
		if n := d.accepted.Load(); n != seen {
			seen, since = n, now
		}
		if now.Sub(since) >= quiet && (!d.busy() || now.Sub(since) >= done) {
			return true
		}
		if now.Sub(begun) >= limit {
			return false
		}
	}
}

func (d *Dispatcher) busy() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	for s := range d.sessions {
		if s.proxiedTo.Load() == nil {
			return true
		}
	}
	return false
}

// Moving tells whether a hand-off of the session is under way, or done and not
// confirmed by the controller. A Release that arrives meanwhile means an earlier
// session with the same ends.
func (d *Dispatcher) Moving(client, local netip.AddrPort) bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.moving[ends{client, local}] > 0
}

// AwaitRecords waits, at most for limit, until the controller's client has the records
// of the hand-offs that go on now, but for their steering.
func (d *Dispatcher) AwaitRecords(limit time.Duration) {
	var left []chan struct{}
	d.mu.Lock()
	for e := range d.moving {
		if s := d.present[e]; s != nil {
			left = append(left, d.sessions[s])
		}
	}
	d.mu.Unlock()
	late := time.NewTimer(limit)
	defer late.Stop()
	for _, c := range left {
		select {
		case <-c:
		case <-late.C:
			return
		}
	}
}

func (d *Dispatcher) move(e ends, by int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.moving[e] += by; d.moving[e] == 0 {
		delete(d.moving, e)
	}
}

// asks notes that a node is asked, until done is called. Should the node turn out
// to be dead, end is called.
func (d *Dispatcher) asks(node string, end func()) (done func()) {
	a := &asking{node, end}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.asking[a] = struct{}{}
	return func() {
		d.mu.Lock()
		defer d.mu.Unlock()
		delete(d.asking, a)
	}
}

// NodeLost says that a node is dead: it is asked no more what became of hand-offs,
// and what nobody can have had an answer to goes to another.
func (d *Dispatcher) NodeLost(node string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for a := range d.asking {
		if a.node == node {
			a.end()
		}
	}
}

// Counters returns the counts so far.
func (d *Dispatcher) Counters() Counters {
	return Counters{Proxied: d.proxied.Load(), Refused: d.refused.Load()}
}

// Close stops accepting, ends the sessions that are still here, and waits until
// all is closed.
func (d *Dispatcher) Close() {
	d.cancel()
	d.mu.Lock()
	for _, l := range d.listeners {
		l.Close()
	}
	for s := range d.sessions {
		s.interrupt()
	}
	d.mu.Unlock()
	d.wg.Wait()
	d.workers.Close()
}

// id returns the id of a new hand-off.
func (d *Dispatcher) id() string {
	return fmt.Sprintf("%s-%08x-%d", d.o.Node, uint32(d.o.Instance), d.ids.Add(1))
}
