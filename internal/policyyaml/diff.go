package policyyaml

import (
	"fmt"
	"strings"
)

// Diff compares two texts by line, as diff -u does with the given number of
// lines around each difference and without its file names. Equal texts give "".
func Diff(before, after string, around int) string {
	a, b := lines(before), lines(after)
	edits := shortest(a, b)
	var out strings.Builder
	for i := 0; i < len(edits); {
		if edits[i].op == ' ' {
			i++
			continue
		}
		from, to, same := max(i-around, 0), i, 0
		for to < len(edits) && same <= 2*around {
			if edits[to].op == ' ' {
				same++
			} else {
				same = 0
			}
			to++
		}
		to -= max(same-around, 0)
		hunk(&out, edits[from:to])
		i = to
	}
	return out.String()
}

func lines(s string) []string {
	if s == "" {
		return nil
	}
	return strings.Split(strings.TrimSuffix(s, "\n"), "\n")
}

type edit struct {
	op   byte // ' ', '-' or '+'
	text string
	a, b int // line numbers before and after, from 0
}

func hunk(out *strings.Builder, edits []edit) {
	removed, added := 0, 0
	for _, e := range edits {
		if e.op != '+' {
			removed++
		}
		if e.op != '-' {
			added++
		}
	}
	start := func(line, n int) int {
		if n == 0 {
			return line
		}
		return line + 1
	}
	fmt.Fprintf(out, "@@ -%d,%d +%d,%d @@\n", start(edits[0].a, removed), removed, start(edits[0].b, added), added)
	for _, e := range edits {
		fmt.Fprintf(out, "%c%s\n", e.op, e.text)
	}
}

// shortest returns a shortest edit script between the texts (longest common
// subsequence, after the equal lines at both ends are taken off).
func shortest(a, b []string) []edit {
	head := 0
	for head < len(a) && head < len(b) && a[head] == b[head] {
		head++
	}
	tail := 0
	for tail < len(a)-head && tail < len(b)-head && a[len(a)-1-tail] == b[len(b)-1-tail] {
		tail++
	}
	x, y := a[head:len(a)-tail], b[head:len(b)-tail]
	var out []edit
	for i := range head {
		out = append(out, edit{' ', a[i], i, i})
	}
	out = append(out, middle(x, y, head)...)
	for i := range tail {
		out = append(out, edit{' ', a[len(a)-tail+i], len(a) - tail + i, len(b) - tail + i})
	}
	return out
}

// maxCells bounds the memory of a comparison; beyond it everything between the
// equal ends counts as changed.
const maxCells = 16 << 20

func middle(x, y []string, at int) []edit {
	var out []edit
	i, j := 0, 0
	if len(x)*len(y) <= maxCells {
		common := make([][]int32, len(x)+1)
		for i := range common {
			common[i] = make([]int32, len(y)+1)
		}
		for i := len(x) - 1; i >= 0; i-- {
			for j := len(y) - 1; j >= 0; j-- {
				if x[i] == y[j] {
					common[i][j] = common[i+1][j+1] + 1
				} else {
					common[i][j] = max(common[i+1][j], common[i][j+1])
				}
			}
		}
		for i < len(x) && j < len(y) {
			switch {
			case x[i] == y[j]:
				out = append(out, edit{' ', x[i], at + i, at + j})
				i, j = i+1, j+1
			case common[i+1][j] >= common[i][j+1]:
				out = append(out, edit{'-', x[i], at + i, at + j})
				i++
			default:
				out = append(out, edit{'+', y[j], at + i, at + j})
				j++
			}
		}
	}
	for ; i < len(x); i++ {
		out = append(out, edit{'-', x[i], at + i, at + j})
	}
	for ; j < len(y); j++ {
		out = append(out, edit{'+', y[j], at + i, at + j})
	}
	return out
}
