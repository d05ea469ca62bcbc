package agent

import (
	"bytes"
	"context"
	"errors"

	"github.com/shunt-sdn/shunt/agent/sockdiag"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// nodeLost has the clients told of what is diverted from here, their home, to a
// node that is dead. It covers the sessions that the controller has not heard of:
// those that the node had too briefly, and hand-offs that will not be answered.
func (a *agent) nodeLost(m *shuntv1.NodeLost) {
	if m.Node == a.cfg.Node {
		a.outlived()
		return
	}
	a.dispatcher.NodeLost(m.Node)
	diversions, err := a.guard.Diversions()
	if err != nil {
		a.log.Error("cannot tell clients that their sessions are lost", "dead", m.Node, "err", err)
		return
	}
	v, _ := a.view()
	lost := 0
	for _, d := range diversions {
		if v.homes[d.Session.Addr()].Self && bytes.Equal(d.MAC, m.Mac) {
			a.lost.Diverted(d.Client, d.Session, d.Owner)
			lost++
		}
	}
	a.log.Warn("a node is dead; the clients of its sessions are told", "dead", m.Node, "diversions", lost)
}

// outlived ends the sessions that this node holds for other homes: it was taken
// for dead, their clients were told, or are answered by another node. The switches
// let nothing of them through.
func (a *agent) outlived() {
	a.server.Renounce()
	sockets, err := a.sockets(context.Background())
	if err != nil {
		a.log.Error("cannot end the sessions of a node that was given up", "err", err)
		return
	}
	v, _ := a.view()
	ended := 0
	for _, s := range sockets {
		if v.homes[s.Local.Addr()].Self {
			continue
		}
		switch err := sockdiag.Destroy(s.Local, s.Remote); {
		case err == nil:
			ended++
		case !errors.Is(err, sockdiag.ErrNotFound):
			a.log.Error("cannot end a session of a node that was given up", "client", s.Remote, "err", err)
		}
	}
	a.log.Warn("this node was taken for dead; it has ended its sessions", "sessions", ended)
}
