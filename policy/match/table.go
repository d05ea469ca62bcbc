package match

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/shunt-sdn/shunt/policy/fault"
)

// Table is a compiled list of matches. It is safe for concurrent use.
type Table struct {
	hosts    map[string]*paths // lower case
	suffixes map[string]*paths // ".example.org", lower case
	any      *paths
	rest     []rest // by the position in the list
}

// NewTable compiles the list; a nil entry holds for every request. Mistakes go
// to faults with what at(i) returns as the path of entry i; the table is then
// without the entries, or parts of them, that are wrong.
func NewTable(list []*Match, faults *fault.List, at func(i int) string) *Table {
	t := &Table{hosts: make(map[string]*paths), suffixes: make(map[string]*paths), rest: make([]rest, len(list))}
	for i, m := range list {
		if m == nil {
			m = &Match{}
		}
		c := compiler{faults, at(i)}
		patterns := c.paths(m.Paths)
		t.rest[i] = c.rest(m)
		if len(m.Hosts) == 0 {
			add(&t.any, patterns, int32(i))
		}
		for j, h := range m.Hosts {
			t.addHost(&c, j, h, patterns, int32(i))
		}
	}
	return t
}

func (t *Table) addHost(c *compiler, j int, host string, patterns []pattern, i int32) {
	h := strings.ToLower(host)
	suffix, wild := strings.CutPrefix(h, "*")
	switch {
	case h == "*":
		add(&t.any, patterns, i)
	case wild && strings.HasPrefix(suffix, ".") && c.host(j, host, suffix[1:]):
		p := t.suffixes[suffix]
		add(&p, patterns, i)
		t.suffixes[suffix] = p
	case !wild && c.host(j, host, h):
		h = strings.TrimSuffix(h, ".")
		p := t.hosts[h]
		add(&p, patterns, i)
		t.hosts[h] = p
	case wild && !strings.HasPrefix(suffix, "."):
		c.fault(fmt.Sprintf("hosts[%d]", j), `write "*.example.org"`, "%q has a wildcard that is not a whole first label", host)
	}
}

// Len is the number of matches in the list.
func (t *Table) Len() int { return len(t.rest) }

// First returns the position of the first match that holds, -1 if none does.
func (t *Table) First(r *Request) int {
	best := int32(len(t.rest))
	if len(t.hosts)+len(t.suffixes) > 0 && r.Host != "" {
		var buf [256]byte
		host := lowered(r.Host, &buf)
		if p := t.hosts[string(host)]; p != nil {
			best = t.under(p, r, best)
		}
		if len(t.suffixes) > 0 {
			for i, c := range host {
				if c != '.' {
					continue
				}
				if p := t.suffixes[string(host[i:])]; p != nil && i > 0 {
					best = t.under(p, r, best)
				}
			}
		}
	}
	if t.any != nil {
		best = t.under(t.any, r, best)
	}
	if int(best) == len(t.rest) {
		return -1
	}
	return int(best)
}

// lowered returns host in lower case; what is beyond buf is cut off: no name is
// that long (RFC 1035).
func lowered(host string, buf *[256]byte) []byte {
	n := copy(buf[:], host)
	for i, c := range buf[:n] {
		if 'A' <= c && c <= 'Z' {
			buf[i] = c | 0x20
		}
	}
	return buf[:n]
}

// try returns the first of the list, which ascends, that holds, or best if that
// comes before.
func (t *Table) try(list []int32, r *Request, best int32) int32 {
	for _, i := range list {
		if i >= best {
			return best
		}
		if t.rest[i].holds(r) {
			return i
		}
	}
	return best
}

func (t *Table) under(p *paths, r *Request, best int32) int32 {
	if list := p.exact[r.Path]; list != nil {
		best = t.try(list, r, best)
	}
	if p.prefixes != nil {
		best = t.prefixes(p.prefixes, r, best)
	}
	if p.templates != nil && strings.HasPrefix(r.Path, "/") {
		best = t.segments(p.templates, r.Path[1:], r, best)
	}
	best = t.try(p.any, r, best)
	for i := range p.regexes {
		x := &p.regexes[i]
		if x.index >= best {
			break
		}
		if x.re.MatchString(r.Path) && t.rest[x.index].holds(r) {
			return x.index
		}
	}
	return best
}

// compiler compiles one match.
type compiler struct {
	faults *fault.List
	path   string
}

func (c *compiler) fault(field, remedy, format string, args ...any) {
	c.faults.Add(c.path+"."+field, remedy, format, args...)
}

// host checks a host, or what comes after "*.".
func (c *compiler) host(j int, whole, h string) bool {
	field := fmt.Sprintf("hosts[%d]", j)
	if _, err := netip.ParseAddr(h); err == nil {
		return true
	}
	if _, err := netip.ParseAddrPort(h); err == nil {
		c.fault(field, "leave the port out", "host %q has a port", whole)
		return false
	}
	if name, port, ok := strings.Cut(h, ":"); ok && name != "" && strings.Trim(port, "0123456789") == "" {
		c.fault(field, "leave the port out", "host %q has a port", whole)
		return false
	}
	if h == "" || len(h) > 253 {
		c.fault(field, `write a name such as "example.org"`, "host %q is empty or longer than 253 characters", whole)
		return false
	}
	for _, label := range strings.Split(strings.TrimSuffix(h, "."), ".") {
		if label == "" || len(label) > 63 || strings.Trim(label, "abcdefghijklmnopqrstuvwxyz0123456789-_") != "" {
			c.fault(field, `write a name such as "example.org" or "*.example.org"`, "host %q is not a name: the label %q", whole, label)
			return false
		}
	}
	return true
}
