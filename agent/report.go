package agent

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"github.com/shunt-sdn/shunt/agent/attach"
	"github.com/shunt-sdn/shunt/agent/config"
	"github.com/shunt-sdn/shunt/internal/logconf"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// makeAttachments makes the way to each configured application. The controller
// hears of it at once when an application comes or goes.
func (a *agent) makeAttachments(ctx context.Context) error {
	a.attached, a.answers = make(map[string]attach.Attachment), make(map[string]*answers)
	for _, app := range a.cfg.Applications {
		a.answers[app.Service] = new(answers)
		at, err := a.makeAttachment(ctx, app)
		if err != nil {
			return errors.Join(fmt.Errorf("agent: application of service %q: %w", app.Service, err), a.detach())
		}
		a.attached[app.Service] = at
	}
	return nil
}

func (a *agent) makeAttachment(ctx context.Context, app config.Application) (attach.Attachment, error) {
	log := logconf.Of(a.log, "attach").With("service", app.Service)
	onReady := func(bool) { a.control.ReportNow() }
	switch app.Attach {
	case config.AttachListener:
		return attach.NewListener(ctx, attach.ListenerConfig{Socket: app.Socket, Router: a, Answers: a.answers[app.Service].told, OnReady: onReady, Log: log})
	case config.AttachPreload:
		connect, err := netip.ParseAddrPort(app.Connect)
		if err != nil {
			return nil, fmt.Errorf("connect: %w", err) // config has checked it
		}
		return attach.NewPreload(attach.PreloadConfig{Socket: app.Socket, Connect: connect, Connect6: app.Connect6, OnReady: onReady, Log: log})
	case config.AttachRelay:
		return attach.NewRelay(attach.RelayConfig{Connect: app.Connect, ProxyProtocol: app.ProxyProtocol,
			Forwarded: attach.Forwarded(app.Forwarded), Timeouts: attach.Timeouts{Idle: app.IdleTimeout}, Router: a, Limits: a.headLimits, Answered: a.answers[app.Service].take, OnReady: onReady, Log: log})
	default:
		return nil, fmt.Errorf("unknown attachment %q", app.Attach)
	}
}

func (a *agent) applications() []*shuntv1.Application {
	apps := make([]*shuntv1.Application, 0, len(a.cfg.Applications))
	for _, app := range a.cfg.Applications {
		m := &shuntv1.Application{Service: app.Service, Ready: a.attached[app.Service].Ready()}
		if app.Direct.IsValid() {
			m.Direct = shuntv1.EndpointOf(app.Direct)
		}
		apps = append(apps, m)
	}
	return apps
}

// addresses are where applications take ordinary connections, by service.
func (a *agent) addresses() map[string]string {
	m := make(map[string]string)
	for _, app := range a.cfg.Applications {
		m[app.Service] = app.Connect
		if app.Direct.IsValid() {
			m[app.Service] = app.Direct.String()
		}
	}
	return m
}

func (a *agent) hello() *shuntv1.Hello {
	h := &shuntv1.Hello{
		Node: a.cfg.Node, Mac: a.mac, TransferEndpoint: a.cfg.Advertise,
		Applications: a.applications(), Instance: a.instance, Version: a.version, Dispatcher: a.dispatcherState(),
	}
	for _, addr := range a.addrs {
		h.Addresses = append(h.Addresses, addr.AsSlice())
	}
	for r, role := range map[config.Role]shuntv1.Role{config.Dispatcher: shuntv1.Role_ROLE_DISPATCHER, config.Server: shuntv1.Role_ROLE_SERVER} {
		if a.cfg.Has(r) {
			h.Roles = append(h.Roles, role)
		}
	}
	return h
}

func (a *agent) report() *shuntv1.Report {
	r := &shuntv1.Report{Applications: a.applications(), Dispatcher: a.dispatcherState()}
	c := a.dispatcher.Counters()
	r.RequestsProxied, r.RequestsRefused = c.Proxied, c.Refused
	a.policy.Report(r)
	r.SessionsMoved = a.drain.moved.Load()
	r.Checks = a.health.States()
	r.Load = uint32(a.server.Sessions())
	for _, app := range a.cfg.Applications {
		r.Answers = append(r.Answers, a.answers[app.Service].report(app.Service))
	}
	counters, err := a.guard.Counters()
	if err != nil {
		a.log.Warn("cannot read the guard's counters", "err", err)
		return r
	}
	r.Guard = map[string]uint64{
		"delivered_socket": counters.DeliveredSocket, "delivered_home": counters.DeliveredHome,
		"delivered_fragment": counters.DeliveredFragment, "diverted": counters.Diverted,
		"returned_home": counters.ReturnedHome, "dropped_from_home": counters.DroppedFromHome,
		"dropped_bounced": counters.DroppedBounced, "dropped_unknown_home": counters.DroppedUnknownHome,
		"dropped_hop_limit": counters.DroppedHopLimit, "dropped_malformed": counters.DroppedMalformed, "dropped_time_wait": counters.DroppedTimeWait, "passed_on": counters.PassedOn,
		"returned_early": counters.ReturnedEarly, "diverted_again": counters.DivertedAgain,
		"syn_delivered": counters.SynDelivered, "syn_returned": counters.SynReturned, "syn_dropped": counters.SynDropped,
	}
	return r
}
