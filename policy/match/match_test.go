package match

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"github.com/shunt-sdn/shunt/policy/fault"
)

func table(t testing.TB, list ...*Match) *Table {
	t.Helper()
	var faults fault.List
	tb := NewTable(list, &faults, func(i int) string { return fmt.Sprintf("matches[%d]", i) })
	if err := faults.Err(); err != nil {
		t.Fatal(err)
	}
	return tb
}

// request reads "GET http://host/path?query Name=value Cookie=a=b @192.0.2.1".
func request(text string) *Request {
	f := strings.Fields(text)
	r := &Request{Method: f[0], ContentLength: -1}
	h := http.Header{}
	target := f[1]
	if _, after, ok := strings.Cut(target, "://"); ok {
		i := strings.IndexByte(after, '/')
		r.SetHost(after[:i])
		target = after[i:]
	}
	r.SetTarget(target)
	for _, x := range f[2:] {
		if a, ok := strings.CutPrefix(x, "@"); ok {
			r.Client = netip.MustParseAddr(a)
			continue
		}
		n, v, _ := strings.Cut(x, "=")
		h.Add(n, v)
	}
	r.Header = h
	return r
}

func path(kind PathKind, text string) *Match { return &Match{Paths: []Path{{kind, text}}} }

func prefixList(list ...string) (out []netip.Prefix) {
	for _, s := range list {
		out = append(out, netip.MustParsePrefix(s))
	}
	return out
}

