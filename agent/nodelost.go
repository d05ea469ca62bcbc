package agent

import (
	"bytes"

	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// nodeLost has the clients told of what is diverted from here, their home, to a
// node that is dead. It covers the sessions that the controller has not heard of:
// those that the node had too briefly, and hand-offs that will not be answered.
func (a *agent) nodeLost(m *shuntv1.NodeLost) {
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
