package controller

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"

	"go.etcd.io/bbolt"

	"github.com/shunt-sdn/shunt/controller/config"
	"github.com/shunt-sdn/shunt/controller/leases"
	"github.com/shunt-sdn/shunt/controller/policystore"
	"github.com/shunt-sdn/shunt/controller/registry"
	"github.com/shunt-sdn/shunt/internal/nearest"
	"github.com/shunt-sdn/shunt/policy/fault"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// Leases lists the leases; see api.Policies.
func (p policies) Leases() ([]*shuntv1.SessionLease, error) {
	all, err := p.c.store.All()
	if err != nil {
		return nil, err
	}
	out := make([]*shuntv1.SessionLease, len(all))
	for i, l := range all {
		out[i] = &shuntv1.SessionLease{Service: l.Service, Dispatcher: l.Dispatcher, Address: l.Address.String()}
	}
	return out, nil
}

// Import makes the request's policy and leases those of a controller that does
// not run: what shunt export printed, into a new database. It refuses while a
// controller has the database open.
func Import(ctx context.Context, cfg config.Config, r *shuntv1.ApplyRequest, log *slog.Logger) (_ *shuntv1.ApplyResponse, err error) {
	store, err := leases.Open(cfg.State)
	if err != nil {
		return nil, fmt.Errorf("%w; stop it, or import through it", err)
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	policy, err := policystore.Open(store.DB())
	if err != nil {
		return nil, err
	}
	return policies{&cluster{cfg: cfg, log: log, store: store, policy: policy, nodes: registry.NewNodes(cfg.Nodes, nil)}}.Apply(ctx, r)
}

// restoration is what a request makes of leases.
type restoration struct {
	p    policies
	cfg  config.Config         // with the services as they will be
	live map[netip.Addr]uint64 // sessions by session address

	byKey     map[leases.Key]netip.Addr // what is leased now
	byAddress map[netip.Addr]leases.Key
	asked     map[leases.Key]netip.Addr // what the request leases
	given     map[netip.Addr]leases.Key
}

// live counts the sessions by their session addresses, as agents have them.
func (p policies) live(ctx context.Context) (map[netip.Addr]uint64, error) {
	out := make(map[netip.Addr]uint64)
	if p.c.sessions == nil { // the controller does not run
		return out, nil
	}
	list, err := p.c.Sessions(ctx)
	if err != nil {
		return nil, err
	}
	for _, s := range list {
		if _, local, err := s.GetSession().Ends(); err == nil {
			out[local.Addr()]++
		}
	}
	return out, nil
}

// restore adds to a plan what the request makes of leases. The caller holds
// cluster.refreshing, so that none is made meanwhile. The error is a
// policystore.Invalid if a lease of the request is refused.
func (p policies) restore(plan *policystore.Plan, asked []*shuntv1.SessionLease, live map[netip.Addr]uint64) ([]*shuntv1.LeaseChange, error) {
	now, err := p.c.store.All()
	if err != nil {
		return nil, err
	}
	r := restoration{
		p: p, cfg: effective(p.c.cfg, plan.Next().Policy), live: live,
		byKey: make(map[leases.Key]netip.Addr), byAddress: make(map[netip.Addr]leases.Key),
		asked: make(map[leases.Key]netip.Addr), given: make(map[netip.Addr]leases.Key),
	}
	for _, l := range now {
		if stillWanted(r.cfg, l.Key, l.Address) { // else it is freed by this change
			r.byKey[l.Key], r.byAddress[l.Address] = l.Address, l.Key
		}
	}
	var faults fault.List
	list := make([]leases.Lease, len(asked))
	for i, m := range asked {
		list[i] = r.read(fmt.Sprintf("leases[%d]", i), m, &faults)
	}
	if len(faults) > 0 {
		return nil, &policystore.Invalid{Faults: faults}
	}
	out := make([]*shuntv1.LeaseChange, len(list))
	for i, l := range list {
		before, had := r.byKey[l.Key]
		out[i] = &shuntv1.LeaseChange{Lease: asked[i], Change: shuntv1.ChangeKind_CHANGE_KIND_CREATED}
		switch {
		case had && before == l.Address:
			out[i].Change = shuntv1.ChangeKind_CHANGE_KIND_UNCHANGED
			continue
		case had:
			out[i].Change, out[i].Before = shuntv1.ChangeKind_CHANGE_KIND_UPDATED, before.String()
		}
		r.conflicts(fmt.Sprintf("leases[%d]", i), l, &faults)
	}
	if len(faults) > 0 {
		return nil, &policystore.Invalid{Faults: faults}
	}
	plan.Beside = func(tx *bbolt.Tx) error { return leases.Restore(tx, list) }
	return out, nil
}

// read checks a lease on its own, against the other ones of the request, and
// against services and pools.
func (r *restoration) read(at string, m *shuntv1.SessionLease, faults *fault.List) (l leases.Lease) {
	l.Service, l.Dispatcher = m.GetService(), m.GetDispatcher()
	i := slices.IndexFunc(r.cfg.Services, func(s config.Service) bool { return s.Name == l.Service })
	if i < 0 {
		var names []string
		for _, s := range r.cfg.Services {
			names = append(names, s.Name)
		}
		remedy := "create the service with it, or leave the lease out"
		if guess := nearest.Word(l.Service, names); guess != "" {
			remedy = fmt.Sprintf("did you mean %q?", guess)
		}
		faults.Add(at+".service", remedy, "there is no service %q", l.Service)
		return l
	}
	s := r.cfg.Services[i]
	switch {
	case l.Dispatcher == "":
		faults.Add(at+".dispatcher", "name the node that has the address", "the lease has no dispatcher")
	case s.Dispatchers != nil && !slices.Contains(s.Dispatchers, l.Dispatcher):
		faults.Add(at+".dispatcher", "leave the lease out, or add the dispatcher to the service", "node %q is no dispatcher of service %s", l.Dispatcher, s.Name)
	case r.cfg.Nodes != nil && !slices.Contains(r.cfg.Nodes, l.Dispatcher):
		faults.Add(at+".dispatcher", "add it there, or leave the lease out", "node %q is not in the nodes of the controller's configuration", l.Dispatcher)
	}
	var err error
	if l.Address, err = netip.ParseAddr(m.GetAddress()); err != nil || l.Address.Zone() != "" {
		faults.Add(at+".address", "write an address such as 172.31.0.1", "%q is not an IP address", m.GetAddress())
		return l
	}
	l.Address = l.Address.Unmap()
	l.IPv6 = l.Address.Is6()
	switch {
	case !slices.ContainsFunc(s.VIPs, func(v netip.Addr) bool { return v.Is6() == l.IPv6 }):
		faults.Add(at+".address", "leave the lease out", "service %s has no vip of the family of %v", s.Name, l.Address)
	case !leases.Leasable(r.cfg.Pools, l.Address):
		faults.Add(at+".address", fmt.Sprintf("leave the lease out, or add its pool to the configuration, which has %v", r.cfg.Pools), "%v is no session address of a configured pool", l.Address)
	}
	if k, ok := r.given[l.Address]; ok {
		faults.Add(at+".address", "remove one", "%v is leased twice, also to %v", l.Address, k)
	} else if a, ok := r.asked[l.Key]; ok {
		faults.Add(at, "remove one", "%v is leased to %v already", a, l.Key)
	}
	r.given[l.Address], r.asked[l.Key] = l.Key, l.Address
	return l
}

// conflicts refuses a lease that would take an address away from who uses it.
func (r *restoration) conflicts(at string, l leases.Lease, faults *fault.List) {
	if k, ok := r.byAddress[l.Address]; ok {
		if _, moves := r.asked[k]; !moves {
			faults.Add(at+".address", "leave this lease out, or import that one as well, with another address", "%v is leased to %v", l.Address, k)
			return
		}
	}
	before, had := r.byKey[l.Key]
	if !had {
		return
	}
	n, _ := r.p.c.nodes.Get(l.Dispatcher)
	switch sessions := r.live[before]; {
	case n.Up:
		faults.Add(at+".address", fmt.Sprintf("leave this lease out to keep %v; or stop the agent of %s, import, and start it", before, l.Dispatcher),
			"%v has %v, and its agent is connected and uses it", l.Key, before)
	case sessions > 0:
		faults.Add(at+".address", fmt.Sprintf("leave this lease out to keep %v; or wait until they have ended", before), "%v has %v, and %d sessions live on it", l.Key, before, sessions)
	}
}

// again has the cluster brought up to date at once.
func (c *cluster) again() {
	select {
	case c.reported <- struct{}{}:
	default: // it will be anyway
	}
}