func TestOneMatchHoldsOrNot(t *testing.T) {
	for _, c := range []struct {
		name    string
		m       *Match
		yes, no string // requests, separated by '|'
	}{
		{"nothing asked", nil, "GET /|POST http://h/x", ""},
		{"exact host", &Match{Hosts: []string{"example.org"}}, "GET http://example.org/|GET http://EXAMPLE.org:8080/|GET http://example.org./", "GET http://www.example.org/|GET http://example.orga/|GET /"},
		{"wildcard host", &Match{Hosts: []string{"*.Example.org"}}, "GET http://a.example.org/|GET http://a.b.example.org/", "GET http://example.org/|GET http://aexample.org/|GET http://.example.org/|GET http://a.example.org.evil.com/"},
		{"any host", &Match{Hosts: []string{"*"}}, "GET http://a/|GET /", ""},
		{"addresses as hosts", &Match{Hosts: []string{"192.0.2.1", "2001:db8::1"}}, "GET http://192.0.2.1/|GET http://192.0.2.1:81/|GET http://[2001:db8::1]:80/", "GET http://192.0.2.2/"},
		{"exact path", path(PathExact, "/a/b"), "GET /a/b|GET /a/b?c=d|GET /a/./b|GET /a/%62|GET /x/../a/b|GET http://h/a/b", "GET /a/b/|GET /a|GET /A/b|GET /a%2Fb|GET /a//b"},
		{"prefix", path(PathPrefix, "/a/b"), "GET /a/b|GET /a/bc|GET /a/b/c|GET /%61/b/c", "GET /a|GET /a/../a|GET /A/b|GET /x/a/b"},
		{"prefix of everything", path(PathPrefix, "/"), "GET /|GET /a", "OPTIONS *"},
		{"no way around by dots", path(PathPrefix, "/admin/"), "GET /public/../admin/x|GET /public/%2e%2e/admin/x|GET /./admin/", "GET /public/..admin/|GET /admin/../x"},
		{"template", path(PathTemplate, "/users/{id}/files/**"), "GET /users/7/files/|GET /users/7/files/a|GET /users/x%20y/files/a/b", "GET /users/7/files|GET /users//files/a|GET /users/7/8/files/a|GET /users/7"},
		{"template with an end", path(PathTemplate, "/a/*/c"), "GET /a/b/c", "GET /a/b/c/|GET /a//c|GET /a/b/c/d|GET /a/b"},
		{"template of a directory", path(PathTemplate, "/{x}/"), "GET /a/", "GET /a|GET //"},
		{"template of anything", path(PathTemplate, "/**"), "GET /|GET /a/b", "OPTIONS *"},
		{"regex", path(PathRegex, "/v[0-9]+/.*|/w"), "GET /v1/x|GET /v22/|GET /w", "GET /a/v1/x|GET /v/x|GET /wx|GET /v1"},
		{"several paths", &Match{Paths: []Path{{PathExact, "/a"}, {PathPrefix, "/b/"}}}, "GET /a|GET /b/c", "GET /c"},
		{"method", &Match{Methods: []string{"GET", "HEAD"}}, "GET /|HEAD /", "POST /|get /"},
		{"header there", &Match{Headers: []Value{{Name: "x-a"}}}, "GET / X-A=1|GET / x-a=1", "GET /|GET / X-B=1|GET / X-A="},
		{"header not there", &Match{Headers: []Value{{Name: "X-A", Not: true}}}, "GET /|GET / X-A=", "GET / X-A=1"},
		{"header exact", &Match{Headers: []Value{{Name: "X-A", Kind: ValueExact, Text: "b"}}}, "GET / X-A=b", "GET / X-A=bc|GET /|GET / X-A=B"},
		{"header not exact", &Match{Headers: []Value{{Name: "X-A", Kind: ValueExact, Text: "b", Not: true}}}, "GET / X-A=c|GET /", "GET / X-A=b"},
		{"header prefix and suffix", &Match{Headers: []Value{{Name: "A", Kind: ValuePrefix, Text: "x"}, {Name: "A", Kind: ValueSuffix, Text: "z"}}}, "GET / A=xyz|GET / A=xz", "GET / A=x|GET / A=z"},
		{"header regex", &Match{Headers: []Value{{Name: "A", Kind: ValueRegex, Text: "[0-9]+"}}}, "GET / A=12", "GET / A=12a|GET /"},
		{"header host", &Match{Headers: []Value{{Name: "Host", Kind: ValueExact, Text: "h"}}}, "GET http://h/", "GET http://i/"},
		{"cookie", &Match{Cookies: []Value{{Name: "b", Kind: ValueExact, Text: "2"}}}, "GET / Cookie=a=1;b=2;c=3|GET / Cookie=b=\"2\"", "GET / Cookie=ab=2|GET / Cookie=b=22|GET / Cookie=B=2|GET / b=2"},
		{"query", &Match{Query: []Value{{Name: "q", Kind: ValueExact, Text: "a b"}}}, "GET /?q=a+b|GET /?x=1&q=a%20b&q=c|GET /?%71=a+b", "GET /?q=ab|GET /?q=c&q=a+b|GET /"},
		{"query there", &Match{Query: []Value{{Name: "q"}}}, "GET /?q=1", "GET /?q|GET /?q=|GET /?qq=1"},
		{"client", &Match{Clients: prefixList("10.0.0.0/8", "192.0.2.1/32", "2001:db8::/32")}, "GET / @10.1.2.3|GET / @192.0.2.1|GET / @2001:db8:1::1|GET / @::ffff:10.0.0.1", "GET / @11.0.0.1|GET / @192.0.2.2|GET / @2001:db9::1|GET /"},
		{"any client of a family", &Match{Clients: prefixList("0.0.0.0/0")}, "GET / @10.1.2.3", "GET / @::1"},
		{"all together", &Match{Hosts: []string{"h"}, Paths: []Path{{PathPrefix, "/a"}}, Methods: []string{"GET"}, Headers: []Value{{Name: "A"}}},
			"GET http://h/ab A=1", "GET http://i/ab A=1|GET http://h/b A=1|POST http://h/ab A=1|GET http://h/ab"},
		{"CEL", &Match{CEL: `method == "GET" && path.startsWith("/a") && size(query) < 5`}, "GET /a|GET /ab?1234", "POST /a|GET /b|GET /a?12345"},
		{"CEL headers", &Match{CEL: `headers["x-a"] == "1" || "X-B" in headers`}, "GET / X-A=1|GET / X-B=9", "GET /|GET / X-A=2"},
		{"CEL cookies and params", &Match{CEL: `cookies["s"] != "" && int(params["n"]) > 3`}, "GET /?n=4 Cookie=s=1", "GET /?n=3 Cookie=s=1|GET /?n=x Cookie=s=1|GET /?n=4|GET /"},
		{"CEL host is in lower case", &Match{CEL: `host.endsWith(".example.org")`}, "GET http://A.EXAMPLE.org/", "GET http://example.org/"},
		{"CEL client", &Match{CEL: `cidr("10.0.0.0/8").containsIP(client)`}, "GET / @10.1.1.1|GET / @::ffff:10.1.1.1", "GET / @11.1.1.1|GET / @2001:db8::1|GET /"},
		{"CEL that goes through lists", &Match{CEL: `["a", "b"].exists(x, headers["X-" + x] == "1")`}, "GET / X-B=1", "GET /"},
		{"CEL that asks for all headers is false", &Match{CEL: `headers.exists(h, h == "X")`}, "", "GET / X=1"},
		{"CEL that takes too long is false", &Match{CEL: `"aaaaaaaaaaaaaaaaaaaa".split("").all(a, "aaaaaaaaaaaaaaaaaaaa".split("").all(b, "aaaaaaaaaaaaaaaaaaaa".split("").all(c, "aaaaaaaaaaaaaaaaaaaa".split("").all(d, a == b && c == d))))`}, "", "GET /"},
	} {
		t.Run(c.name, func(t *testing.T) {
			tb := table(t, c.m)
			check := func(list string, want int) {
				for text := range strings.SplitSeq(list, "|") {
					if text == "" {
						continue
					}
					r := request(text)
					if got := tb.First(r); got != want {
						t.Errorf("%s: %d, want %d", text, got, want)
					}
					if holds, why := Explain(c.m, r); holds != (want == 0) || why == "" {
						t.Errorf("%s: explained as %v: %s", text, holds, why)
					}
				}
			}
			check(c.yes, 0)
			check(c.no, -1)
		})
	}
}

