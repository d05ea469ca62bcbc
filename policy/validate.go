package policy

import (
	"fmt"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/shunt-sdn/shunt/internal/nearest"
	"github.com/shunt-sdn/shunt/policy/fault"
	"github.com/shunt-sdn/shunt/policy/match"
)

// Validate returns every mistake of a policy, each with the path of its field,
// as a fault.List; nil if there is none.
func Validate(m *Model) error {
	v := validator{pools: make(map[string]*Pool)}
	v.model(m)
	for i := range m.Services {
		v.table(i, &m.Services[i])
	}
	return v.Err()
}

// validator collects the mistakes of a policy.
type validator struct {
	fault.List
	pools map[string]*Pool
}

func (v *validator) model(m *Model) {
	for i := range m.Pools {
		if p := &m.Pools[i]; v.pools[p.Name] == nil {
			v.pools[p.Name] = p
		}
	}
	distinct(v, "services", m.Services, func(s Service) string { return s.Name })
	distinct(v, "pools", m.Pools, func(p Pool) string { return p.Name })
	distinct(v, "servers", m.Servers, func(s Server) string { return s.Name })
	for i := range m.Services {
		v.service(fmt.Sprintf("services[%d]", i), &m.Services[i])
	}
	for i := range m.Pools {
		v.pool(fmt.Sprintf("pools[%d]", i), &m.Pools[i])
	}
	for i, s := range m.Servers {
		at := fmt.Sprintf("servers[%d]", i)
		v.name(at+".name", s.Name)
		v.atMost(at+".weightPercent", s.WeightPercent, 1000)
	}
}

// table compiles the matches of a service and drops the result.
func (v *validator) table(i int, s *Service) *match.Table {
	list := make([]*match.Match, len(s.Routes))
	for j := range s.Routes {
		list[j] = s.Routes[j].Match
	}
	return match.NewTable(list, &v.List, func(j int) string { return fmt.Sprintf("services[%d].routes[%d].match", i, j) })
}

func distinct[T any](v *validator, field string, list []T, name func(T) string) {
	first := make(map[string]int, len(list))
	for i, x := range list {
		n := name(x)
		if j, ok := first[n]; ok && n != "" {
			v.Add(fmt.Sprintf("%s[%d].name", field, i), "rename or remove one", "%q is the name of %s[%d] too", n, field, j)
			continue
		}
		first[n] = i
	}
}

func (v *validator) service(at string, s *Service) {
	v.name(at+".name", s.Name)
	v.vips(at, s)
	v.names(at+".dispatchers", s.Dispatchers)
	v.names(at+".servers", s.Servers)
	v.atMost(at+".limits.maxHeadBytes", uint32(s.Limits.MaxHeadBytes), 1<<20)
	v.duration(at+".limits.headTimeout", s.Limits.HeadTimeout, 10*time.Millisecond, time.Hour)
	v.duration(at+".limits.importTimeout", s.Limits.ImportTimeout, time.Millisecond, time.Minute)
	distinct(v, at+".routes", s.Routes, func(r Route) string { return r.Name })
	for i := range s.Routes {
		v.route(fmt.Sprintf("%s.routes[%d]", at, i), &s.Routes[i])
	}
	if s.DefaultPool != "" {
		v.poolRef(at+".defaultPool", s.DefaultPool)
	}
}

func (v *validator) vips(at string, s *Service) {
	families := make(map[bool]int)
	for i, a := range s.VIPs {
		field := fmt.Sprintf("%s.vips[%d]", at, i)
		if !a.IsValid() || a.IsUnspecified() || a.IsLoopback() || a.IsMulticast() || a.Zone() != "" || a.Is4In6() {
			v.Add(field, "write a unicast address without a zone", "%s cannot be a virtual IP", a)
			continue
		}
		if j, ok := families[a.Is4()]; ok {
			v.Add(field, "make it a service of its own", "%s is of the same family as vips[%d]", a, j)
			continue
		}
		families[a.Is4()] = i
	}
	if (len(s.VIPs) > 0) != (s.Port > 0) {
		v.Add(at+".port", "write both, or neither for a service of the controller's configuration", "the service has virtual IPs without a port or a port without virtual IPs")
	}
}

