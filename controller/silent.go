package controller

import (
	"context"
	"errors"
	"net"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shunt-sdn/shunt/controller/api"
	"github.com/shunt-sdn/shunt/controller/registry"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

const (
	// aliveTimeout is what the switches have to find out whether a node is alive:
	// several times what they need.
	aliveTimeout = 10 * time.Second
	// reachTimeout is what a host has to answer a connection attempt.
	reachTimeout = time.Second
)

// attend follows a node whose whole host fell silent, until its agent is back or
// its sessions are given up. The switches are asked whether it is alive:
//
//   - It is not: nobody hears of it, so its sessions are lost, and their clients
//     are told at once.
//   - It is, and the management network does not lead to it: its sessions are
//     fine, and keep their steering for as long as that lasts.
//   - It is, and its host can be reached: it was rebooted, or its agent hangs.
//     Or nobody can tell. It has its grace, as if the agent had died.
func (c *cluster) attend(name string, seat uint64) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	c.tasks.Go(func() {
		select {
		case <-c.quit:
			cancel()
		case <-ctx.Done():
		}
	})
	log := c.log.With("node", name)
	var said string
	say := func(what string, args ...any) { // what is still the same is not said again
		if what != said {
			log.Warn(what, args...)
			said = what
		}
	}
	every := time.NewTicker(min(c.cfg.NodeSilence, c.cfg.NodeGrace/3))
	defer every.Stop()
	for kept := time.Now(); time.Since(kept) < c.cfg.NodeGrace; {
		alive, err := c.isAlive(ctx, name)
		n, away := c.nodes.Away(name, seat)
		switch {
		case !away || ctx.Err() != nil:
			return
		case err != nil:
			say("the node is silent, and the switches cannot tell whether it is alive", "grace", c.cfg.NodeGrace, "err", err)
		case !alive:
			c.bury(n)
			return
		case c.reach(ctx, n.Transfer):
			say("the node is alive, but its agent is gone", "grace", c.cfg.NodeGrace)
		default:
			say("the node is alive, but the management network does not lead to it; its sessions go on", "endpoint", n.Transfer)
			kept = time.Now()
			c.mu.Lock()
			c.sessions.Kept(kept, name)
			c.mu.Unlock()
		}
		select {
		case <-every.C:
		case <-ctx.Done():
			return
		}
	}
}

func (c *cluster) isAlive(ctx context.Context, node string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, aliveTimeout)
	defer cancel()
	return c.switches.Alive(ctx, node)
}

// bury gives up the sessions of a dead node. Their homes tell the clients, and
// those of sessions that it had too briefly to be steered: of these the homes
// alone know, by their diversions.
func (c *cluster) bury(n registry.Node) {
	lost := &shuntv1.AttachResponse{Message: &shuntv1.AttachResponse_NodeLost{NodeLost: &shuntv1.NodeLost{Node: n.Name, Mac: n.MAC}}}
	c.mu.Lock()
	on := c.sessions.On(n.Name)
	c.perform(c.sessions.Lost(n.Name), nil)
	c.links.each(func(l *api.Link) { l.Send(lost) })
	c.mu.Unlock()
	c.log.Warn("the node is dead: it answers neither here nor to the switches; its sessions are reset", "node", n.Name, "sessions", on)
}

// reach tells whether somebody answers at an endpoint, host:port, be it with a
// refusal.
func reach(ctx context.Context, endpoint string) bool {
	d := net.Dialer{Timeout: reachTimeout}
	nc, err := d.DialContext(ctx, "tcp", endpoint)
	if err == nil {
		nc.Close()
		return true
	}
	var late net.Error
	switch {
	case errors.As(err, &late) && late.Timeout(), errors.Is(err, unix.EHOSTUNREACH), errors.Is(err, unix.ENETUNREACH):
		return false
	}
	return true // refused, or nothing that says that the way is broken
}