// naive tests a match the simple way.
func naive(m *Match, r *Request) bool {
	some := func(n int, holds func(i int) bool) bool {
		for i := range n {
			if holds(i) {
				return true
			}
		}
		return n == 0
	}
	return some(len(m.Hosts), func(i int) bool {
		h := m.Hosts[i]
		return h == "*" || h == r.Host || strings.HasPrefix(h, "*") && strings.HasSuffix(r.Host, h[1:])
	}) && some(len(m.Paths), func(i int) bool {
		p := m.Paths[i]
		switch p.Kind {
		case PathExact:
			return p.Text == r.Path
		case PathPrefix:
			return strings.HasPrefix(r.Path, p.Text)
		case PathTemplate:
			x := regexp.MustCompile(`\*\*|\*|\{.\}`).ReplaceAllStringFunc(p.Text, func(s string) string {
				if s == "**" {
					return ".*"
				}
				return "[^/]+"
			})
			return regexp.MustCompile("^" + x + "$").MatchString(r.Path)
		}
		return regexp.MustCompile("^(" + p.Text + ")$").MatchString(r.Path)
	}) && some(len(m.Methods), func(i int) bool { return m.Methods[i] == r.Method })
}

// The index finds what trying one after the other finds.
func TestFirstIsTheFirst(t *testing.T) {
	rnd := rand.New(rand.NewPCG(3, 4))
	pick := func(list ...string) string { return list[rnd.IntN(len(list))] }
	randomPath := func() string {
		s := ""
		for range 1 + rnd.IntN(3) {
			s += "/" + pick("a", "b", "ab", "")
		}
		return s
	}
	for range 100 {
		var list []*Match
		for range rnd.IntN(20) {
			m := &Match{}
			for range rnd.IntN(3) {
				m.Hosts = append(m.Hosts, pick("a.org", "b.org", "*.org", "*.a.org", "*", "x.a.org"))
			}
			for range rnd.IntN(3) {
				p := Path{Kind: PathKind(1 + rnd.IntN(4)), Text: randomPath()}
				switch p.Kind {
				case PathTemplate:
					p.Text = strings.Replace(p.Text, "/b", pick("/*", "/{x}", "/b"), 1) + pick("", "/**")
				case PathRegex:
					p.Text = pick("/a.*", "/(a|b)/.+", "/[ab]+")
				}
				m.Paths = append(m.Paths, p)
			}
			if rnd.IntN(4) == 0 {
				m.Methods = []string{pick("GET", "POST")}
			}
			list = append(list, m)
		}
		tb := table(t, list...)
		for range 100 {
			r := &Request{Method: pick("GET", "POST"), Host: pick("a.org", "b.org", "x.a.org", "y.x.a.org", "c.net"), Path: randomPath()}
			want := -1
			for i, m := range list {
				if naive(m, r) {
					want = i
					break
				}
			}
			if got := tb.First(r); got != want {
				t.Fatalf("%s %s%s: %d, want %d of %+v", r.Method, r.Host, r.Path, got, want, list)
			}
		}
	}
}

