package dispatcher

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"syscall"
	"time"

	"github.com/shunt-sdn/shunt/agent/migration"
	"github.com/shunt-sdn/shunt/agent/tcprepair"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// Between two requests a server can hand its session on to another server. The
// hand-off is the same as the first one, save that the connection stays where
// it is if it does not succeed.

// Departure is a session's account at the server that hands it on.
type Departure interface {
	Gone()
	Back() (hop uint32)
}

// Onward describes a session that a server hands on.
type Onward struct {
	// ID is the hand-off that brought it here; Origin the one by which it left
	// its home; Hop how many came after that one, with this one.
	ID, Origin string
	Hop        uint32
	Departure  Departure

	Client, Local, VIP netip.AddrPort
	Service            Service
	Target             Server
	// Idle: it goes only if the client has sent nothing that was not read; what it
	// sends then has to be routed.
	Idle bool
}

var errNotIdle = errors.New("its client has sent something meanwhile")

// onward is a session that is handed on.
type onward struct {
	Onward
	begun bool // a hand-off to the target
	stays bool // nothing came of it
	back  bool // Departure.Back was called
}

// rawFD is a descriptor that the caller owns.
type rawFD int

func (fd rawFD) Control(f func(uintptr)) error  { f(uintptr(fd)); return nil }
func (fd rawFD) Read(func(uintptr) bool) error  { return syscall.ENOTSUP }
func (fd rawFD) Write(func(uintptr) bool) error { return syscall.ENOTSUP }

// HandOn hands the connection fd on to another server, from a request boundary:
// every octet of the answers before is written. With nil the server has it, or
// it is over, and fd is closed. With an error it goes on here and fd is the
// caller's, as it was. It takes a hand-off's import timeout at most, and half a
// minute more if the target falls silent meanwhile.
func (d *Dispatcher) HandOn(ctx context.Context, fd int, o Onward) error {
	if err := ctx.Err(); err != nil {
		o.Departure.Back()
		return err
	}
	s := &session{
		d: d, service: &service{Service: o.Service, vip: o.VIP}, raw: rawFD(fd), client: o.Client, local: o.Local,
		close: func() error { return syscall.Close(fd) }, onward: &onward{Onward: o},
	}
	if !d.enter(s) {
		o.Departure.Back()
		return fmt.Errorf("hand session of %v on to %s: the agent is stopping", o.Client, o.Target.Node)
	}
	defer d.leave(s)
	s.migrate(1)
	if !s.onward.stays {
		o.Departure.Gone()
		return nil
	}
	if !s.onward.back {
		o.Departure.Back()
	}
	return fmt.Errorf("hand session of %v on to %s: %s", o.Client, o.Target.Node, s.reason)
}

// chooseOnward takes the one target, if it can be reached.
func (s *session) chooseOnward() (migration.Event, bool) {
	o := s.onward
	link := s.d.o.Peers.Link(o.Target.Node)
	switch {
	case o.begun:
		return migration.NoServer, true
	case link == nil || !link.Ready() || len(o.Target.MAC) != 6:
		s.reason = "there is no link to its agent"
		return migration.NoServer, true
	}
	o.begun = true
	s.begin(time.Now(), o.Target)
	return migration.ServerChosen, true
}

// steerBack sends the session's packets here again: it is not at home.
func (s *session) steerBack() {
	o := s.onward
	o.back = true
	hop := o.Departure.Back()
	if !s.steered {
		return
	}
	received, sent := s.state.RcvSeq, s.state.SndSeq-uint32(len(s.state.Unsent))
	if r, a, err := s.progress(); err == nil {
		received, sent = r, a
	}
	s.d.o.Controller.Steer(&shuntv1.Steer{
		Id: o.ID, Origin: o.Origin, Hop: hop, Session: shuntv1.SessionOf(s.client, s.local), ToNode: s.d.o.Node,
		ClientSeq: received, ClientAck: sent,
	}, func(error) {})
}

// progress of the frozen connection.
func (s *session) progress() (received, acked uint32, err error) {
	err = s.onSocket(func(fd int) error {
		received, acked, err = tcprepair.Progress(fd)
		return err
	})
	return received, acked, err
}
