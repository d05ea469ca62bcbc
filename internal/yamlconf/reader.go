// Package yamlconf reads configuration files: strict YAML whose mistakes are
// reported all at once, each as "file:line:col: what; remedy".
//
// A file is read in two passes. Fields of mappings put values, each with the
// place it came from (At), into the caller's structure; the caller then checks
// relations between values and reports with Errorf what does not fit.
package yamlconf

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// MaxSize limits a file, octets: a configuration is written by hand.
const MaxSize = 1 << 20

// ReadFile reads the file at path. Anything but a regular file of at most
// MaxSize octets is an error.
func ReadFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w; name the file with --config", err)
	}
	if !info.Mode().IsRegular() || info.Size() > MaxSize {
		return nil, fmt.Errorf("read configuration %s: not a regular file of at most %d octets", path, MaxSize)
	}
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read configuration: %w", err)
	}
	return text, nil
}

// Reader walks a YAML tree and collects mistakes instead of stopping at one.
type Reader struct {
	file string
	errs Errors
}

// NewReader returns a reader of one file, whose name stands in errors.
func NewReader(file string) *Reader { return &Reader{file: file} }

// Err returns the mistakes so far as an Errors in the file's order, or nil.
func (r *Reader) Err() error {
	if len(r.errs) == 0 {
		return nil
	}
	r.errs.sort()
	return r.errs
}

// Errorf records what is wrong at n and the remedy.
func (r *Reader) Errorf(n *yaml.Node, remedy, format string, args ...any) {
	if len(r.errs) < MaxErrors {
		r.errs = append(r.errs, Error{r.file, n.Line, n.Column, fmt.Sprintf(format, args...), remedy})
	}
}

var yamlError = regexp.MustCompile(`^yaml: (?:line (\d+): )?(.*)$`)

// Root returns the root of the only document in text, nil after a mistake.
func (r *Reader) Root(text []byte) *yaml.Node {
	fail := func(line, column int, remedy, format string, args ...any) *yaml.Node {
		r.errs = append(r.errs, Error{r.file, line, column, fmt.Sprintf(format, args...), remedy})
		return nil
	}
	if len(text) > MaxSize {
		return fail(0, 0, "split nothing into it but the configuration", "has %d octets, at most %d are read", len(text), MaxSize)
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

// List calls each with the elements of n; what names the list in errors.
func (r *Reader) List(n *yaml.Node, what string, each func(*yaml.Node)) {
	if !r.kind(n, yaml.SequenceNode, what, "a list") {
		return
	}
	for _, e := range n.Content {
		each(e)
	}
}

// text returns the scalar that n is; ok is false after a mistake.
func (r *Reader) text(n *yaml.Node, what string) (s string, ok bool) {
	if !r.kind(n, yaml.ScalarNode, what, "a single value") {
		return "", false
	}
	if n.Tag == "!!null" || n.Value == "" {
		r.Errorf(n, "write a value or remove the key", "%s is empty", what)
		return "", false
	}
	return n.Value, true
}

func (r *Reader) kind(n *yaml.Node, want yaml.Kind, what, name string) bool {
	switch {
	case n.Kind == want:
		return true
	case n.Kind == yaml.AliasNode:
		r.Errorf(n, "write it out", "%s is a YAML alias", what)
	case n.Kind == yaml.ScalarNode && n.Tag == "!!null":
		r.Errorf(n, "write a value or remove the key", "%s is empty", what)
	default:
		r.Errorf(n, "write "+name, "%s is not %s", what, name)
	}
	return false
}
