package controller

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/shunt-sdn/shunt/controller/config"
	"github.com/shunt-sdn/shunt/internal/nearest"
	"github.com/shunt-sdn/shunt/policy/fault"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// effective is the configuration with what the policy says of services: limits
// and servers of those that it has, and those that only the policy has. The
// policy has passed checkServices.
func effective(cfg config.Config, p *shuntv1.Policy) config.Config {
	cfg.Services = slices.Clone(cfg.Services)
	for _, s := range p.GetServices() {
		i := slices.IndexFunc(cfg.Services, func(x config.Service) bool { return x.Name == s.Name })
		if i < 0 {
			cfg.Services = append(cfg.Services, created(s))
			continue
		}
		x := &cfg.Services[i]
		if len(s.Servers) > 0 {
			x.Servers = s.Servers
		}
		l := s.GetLimits()
		x.MaxHead = cmp.Or(int(l.GetMaxHeadBytes()), x.MaxHead)
		x.HeadTimeout = or(l.GetHeadTimeout(), x.HeadTimeout)
		x.ImportTimeout = or(l.GetImportTimeout(), x.ImportTimeout)
	}
	return cfg
}

// created is a service that the policy alone has.
func created(s *shuntv1.ServicePolicy) config.Service {
	l := s.GetLimits()
	out := config.Service{
		Name: s.Name, Port: uint16(s.Port),
		MaxHead:       cmp.Or(int(l.GetMaxHeadBytes()), config.DefaultMaxHead),
		HeadTimeout:   or(l.GetHeadTimeout(), config.DefaultHeadTimeout),
		ImportTimeout: or(l.GetImportTimeout(), config.DefaultImportTimeout),
		SteerAfter:    config.DefaultSteerAfter,
	}
	for _, v := range s.Vips {
		if a, err := netip.ParseAddr(v); err == nil {
			out.VIPs = append(out.VIPs, a)
		}
	}
	if len(s.Dispatchers) > 0 {
		out.Dispatchers = s.Dispatchers
	}
	if len(s.Servers) > 0 {
		out.Servers = s.Servers
	}
	return out
}

func or(d *durationpb.Duration, standard time.Duration) time.Duration {
	if d == nil {
		return standard
	}
	return d.AsDuration()
}

// checkServices holds the policy's services against the configuration. What is
// wrong with them on their own was found before.
func checkServices(cfg config.Config, p *shuntv1.Policy) (faults fault.List) {
	type end struct {
		netip.AddrPort
		service string
	}
	var ends []end
	names := make([]string, 0, len(cfg.Services))
	for _, s := range cfg.Services {
		names = append(names, s.Name)
		for _, v := range s.VIPs {
			ends = append(ends, end{netip.AddrPortFrom(v, s.Port), s.Name})
		}
	}
	for i, s := range p.GetServices() {
		at := fmt.Sprintf("services[%d]", i)
		if slices.Contains(names, s.Name) {
			for field, set := range map[string]bool{"vips": len(s.Vips) > 0, "port": s.Port != 0, "dispatchers": len(s.Dispatchers) > 0} {
				if set {
					faults.Add(at+"."+field, "leave it out, or rename the service", "service %s has its %s from the controller's configuration", s.Name, field)
				}
			}
			continue
		}
		switch {
		case len(s.Vips) == 0:
			remedy := "give it vips and a port"
			if guess := nearest.Word(s.Name, names); guess != "" {
				remedy = fmt.Sprintf("did you mean %q? Else give it vips and a port", guess)
			}
			faults.Add(at+".name", remedy, "the controller's configuration has no service %q", s.Name)
		case s.Port == 0:
			faults.Add(at+".port", "write the TCP port that clients connect to, 1 to 65535", "service %s has vips and no port", s.Name)
		}
		for j, v := range s.Vips {
			a, err := netip.ParseAddr(v)
			if err != nil {
				continue // found before
			}
			path := fmt.Sprintf("%s.vips[%d]", at, j)
			ap := netip.AddrPortFrom(a, uint16(s.Port))
			if k := slices.IndexFunc(ends, func(e end) bool { return e.AddrPort == ap }); k >= 0 {
				faults.Add(path, "choose another vip or port", "%v is service %s's", ap, ends[k].service)
			}
			ends = append(ends, end{ap, s.Name})
			checkVIP(cfg, path, a, &faults)
		}
	}
	return append(faults, checkNodes(cfg, p)...)
}

// checkVIP applies the configuration's own rules.
func checkVIP(cfg config.Config, path string, a netip.Addr, faults *fault.List) {
	covered, reached := false, false
	for _, pool := range cfg.Pools {
		covered = covered || pool.Addr().Is4() == a.Is4()
		if pool.Contains(a) {
			faults.Add(path, "choose a vip outside the pools", "vip %v lies in the session addresses' pool %v", a, pool)
			return
		}
	}
	for _, sw := range cfg.Switches {
		for _, i := range sw.Interfaces {
			for _, x := range i.Addresses {
				reached = reached || x.Addr().Is4() == a.Is4()
				if x.Addr() == a {
					faults.Add(path, "choose another vip", "vip %v is the address of the switch's interface %s", a, i.Name)
					return
				}
			}
		}
	}
	family := "IPv6"
	if a.Is4() {
		family = "IPv4"
	}
	switch {
	case !covered:
		faults.Add(path, "leave the vip out, or give the controller's configuration such a pool", "no pool of session addresses is of %s", family)
	case !reached:
		faults.Add(path, "leave the vip out, or give an interface such an address", "vip %v cannot be reached: no interface of a switch has %s", a, family)
	}
}

// checkNodes refuses names of nodes that the configuration rules out.
func checkNodes(cfg config.Config, p *shuntv1.Policy) (faults fault.List) {
	if cfg.Nodes == nil {
		return nil
	}
	eachNode(p, func(path, name string) {
		if slices.Contains(cfg.Nodes, name) {
			return
		}
		remedy := "add it there"
		if guess := nearest.Word(name, cfg.Nodes); guess != "" {
			remedy = fmt.Sprintf("did you mean %q? Else add it there", guess)
		}
		faults.Add(path, remedy, "node %q is not in the nodes of the controller's configuration", name)
	})
	return faults
}

// warnNodes tells of nodes that were never seen: they may yet come.
func warnNodes(p *shuntv1.Policy, known []string) (warnings fault.List) {
	eachNode(p, func(path, name string) {
		if slices.Contains(known, name) {
			return
		}
		remedy := "it is used as soon as its agent connects"
		if guess := nearest.Word(name, known); guess != "" {
			remedy = fmt.Sprintf("did you mean %q?", guess)
		}
		warnings.Add(path, remedy, "node %q has not connected yet", name)
	})
	return warnings
}

// eachNode calls f for every name of a node in the policy.
func eachNode(p *shuntv1.Policy, f func(path, name string)) {
	for i, s := range p.GetServices() {
		for j, n := range s.Dispatchers {
			f(fmt.Sprintf("services[%d].dispatchers[%d]", i, j), n)
		}
		for j, n := range s.Servers {
			f(fmt.Sprintf("services[%d].servers[%d]", i, j), n)
		}
	}
	for i, pool := range p.GetPools() {
		for j, m := range pool.Members {
			f(fmt.Sprintf("pools[%d].members[%d].server", i, j), m.Server)
		}
	}
	for i, s := range p.GetServers() {
		f(fmt.Sprintf("servers[%d].name", i), s.Name)
	}
}
