package controller

import (
	"time"

	"github.com/shunt-sdn/shunt/controller/fabric"
	"github.com/shunt-sdn/shunt/controller/registry"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// steered is a session as the switches know it.
func steered(s registry.Session) fabric.Session {
	return fabric.Session{
		ID: s.ID, Client: s.Client, VIP: s.VIP, Local: s.Local, Node: s.Node,
		ClientSeq: s.ClientSeq, ClientAck: s.ClientAck,
	}
}

// perform does what the sessions' rules demand, in order; done, if not nil, is
// told what came of Steer and Unsteer. The caller holds c.mu: that keeps the
// switches' order that of the rules. done may be called at any time and must
// not take c.mu.
func (c *cluster) perform(effects []registry.Effect, done func(error)) {
	for _, e := range effects {
		s := e.Session
		c.telemetry.effect(e.Action)
		switch e.Action {
		case registry.Steer:
			c.switches.Steer(steered(s), done)
		case registry.Unsteer:
			c.switches.Unsteer(s.Client, s.VIP, s.ID, done)
		case registry.End:
			c.switches.End(s.Client, s.VIP)
		case registry.Release:
			c.links.post(s.Home, s.Key(), &shuntv1.AttachResponse{Message: &shuntv1.AttachResponse_Release{
				Release: &shuntv1.Release{Session: shuntv1.SessionOf(s.Client, s.Local), Id: s.Origin, Lost: e.Lost,
					Octets: s.Octets, LivedUs: uint64(s.Lived.Microseconds())},
			}})
		case registry.Query:
			now := time.Now()
			if !c.links.send(e.Node, c.queries.ask(e.Node, now, nil)) {
				c.sessions.Away(now, e.Node)
			}
		}
	}
}
