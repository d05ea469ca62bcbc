package controller

import (
	"context"
	"time"

	"github.com/shunt-sdn/shunt/controller/api"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// findAstray looks for sessions that a home diverts and nobody has reported. A
// dispatcher that was killed between the diversion and the import leaves such a
// one behind: its copy of the connection died with it, no server has one, and
// the client waits. It is told, once every server has said that it is not there.
// Servers' answers take effect on steering as always.
func (c *cluster) findAstray(home *agent, astray []api.Held) {
	// What is on its way to a server arrives or never will.
	settle := time.NewTimer(c.settle)
	defer settle.Stop()
	select {
	case <-settle.C:
	case <-home.link.Done():
		return
	case <-c.quit:
		return
	}
	ctx, cancel := context.WithTimeout(context.Background(), listTimeout)
	defer cancel()
	held := c.ask(ctx, time.Now())
	for _, n := range c.nodes.List() {
		if _, answered := held[n.Name]; !answered && n.Has(shuntv1.Role_ROLE_SERVER) && (n.Up || c.holds(n.Name)) {
			c.log.Warn("sessions whose dispatcher was restarted are left alone: a server that may have them does not say",
				"home", home.name, "sessions", len(astray), "server", n.Name)
			return
		}
	}
	here := make(map[api.Ends]bool)
	for _, list := range held {
		for _, h := range list {
			if h.Path != shuntv1.Path_PATH_DIVERTED {
				here[h.Ends] = true
			}
		}
	}
	lost := 0
	for _, h := range astray {
		if here[h.Ends] {
			continue
		}
		lost++
		home.link.Send(&shuntv1.AttachResponse{Message: &shuntv1.AttachResponse_Release{Release: &shuntv1.Release{
			Session: shuntv1.SessionOf(h.Client, h.Local), Owner: h.Owner, Lost: true,
		}}})
	}
	c.log.Info("sessions of a restarted dispatcher were looked for", "home", home.name, "diverted", len(astray), "lost", lost)
}

// holds tells whether a node that is away may have sessions.
func (c *cluster) holds(node string) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.sessions.On(node) > 0
}