func (v *validator) route(at string, r *Route) {
	v.name(at+".name", r.Name)
	targets := 0
	if r.Pool != "" {
		targets++
		v.poolRef(at+".pool", r.Pool)
	}
	if len(r.Pools) > 0 {
		targets++
		v.weighted(at+".pools", r.Pools)
	}
	if r.Reject != nil {
		targets++
		if r.Reject.Status < 400 || r.Reject.Status > 599 {
			v.Add(at+".reject.status", "write 400 to 599, such as 403", "%d is not a status to reject with", r.Reject.Status)
		}
		if len(r.Reject.Reason) > 200 || strings.ContainsFunc(r.Reject.Reason, func(c rune) bool { return c < ' ' || c == 0x7f }) {
			v.Add(at+".reject.reason", "make it one short line", "the reason is longer than 200 octets or has control characters")
		}
		if r.Affinity != nil || r.Mode != ModeUnspecified {
			v.Add(at+".reject", "remove it, or affinity and mode", "a route that rejects has an affinity or a mode")
		}
	}
	if targets != 1 {
		v.Add(at, "write one of them", "the route has %s pool, pools and reject", several(targets))
	}
	if a := r.Affinity; a != nil {
		n := 0
		for _, set := range []bool{a.Cookie != "", a.Header != "", a.Client} {
			if set {
				n++
			}
		}
		if n != 1 {
			v.Add(at+".affinity", "write one of them", "the affinity has %s cookie, header and client", several(n))
		}
	}
	if r.Limits.Burst > 0 && r.Limits.RequestsPerSecond == 0 {
		v.Add(at+".limits.burst", "write requestsPerSecond too", "a burst without a rate limits nothing")
	}
	if r.Mode > Auto {
		v.Add(at+".mode", "write migrate, proxy or auto", "mode %d is unknown", r.Mode)
	}
}

func several(n int) string {
	if n == 0 {
		return "none of"
	}
	return "more than one of"
}

func (v *validator) weighted(at string, list []WeightedPool) {
	total, seen := uint64(0), make(map[string]bool)
	for i, p := range list {
		field := fmt.Sprintf("%s[%d]", at, i)
		v.poolRef(field+".pool", p.Pool)
		if seen[p.Pool] {
			v.Add(field+".pool", "add the weights up", "pool %q stands there twice", p.Pool)
		}
		seen[p.Pool] = true
		v.atMost(field+".weight", p.Weight, 1_000_000)
		total += uint64(p.Weight)
	}
	if total == 0 {
		v.Add(at, "give one of them a weight", "all weights are 0")
	}
}

func (v *validator) poolRef(at, name string) {
	if v.pools[name] != nil {
		return
	}
	if name == "" {
		v.Add(at, "write the name of a pool", "the pool has no name")
		return
	}
	names := make([]string, 0, len(v.pools))
	for n := range v.pools {
		names = append(names, n)
	}
	remedy := "add it to pools"
	if near := nearest.Word(name, names); near != "" {
		remedy = fmt.Sprintf("did you mean %q?", near)
	}
	v.Add(at, remedy, "there is no pool %q", name)
}

// name checks the name of a resource or node.
func (v *validator) name(at, s string) {
	const most = 63
	switch {
	case s == "":
		v.Add(at, "write one", "the name is missing")
	case len(s) > most:
		v.Add(at, fmt.Sprintf("at most %d are allowed", most), "the name %q has %d characters", s, len(s))
	case strings.Trim(strings.ToLower(s), "abcdefghijklmnopqrstuvwxyz0123456789-_.") != "" || strings.ContainsFunc(s, func(c rune) bool {
		return !strings.ContainsRune("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.", c)
	}):
		v.Add(at, "use letters, digits, '-', '_' and '.'", "the name %q has a character that it must not have", s)
	}
}

// names checks a list of nodes.
func (v *validator) names(at string, list []string) {
	seen := make(map[string]bool)
	for i, n := range list {
		field := fmt.Sprintf("%s[%d]", at, i)
		v.name(field, n)
		if seen[n] {
			v.Add(field, "remove one", "%q stands there twice", n)
		}
		seen[n] = true
	}
}

func (v *validator) atMost(at string, n, most uint32) {
	if n > most {
		v.Add(at, "", "%d is too much; at most %d is allowed", n, most)
	}
}

// duration checks a duration; 0 is the standard value.
func (v *validator) duration(at string, d, least, most time.Duration) {
	if d != 0 && (d < least || d > most) {
		v.Add(at, "", "%v is out of range; %v to %v is allowed", d, least, most)
	}
}

// address checks host:port or unix:/path.
func (v *validator) address(at, s string) {
	if path, ok := strings.CutPrefix(s, "unix:"); ok {
		if !strings.HasPrefix(path, "/") {
			v.Add(at, `write "unix:/run/policy.sock"`, "the path in %q is not absolute", s)
		}
		return
	}
	host, port, err := net.SplitHostPort(s)
	n, portErr := strconv.ParseUint(port, 10, 16)
	if err != nil || host == "" || portErr != nil || n == 0 {
		v.Add(at, `write "127.0.0.1:9000" or "unix:/run/policy.sock"`, "%q is not an address", s)
	}
}
