// Package configdoc makes the reference of the configuration files from the
// code that reads them: the tables of fields that are given to
// yamlconf.Reader.Mapping say which keys there are and which are needed, the
// functions that parse values say in their errors what to write, and the
// comments of the Config structures say what it means. A test fails for a key
// without any of that, so that none is undocumented.
package configdoc

//go:generate go run ./gen ../../docs/configuration.md

import (
	"fmt"
	"go/ast"
	"path/filepath"
	"strconv"
	"strings"
)

// A Mapping is a YAML mapping that a file has, or a part of one.
type Mapping struct {
	Text string // what it is; may be empty
	Keys []Key
}

// A Key is one of a mapping.
type Key struct {
	Name    string
	Needed  bool
	List    bool
	Value   string   // what to write; "" if it is a mapping
	Default string   // "": none, or the text says it
	Text    string   // what it means
	Nested  *Mapping // nil: a scalar
}

// A File is one configuration file's reference.
type File struct {
	Name string // as it is installed
	Mapping
	Silent []string // keys that no comment explains
}

// Read reads the source tree at root.
func Read(root string) ([]File, error) {
	var out []File
	for _, f := range []struct{ name, dir string }{{"agent.yaml", "agent/config"}, {"controller.yaml", "controller/config"}} {
		s := newSources(root)
		p, err := s.load(f.dir)
		if err != nil {
			return nil, err
		}
		doc := p.function("document")
		if doc == nil {
			return nil, fmt.Errorf("%s has no function document that reads the file", f.dir)
		}
		w := &walker{sources: s, active: map[*ast.FuncDecl]bool{}}
		m, err := w.find(p, doc.Body, structure{p, "Config"})
		if err != nil {
			return nil, fmt.Errorf("%s: %w", f.dir, err)
		}
		if m.nested == nil {
			return nil, fmt.Errorf("%s: the function document reads no mapping", f.dir)
		}
		out = append(out, File{Name: f.name, Mapping: *m.nested, Silent: w.silent})
	}
	return out, nil
}

// structure is a structure type that holds what a mapping says; its name is
// empty if there is none.
type structure struct {
	pkg  *source
	name string
}

// walker follows the code that reads a file.
type walker struct {
	*sources
	active map[*ast.FuncDecl]bool // being followed: mappings may contain themselves
	silent []string
}

// found is what a piece of code reads; zero: nothing.
type found struct {
	nested *Mapping
	value  string // of a scalar
	list   bool
	any    bool
}

// find returns what the first reading call in n reads.
func (w *walker) find(p *source, n ast.Node, s structure) (out found, err error) {
	ast.Inspect(n, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok || out.any || err != nil {
			return !out.any && err == nil
		}
		switch name := calledName(call); name {
		case "Mapping":
			out.nested, err = w.mapping(p, call, s)
			out.any = true
		case "Scalar", "Scalars":
			if len(call.Args) == 4 {
				out = found{value: w.valueOf(p, call.Args[3]), list: name == "Scalars", any: true}
			}
		case "List":
			if len(call.Args) == 3 {
				out, err = w.find(p, call.Args[2], s)
				out.list = true
			}
		default:
			q, f := w.resolve(p, call.Fun)
			if f == nil || f.Body == nil || w.active[f] {
				return true
			}
			w.active[f] = true
			out, err = w.find(q, f.Body, s)
			delete(w.active, f)
		}
		return !out.any && err == nil
	})
	return out, err
}

// mapping reads the fields of a call of Mapping.
func (w *walker) mapping(p *source, call *ast.CallExpr, s structure) (*Mapping, error) {
	m := &Mapping{}
	if s.name != "" && s.name != "Config" {
		m.Text = s.pkg.comment(s.name)
	}
	for _, arg := range call.Args[2:] {
		field, ok := arg.(*ast.CallExpr)
		if !ok {
			continue // fields made by a loop: the text of the key says which
		}
		kind := calledName(field)
		name, err := literal(field.Args[0])
		if err != nil || kind != "Needed" && kind != "Optional" {
			continue
		}
		k := Key{Name: name, Needed: kind == "Needed"}
		inner, text := s.field(name)
		k.Text = text
		if k.Needed && k.Text == "" {
			if remedy, err := literal(field.Args[1]); err == nil {
				k.Text = remedy
			} else if parts, ok := field.Args[1].(*ast.BinaryExpr); ok {
				k.Text = constantText(parts)
			}
		}
		f, err := w.find(p, field.Args[len(field.Args)-1], inner)
		if err != nil {
			return nil, err
		}
		k.Value, k.List, k.Nested = f.value, f.list, f.nested
		if k.Nested != nil && len(k.Nested.Keys) == 0 {
			k.Nested, k.Value = nil, "a mapping"
		}
		k.Default = s.pkg.standard(name)
		if k.Text == "" && inner.name != "" {
			k.Text = inner.pkg.comment(inner.name)
		}
		if k.meaning() == "" {
			w.silent = append(w.silent, fmt.Sprintf("%s in %s.%s", name, s.pkg.dir, s.name))
		}
		m.Keys = append(m.Keys, k)
	}
	return m, nil
}

func calledName(c *ast.CallExpr) string {
	fun := c.Fun
	if i, ok := fun.(*ast.IndexExpr); ok {
		fun = i.X
	}
	switch f := fun.(type) {
	case *ast.Ident:
		return f.Name
	case *ast.SelectorExpr:
		return f.Sel.Name
	}
	return ""
}

func literal(e ast.Expr) (string, error) {
	l, ok := e.(*ast.BasicLit)
	if !ok {
		return "", fmt.Errorf("not a literal")
	}
	return strconv.Unquote(l.Value)
}

// constantText joins the literal parts of a sum of texts.
func constantText(e ast.Expr) string {
	if b, ok := e.(*ast.BinaryExpr); ok {
		return constantText(b.X) + constantText(b.Y)
	}
	s, err := literal(e)
	if err != nil {
		return "the daemon's"
	}
	return s
}

// same tells whether a YAML key and a Go field name the same.
func same(key, field string) bool {
	return strings.EqualFold(strings.ReplaceAll(key, "_", ""), field)
}

// under returns a path below the root.
func (s *sources) under(dir string) string { return filepath.Join(s.root, filepath.FromSlash(dir)) }
