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
	"github.com/shunt-sdn/shunt/agent/tcprepair"
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
	onward  *onward       // not nil: the session is handed on by a server
	machine *migration.Machine
	tried   map[string]bool // servers that a hand-off was begun to
	attempt
}

// attempt is one hand-off.
type attempt struct {
	id       string
	target   Server
	link     *peer.Link
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
	s.migrate(maxAttempts)
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

// choose picks a server that was not tried and can be reached.
func (s *session) choose() (migration.Event, bool) {
	begun := time.Now()
	controller := s.d.o.Controller.Connected()
	byName := make(map[string]Server, len(s.service.Servers))
	names := make([]string, 0, len(s.service.Servers))
	for _, srv := range s.service.Servers {
		byName[srv.Node] = srv
		names = append(names, srv.Node)
	}
	name, ok := s.service.picker.Pick(names, func(name string) bool {
		srv := byName[name]
		if s.tried[name] {
			return true
		}
		if name == s.d.o.Node {
			a := s.d.o.Local[s.service.Name]
			return a == nil || !a.Ready()
		}
		// What the controller says of a node is stale while it is away; the
		// link to the node tells more.
		if controller && (!srv.Up || !srv.Ready) {
			return true
		}
		link := s.d.o.Peers.Link(name)
		return link == nil || !link.Ready() || len(srv.MAC) != 6
	})
	if !ok {
		return migration.NoServer, true
	}
	if s.tried == nil {
		s.tried = make(map[string]bool)
	}
	s.tried[name] = true
	if name == s.d.o.Node {
		if err := s.attachHere(); err != nil {
			s.d.o.Log.Info("the local application does not take a session", "service", s.service.Name, "err", err)
			return s.choose()
		}
		return migration.AttachedHere, true
	}
	s.begin(begun, byName[name])
	return migration.ServerChosen, true
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
