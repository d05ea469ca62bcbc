package agent

import (
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"time"

	"github.com/shunt-sdn/shunt/agent/dispatcher"
	"github.com/shunt-sdn/shunt/agent/guard"
	"github.com/shunt-sdn/shunt/agent/routing"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// view is a NodeConfig as this node sees it.
type view struct {
	pools    []netip.Prefix
	homes    map[netip.Addr]guard.Home
	services []dispatcher.Service          // that this node dispatches
	all      map[string]dispatcher.Service // by name
	peers    map[string]string             // transfer endpoints by node
	// dispatchers by session address, as those that take a session back.
	dispatchers map[netip.Addr]dispatcher.Server
	shared      []shared
	leaving     bool // the controller has told all that this dispatcher is
}

// routed is what the policy has to know.
func (v *view) routed() []routing.Service {
	var list []routing.Service
	for _, s := range v.all {
		r := routing.Service{Name: s.Name}
		for _, srv := range s.Servers {
			r.Servers = append(r.Servers, routing.Server{Node: srv.Node, Up: srv.Up && srv.Ready})
		}
		list = append(list, r)
	}
	slices.SortFunc(list, func(a, b routing.Service) int { return cmp.Compare(a.Name, b.Name) })
	return list
}

// Defaults of a service's limits, where the controller names none.
const (
	defaultMaxHead       = 16 << 10
	defaultHeadTimeout   = 10 * time.Second
	defaultImportTimeout = time.Second
)

// viewOf checks a configuration as a whole: one that is wrong anywhere is not
// applied at all.
func viewOf(self string, c *shuntv1.NodeConfig) (view, error) {
	v := view{homes: make(map[netip.Addr]guard.Home), peers: make(map[string]string), all: make(map[string]dispatcher.Service), dispatchers: make(map[netip.Addr]dispatcher.Server)}
	for _, s := range c.Pools {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			return v, fmt.Errorf("pool %q: %w", s, err)
		}
		v.pools = append(v.pools, p)
	}
	nodes := make(map[string]*shuntv1.Node)
	for _, n := range c.Nodes {
		if len(n.Mac) != 6 {
			return v, fmt.Errorf("node %q has a hardware address of %d octets", n.Name, len(n.Mac))
		}
		nodes[n.Name] = n
		if n.Name != self && n.TransferEndpoint != "" {
			v.peers[n.Name] = n.TransferEndpoint
		}
	}
	v.leaving = nodes[self].GetDispatcher() == shuntv1.DispatcherState_DISPATCHER_STATE_LEAVING
	for _, s := range c.Services {
		svc := dispatcher.Service{
			Name:          s.Name,
			MaxHead:       or(int(s.MaxHeadBytes), defaultMaxHead),
			HeadTimeout:   or(time.Duration(s.HeadTimeoutMs)*time.Millisecond, defaultHeadTimeout),
			ImportTimeout: or(time.Duration(s.ImportTimeoutMs)*time.Millisecond, defaultImportTimeout),
			SteerAfter:    time.Duration(s.SteerAfterMs) * time.Millisecond,
		}
		for _, l := range s.Leases {
			local, err := l.Local.AddrPort()
			if err != nil {
				return v, fmt.Errorf("service %q: lease of %s: %w", s.Name, l.Dispatcher, err)
			}
			vip, err := l.Vip.AddrPort()
			if err != nil {
				return v, fmt.Errorf("service %q: virtual IP of the lease of %s: %w", s.Name, l.Dispatcher, err)
			}
			if l.Dispatcher == self {
				svc.Leases = append(svc.Leases, dispatcher.Lease{Local: local, VIP: vip})
			}
			if n := nodes[l.Dispatcher]; n != nil {
				v.homes[local.Addr()] = guard.Home{MAC: net.HardwareAddr(n.Mac), Self: l.Dispatcher == self}
				v.dispatchers[local.Addr()] = dispatcher.Server{Node: n.Name, MAC: net.HardwareAddr(n.Mac), Up: n.Up, Ready: n.Up}
			}
		}
		own, err := sharedOf(self, s, nodes)
		if err != nil {
			return v, err
		}
		v.shared = append(v.shared, own...)
		for _, name := range s.Servers {
			srv, err := serverOf(nodes[name], name, s.Name)
			if err != nil {
				return v, err
			}
			svc.Servers = append(svc.Servers, srv)
		}
		v.all[svc.Name] = svc
		if len(svc.Leases) > 0 {
			v.services = append(v.services, svc)
		}
	}
	return v, nil
}

func serverOf(n *shuntv1.Node, name, service string) (dispatcher.Server, error) {
	srv := dispatcher.Server{Node: name}
	if n == nil {
		return srv, nil // it has not come yet
	}
	srv.MAC, srv.Up = net.HardwareAddr(n.Mac), n.Up
	for _, app := range n.Applications {
		if app.Service != service {
			continue
		}
		srv.Ready = srv.Ready || app.Ready
		if app.Direct != nil {
			direct, err := app.Direct.AddrPort()
			if err != nil {
				return srv, fmt.Errorf("service %q: server %s: %w", service, name, err)
			}
			srv.Direct = direct
		}
	}
	return srv, nil
}

func or[T comparable](v, standard T) T {
	var zero T
	if v == zero {
		return standard
	}
	return v
}
