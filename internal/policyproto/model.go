package policyproto

import (
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/shunt-sdn/shunt/policy"
	"github.com/shunt-sdn/shunt/policy/fault"
	"github.com/shunt-sdn/shunt/policy/match"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// Model converts a policy. The list has what cannot be converted (addresses,
// prefixes, ranges); policy.Validate finds the rest.
func Model(p *shuntv1.Policy) (policy.Model, fault.List) {
	var c converter
	var m policy.Model
	for i, s := range p.GetServices() {
		m.Services = append(m.Services, c.service(fmt.Sprintf("services[%d]", i), s))
	}
	for i, x := range p.GetPools() {
		m.Pools = append(m.Pools, c.pool(fmt.Sprintf("pools[%d]", i), x))
	}
	for _, s := range p.GetServers() {
		x := policy.Server{Name: s.GetName(), WeightPercent: 100, Drain: s.GetDrain(), MaxLoad: s.GetMaxLoad()}
		if s.WeightPercent != nil {
			x.WeightPercent = s.GetWeightPercent()
		}
		m.Servers = append(m.Servers, x)
	}
	return m, c.List
}

type converter struct{ fault.List }

func (c *converter) service(at string, s *shuntv1.ServicePolicy) policy.Service {
	out := policy.Service{Name: s.GetName(), Dispatchers: s.GetDispatchers(), Servers: s.GetServers(), DefaultPool: s.GetDefaultPool()}
	for i, text := range s.GetVips() {
		a, err := netip.ParseAddr(text)
		if err != nil {
			c.Add(fmt.Sprintf("%s.vips[%d]", at, i), `write an address such as "10.10.0.80"`, "%q is not an IP address", text)
		}
		out.VIPs = append(out.VIPs, a)
	}
	if s.GetPort() > 65535 {
		c.Add(at+".port", "write 1 to 65535", "%d is not a port", s.GetPort())
	} else {
		out.Port = uint16(s.GetPort())
	}
	l := s.GetLimits()
	out.Limits = policy.ServiceLimits{MaxHeadBytes: int(l.GetMaxHeadBytes()),
		HeadTimeout:   c.duration(at+".limits.headTimeout", l.GetHeadTimeout()),
		ImportTimeout: c.duration(at+".limits.importTimeout", l.GetImportTimeout())}
	for i, r := range s.GetRoutes() {
		out.Routes = append(out.Routes, c.route(fmt.Sprintf("%s.routes[%d]", at, i), r))
	}
	return out
}

func (c *converter) route(at string, r *shuntv1.Route) policy.Route {
	out := policy.Route{Name: r.GetName(), Pool: r.GetPool()}
	if m := r.GetMatch(); m != nil {
		out.Match = c.match(at+".match", m)
	}
	for _, p := range r.GetPools() {
		out.Pools = append(out.Pools, policy.WeightedPool{Pool: p.GetPool(), Weight: p.GetWeight()})
	}
	if x := r.GetReject(); x != nil {
		out.Reject = &policy.Reject{Status: int(x.GetStatus()), Reason: x.GetReason()}
	}
	if a := r.GetAffinity(); a != nil {
		out.Affinity = &policy.Affinity{Cookie: a.GetCookie(), Header: a.GetHeader(), Client: a.GetClient()}
	}
	l := r.GetLimits()
	out.Limits = policy.RouteLimits{RequestsPerSecond: l.GetRequestsPerSecond(), Burst: l.GetBurst(), MaxBodyBytes: l.GetMaxBodyBytes()}
	if _, ok := shuntv1.DispatchMode_name[int32(r.GetMode())]; !ok {
		c.Add(at+".mode", "write migrate, proxy or auto", "mode %d is unknown", r.GetMode())
	} else {
		out.Mode = policy.Mode(r.GetMode())
	}
	return out
}

func (c *converter) match(at string, m *shuntv1.Match) *match.Match {
	out := &match.Match{Hosts: m.GetHosts(), Methods: m.GetMethods(), CEL: m.GetCel(),
		Headers: values(m.GetHeaders()), Cookies: values(m.GetCookies()), Query: values(m.GetQuery())}
	for _, p := range m.GetPaths() {
		var x match.Path
		switch v := p.GetPath().(type) {
		case *shuntv1.PathMatch_Exact:
			x = match.Path{Kind: match.PathExact, Text: v.Exact}
		case *shuntv1.PathMatch_Prefix:
			x = match.Path{Kind: match.PathPrefix, Text: v.Prefix}
		case *shuntv1.PathMatch_Template:
			x = match.Path{Kind: match.PathTemplate, Text: v.Template}
		case *shuntv1.PathMatch_Regex:
			x = match.Path{Kind: match.PathRegex, Text: v.Regex}
		}
		out.Paths = append(out.Paths, x)
	}
	for i, text := range m.GetClients() {
		out.Clients = append(out.Clients, c.prefix(fmt.Sprintf("%s.clients[%d]", at, i), text))
	}
	return out
}

func values(list []*shuntv1.ValueMatch) []match.Value {
	var out []match.Value
	for _, v := range list {
		x := match.Value{Name: v.GetName(), Not: v.GetNot()}
		switch t := v.GetValue().(type) {
		case *shuntv1.ValueMatch_Exact:
			x.Kind, x.Text = match.ValueExact, t.Exact
		case *shuntv1.ValueMatch_Prefix:
			x.Kind, x.Text = match.ValuePrefix, t.Prefix
		case *shuntv1.ValueMatch_Suffix:
			x.Kind, x.Text = match.ValueSuffix, t.Suffix
		case *shuntv1.ValueMatch_Regex:
			x.Kind, x.Text = match.ValueRegex, t.Regex
		}
		out = append(out, x)
	}
	return out
}

// prefix reads an address or a CIDR prefix.
func (c *converter) prefix(at, text string) netip.Prefix {
	if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" {
		return netip.PrefixFrom(a.Unmap(), a.Unmap().BitLen())
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		c.Add(at, `write "10.0.0.0/8" or "2001:db8::1"`, "%q is neither an address nor a prefix", text)
		return p
	}
	if p != p.Masked() {
		c.Add(at, fmt.Sprintf("write %q", p.Masked()), "%q has bits beyond its length", text)
	}
	return p
}

