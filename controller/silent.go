package controller

import (
	"context"
	"errors"
	"net"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shunt-sdn/shunt/controller/api"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

const (
	// aliveTimeout is what the switches have to find out whether a node is alive:
	// several times what they need.
	aliveTimeout = 10 * time.Second
	// followTimeout is what the switches have to fence off a node, or to let it in
	// again. One that needs longer does so later.
	followTimeout = 2 * time.Second
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
			c.giveUp(ctx, name, seat)
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

// giveUp gives up the sessions of a dead node. Their homes tell the clients, and
// those of sessions that it had too briefly to be steered: of these the homes
// alone know, by their diversions. The homes may give such a session to another
// node; should this one be alive after all, its answer must not reach the client,
// too. So it is fenced off first.
func (c *cluster) giveUp(ctx context.Context, name string, seat uint64) {
	c.fencing.Lock()
	defer c.fencing.Unlock()
	n, ok := c.nodes.GiveUp(name, seat)
	if !ok {
		return // it is back
	}
	if err := c.follow(ctx); err != nil {
		c.log.Warn("what a dead node still sends, should it be alive, may reach clients", "node", name, "err", err)
	}
	lost := &shuntv1.AttachResponse{Message: &shuntv1.AttachResponse_NodeLost{NodeLost: &shuntv1.NodeLost{Node: n.Name, Mac: n.MAC}}}
	c.mu.Lock()
	on := c.sessions.On(n.Name)
	c.perform(c.sessions.Lost(n.Name), nil)
	c.links.each(func(node string, l *api.Link) {
		if node != name { // it is back meanwhile, and is told when it has listed what it holds
			l.Send(lost)
		}
	})
	c.mu.Unlock()
	c.log.Warn("the node is dead: it answers neither here nor to the switches; its sessions are reset", "node", n.Name, "sessions", on)
}

// follow has the switches follow the nodes as they are now.
func (c *cluster) follow(ctx context.Context) error {
	if err := c.refresh(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, followTimeout)
	defer cancel()
	return c.switches.Follow(ctx)
}

// disown tells the agent of a node that was given up: its node's sessions are to
// end, and what the kernel holds then is to be listed.
func (a *agent) disown(now time.Time) {
	n, _ := a.c.nodes.Get(a.name)
	a.link.Send(&shuntv1.AttachResponse{Message: &shuntv1.AttachResponse_NodeLost{NodeLost: &shuntv1.NodeLost{Node: n.Name, Mac: n.MAC}}})
	a.link.Send(a.c.queries.ask(a.name, now, nil))
}

// readmit has a node used again that was given up. By the time that others hear
// of it the switches let its replies through.
func (a *agent) readmit() {
	c := a.c
	c.fencing.Lock()
	defer c.fencing.Unlock()
	c.nodes.Unfence(a.name, a.seat)
	if err := c.follow(context.Background()); err != nil {
		a.log.Warn("the node may be used before a switch lets its replies through", "err", err)
	}
	c.nodes.Readmit(a.name, a.seat)
	a.log.Info("the node was given up, and has ended what it held; it is used again")
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
