package attach

import (
	"errors"
	"fmt"
	"syscall"
	"time"

	"github.com/shunt-sdn/shunt/agent/httphead"
	"github.com/shunt-sdn/shunt/internal/handoffproto"
)

// RoutesChanged has applications hear at once what Router.PerRequest says of
// services now. Without it they hear with the next session.
func (l *Listener) RoutesChanged() {
	for _, a := range *l.apps.Load() {
		a.mu.Lock()
		services := make([]string, 0, len(a.told))
		for s := range a.told {
			services = append(services, s)
		}
		a.mu.Unlock()
		for _, s := range services {
			l.tell(a, s)
		}
	}
}

// tell has an application know whether requests of a service are routed, if it
// wants to know and does not yet.
func (l *Listener) tell(a *app, service string) {
	if l.cfg.Router == nil {
		return
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	on := l.cfg.Router.PerRequest(service)
	if !a.willing {
		return
	}
	if was, ok := a.told[service]; !ok || was != on {
		l.tellRouted(a, service, on)
	}
	if lv := leaver(l.cfg.Router); lv != nil {
		if on := lv.Leaves(service); on != a.vacates[service] {
			l.tellVacates(a, service, on)
		}
	}
}

// Vacate implements Vacater, for applications that let connections go.
func (l *Listener) Vacate(service string) {
	lv := leaver(l.cfg.Router)
	if lv == nil {
		return
	}
	for _, a := range *l.apps.Load() {
		a.mu.Lock()
		if _, knows := a.told[service]; knows {
			l.tellVacates(a, service, lv.Leaves(service))
		}
		a.mu.Unlock()
	}
}

// tellVacates is called with a.mu held.
func (l *Listener) tellVacates(a *app, service string, on bool) {
	frame, err := handoffproto.Vacate{Service: service, On: on}.Append(nil)
	if err == nil {
		err = handoffproto.Send(a.raw, frame, -1)
	}
	if err == nil {
		a.vacates[service] = on
	}
}

// tellRouted is called with a.mu held.
func (l *Listener) tellRouted(a *app, service string, on bool) {
	frame, err := handoffproto.PerRequest{Service: service, On: on}.Append(nil)
	if err == nil {
		err = handoffproto.Send(a.raw, frame, -1)
	}
	if err == nil { // else its queue is full or it is gone: next time
		a.told[service] = on
	}
}

// converse hears what an application says after hello, until it says something
// wrong or closes.
func (l *Listener) converse(a *app, r *handoffproto.Receiver) error {
	for {
		f, fd, err := r.Receive(a.conn)
		if errors.Is(err, handoffproto.ErrDescriptorLost) {
			l.log.Error("a connection that was to move is lost", "err", err)
			continue
		}
		if err != nil {
			return err
		}
		switch f := f.(type) {
		case handoffproto.Give:
			l.take(f, fd)
			continue
		case handoffproto.Willing:
			err = l.willing(a)
		case handoffproto.Answers:
			if l.cfg.Answers != nil {
				l.cfg.Answers(Answers(f))
			}
		case handoffproto.Question:
			l.answer(a, f)
		default:
			err = fmt.Errorf("a %T from an application that had said hello", f)
		}
		if fd >= 0 {
			syscall.Close(fd)
		}
		if err != nil {
			return err
		}
	}
}

// answerFor is how long an application with a full queue is waited for. An answer
// that comes after a second is not waited for there.
const answerFor = 500 * time.Millisecond

// answer tells an application where a request goes. If its queue stays full it
// hears nothing, and serves the request after a while.
func (l *Listener) answer(a *app, q handoffproto.Question) {
	reply := handoffproto.Answer{Number: q.Number}
	if r := l.cfg.Router; r != nil && !l.isClosed() && r.PerRequest(q.Session.Service) {
		head, complete, err := httphead.Parse([]byte(q.Head), handoffproto.MaxHead+1)
		if err == nil && complete { // else it is for the application to refuse
			reply.Node = r.Route(Meta(q.Session), &head)
		}
	}
	frame, err := reply.Append(nil)
	if err == nil {
		err = l.sendPatiently(a, frame)
	}
	if err != nil {
		l.log.Warn("an application is not told where its request goes", "session", q.Session.ID, "err", err)
	}
}

// sendPatiently waits while an application's queue is full, as it is when many
// requests are asked about at once.
func (l *Listener) sendPatiently(a *app, frame []byte) error {
	for end := time.Now().Add(answerFor); ; {
		err := handoffproto.Send(a.raw, frame, -1)
		if !errors.Is(err, syscall.EAGAIN) && !errors.Is(err, syscall.ENOBUFS) || time.Now().After(end) {
			return err
		}
		select {
		case <-time.After(time.Millisecond):
		case <-l.done:
			return err
		}
	}
}

// take moves a connection that an application has given back, or gives it back
// to an application, which finds its next request as if it were the first.
func (l *Listener) take(g handoffproto.Give, fd int) {
	m := Meta(g.Session)
	m.Idle = g.Node == "" // then its next request is still to be routed
	l.mu.Lock()
	if l.isClosed() || l.cfg.Router == nil {
		l.mu.Unlock()
		l.putBack(fd, m)
		return
	}
	l.moves.Add(1)
	l.mu.Unlock()
	go func() {
		defer l.moves.Done()
		begun := time.Now()
		var err error
		if lv := leaver(l.cfg.Router); g.Node != "" {
			err = l.cfg.Router.Move(l.ctx, fd, m, g.Node)
		} else if lv != nil {
			err = lv.Leave(l.ctx, fd, m)
		} else {
			err = errors.New("idle connections stay at this agent")
		}
		if err == nil {
			l.log.Debug("a session moved", "session", m.ID, "client", m.Client, "to", g.Node, "took", time.Since(begun))
			return
		}
		l.log.Info("a connection does not move; its next request is answered here", "session", m.ID, "client", m.Client, "to", g.Node, "err", err)
		l.putBack(fd, m)
	}()
}

// putBackFor is how long an application with a full queue is tried.
const putBackFor = 2 * time.Second

// putBack attaches a connection again. If no application takes it, its client
// has to be told.
func (l *Listener) putBack(fd int, m Meta) {
	var err error
	for end := time.Now().Add(putBackFor); ; {
		if err = l.Attach(l.ctx, fd, m); err == nil {
			return
		}
		if !errors.Is(err, ErrBusy) || time.Now().After(end) {
			break
		}
		select {
		case <-time.After(5 * time.Millisecond):
		case <-l.ctx.Done():
			end = time.Now()
		}
	}
	l.log.Error("a session is lost: it could not move, and no application takes it back", "session", m.ID, "client", m.Client, "err", err)
	syscall.SetsockoptLinger(fd, syscall.SOL_SOCKET, syscall.SO_LINGER, &syscall.Linger{Onoff: 1}) // closing sends RST
	syscall.Close(fd)
}
