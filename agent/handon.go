package agent

import (
	"context"
	"fmt"
	"slices"

	"github.com/shunt-sdn/shunt/agent/attach"
	"github.com/shunt-sdn/shunt/agent/dispatcher"
)

// Move implements attach.Router: it hands a session of an application here on to
// another server.
func (a *agent) Move(ctx context.Context, fd int, m attach.Meta, node string) error {
	v, _ := a.view()
	service, ok := v.all[m.Service]
	i := slices.IndexFunc(service.Servers, func(s dispatcher.Server) bool { return s.Node == node })
	if !ok || i < 0 {
		return fmt.Errorf("hand session of %v on: %s is no server of service %q", m.Client, node, m.Service)
	}
	target := service.Servers[i]
	if a.control.Connected() && (!target.Up || !target.Ready) {
		return fmt.Errorf("hand session of %v on: %s takes no sessions of service %q now", m.Client, node, m.Service)
	}
	d := a.server.Depart(m.ID, m.Client, m.Local)
	if d == nil {
		return fmt.Errorf("hand session of %v on: this agent does not know where it came from, or is at it already", m.Client)
	}
	err := a.dispatcher.HandOn(ctx, fd, dispatcher.Onward{
		ID: m.ID, Origin: d.Origin, Hop: d.Hop, Departure: d,
		Client: m.Client, Local: m.Local, VIP: m.VIP, Service: service, Target: target,
	})
	if err != nil {
		a.log.Info("a session stays where it is", "client", m.Client, "service", m.Service, "to", node, "err", err)
	}
	return err
}
