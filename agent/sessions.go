package agent

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/shunt-sdn/shunt/agent/config"
	"github.com/shunt-sdn/shunt/agent/dispatcher"
	apphealth "github.com/shunt-sdn/shunt/agent/health"
	"github.com/shunt-sdn/shunt/agent/server"
	"github.com/shunt-sdn/shunt/agent/sockdiag"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// This file is how the agent sees the kernel's sockets, which are the truth
// about sessions.

func (a *agent) view() (view, bool) {
	a.mu.RLock()
	defer a.mu.RUnlock()
	return a.config, a.known
}

// watch chooses the sockets whose ends the kernel announces. A node that is only a
// dispatcher has none of its own sessions for longer than it knows itself.
func (a *agent) watch(v view) error {
	var own []netip.Addr
	if !a.cfg.Has(config.Server) {
		for addr, home := range v.homes {
			if home.Self {
				own = append(own, addr)
			}
		}
	}
	return a.watcher.Only(v.pools, own)
}

// sockets lists the session sockets that hold a connection.
func (a *agent) sockets(ctx context.Context) ([]sockdiag.Socket, error) {
	v, _ := a.view()
	all, err := sockdiag.List(ctx, v.pools)
	if err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	return slices.DeleteFunc(all, func(s sockdiag.Socket) bool {
		return s.State == sockdiag.TimeWait || s.Inode == 0 && s.State == sockdiag.FinWait2
	}), nil
}

// held tells whether a session's socket is here.
func (a *agent) held(_ context.Context, client, local netip.AddrPort) (bool, error) {
	s, err := sockdiag.Find(local, client)
	if errors.Is(err, sockdiag.ErrNotFound) {
		return false, nil
	}
	return err == nil && holds(s), err
}

// holds tells whether a socket holds a connection, and is not what the kernel
// keeps of one that has ended.
func holds(s sockdiag.Socket) bool {
	return s.State != sockdiag.TimeWait && (s.State != sockdiag.FinWait2 || s.Inode != 0)
}

// socketEvent handles the kernel's announcements.
func (a *agent) socketEvent(e sockdiag.Event) {
	if !e.Overrun {
		a.server.SocketGone(e.Cookie, e.Counts.Acked, e.Aborted())
		return
	}
	a.log.Warn("the kernel dropped announcements of ended sockets; listing them instead")
	a.adopt(context.Background())
}

// adopt makes the server's sessions those that the kernel has.
func (a *agent) adopt(ctx context.Context) {
	begun := time.Now()
	sockets, err := a.sockets(ctx)
	if err != nil {
		a.log.Error("cannot list the session sockets", "err", err)
		return
	}
	v, _ := a.view()
	byCookie := make(map[uint64]server.Ends)
	for _, s := range sockets {
		if !v.homes[s.Local.Addr()].Self {
			byCookie[s.Cookie] = server.Ends{Client: s.Remote, Local: s.Local}
		}
	}
	a.server.Adopt(begun, byCookie)
}

// recordsWithin is how long an operator's question waits for records of hand-offs: for
// longer than servers keep back that they have a session.
const recordsWithin = 10 * time.Millisecond

// sync lists every session that is held here and, unless an operator asks, those
// that are diverted from here, their home.
func (a *agent) sync(ctx context.Context, query uint64) (*shuntv1.Sync, error) {
	sockets, err := a.sockets(ctx)
	if err != nil {
		return nil, err
	}
	type ends struct{ client, local netip.AddrPort }
	paths := make(map[ends]*shuntv1.HeldSession)
	for _, h := range a.dispatcher.Held() {
		client, local, err := h.Session.Ends()
		if err != nil {
			return nil, fmt.Errorf("agent: %w", err)
		}
		paths[ends{client, local}] = h
	}
	s := &shuntv1.Sync{Sessions: make([]*shuntv1.HeldSession, 0, len(sockets))}
	for _, k := range sockets {
		h := paths[ends{k.Remote, k.Local}]
		if h == nil {
			h = &shuntv1.HeldSession{Session: shuntv1.SessionOf(k.Remote, k.Local)}
			if v, _ := a.view(); v.homes[k.Local.Addr()].Self {
				h.Path = shuntv1.Path_PATH_DISPATCHER // this node's own application has it
			}
		}
		s.Sessions = append(s.Sessions, h)
	}
	if query != 0 {
		return s, nil
	}
	diversions, err := a.guard.Diversions()
	if err != nil {
		return nil, fmt.Errorf("agent: %w", err)
	}
	v, _ := a.view()
	for _, d := range diversions {
		if v.homes[d.Session.Addr()].Self {
			s.Sessions = append(s.Sessions, &shuntv1.HeldSession{
				Session: shuntv1.SessionOf(d.Client, d.Session), Path: shuntv1.Path_PATH_DIVERTED, Owner: d.Owner,
			})
		}
	}
	return s, nil
}

// release forgets the diversion of a session that is over.
func (a *agent) release(r *shuntv1.Release) {
	client, local, err := r.Session.Ends()
	switch {
	case err != nil:
	case r.Id != "":
		a.dispatcher.Ended(r.Id, r.Octets, time.Duration(r.LivedUs)*time.Microsecond)
		err = a.guard.Release(client, local, dispatcher.Owner(r.Id))
	case r.Owner != 0:
		err = a.guard.Release(client, local, r.Owner)
	case !a.dispatcher.Moving(client, local):
		err = a.guard.Undivert(client, local)
	}
	if err == nil && r.Lost {
		a.lost.Tell(client, local)
	}
	if err != nil {
		a.log.Error("cannot release a session", "err", err)
	}
}

// apply makes the host, the guard and the dispatcher follow a configuration.
func (a *agent) apply(c *shuntv1.NodeConfig) {
	v, err := viewOf(a.cfg.Node, c)
	if err != nil {
		a.log.Error("the controller's configuration is wrong and was not applied", "version", c.Version, "err", err)
		return
	}
	a.mu.Lock()
	first := !a.known
	a.config, a.known = v, true
	a.mu.Unlock()
	a.telemetry.know(c)
	// The guard before the addresses, so that no stray packet is answered with a
	// RST; both before the listeners.
	err = errors.Join(a.guard.SetHomes(v.homes), a.guard.SetPools(v.pools), a.askOthers(v), a.routes.Set(v.pools), a.watch(v))
	if first {
		a.adopt(context.Background())
	}
	a.peers.Set(v.peers)
	// The policy before the listeners: it has to know every service.
	before, _ := a.policy.Version()
	err = errors.Join(err, a.policy.Apply(v.routed(), c.Policy))
	a.health.Set(apphealth.Checks(a.cfg.Node, a.policy.Model(), c.Services, a.addresses()))
	if now, problem := a.policy.Version(); now != before || problem != "" {
		a.control.ReportNow()
	}
	a.routesChanged()
	if a.cfg.Has(config.Dispatcher) {
		err = errors.Join(err, a.dispatcher.Set(v.services))
		if !a.open.Swap(true) {
			a.control.ReportNow()
		}
		if v.leaving {
			a.leftOnce.Do(func() { close(a.left) })
		}
	}
	if err != nil {
		a.log.Error("the controller's configuration could not be applied in full", "version", c.Version, "err", err)
		return
	}
	a.log.Debug("configuration applied", "version", c.Version, "services", len(v.services), "peers", len(v.peers))
}
