package agent

import (
	"fmt"
	"net"
	"net/netip"
	"reflect"

	"github.com/shunt-sdn/shunt/agent/guard"
	"github.com/shunt-sdn/shunt/internal/slots"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// This file is what the guard does with packets at home that nothing here knows:
// when a dispatcher comes or goes the switch sends connections that others have to
// another one than before, which passes their packets on.

// shared is a session address of this node and the dispatchers that have one for
// the same service and family, this one included.
type shared struct {
	service string
	local   netip.Addr
	with    []sharer
}

type sharer struct {
	node    string
	session netip.Addr
	mac     string // 6 octets
	state   shuntv1.DispatcherState
}

func (s sharer) accepts() bool {
	return s.state == shuntv1.DispatcherState_DISPATCHER_STATE_UNSPECIFIED
}

// sharedOf reads from a configuration who shares this node's connections.
func sharedOf(self string, s *shuntv1.Service, nodes map[string]*shuntv1.Node) ([]shared, error) {
	var mine []shared
	byFamily := map[bool][]sharer{}
	for _, l := range s.Leases {
		local, err := l.Local.AddrPort()
		if err != nil {
			return nil, fmt.Errorf("service %q: lease of %s: %w", s.Name, l.Dispatcher, err)
		}
		n := nodes[l.Dispatcher]
		if n == nil {
			continue
		}
		a := local.Addr()
		if n.Name == self {
			mine = append(mine, shared{service: s.Name, local: a})
		} else if !n.Up && n.Dispatcher != shuntv1.DispatcherState_DISPATCHER_STATE_AWAY {
			continue
		}
		byFamily[a.Is6()] = append(byFamily[a.Is6()], sharer{n.Name, a, string(n.Mac), n.Dispatcher})
	}
	for i := range mine {
		mine[i].with = byFamily[mine[i].local.Is6()]
	}
	return mine, nil
}

// others returns whom to ask for which connections.
func others(self string, all []shared) map[guard.Share]guard.Another {
	ask := make(map[guard.Share]guard.Another)
	for _, s := range all {
		var present []string
		by := make(map[string]sharer)
		for _, x := range s.with {
			present = append(present, x.node)
			by[x.node] = x
		}
		for slot := range slots.Count {
			next := slots.Next(s.service, slot, self, present)
			if x, ok := by[next]; ok {
				ask[guard.Share{Session: s.local, Slot: uint8(slot)}] = guard.Another{Session: x.session, MAC: net.HardwareAddr(x.mac), More: uint8(min(len(present)-2, guard.MaxMore))}
			}
		}
	}
	return ask
}

// askOthers tells the guard. The configuration comes about once a second, with
// the loads of servers, and seldom changes this.
func (a *agent) askOthers(v view) error {
	if a.asked != nil && reflect.DeepEqual(*a.asked, v.shared) {
		return nil
	}
	if err := a.guard.SetOthers(others(a.cfg.Node, v.shared)); err != nil {
		return err
	}
	a.asked = &v.shared
	return nil
}
