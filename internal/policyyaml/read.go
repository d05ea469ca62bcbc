package policyyaml

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"sort"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/shunt-sdn/shunt/internal/policyproto"
	"github.com/shunt-sdn/shunt/internal/yamlconf"
	"github.com/shunt-sdn/shunt/policy"
	"github.com/shunt-sdn/shunt/policy/fault"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// MaxBytes is how big a file may be.
const MaxBytes = 64 << 20

// Source is a file, or what was read from elsewhere under some name.
type Source struct {
	Name string
	Data []byte
}

// Document is what was read, and from where.
type Document struct {
	Policy *shuntv1.Policy
	places map[string]place // by the path of the field
}

type place struct {
	file         string
	line, column int
}

// Load reads and checks policies. The error is yamlconf.Errors: every mistake
// in the order of the files. All documents are one policy: what one refers to
// must be in one of them.
func Load(sources ...Source) (*Document, policy.Model, error) {
	d, err := Read(sources...)
	if err != nil {
		return nil, policy.Model{}, err
	}
	m, err := policyproto.Check(d.Policy)
	if err != nil {
		return nil, policy.Model{}, d.Locate(err)
	}
	return d, m, nil
}

// Read reads policies without checking what they say: for a part of a policy,
// which the controller checks together with what it has. The error is
// yamlconf.Errors.
func Read(sources ...Source) (*Document, error) {
	d := &Document{Policy: &shuntv1.Policy{}, places: make(map[string]place)}
	var errs yamlconf.Errors
	for _, s := range sources {
		r := reader{d: d, file: s.Name}
		r.source(s.Data)
		slices.SortStableFunc(r.errs, func(a, b yamlconf.Error) int {
			return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
		})
		errs = append(errs, r.errs...)
	}
	if len(errs) > 0 {
		return nil, errs[:min(len(errs), yamlconf.MaxErrors)]
	}
	return d, nil
}

// Locate says in which line the mistakes of a fault.List are; other errors are
// returned as they are.
func (d *Document) Locate(err error) error {
	var list fault.List
	if !errors.As(err, &list) {
		return err
	}
	errs := make(yamlconf.Errors, 0, len(list))
	for _, f := range list {
		p := d.place(f.Path)
		errs = append(errs, yamlconf.Error{File: p.file, Line: p.line, Column: p.column, What: f.What, Remedy: f.Remedy})
	}
	slices.SortStableFunc(errs, func(a, b yamlconf.Error) int {
		return cmp.Or(cmp.Compare(a.File, b.File), cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
	return errs[:min(len(errs), yamlconf.MaxErrors)]
}

// place returns where a field is, or the nearest thing around it.
func (d *Document) place(path string) place {
	for path != "" {
		if p, ok := d.places[path]; ok {
			return p
		}
		path = path[:max(strings.LastIndexAny(path, ".["), 0)]
	}
	return place{file: "policy"}
}

type reader struct {
	d    *Document
	file string
	errs yamlconf.Errors
}

func (r *reader) fault(n *yaml.Node, remedy, format string, args ...any) {
	r.errs = append(r.errs, yamlconf.Error{File: r.file, Line: n.Line, Column: n.Column, What: fmt.Sprintf(format, args...), Remedy: remedy})
}

var yamlLine = regexp.MustCompile(`^yaml: (?:line \d+: )?`)

// lineOf returns the line of a syntax error. The library tells where what is
// wrong begins; this is the first line without which there is no such error.
func lineOf(data []byte, want error) int {
	lines := bytes.SplitAfter(data, []byte("\n"))
	n := sort.Search(len(lines)-1, func(n int) bool {
		dec := yaml.NewDecoder(bytes.NewReader(bytes.Join(lines[:n+1], nil)))
		for {
			var x yaml.Node
			if err := dec.Decode(&x); err != nil {
				return yamlLine.ReplaceAllString(err.Error(), "") == yamlLine.ReplaceAllString(want.Error(), "")
			}
		}
	})
	return n + 1
}

func (r *reader) source(data []byte) {
	if len(data) > MaxBytes {
		r.fault(&yaml.Node{}, "", "the file has %d octets; at most %d are allowed", len(data), MaxBytes)
		return
	}
	dec := yaml.NewDecoder(bytes.NewReader(data))
	for {
		var n yaml.Node
		err := dec.Decode(&n)
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			r.fault(&yaml.Node{Line: lineOf(data, err), Column: 1}, "", "not YAML: %s", yamlLine.ReplaceAllString(err.Error(), ""))
			return
		}
		if len(n.Content) == 1 && !isNull(n.Content[0]) {
			r.message(n.Content[0], r.d.Policy.ProtoReflect(), "", "a policy")
		}
	}
}

func isNull(n *yaml.Node) bool { return n.Kind == yaml.ScalarNode && n.Tag == "!!null" }
