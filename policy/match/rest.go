package match

import (
	"fmt"
	"net/netip"
	"regexp"
	"slices"
	"strings"

	"cel.dev/cel-go/cel"

	"github.com/shunt-sdn/shunt/policy/fault"
)

// rest is what a match asks beside host and path.
type rest struct {
	methods []string
	clients *prefixes
	values  []value
	cel     cel.Program
	text    string // of the expression
}

func (c *compiler) rest(m *Match) rest {
	x := rest{methods: m.Methods, text: m.CEL}
	for i, method := range m.Methods {
		field := fmt.Sprintf("methods[%d]", i)
		switch {
		case method == "" || strings.ContainsFunc(method, func(r rune) bool { return r >= 0x7f || !strings.ContainsRune(token, r) }):
			c.fault(field, "write a method such as GET", "%q is not a method", method)
		case strings.ToUpper(method) != method && slices.Contains(known, strings.ToUpper(method)):
			c.fault(field, "write "+strings.ToUpper(method), "methods have a case: %q never comes", method)
		}
	}
	if len(m.Clients) > 0 {
		x.clients = newPrefixes(m.Clients)
	}
	x.values = append(x.values, c.values("headers", fromHeader, m.Headers)...)
	x.values = append(x.values, c.values("cookies", fromCookie, m.Cookies)...)
	x.values = append(x.values, c.values("query", fromQuery, m.Query)...)
	if m.CEL != "" {
		p, err := compileCEL(m.CEL)
		if err != nil {
			c.fault("cel", "see docs/policy-reference.md for the variables and functions", "the expression %v", err)
		}
		x.cel = p
	}
	return x
}

// token are the characters of methods and field names, RFC 9110, section 5.6.2.
const token = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&'*+-.^_`|~"

var known = []string{"GET", "HEAD", "POST", "PUT", "DELETE", "CONNECT", "OPTIONS", "TRACE", "PATCH"}

func (x *rest) holds(r *Request) bool {
	if len(x.methods) > 0 && !slices.Contains(x.methods, r.Method) {
		return false
	}
	if x.clients != nil && !x.clients.contain(r.Client) {
		return false
	}
	for i := range x.values {
		if !x.values[i].holds(r) {
			return false
		}
	}
	return x.cel == nil || evaluate(x.cel, r) == nil
}

// Explain tells whether one match holds, and if not, what does not. The match,
// nil for one that always holds, must be right. It compiles it anew: this is for
// operators, not for each request.
func Explain(m *Match, r *Request) (bool, string) {
	if m == nil {
		return true, "every request"
	}
	var faults fault.List
	holds := func(part Match) bool {
		return NewTable([]*Match{&part}, &faults, func(int) string { return "" }).First(r) == 0
	}
	if !holds(Match{Hosts: m.Hosts}) {
		return false, fmt.Sprintf("the host %q is none of %s", r.Host, strings.Join(m.Hosts, ", "))
	}
	if !holds(Match{Paths: m.Paths}) {
		texts := make([]string, len(m.Paths))
		for i, p := range m.Paths {
			texts[i] = p.Text
		}
		return false, fmt.Sprintf("the path %q is none of %s", r.Path, strings.Join(texts, ", "))
	}
	c := compiler{&faults, ""}
	x := c.rest(m)
	return x.explain(r)
}

// explain is holds with the reason.
func (x *rest) explain(r *Request) (bool, string) {
	if len(x.methods) > 0 && !slices.Contains(x.methods, r.Method) {
		return false, fmt.Sprintf("the method %s is none of %s", r.Method, strings.Join(x.methods, ", "))
	}
	if x.clients != nil && !x.clients.contain(r.Client) {
		return false, fmt.Sprintf("the client %s is in none of the prefixes", r.Client)
	}
	for i := range x.values {
		if v := &x.values[i]; !v.holds(r) {
			return false, fmt.Sprintf("%s %s is %q", v.from, v.name, v.of(r))
		}
	}
	if x.cel != nil {
		if err := evaluate(x.cel, r); err != nil {
			return false, fmt.Sprintf("the expression %s %v", x.text, err)
		}
	}
	return true, "all that it asks for holds"
}

type origin string

const (
	fromHeader origin = "header"
	fromCookie origin = "cookie"
	fromQuery  origin = "query parameter"
)

type value struct {
	Value
	from origin
	name string
	re   *regexp.Regexp
}

func (v *value) of(r *Request) string {
	switch v.from {
	case fromHeader:
		return r.Field(v.name)
	case fromCookie:
		return r.Cookie(v.name)
	}
	return r.Parameter(v.name)
}

func (v *value) holds(r *Request) bool {
	s, ok := v.of(r), false
	switch v.Kind {
	case ValuePresent:
		ok = s != ""
	case ValueExact:
		ok = s == v.Text
	case ValuePrefix:
		ok = strings.HasPrefix(s, v.Text)
	case ValueSuffix:
		ok = strings.HasSuffix(s, v.Text)
	case ValueRegex:
		ok = v.re.MatchString(s)
	}
	return ok != v.Not
}

func (c *compiler) values(field string, from origin, list []Value) []value {
	var out []value
	for i, v := range list {
		at := fmt.Sprintf("%s[%d]", field, i)
		x := value{Value: v, from: from, name: v.Name}
		switch {
		case v.Name == "":
			c.fault(at+".name", "", "the %s has no name", from)
			continue
		case from != fromQuery && strings.ContainsFunc(v.Name, func(r rune) bool { return r >= 0x7f || !strings.ContainsRune(token, r) }):
			c.fault(at+".name", "use letters, digits and '-'", "%q cannot be the name of a %s", v.Name, from)
			continue
		}
		switch v.Kind {
		case ValueRegex:
			re, ok := c.regex(at+".regex", v.Text)
			if !ok {
				continue
			}
			x.re = re
		case ValuePrefix, ValueSuffix:
			if v.Text == "" {
				name := map[ValueKind]string{ValuePrefix: "prefix", ValueSuffix: "suffix"}[v.Kind]
				c.fault(at+"."+name, "remove it to ask for presence only", "the %s is empty and always matches", name)
				continue
			}
		}
		out = append(out, x)
	}
	return out
}

// prefixes is a set of address prefixes.
type prefixes struct {
	set  map[netip.Prefix]struct{}
	bits [2][]int // lengths that there are, for IPv4 and IPv6
}

func newPrefixes(list []netip.Prefix) *prefixes {
	p := &prefixes{set: make(map[netip.Prefix]struct{})}
	for _, x := range list {
		x = x.Masked()
		p.set[x] = struct{}{}
		f := 0
		if x.Addr().Is6() {
			f = 1
		}
		if !slices.Contains(p.bits[f], x.Bits()) {
			p.bits[f] = append(p.bits[f], x.Bits())
		}
	}
	return p
}

func (p *prefixes) contain(a netip.Addr) bool {
	if !a.IsValid() {
		return false
	}
	a = a.Unmap()
	f := 0
	if a.Is6() {
		a, f = a.WithZone(""), 1
	}
	for _, bits := range p.bits[f] {
		if x, err := a.Prefix(bits); err == nil {
			if _, ok := p.set[x]; ok {
				return true
			}
		}
	}
	return false
}
