package match

import (
	"fmt"
	"regexp"
	"strings"
)

// paths are the path patterns of a host, each with the matches that have it,
// ascending.
type paths struct {
	any       []int32
	exact     map[string][]int32
	prefixes  *radix
	templates *segment
	regexes   []regex
}

type regex struct {
	re    *regexp.Regexp
	index int32
}

// pattern is a Path that was found right.
type pattern struct {
	kind     PathKind
	text     string
	segments []string // of a template: "*" for any, "**" for the rest
	re       *regexp.Regexp
}

// add notes that match i has the patterns; none stands for every path.
func add(to **paths, patterns []pattern, i int32) {
	if *to == nil {
		*to = &paths{exact: make(map[string][]int32)}
	}
	p := *to
	if patterns == nil {
		p.any = append(p.any, i)
	}
	for _, x := range patterns {
		switch x.kind {
		case PathExact:
			p.exact[x.text] = append(p.exact[x.text], i)
		case PathPrefix:
			if p.prefixes == nil {
				p.prefixes = &radix{}
			}
			p.prefixes.add(x.text, i)
		case PathTemplate:
			if p.templates == nil {
				p.templates = &segment{}
			}
			p.templates.add(x.segments, i)
		case PathRegex:
			p.regexes = append(p.regexes, regex{x.re, i})
		}
	}
}

func (c *compiler) paths(list []Path) []pattern {
	if len(list) == 0 {
		return nil
	}
	out := make([]pattern, 0, len(list))
	for j, p := range list {
		field := func(name string) string { return fmt.Sprintf("paths[%d].%s", j, name) }
		x := pattern{kind: p.Kind, text: p.Text}
		ok := true
		switch p.Kind {
		case PathExact:
			ok = c.literal(field("exact"), p.Text)
		case PathPrefix:
			ok = c.literal(field("prefix"), p.Text)
		case PathTemplate:
			x.segments, ok = c.template(field("template"), p.Text)
		case PathRegex:
			x.re, ok = c.regex(field("regex"), p.Text)
		default:
			c.fault(fmt.Sprintf("paths[%d]", j), "write one of exact, prefix, template and regex", "the path has no pattern")
			ok = false
		}
		if ok {
			out = append(out, x)
		}
	}
	return out
}

// literal checks a path that is compared as it is.
func (c *compiler) literal(field, text string) bool {
	switch {
	case !strings.HasPrefix(text, "/") && text != "*":
		c.fault(field, "begin it with '/'", "path %q does not begin with '/'", text)
	case strings.ContainsAny(text, "?#"):
		c.fault(field, "match the query by query", "path %q has a query or fragment, which no path has", text)
	case strings.ContainsFunc(text, func(r rune) bool { return r <= ' ' || r >= 0x7f }):
		c.fault(field, "percent-encode it", "path %q has a character that is never sent as it is", text)
	case normal(text) != text:
		c.fault(field, fmt.Sprintf("write %q", normal(text)), "path %q is not in normal form and would never match", text)
	default:
		return true
	}
	return false
}

func (c *compiler) template(field, text string) ([]string, bool) {
	if !strings.HasPrefix(text, "/") {
		c.fault(field, "begin it with '/'", "template %q does not begin with '/'", text)
		return nil, false
	}
	segments := strings.Split(text[1:], "/")
	names := make(map[string]bool)
	for i, s := range segments {
		switch {
		case s == "**":
			if i != len(segments)-1 {
				c.fault(field, "use regex for this", "template %q has ** before its end", text)
				return nil, false
			}
		case s == "*":
		case len(s) > 2 && s[0] == '{' && s[len(s)-1] == '}':
			name := s[1 : len(s)-1]
			if strings.Trim(strings.ToLower(name), "abcdefghijklmnopqrstuvwxyz0123456789_") != "" {
				c.fault(field, "name it with letters, digits and '_'", "template %q has the variable %s", text, s)
				return nil, false
			}
			if names[name] {
				c.fault(field, "rename one", "template %q has the variable %s twice", text, s)
				return nil, false
			}
			names[name] = true
			segments[i] = "*"
		case strings.ContainsAny(s, "{}*"):
			c.fault(field, "make the variable a whole segment, or use regex", "template %q has a variable in part of the segment %q", text, s)
			return nil, false
		case s != "" && !c.literal(field, "/"+s):
			return nil, false
		}
	}
	return segments, true
}
