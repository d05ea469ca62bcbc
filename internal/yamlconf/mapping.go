package yamlconf

import (
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/shunt-sdn/shunt/internal/nearest"
)

// Field is one key of a mapping and what reads its value.
type Field struct {
	name string
	// remedy says what to do if the key is absent; "" makes it optional.
	remedy string
	read   func(*yaml.Node)
}

// Needed is a key that must be there; the remedy says what to write.
func Needed(name, remedy string, read func(*yaml.Node)) Field { return Field{name, remedy, read} }

// Optional is a key that may be left out.
func Optional(name string, read func(*yaml.Node)) Field { return Field{name, "", read} }

// Mapping reads n's keys by fields; what names the mapping in errors. Keys that
// no field has, and keys that stand there twice, are mistakes.
func (r *Reader) Mapping(n *yaml.Node, what string, fields ...Field) {
	if !r.kind(n, yaml.MappingNode, what, "a mapping") {
		return
	}
	seen := make(map[string]*yaml.Node, len(fields))
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if first := seen[key.Value]; first != nil {
			r.Errorf(key, "remove one", "%s has %q twice, first in line %d", what, key.Value, first.Line)
			continue
		}
		seen[key.Value] = key
		if f := find(fields, key.Value); f != nil {
			f.read(value)
		} else {
			r.unknown(key, what, fields)
		}
	}
	for _, f := range fields {
		if f.remedy != "" && seen[f.name] == nil {
			r.Errorf(n, f.remedy, "%s has no %q", what, f.name)
		}
	}
}

func find(fields []Field, name string) *Field {
	for i := range fields {
		if fields[i].name == name {
			return &fields[i]
		}
	}
	return nil
}

func (r *Reader) unknown(key *yaml.Node, what string, fields []Field) {
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.name
	}
	remedy := "known are " + strings.Join(names, ", ")
	if guess := nearest.Word(key.Value, names); guess != "" {
		remedy = fmt.Sprintf("did you mean %q?", guess)
	}
	r.Errorf(key, remedy, "%s has an unknown field %q", what, key.Value)
}