func TestTargetsAreSplit(t *testing.T) {
	for _, c := range []struct{ target, path, query string }{
		{"/", "/", ""}, {"/a?b", "/a", "b"}, {"/a?b?c", "/a", "b?c"}, {"http://h/a?b", "/a", "b"}, {"http://h", "/", ""}, {"http://h?x", "/", "x"},
		{"*", "*", ""}, {"h:80", "h:80", ""}, {"/a/../b/./c", "/b/c", ""}, {"/..", "/", ""}, {"/a/..", "/", ""}, {"/a/.", "/a/", ""},
		{"/a/../..//b", "//b", ""}, {"/%7Euser/%2f/%zz", "/~user/%2F/%zz", ""}, {"/a%", "/a%", ""}, {"/.a/..b/...", "/.a/..b/...", ""}, {"", "", ""},
		{"/x?u=http://y/", "/x", "u=http://y/"},
	} {
		var r Request
		if r.SetTarget(c.target); r.Path != c.path || r.Query != c.query {
			t.Errorf("%q: path %q query %q, want %q and %q", c.target, r.Path, r.Query, c.path, c.query)
		}
	}
}

func FuzzTarget(f *testing.F) {
	for _, s := range []string{"/a/../b?c", "/%2e%2e/x", "http://h/..", "*", "/a/./%41"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, target string) {
		var r Request
		r.SetTarget(target)
		if again := normal(r.Path); again != r.Path && !strings.Contains(r.Path, "%") {
			t.Errorf("%q: the normal form %q has the normal form %q", target, r.Path, again)
		}
		if strings.HasPrefix(r.Path, "/") && (strings.Contains(r.Path, "/../") || strings.HasSuffix(r.Path, "/..")) {
			t.Errorf("%q: %q has dot segments", target, r.Path)
		}
		r.Header = http.Header{"Cookie": {target}}
		r.Query = target
		r.Cookie("a")
		r.Parameter("a")
		r.SetHost(target)
	})
}

// A pattern that is accepted never fails, and an exact one matches itself.
func FuzzPaths(f *testing.F) {
	for _, s := range []string{"/a/b", "/users/{id}/files/**", "/a*", "/v[0-9]+/(a|b)*", "(((", "/{a}{b}", "/**/x", "/%41"} {
		f.Add(s, "/users/7/files/x")
	}
	f.Fuzz(func(t *testing.T, pattern, target string) {
		var r Request
		r.SetTarget(target)
		for k := PathExact; k <= PathRegex; k++ {
			var faults fault.List
			tb := NewTable([]*Match{path(k, pattern)}, &faults, func(int) string { return "m" })
			tb.First(&r)
			if len(faults) > 0 {
				continue
			}
			if k == PathExact || k == PathPrefix {
				var self Request
				if self.SetTarget(pattern); tb.First(&self) != 0 {
					t.Errorf("%v %q does not match itself", k, pattern)
				}
			}
		}
	})
}

func FuzzCEL(f *testing.F) {
	for _, s := range []string{`path == "/"`, `headers["a"].matches("b+")`, `cookies.all(c, true)`, `{"a": headers}["a"].size() > 0`, `has(headers.a)`, `cidr(client)`, `type(headers) == map`, `dyn(headers) == dyn(params)`, `1/0 == 1`} {
		f.Add(s)
	}
	r := request("GET http://h/a?b=c A=b Cookie=x=y @192.0.2.1")
	f.Fuzz(func(t *testing.T, text string) {
		p, err := compileCEL(text)
		if err != nil {
			return
		}
		evaluate(p, r)
	})
}