func (c *converter) pool(at string, p *shuntv1.Pool) policy.Pool {
	out := policy.Pool{Name: p.GetName(), Backup: p.GetBackup(), PanicPercent: p.GetPanicPercent()}
	if _, ok := shuntv1.Algorithm_name[int32(p.GetAlgorithm())]; !ok {
		c.Add(at+".algorithm", "", "algorithm %d is unknown", p.GetAlgorithm())
	} else {
		out.Algorithm = policy.Algorithm(p.GetAlgorithm())
	}
	for _, m := range p.GetMembers() {
		x := policy.Member{Server: m.GetServer(), Weight: 1, Priority: m.GetPriority()}
		if m.Weight != nil {
			x.Weight = m.GetWeight()
		}
		out.Members = append(out.Members, x)
	}
	if h := p.GetHash(); h != nil {
		out.Hash = &policy.Hash{LoadPercent: h.GetLoadPercent(), TableSize: h.GetTableSize(), Points: h.GetPoints()}
		for i, k := range h.GetOn() {
			out.Hash.On = append(out.Hash.On, c.key(fmt.Sprintf("%s.hash.on[%d]", at, i), k))
		}
	}
	if x := p.GetCheck(); x != nil {
		out.Check = c.check(at+".check", x)
	}
	if e := p.GetEjection(); e != nil {
		out.Ejection = &policy.Ejection{Failures: e.GetFailures(), MaxPercent: e.GetMaxPercent(), ServerErrors: e.GetServerErrors(),
			BaseTime: c.duration(at+".ejection.baseTime", e.GetBaseTime()), MaxTime: c.duration(at+".ejection.maxTime", e.GetMaxTime())}
	}
	if s := p.GetSlowStart(); s != nil {
		out.SlowStart = &policy.SlowStart{Window: c.duration(at+".slowStart.window", s.GetWindow()), MinPercent: s.GetMinPercent()}
	}
	if e := p.GetExternal(); e != nil {
		b := e.GetBreaker()
		out.External = &policy.External{Address: e.GetAddress(), Headers: e.GetHeaders(),
			Deadline: c.duration(at+".external.deadline", e.GetDeadline()),
			Breaker: policy.Breaker{Failures: b.GetFailures(), Trials: b.GetTrials(),
				OpenTime: c.duration(at+".external.breaker.openTime", b.GetOpenTime())}}
		if t := e.GetTls(); t != nil {
			out.External.TLS = &policy.ExternalTLS{CAFile: t.GetCaFile(), CertFile: t.GetCertFile(), KeyFile: t.GetKeyFile(), ServerName: t.GetServerName()}
		}
	}
	return out
}

