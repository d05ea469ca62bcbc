package operator

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/shunt-sdn/shunt/internal/policyyaml"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// yamlAnswer is an Answer that is part of a policy.
type yamlAnswer interface {
	Answer
	// policy is what shunt apply takes.
	policy() *shuntv1.Policy
}

// PrintPolicy is Print with one more format, yaml: what shunt apply takes.
func PrintPolicy(w io.Writer, format string, a Answer) error {
	switch y, ok := a.(yamlAnswer); {
	case format == "yaml" && ok:
		text, err := policyyaml.Marshal(y.policy())
		if err != nil {
			return err
		}
		_, err = w.Write(text)
		return err
	case format == "yaml":
		return fmt.Errorf("this is not a part of the policy and has no YAML; write -o json or -o table")
	case format != "json" && format != "table":
		return fmt.Errorf("output format %q is unknown; write -o json, -o yaml or -o table", format)
	}
	return Print(w, format, a)
}

// fields is a message as JSON with the names of its YAML, and with more at the
// end. Its version is a number, and not text as protojson has it.
func fields(m proto.Message, more ...any) (json.RawMessage, error) {
	if v, ok := m.(interface{ GetVersion() uint64 }); ok {
		more = append(more, "version", v.GetVersion())
		m = proto.Clone(m)
		m.ProtoReflect().Clear(m.ProtoReflect().Descriptor().Fields().ByName("version"))
	}
	text, err := protojson.MarshalOptions{}.Marshal(m)
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	if err := json.Compact(&b, text); err != nil { // protojson's spaces differ from run to run
		return nil, err
	}
	out := bytes.TrimSuffix(b.Bytes(), []byte("}"))
	for i := 0; i < len(more); i += 2 {
		v, err := json.Marshal(more[i+1])
		if err != nil {
			return nil, err
		}
		if len(out) > 1 {
			out = append(out, ',')
		}
		out = append(out, fmt.Sprintf("%q:%s", more[i], v)...)
	}
	return append(out, '}'), nil
}

// array encodes a list, which is never null.
func array[T any](list []T, f func(T) (json.RawMessage, error)) ([]byte, error) {
	parts := make([][]byte, len(list))
	for i, x := range list {
		m, err := f(x)
		if err != nil {
			return nil, err
		}
		parts[i] = m
	}
	return append(append([]byte{'['}, bytes.Join(parts, []byte{','})...), ']'), nil
}

// MarshalJSON has a service's own fields, and under "running" what it is now.
func (s PolicyServices) MarshalJSON() ([]byte, error) {
	return array(s.list, func(x policyService) (json.RawMessage, error) {
		p := x.policy
		if p == nil {
			p = &shuntv1.ServicePolicy{Name: x.running.Name}
		}
		return fields(p, "running", x.running)
	})
}

// MarshalJSON has a route's own fields, its service and its position.
func (r Routes) MarshalJSON() ([]byte, error) {
	return array(r.list, func(x route) (json.RawMessage, error) {
		return fields(x.route, "service", x.service, "position", x.position)
	})
}

// MarshalJSON has a pool's own fields.
func (p Pools) MarshalJSON() ([]byte, error) {
	return array(p.list, func(x *shuntv1.Pool) (json.RawMessage, error) { return fields(x) })
}

func (s PolicyServices) policy() *shuntv1.Policy {
	p := &shuntv1.Policy{}
	for _, x := range s.list {
		if x.policy != nil {
			p.Services = append(p.Services, x.policy)
		}
	}
	return p
}

func (p Pools) policy() *shuntv1.Policy { return &shuntv1.Policy{Pools: p.list} }

func (s Servers) policy() *shuntv1.Policy {
	p := &shuntv1.Policy{}
	for _, x := range s {
		if x.Version == 0 {
			continue
		}
		m := &shuntv1.Server{Name: x.Name, Version: x.Version, Drain: x.Drain, MaxLoad: x.MaxLoad}
		if x.Weight != 100 {
			m.WeightPercent = &x.Weight
		}
		p.Servers = append(p.Servers, m)
	}
	return p
}

func (s PolicyServices) table(w io.Writer) {
	row(w, "SERVICE", "VIPS", "ROUTES", "DEFAULT POOL", "SERVERS", "VERSION")
	for _, x := range s.list {
		row(w, x.running.Name, list(x.running.VIPs), len(x.policy.GetRoutes()), word(x.policy.GetDefaultPool()),
			list(x.running.Servers), either(x.policy == nil, "-", fmt.Sprint(x.policy.GetVersion())))
	}
}

func (r Routes) table(w io.Writer) {
	row(w, "SERVICE", "#", "ROUTE", "MATCH", "TO", "MODE")
	for _, x := range r.list {
		mode := "migrate"
		if x.route.Mode != shuntv1.DispatchMode_DISPATCH_MODE_UNSPECIFIED {
			mode = lower(x.route.Mode, "DISPATCH_MODE_")
		}
		row(w, x.service, x.position+1, x.route.Name, matchOf(x.route.Match), targetOf(x.route), mode)
	}
}

