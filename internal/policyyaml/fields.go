package policyyaml

import (
	"fmt"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/reflect/protoreflect"

	"github.com/shunt-sdn/shunt/internal/nearest"
)

// message reads a mapping into m. what names it in errors: "a route".
func (r *reader) message(n *yaml.Node, m protoreflect.Message, path, what string) {
	if !r.kind(n, yaml.MappingNode, what, "a mapping") {
		return
	}
	fields := m.Descriptor().Fields()
	seen := make(map[string]int)
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if key.Kind != yaml.ScalarNode {
			r.fault(key, "", "a key of %s is not a word", what)
			continue
		}
		// A second document goes on with the lists of the first.
		if line, ok := seen[key.Value]; ok {
			r.fault(key, "remove one", "%s has %q twice, first in line %d", what, key.Value, line)
			continue
		}
		seen[key.Value] = key.Line
		f := fields.ByJSONName(key.Value)
		if f == nil {
			r.unknown(key, fields, what)
			continue
		}
		if o := f.ContainingOneof(); o != nil && !o.IsSynthetic() {
			if other := m.WhichOneof(o); other != nil {
				r.fault(key, "write only one of them", "%s has %s and %s", what, other.JSONName(), key.Value)
				continue
			}
		}
		r.field(value, m, f, join(path, key.Value))
	}
}

func join(path, name string) string {
	if path == "" {
		return name
	}
	return path + "." + name
}

func (r *reader) unknown(key *yaml.Node, fields protoreflect.FieldDescriptors, what string) {
	var names []string
	for i := range fields.Len() {
		if f := fields.Get(i); string(f.Name()) == key.Value {
			r.fault(key, fmt.Sprintf("did you mean %q?", f.JSONName()), "%s has no field %q", what, key.Value)
			return
		}
		names = append(names, fields.Get(i).JSONName())
	}
	remedy := "it has " + and(names)
	lower := make([]string, len(names))
	for i, n := range names {
		lower[i] = strings.ToLower(n)
	}
	if near := nearest.Word(key.Value, lower); near != "" {
		remedy = fmt.Sprintf("did you mean %q?", names[slices.Index(lower, near)])
	}
	r.fault(key, remedy, "%s has no field %q", what, key.Value)
}

func and(names []string) string {
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	return strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1]
}

// field reads a value into a field of m.
func (r *reader) field(n *yaml.Node, m protoreflect.Message, f protoreflect.FieldDescriptor, path string) {
	if isNull(n) {
		r.note(n, path)
		r.fault(n, "write one or remove the key", "%s has no value", f.JSONName())
		return
	}
	if !f.IsList() {
		r.note(n, path)
		if f.Message() != nil && f.Message().FullName() != durationName {
			r.message(n, m.Mutable(f).Message(), path, article(f))
			return
		}
		if v, ok := r.scalar(n, f); ok {
			m.Set(f, v)
		}
		return
	}
	if r.d.places[path].line == 0 {
		r.note(n, path)
	}
	if !r.kind(n, yaml.SequenceNode, f.JSONName(), "a list") {
		return
	}
	list := m.Mutable(f).List()
	for _, e := range n.Content {
		at := fmt.Sprintf("%s[%d]", path, list.Len())
		r.note(e, at)
		if f.Message() != nil {
			r.message(e, list.AppendMutable().Message(), at, article(f))
		} else if v, ok := r.scalar(e, f); ok {
			list.Append(v)
		}
	}
}

func (r *reader) note(n *yaml.Node, path string) { r.d.places[path] = place{r.file, n.Line, n.Column} }

// nouns name what is in a field whose name is not its singular.
var nouns = map[string]string{
	"services": "service", "pools": "pool", "servers": "server", "leases": "lease", "routes": "route", "paths": "path",
	"headers": "header", "cookies": "cookie", "members": "member", "on": "key of a hash", "query": "query parameter",
	"http": "HTTP check", "tcp": "TCP check",
}

// article names a message's field in errors: "a route".
func article(f protoreflect.FieldDescriptor) string {
	noun := nouns[f.JSONName()]
	if noun == "" {
		noun = f.JSONName()
	}
	if strings.ContainsRune("aeiouH", rune(noun[0])) {
		return "an " + noun
	}
	return "a " + noun
}

// kind checks the kind of a node, and that it is no alias and has no anchor.
func (r *reader) kind(n *yaml.Node, want yaml.Kind, what, a string) bool {
	switch {
	case n.Kind == yaml.AliasNode || n.Anchor != "":
		r.fault(n, "write the value out", "anchors and aliases are not supported")
	case n.Kind != want:
		r.fault(n, "", "%s must be %s, not %s", what, a, kindName(n))
	default:
		return true
	}
	return false
}

func kindName(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	case yaml.ScalarNode:
		if isNull(n) {
			return "nothing"
		}
		return fmt.Sprintf("%q", n.Value)
	}
	return "this"
}
