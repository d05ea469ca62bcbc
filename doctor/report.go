package doctor

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"text/tabwriter"
)

// Level is how bad a finding is.
type Level string

// The levels. A host with warnings works, perhaps not as well as it could.
const (
	OK   Level = "ok"
	Warn Level = "warn"
	Fail Level = "fail"
)

// A Finding is the outcome of one check on one subject.
type Finding struct {
	Check   string `json:"check"`             // which one: stable
	Subject string `json:"subject,omitempty"` // an interface, a peer, a file, …
	Level   Level  `json:"level"`
	Text    string `json:"text"`             // what is so
	Remedy  string `json:"remedy,omitempty"` // what to change; empty if ok
}

// A Report is what was found, in the order of the checks.
type Report []Finding

// Failed reports whether a check failed.
func (r Report) Failed() bool {
	return slices.ContainsFunc(r, func(f Finding) bool { return f.Level == Fail })
}

func (r *Report) add(level Level, check, subject, remedy, format string, args ...any) {
	*r = append(*r, Finding{check, subject, level, fmt.Sprintf(format, args...), remedy})
}

func (r *Report) ok(check, subject, format string, args ...any) {
	r.add(OK, check, subject, "", format, args...)
}

func (r *Report) warn(check, subject, remedy, format string, args ...any) {
	r.add(Warn, check, subject, remedy, format, args...)
}

func (r *Report) fail(check, subject, remedy, format string, args ...any) {
	r.add(Fail, check, subject, remedy, format, args...)
}

// Print writes the report as "json" or as a "table".
func (r Report) Print(w io.Writer, format string) error {
	switch format {
	case "json":
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		if r == nil {
			r = Report{}
		}
		return e.Encode(r)
	case "table":
		return r.table(w)
	}
	return fmt.Errorf("output format %q is unknown; use table or json", format)
}

func (r Report) table(w io.Writer) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	counts := map[Level]int{}
	for _, f := range r {
		counts[f.Level]++
		check := f.Check
		if f.Subject != "" {
			check += " (" + f.Subject + ")"
		}
		fmt.Fprintf(t, "%s\t%s\t%s\n", f.Level, check, f.Text)
		if f.Remedy != "" {
			fmt.Fprintf(t, "\t\t→ %s\n", f.Remedy)
		}
	}
	fmt.Fprintf(t, "\n%d ok, %d warnings, %d failures\n", counts[OK], counts[Warn], counts[Fail])
	return t.Flush()
}
