package controller

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"net/netip"

	"github.com/shunt-sdn/shunt/controller/config"
	"github.com/shunt-sdn/shunt/controller/fabric"
	"github.com/shunt-sdn/shunt/controller/steering"
)

// switches is what the controller needs of its switches: a fabric.Fabric. Only
// Run, Follow, Alive and Flows block, and done functions may be called at any time.
type switches interface {
	Run(ctx context.Context, l net.Listener, conf func() *tls.Config) error
	SetTopology(fabric.Topology)
	Follow(context.Context) error
	Steer(s fabric.Session, done func(error))
	Unsteer(client, vip netip.AddrPort, id string, done func(error))
	End(client, vip netip.AddrPort)
	Replace([]fabric.Session)
	Status() []fabric.SwitchStatus
	Sessions() []fabric.SessionPath
	Alive(ctx context.Context, node string) (bool, error)
	Flows(context.Context) ([]fabric.FlowInfo, error)
}

// newSwitches makes the fabric that the configuration describes. Numbers in
// marks come from indexes, so that they are the same after a restart.
func newSwitches(cfg config.Config, indexes steering.Indexes, log *slog.Logger) (switches, error) {
	c := fabric.Config{Pools: cfg.Pools, Indexes: indexes, Log: log}
	for _, s := range cfg.Switches {
		f := fabric.Switch{DPID: s.DPID, Connect: s.Connect, Steering: fabric.Mode(s.Steering)}
		for _, i := range s.Interfaces {
			f.Interfaces = append(f.Interfaces, fabric.Interface{Name: i.Name, MAC: i.MAC, Addresses: i.Addresses, Ports: i.Ports})
		}
		for _, r := range s.Routes {
			f.Routes = append(f.Routes, fabric.Route{To: r.To, Via: r.Via})
		}
		c.Switches = append(c.Switches, f)
	}
	return fabric.New(c)
}