func (c *converter) key(at string, k *shuntv1.HashKey) policy.HashKey {
	flag := func(kind policy.KeyKind, name string, set bool) policy.HashKey {
		if !set {
			c.Add(at+"."+name, "write true or remove it", "a key that is false says nothing")
		}
		return policy.HashKey{Kind: kind}
	}
	switch v := k.GetKey().(type) {
	case *shuntv1.HashKey_Client:
		return flag(policy.KeyClient, "client", v.Client)
	case *shuntv1.HashKey_Header:
		return policy.HashKey{Kind: policy.KeyHeader, Name: v.Header}
	case *shuntv1.HashKey_Cookie:
		return policy.HashKey{Kind: policy.KeyCookie, Name: v.Cookie}
	case *shuntv1.HashKey_Query:
		return policy.HashKey{Kind: policy.KeyQuery, Name: v.Query}
	case *shuntv1.HashKey_Path:
		return flag(policy.KeyPath, "path", v.Path)
	case *shuntv1.HashKey_Host:
		return flag(policy.KeyHost, "host", v.Host)
	case *shuntv1.HashKey_Url:
		return flag(policy.KeyURL, "url", v.Url)
	}
	return policy.HashKey{}
}

func (c *converter) check(at string, x *shuntv1.HealthCheck) *policy.HealthCheck {
	out := &policy.HealthCheck{Rise: x.GetRise(), Fall: x.GetFall(),
		Interval: c.duration(at+".interval", x.GetInterval()), Timeout: c.duration(at+".timeout", x.GetTimeout())}
	if t := x.GetTcp(); t != nil {
		out.TCP = &policy.TCPCheck{Send: t.GetSend(), Expect: t.GetExpect()}
	}
	h := x.GetHttp()
	if h == nil {
		return out
	}
	out.HTTP = &policy.HTTPCheck{Path: h.GetPath(), Host: h.GetHost(), Method: h.GetMethod(), Body: h.GetBody()}
	for i, text := range h.GetStatuses() {
		from, to, found := strings.Cut(text, "-")
		if !found {
			to = from
		}
		a, err1 := strconv.Atoi(from)
		b, err2 := strconv.Atoi(to)
		if err1 != nil || err2 != nil {
			c.Add(fmt.Sprintf("%s.http.statuses[%d]", at, i), `write "200" or "200-399"`, "%q is not a range of statuses", text)
		}
		out.HTTP.Statuses = append(out.HTTP.Statuses, policy.StatusRange{From: a, To: b})
	}
	return out
}

// duration reads a duration; absent is 0.
func (c *converter) duration(at string, d *durationpb.Duration) time.Duration {
	if d == nil {
		return 0
	}
	if err := d.CheckValid(); err != nil || d.AsDuration() <= 0 {
		c.Add(at, "write a time such as 10s, or remove it", "the duration is not positive")
		return 0
	}
	return d.AsDuration()
}
