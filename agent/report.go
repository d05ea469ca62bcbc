package agent

import (
	"fmt"
	"log/slog"

	"github.com/shunt-sdn/shunt/agent/attach"
	"github.com/shunt-sdn/shunt/agent/config"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// attachments makes the way to each configured application.
func attachments(cfg config.Config, log *slog.Logger) (map[string]attach.Attachment, error) {
	m := make(map[string]attach.Attachment)
	for _, app := range cfg.Applications {
		var a attach.Attachment
		var err error
		switch app.Attach {
		case config.AttachListener:
			a, err = attach.NewListener(app.Socket, log)
		case config.AttachRelay:
			a, err = attach.NewRelay(app.Connect, attach.RelayOptions{ProxyProtocol: app.ProxyProtocol, Log: log})
		default:
			err = fmt.Errorf("unknown attachment %q", app.Attach)
		}
		if err != nil {
			for _, made := range m {
				made.Close()
			}
			return nil, fmt.Errorf("agent: application of service %q: %w", app.Service, err)
		}
		m[app.Service] = a
	}
	return m, nil
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

func (a *agent) hello() *shuntv1.Hello {
	h := &shuntv1.Hello{
		Node: a.cfg.Node, Mac: a.mac, TransferEndpoint: a.cfg.Advertise,
		Applications: a.applications(), Instance: a.instance, Version: a.version,
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
	r := &shuntv1.Report{Applications: a.applications()}
	if a.dispatcher != nil {
		c := a.dispatcher.Counters()
		r.RequestsProxied, r.RequestsRefused = c.Proxied, c.Refused
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
		"dropped_hop_limit": counters.DroppedHopLimit, "dropped_malformed": counters.DroppedMalformed,
		"syn_delivered": counters.SynDelivered, "syn_returned": counters.SynReturned, "syn_dropped": counters.SynDropped,
	}
	return r
}
