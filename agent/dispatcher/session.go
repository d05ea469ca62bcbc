package dispatcher

import (
	"errors"
	"net"
	"net/netip"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shunt-sdn/shunt/agent/attach"
	"github.com/shunt-sdn/shunt/agent/httphead"
	"github.com/shunt-sdn/shunt/agent/migration"
	"github.com/shunt-sdn/shunt/agent/peer"
	"github.com/shunt-sdn/shunt/agent/routing"
	"github.com/shunt-sdn/shunt/agent/tcprepair"
	"github.com/shunt-sdn/shunt/policy"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// maxAttempts is how many hand-offs a session may begin.
const maxAttempts = 3

// session is one connection, from accept until it is elsewhere or closed. Its
// methods run in one goroutine, save where said.
type session struct {
	d             *Dispatcher
	service       *service
	conn          *net.TCPConn
	raw           syscall.RawConn
	close         func() error // of the descriptor
	client, local netip.AddrPort
	proxiedTo     atomic.Pointer[string]

	head    httphead.Head // of the first request; not of one that is handed on
	request policy.Request
	rule    *policy.Rule    // that the request falls under; nil: it is handed on
	refusal *httphead.Error // of the request, by an operator's program
	proxyTo policy.Choice   // not empty: proxy to its server first
	onward  *onward         // not nil: the session is handed on by a server
	machine *migration.Machine
	tried   map[string]bool // servers that a hand-off was begun to
	attempt
}

// attempt is one hand-off.
type attempt struct {
	id       string
	target   Server
	link     *peer.Link
	choice   policy.Choice
	state    *tcprepair.State
	answers  <-chan peer.Answer
	deadline time.Time
	record   *record
	reason   string
	steered  bool // by this node
}

func newSession(d *Dispatcher, svc *service, c *net.TCPConn) *session {
	s := &session{d: d, service: svc, conn: c, close: c.Close}
	s.client = c.RemoteAddr().(*net.TCPAddr).AddrPort()
	s.local = c.LocalAddr().(*net.TCPAddr).AddrPort()
	s.client = netip.AddrPortFrom(s.client.Addr().Unmap(), s.client.Port())
	s.local = netip.AddrPortFrom(s.local.Addr().Unmap(), s.local.Port())
	return s
}

// interrupt makes blocking calls on the connection return. It may be called
// from any goroutine.
func (s *session) interrupt() {
	if s.conn != nil {
		s.conn.SetDeadline(time.Unix(1, 0))
	}
}

func (s *session) run() {
	defer s.conn.Close()
	var err error
	if s.raw, err = s.conn.SyscallConn(); err != nil {
		return
	}
	s.head, err = s.awaitHead()
	var refusal *httphead.Error
	switch {
	case errors.As(err, &refusal):
		s.refuse(refusal)
		return
	case err != nil:
		return // gone, or leaving: there is nobody to answer
	}
	if refusal := s.route(); refusal != nil {
		s.refuse(refusal)
		return
	}
	s.migrate(maxAttempts)
}

// route finds what the policy says of the request.
func (s *session) route() *httphead.Error {
	routing.Request(&s.request, &s.head, s.client)
	rule, ok := s.d.o.Policy.Route(s.service.Name, &s.request)
	if !ok {
		return &httphead.Error{Status: 503, Reason: "the policy does not know the service " + s.service.Name}
	}
	if status, reason := rule.Admit(&s.request); status != 0 {
		s.d.o.Policy.Count(rule.Service, rule.Name, routing.Rejected)
		return &httphead.Error{Status: status, Reason: reason}
	}
	s.rule = rule
	return nil
}

// migrate runs the state machine until this node holds nothing of the session,
// or has done with it.
func (s *session) migrate(attempts int) {
	machine, effects := migration.New(attempts)
	s.machine = machine
	var err error
	for {
		event, ok := s.perform(effects)
		if machine.State() == migration.Done {
			return
		}
		if !ok {
			event = s.await()
		}
		if effects, err = machine.Step(event); err != nil {
			s.d.o.Log.Error("a hand-off went astray", "id", s.id, "client", s.client, "err", err)
			return
		}
	}
}

// perform carries out effects in order and returns the event that they led to,
// if any.
func (s *session) perform(effects []migration.Effect) (event migration.Event, ok bool) {
	for _, e := range effects {
		if ev, produced := s.effect(e); produced {
			event, ok = ev, true
		}
	}
	return event, ok
}

func (s *session) effect(e migration.Effect) (migration.Event, bool) {
	switch e {
	case migration.Choose:
		if s.onward != nil {
			return s.chooseOnward()
		}
		return s.choose()
	case migration.Divert:
		s.divert()
	case migration.Capture:
		return s.capture()
	case migration.Offer:
		return s.offer()
	case migration.Steer:
		s.steer()
	case migration.Unsteer:
		s.unsteer()
	case migration.Undivert:
		s.undivert()
	case migration.Thaw:
		return s.thaw()
	case migration.Ask:
		return s.ask()
	case migration.Settle:
		s.settle()
	case migration.Close:
		s.closeCopy()
	case migration.Watch:
		s.watch()
	case migration.Proxy:
		if s.onward != nil {
			s.onward.stays = true
			return migration.Closed, true
		}
		return s.proxy()
	case migration.Reject:
		s.refuse(&httphead.Error{Status: 503, Reason: "no server of " + s.service.Name + " can take the request now"})
		return migration.Closed, true
	case migration.Completed:
		s.finish(shuntv1.Outcome_OUTCOME_COMPLETED)
	case migration.RolledBack:
		s.finish(shuntv1.Outcome_OUTCOME_ROLLED_BACK)
	case migration.Failed:
		s.finish(shuntv1.Outcome_OUTCOME_FAILED)
	}
	return 0, false
}

// choose has the policy pick a server that was not tried and can be reached.
func (s *session) choose() (migration.Event, bool) {
	begun := time.Now()
	byName := s.service.byName
	controller := s.d.o.Controller.Connected()
	usable := func(name string) bool { return !s.tried[name] && s.d.Reachable(s.service.Name, byName[name]) }
	// A node that has just fallen silent is chosen only if there is no other: a
	// session that is offered to a dead one is lost.
	choice, ok := s.rule.Choose(&s.request, func(name string) bool { return usable(name) && s.d.fresh(name) })
	if !ok {
		choice, ok = s.rule.Choose(&s.request, usable)
	}
	if ok {
		var rejected *routing.RejectedError
		var err error
		if choice, err = s.d.o.Policy.Ask(s.d.ctx, s.rule, choice, &s.request, &s.head, usable); errors.As(err, &rejected) {
			s.refusal = &httphead.Error{Status: rejected.Status, Reason: rejected.Reason}
			s.d.o.Policy.Count(s.rule.Service, s.rule.Name, routing.Rejected)
			return migration.NoServer, true
		}
	} else if !controller {
		// What the policy was told of servers is old, but for what operators want.
		choice.Server, ok = s.service.rest.Pick(s.rule.Servers(), func(name string) bool { return !usable(name) || s.d.o.Policy.Drains(name) })
	}
	if !ok {
		return migration.NoServer, true
	}
	name := choice.Server
	if choice.Mode == policy.Proxy {
		s.proxyTo = choice
		return migration.NoServer, true
	}
	if s.tried == nil {
		s.tried = make(map[string]bool)
	}
	s.tried[name] = true
	if name == s.d.o.Node {
		if err := s.attachHere(); err != nil {
			s.d.o.Log.Info("the local application does not take a session", "service", s.service.Name, "err", err)
			s.observe(choice, routing.HandedOff, err.Error())
			return s.choose()
		}
		s.observe(choice, routing.HandedOff, "")
		s.tell(Local, name, 0)
		return migration.AttachedHere, true
	}
	s.begin(begun, byName[name])
	s.choice = choice
	return migration.ServerChosen, true
}

// Reachable tells whether a session of a service can be handed to a server now.
func (d *Dispatcher) Reachable(service string, srv Server) bool {
	if srv.Node == "" {
		return false
	}
	if srv.Node == d.o.Node {
		a := d.o.Local[service]
		return a != nil && a.Ready()
	}
	// What the controller says of a node is stale while it is away; the link to
	// the node tells more.
	if (!srv.Up || !srv.Ready) && d.o.Controller.Connected() {
		return false
	}
	link := d.o.Peers.Link(srv.Node)
	return link != nil && link.Ready() && len(srv.MAC) == 6
}

// fresh tells whether a node was heard of lately.
func (d *Dispatcher) fresh(node string) bool {
	if node == d.o.Node {
		return true
	}
	link := d.o.Peers.Link(node)
	return link != nil && link.Fresh()
}

// observe tells the policy how a choice went, which is to be counted as how;
// failure is empty if it went well.
func (s *session) observe(c policy.Choice, how routing.Outcome, failure string) {
	if s.rule == nil {
		return
	}
	s.judge(c, failure)
	s.count(c, how, failure)
}

// judge tells the policy of a success, or of a failure, which may be the last one
// that it bears with.
func (s *session) judge(c policy.Choice, failure string) {
	if s.rule.Observe(c, failure) {
		s.d.o.Log.Warn("a server is ejected", "service", s.service.Name, "server", c.Server, "reason", failure)
	}
}

func (s *session) count(c policy.Choice, how routing.Outcome, failure string) {
	s.d.o.Policy.CountServer(c.Server, failure != "")
	if failure != "" {
		s.d.o.Policy.State().Done(c.Server)
		return
	}
	s.d.o.Policy.Count(s.rule.Service, s.rule.Name, how)
}

// begin begins a hand-off to a server.
func (s *session) begin(begun time.Time, target Server) {
	s.attempt = attempt{id: s.d.id(), target: target, link: s.d.o.Peers.Link(target.Node)}
	s.record = newRecord(begun, s, target.Node)
	s.record.step("choose")
}

// attachHere passes the connection, unmoved, to this node's own application.
func (s *session) attachHere() error {
	fd := -1
	var err error
	if e := s.raw.Control(func(f uintptr) { fd, err = unix.FcntlInt(f, unix.F_DUPFD_CLOEXEC, 0) }); e != nil || err != nil {
		return errors.Join(e, err)
	}
	err = s.d.o.Local[s.service.Name].Attach(s.d.ctx, fd, attach.Meta{ID: s.d.id(), Service: s.service.Name, Client: s.client, Local: s.local, VIP: s.service.vip})
	if err != nil {
		unix.Close(fd)
	}
	return err
}
