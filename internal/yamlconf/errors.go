package yamlconf

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// MaxErrors is how many mistakes of a file are reported at once.
const MaxErrors = 20

// Error is one mistake in a file.
type Error struct {
	File string
	// Line and Column count from 1; 0: the file as a whole.
	Line, Column int
	// What is wrong.
	What string
	// Remedy is what to write instead.
	Remedy string
}

func (e Error) Error() string {
	where := e.File
	if e.Line > 0 {
		where = fmt.Sprintf("%s:%d:%d", e.File, e.Line, e.Column)
	}
	if e.Remedy == "" {
		return where + ": " + e.What
	}
	return where + ": " + e.What + "; " + e.Remedy
}

// Errors is the mistakes found in a file, in the file's order, at most
// MaxErrors.
type Errors []Error

func (es Errors) Error() string {
	lines := make([]string, len(es))
	for i, e := range es {
		lines[i] = e.Error()
	}
	return strings.Join(lines, "\n")
}

func (es Errors) sort() {
	slices.SortStableFunc(es, func(a, b Error) int {
		return cmp.Or(cmp.Compare(a.Line, b.Line), cmp.Compare(a.Column, b.Column))
	})
}
