// Package fault says what is wrong with a policy: every mistake at once, each
// with the path of its field.
package fault

import (
	"fmt"
	"strings"
)

// Max is how many mistakes an Error tells of.
const Max = 50

// Fault is one mistake.
type Fault struct {
	// Path is the field's, in the JSON names of the API, with positions that
	// count from 0: "services[0].routes[2].match.paths[0].regex". Empty: the
	// policy as a whole.
	Path string
	// What is wrong.
	What string
	// Remedy is what to do; may be empty.
	Remedy string
}

func (f Fault) Error() string {
	s := f.What
	if f.Path != "" {
		s = f.Path + ": " + s
	}
	if f.Remedy != "" {
		s += "; " + f.Remedy
	}
	return s
}

// List collects mistakes; the zero value is empty. As an error it is one
// mistake per line, in the order in which they were found.
type List []Fault

// Add notes a mistake.
func (l *List) Add(path, remedy, format string, args ...any) {
	*l = append(*l, Fault{path, fmt.Sprintf(format, args...), remedy})
}

// Err returns the list, or nil if it is empty.
func (l List) Err() error {
	if len(l) == 0 {
		return nil
	}
	return l
}

func (l List) Error() string {
	lines := make([]string, 0, min(len(l), Max+1))
	for i, f := range l {
		if i == Max {
			lines = append(lines, fmt.Sprintf("and %d more", len(l)-Max))
			break
		}
		lines = append(lines, f.Error())
	}
	return strings.Join(lines, "\n")
}