func (p Pools) table(w io.Writer) {
	row(w, "POOL", "ALGORITHM", "MEMBERS", "BACKUP", "CHECK", "HEALTHY", "VERSION")
	for _, x := range p.list {
		algorithm := "round_robin"
		if x.Algorithm != shuntv1.Algorithm_ALGORITHM_UNSPECIFIED {
			algorithm = lower(x.Algorithm, "ALGORITHM_")
		}
		if x.External != nil {
			algorithm = "external, else " + algorithm
		}
		members := each(x.Members, func(m *shuntv1.Member) string {
			if m.Weight != nil {
				return fmt.Sprintf("%s×%d", m.Server, m.GetWeight())
			}
			return m.Server
		})
		check := "-"
		switch {
		case x.GetCheck().GetHttp() != nil:
			check = "http"
		case x.GetCheck().GetTcp() != nil:
			check = "tcp"
		}
		row(w, x.Name, algorithm, either(len(members) == 0, "all", strings.Join(members, ",")), word(x.Backup), check, p.healthy(x), x.Version)
	}
}

// healthy is "2/3" if the pool is checked.
func (p Pools) healthy(x *shuntv1.Pool) string {
	if x.Check == nil {
		return "-"
	}
	healthy, all := 0, 0
	for _, states := range p.top.states {
		for _, s := range states {
			if s.in(x.Name) {
				all++
				if s.Health == "healthy" {
					healthy++
				}
			}
		}
	}
	return fmt.Sprintf("%d/%d", healthy, all)
}

// in reports whether the state is of a pool, which may be one for each service.
func (m Member) in(pool string) bool {
	return m.Pool == pool || strings.HasSuffix(m.Pool, "/"+pool)
}

func (s Servers) table(w io.Writer) {
	row(w, "SERVER", "STATE", "HEALTH", "SESSIONS", "LOAD", "WEIGHT", "REASON")
	for _, x := range s {
		row(w, x.Name, x.State, x.Health, x.Sessions, x.Load, fmt.Sprint(x.Weight, "%"), either(x.Health == "healthy", "", x.Reason))
	}
}

func (t Top) table(w io.Writer) {
	row(w, "SERVER", "STATE", "HEALTH", "REQ/S", "FAIL/S", "SESSIONS", "LOAD", "HAND-OFF P50", "P99")
	us := func(v uint32) string { return either(v == 0, "-", fmt.Sprint(v, " µs")) }
	for _, s := range t.Servers {
		row(w, s.Server, s.State, s.Health, rate(s.Requests), rate(s.Failures), s.Sessions, s.Load, us(s.P50US), us(s.P99US))
	}
	if len(t.Routes) == 0 {
		return
	}
	row(w)
	row(w, "ROUTE", "", "", "REQ/S", "REJECTED/S", "PROXIED/S")
	for _, r := range t.Routes {
		row(w, r.Service+"/"+either(r.Route == "", "(default)", r.Route), "", "", rate(r.Requests), rate(r.Rejected), rate(r.Proxied))
	}
}

func rate(f float64) string {
	if f >= 100 {
		return fmt.Sprintf("%.0f", f)
	}
	return fmt.Sprintf("%.1f", f)
}

func (e Explanation) table(w io.Writer) {
	switch {
	case e.Status != 0:
		row(w, "answer", fmt.Sprintf("%d, by the dispatcher", e.Status))
	default:
		row(w, "server", word(e.Server))
	}
	row(w, "service", word(e.Service))
	row(w, "route", either(e.Route == "", "(default)", e.Route))
	row(w, "pool", word(e.Pool))
	row(w, "mode", word(e.Mode))
	row(w)
	for _, s := range e.Steps {
		row(w, either(s.Taken, "✓", "·"), s.Subject, s.Why)
	}
}

// matchOf sums a match up in a few words.
func matchOf(m *shuntv1.Match) string {
	var words []string
	add := func(what string, list []string) {
		if len(list) > 0 {
			words = append(words, what+strings.Join(list, "|"))
		}
	}
	add("", m.GetMethods())
	add("host ", m.GetHosts())
	add("path ", each(m.GetPaths(), func(p *shuntv1.PathMatch) string {
		switch x := p.Path.(type) {
		case *shuntv1.PathMatch_Exact:
			return x.Exact
		case *shuntv1.PathMatch_Prefix:
			return x.Prefix + "…"
		case *shuntv1.PathMatch_Template:
			return x.Template
		case *shuntv1.PathMatch_Regex:
			return "~" + x.Regex
		}
		return "?"
	}))
	name := func(v *shuntv1.ValueMatch) string { return either(v.Not, "not ", "") + v.Name }
	add("header ", each(m.GetHeaders(), name))
	add("cookie ", each(m.GetCookies(), name))
	add("query ", each(m.GetQuery(), name))
	add("client ", m.GetClients())
	if m.GetCel() != "" {
		words = append(words, "cel "+m.GetCel())
	}
	if len(words) == 0 {
		return "every request"
	}
	return strings.Join(words, ", ")
}

// targetOf says where a route leads.
func targetOf(r *shuntv1.Route) string {
	switch {
	case r.Reject != nil:
		return fmt.Sprint("reject ", r.Reject.Status)
	case len(r.Pools) > 0:
		return strings.Join(each(r.Pools, func(p *shuntv1.WeightedPool) string { return fmt.Sprintf("%s×%d", p.Pool, p.Weight) }), ",")
	}
	return r.Pool
}
