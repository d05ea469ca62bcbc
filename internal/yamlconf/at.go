package yamlconf

import (
	"strings"

	"go.yaml.in/yaml/v3"
)

// At is a value and the place that it was read from.
type At[T any] struct {
	V T
	N *yaml.Node // nil: the key was absent, or its value a mistake
}

// Or returns the value, or the standard one if there is none.
func (a At[T]) Or(standard T) T {
	if a.N == nil {
		return standard
	}
	return a.V
}

// Values strips the places. It returns nil for an empty list.
func Values[T any](list []At[T]) []T {
	var out []T
	for _, e := range list {
		out = append(out, e.V)
	}
	return out
}

// Distinct reports values that stand in the list twice.
func Distinct[T ~string](r *Reader, list []At[T], what string) {
	seen := make(map[T]*yaml.Node, len(list))
	for _, e := range list {
		if first := seen[e.V]; first != nil {
			r.Errorf(e.N, "remove or rename one", "%s %q stands there twice, first in line %d", what, e.V, first.Line)
			continue
		}
		seen[e.V] = e.N
	}
}

// Scalar returns a field reader that stores what parse makes of the text.
// parse's error is "what; remedy", where what goes on after the value.
func Scalar[T any](r *Reader, what string, into *At[T], parse func(string) (T, error)) func(*yaml.Node) {
	return func(n *yaml.Node) {
		if v, ok := one(r, n, what, parse); ok {
			*into = v
		}
	}
}

// Scalars is Scalar for a list. An empty list is a mistake: leave the key out.
func Scalars[T any](r *Reader, what string, into *[]At[T], parse func(string) (T, error)) func(*yaml.Node) {
	return func(n *yaml.Node) {
		r.List(n, what, func(e *yaml.Node) {
			if v, ok := one(r, e, what, parse); ok {
				*into = append(*into, v)
			}
		})
		if n.Kind == yaml.SequenceNode && len(n.Content) == 0 {
			r.Errorf(n, "write at least one or remove the key", "%s is an empty list", what)
		}
	}
}

func one[T any](r *Reader, n *yaml.Node, what string, parse func(string) (T, error)) (At[T], bool) {
	s, ok := r.text(n, what)
	if !ok {
		return At[T]{}, false
	}
	v, err := parse(s)
	if err != nil {
		why, remedy, _ := strings.Cut(err.Error(), "; ")
		r.Errorf(n, remedy, "%s %q %s", what, s, why)
		return At[T]{}, false
	}
	return At[T]{v, n}, true
}
