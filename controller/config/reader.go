package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// maxErrors is how many mistakes are reported at once.
const maxErrors = 20

// reader walks a YAML tree and collects mistakes instead of stopping at one.
type reader struct {
	file string
	errs Errors
}

// errorf records what is wrong at n and the remedy.
func (r *reader) errorf(n *yaml.Node, remedy, format string, args ...any) {
	if len(r.errs) < maxErrors {
		r.errs = append(r.errs, Error{r.file, n.Line, n.Column, fmt.Sprintf(format, args...), remedy})
	}
}

var yamlError = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)$`)

// parse returns the root of the only document in text, nil after a mistake.
func (r *reader) parse(text []byte) *yaml.Node {
	fail := func(line, column int, remedy, format string, args ...any) *yaml.Node {
		r.errs = append(r.errs, Error{r.file, line, column, fmt.Sprintf(format, args...), remedy})
		return nil
	}
	if len(text) > maxSize {
		return fail(0, 0, "split nothing into it but the configuration", "has %d octets, at most %d are read", len(text), maxSize)
	}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	var doc, next yaml.Node
	err := decoder.Decode(&doc)
	if errors.Is(err, io.EOF) || err == nil && len(doc.Content) == 0 {
		return fail(0, 0, "see docs/quickstart.md for one to start from", "the file is empty")
	}
	if err == nil {
		switch err = decoder.Decode(&next); {
		case errors.Is(err, io.EOF):
			err = nil
		case err == nil:
			return fail(max(next.Line, 1), max(next.Column, 1), "remove all but the first", "a second YAML document")
		}
	}
	if err != nil {
		m := yamlError.FindStringSubmatch(err.Error())
		if m == nil {
			return fail(0, 0, "correct the YAML", "%v", err)
		}
		line, _ := strconv.Atoi(m[1])
		return fail(line, min(line, 1), "correct the YAML in this line or one next to it", "not YAML: %s", strings.ReplaceAll(m[2], "\n", " "))
	}
	return doc.Content[0]
}

// field is one key of a mapping.
type field struct {
	name string
	// needed is the remedy if the key is absent; "" makes it optional.
	needed string
	read   func(*yaml.Node)
}

// mapping reads n's keys by fields; what names the mapping in errors.
func (r *reader) mapping(n *yaml.Node, what string, fields ...field) {
	if !r.kind(n, yaml.MappingNode, what, "a mapping") {
		return
	}
	seen := make(map[string]*yaml.Node, len(fields))
	for i := 0; i+1 < len(n.Content); i += 2 {
		key, value := n.Content[i], n.Content[i+1]
		if first := seen[key.Value]; first != nil {
			r.errorf(key, "remove one", "%s has %q twice, first in line %d", what, key.Value, first.Line)
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
		if f.needed != "" && seen[f.name] == nil {
			r.errorf(n, f.needed, "%s has no %q", what, f.name)
		}
	}
}

func find(fields []field, name string) *field {
	for i := range fields {
		if fields[i].name == name {
			return &fields[i]
		}
	}
	return nil
}

func (r *reader) unknown(key *yaml.Node, what string, fields []field) {
	names := make([]string, len(fields))
	for i, f := range fields {
		names[i] = f.name
	}
	remedy := "known are " + strings.Join(names, ", ")
	if guess := nearest(key.Value, names); guess != "" {
		remedy = fmt.Sprintf("did you mean %q?", guess)
	}
	r.errorf(key, remedy, "%s has an unknown field %q", what, key.Value)
}

// list calls each with the elements of n.
func (r *reader) list(n *yaml.Node, what string, each func(*yaml.Node)) {
	if !r.kind(n, yaml.SequenceNode, what, "a list") {
		return
	}
	for _, e := range n.Content {
		each(e)
	}
}

// text returns the scalar that n is; ok is false after a mistake.
func (r *reader) text(n *yaml.Node, what string) (s string, ok bool) {
	if !r.kind(n, yaml.ScalarNode, what, "a single value") {
		return "", false
	}
	if n.Tag == "!!null" || n.Value == "" {
		r.errorf(n, "write a value or remove the key", "%s is empty", what)
		return "", false
	}
	return n.Value, true
}

func (r *reader) kind(n *yaml.Node, want yaml.Kind, what, name string) bool {
	switch {
	case n.Kind == want:
		return true
	case n.Kind == yaml.AliasNode:
		r.errorf(n, "write it out", "%s is a YAML alias", what)
	case n.Kind == yaml.ScalarNode && n.Tag == "!!null":
		r.errorf(n, "write a value or remove the key", "%s is empty", what)
	default:
		r.errorf(n, "write "+name, "%s is not %s", what, name)
	}
	return false
}
