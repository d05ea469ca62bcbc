package controller

import (
	"context"
	"fmt"
	"log/slog"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/shunt-sdn/shunt/controller/api"
	"github.com/shunt-sdn/shunt/controller/registry"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// agent is one connected agent: it holds a seat among the nodes.
type agent struct {
	c    *cluster
	name string
	seat uint64
	link *api.Link
	log  *slog.Logger

	disowned time.Time // when it was told first that it was given up; only Sync has it
}

// Join seats an agent; see api.Agents.
func (c *cluster) Join(h registry.Hello, link *api.Link) (api.Agent, error) {
	seat, err := c.nodes.Join(h)
	if err != nil {
		return nil, err
	}
	a := &agent{c: c, name: h.Name, seat: seat, link: link, log: c.log.With("node", h.Name)}
	if old := c.links.put(h.Name, link); old != nil {
		a.log.Warn("a newer instance of the agent takes over; if two run, give each a name of its own")
		old.Close(status.Errorf(codes.Aborted, "another instance of node %s has connected", h.Name))
	}
	c.mu.Lock()
	c.sessions.Here(h.Name)
	c.mu.Unlock()
	if err := c.refresh(); err != nil {
		a.log.Error("the agent's node is not fully usable", "err", err)
	}
	link.Configure(c.view.Load().config)
	a.log.Info("agent connected", "roles", fmt.Sprint(h.Roles), "mac", h.MAC.String(), "addresses", h.Addresses, "version", h.Version)
	return a, nil
}

// Leave marks the node as not up. Its sessions keep their steering for a while,
// unless the node turns out to be dead; see attend.
func (a *agent) Leave(silent bool) {
	a.c.links.drop(a.name, a.link)
	if !a.c.nodes.Leave(a.name, a.seat, !silent) {
		return
	}
	a.c.mu.Lock()
	if n, _ := a.c.nodes.Get(a.name); !n.Up { // it may be back already
		a.c.sessions.Away(time.Now(), a.name)
	}
	on := a.c.sessions.On(a.name)
	a.c.mu.Unlock()
	if a.c.stopping.Load() {
		return
	}
	a.log.Warn("agent is gone", "sessions", on, "silent", silent, "grace", a.c.cfg.NodeGrace)
	a.c.tasks.Go(func() {
		if silent {
			a.c.attend(a.name, a.seat)
			return
		}
		select {
		case <-a.c.quit:
		case <-time.After(a.c.cfg.NodeGrace):
			a.c.nodes.Gone(a.name, a.seat)
		}
	})
}

// Steer sends a session's packets to a node and answers when the switch has it.
func (a *agent) Steer(m *shuntv1.Steer, e api.Ends) {
	done := a.c.telemetry.steering(m, a.answer(m.Id))
	s, ok := a.c.view.Load().session(e.Client, e.Local)
	if !ok {
		done(fmt.Errorf("session address %v is leased to nobody; the service or dispatcher was removed", e.Local))
		return
	}
	if n, ok := a.c.nodes.Get(m.ToNode); !ok || !n.Usable() {
		done(fmt.Errorf("node %.80q is not connected to the controller", m.ToNode))
		return
	}
	s.ID, s.Origin, s.Hop = m.Id, m.Origin, m.Hop
	s.Node, s.ClientSeq, s.ClientAck = m.ToNode, m.ClientSeq, m.ClientAck
	a.c.mu.Lock()
	defer a.c.mu.Unlock()
	effects, err := a.c.sessions.Steer(time.Now(), s)
	if err != nil || len(effects) == 0 { // a later hand-off was heard of first
		done(err)
		return
	}
	a.c.perform(effects, done)
}

// Unsteer takes a hand-off back and answers when the switch has it.
func (a *agent) Unsteer(id string, e api.Ends) {
	done := a.c.telemetry.timed(opUnsteer, time.Now(), a.answer(id))
	s, ok := a.c.view.Load().session(e.Client, e.Local)
	if !ok {
		done(nil) // nothing steers an address that is not leased
		return
	}
	s.ID = id
	a.c.mu.Lock()
	defer a.c.mu.Unlock()
	a.c.perform(a.c.sessions.Unsteer(s), done)
}

// answer returns what tells the agent the outcome of Steer or Unsteer.
func (a *agent) answer(id string) func(error) {
	return func(err error) {
		m := &shuntv1.SteerDone{Id: id}
		if err != nil {
			m.Error = err.Error()
			a.log.Debug("session not steered; its packets are diverted by its home", "handoff", id, "err", err)
		}
		a.link.Send(&shuntv1.AttachResponse{Message: &shuntv1.AttachResponse_SteerDone{SteerDone: m}})
	}
}

// Ended notes the end of a session on this node.
func (a *agent) Ended(m *shuntv1.Ended, e api.Ends) {
	s, ok := a.c.view.Load().session(e.Client, e.Local)
	if !ok {
		return
	}
	a.c.mu.Lock()
	defer a.c.mu.Unlock()
	s.Node, s.ID, s.Origin = a.name, m.Id, m.Origin
	s.Octets, s.Lived = m.Octets, time.Duration(m.LivedUs)*time.Microsecond
	s.Aborted = m.Aborted
	a.c.perform(a.c.sessions.Ended(time.Now(), s), nil)
}

// Sync takes the list of what the node's kernel holds.
func (a *agent) Sync(query uint64, held []api.Held) {
	now := time.Now()
	asked := a.c.queries.answer(query, a.name, held, now)
	v := a.c.view.Load()
	var away []registry.Session // held here, at home elsewhere
	var astray []api.Held       // diverted from here, and nobody said where to
	a.c.mu.Lock()
	for _, h := range held {
		s, ok := v.session(h.Client, h.Local)
		if !ok {
			continue
		}
		if s.Home != a.name {
			s.Node = a.name
			away = append(away, s)
		} else if h.Path == shuntv1.Path_PATH_DIVERTED && query == 0 {
			if _, known := a.c.sessions.Get(s.Key()); !known {
				astray = append(astray, h)
			}
		}
	}
	node, _ := a.c.nodes.Get(a.name)
	if !node.GivenUp {
		a.c.perform(a.c.sessions.Listed(now, asked, a.name, away), nil)
	}
	a.c.mu.Unlock()
	if node.GivenUp {
		a.outlived(now, asked, query != 0, away)
	}
	a.c.nodes.Synced(a.name, a.seat)
	if query == 0 {
		a.deliverMail()
		if len(astray) > 0 {
			a.c.tasks.Go(func() { a.c.findAstray(a, astray) })
		}
	}
}

// outlived takes the list of a node that was given up. What it holds from before
// that has to end first; nothing more comes to it.
func (a *agent) outlived(now, asked time.Time, answers bool, held []registry.Session) {
	switch {
	case a.disowned.IsZero():
		a.log.Warn("a node that was given up is back; it ends what it holds", "sessions", len(held))
		a.disowned = now
		a.disown(now)
	case !answers || asked.Before(a.disowned): // of before
	case len(held) == 0:
		a.c.tasks.Go(a.readmit)
	default:
		a.log.Warn("a node that was given up still holds sessions; it is told again", "sessions", len(held))
		a.c.tasks.Go(func() {
			select {
			case <-time.After(time.Second):
				a.disown(time.Now())
			case <-a.link.Done():
			case <-a.c.quit:
			}
		})
	}
}

// deliverMail sends the releases that waited for this node, but not those of
// sessions that have been handed off anew.
func (a *agent) deliverMail() {
	for k, m := range a.c.links.collect(a.name) {
		a.c.mu.Lock()
		_, anew := a.c.sessions.Get(k)
		a.c.mu.Unlock()
		if !anew {
			a.link.Send(m)
		}
	}
}

// Handoff records how a hand-off ended.
func (a *agent) Handoff(record *shuntv1.Handoff) {
	a.c.handoffs.Add(record)
	a.c.telemetry.recorded(a.c, record)
	level := slog.LevelDebug
	if record.Outcome == shuntv1.Outcome_OUTCOME_FAILED {
		level = slog.LevelWarn
	}
	a.log.Log(context.Background(), level, "hand-off", "id", record.Id, "to", record.ToNode, "outcome", record.Outcome, "reason", record.Reason)
}

// Report takes the agent's counters.
func (a *agent) Report(apps []registry.Application, r *shuntv1.Report) {
	before, _ := a.c.nodes.Get(a.name)
	a.c.nodes.Report(a.name, a.seat, apps, r)
	a.c.traffic.note(time.Now(), a.name, before.Instance, r)
	if !sameStates(before.Report.GetChecks(), r.GetChecks()) || !sameStates(before.Report.GetEjections(), r.GetEjections()) {
		select {
		case a.c.reported <- struct{}{}:
		default:
		}
	}
	if e := r.GetPolicyError(); e != "" && e != before.Report.GetPolicyError() {
		a.log.Error("agent does not apply the policy and goes on with an older one; is it of the controller's version?",
			"applies", r.GetPolicyVersion(), "err", e)
		a.link.Repeat()
	}
}
