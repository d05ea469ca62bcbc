package operator

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// Answer is what a Client returns.
type Answer interface {
	// table writes lines of cells that are separated by tabs.
	table(w io.Writer)
}

// Print writes an answer in a format, json or table.
func Print(w io.Writer, format string, a Answer) error {
	var out bytes.Buffer
	switch format {
	case "json":
		enc := json.NewEncoder(&out)
		enc.SetEscapeHTML(false)
		enc.SetIndent("", "  ")
		if err := enc.Encode(a); err != nil {
			return fmt.Errorf("write JSON: %w", err)
		}
	case "table":
		tabs := tabwriter.NewWriter(&out, 0, 8, 2, ' ', 0)
		a.table(tabs)
		tabs.Flush() // a buffer takes everything
	default:
		return fmt.Errorf("output format %q is unknown; write -o json or -o table", format)
	}
	_, err := w.Write(out.Bytes())
	return err
}

// row writes one line of a table.
func row(w io.Writer, cells ...any) {
	for i, c := range cells {
		if i > 0 {
			fmt.Fprint(w, "\t")
		}
		fmt.Fprint(w, c)
	}
	fmt.Fprintln(w)
}

func list(words []string) string {
	if len(words) == 0 {
		return "-"
	}
	return strings.Join(words, ",")
}

func word(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func either(b bool, yes, no string) string {
	if b {
		return yes
	}
	return no
}

func (s Status) table(w io.Writer) {
	row(w, "hand-offs", fmt.Sprintf("%d completed, %d rolled back, %d failed", s.Handoffs.Completed, s.Handoffs.RolledBack, s.Handoffs.Failed))
	row(w, "requests", fmt.Sprintf("%d proxied", s.Requests.Proxied))
	row(w, "sessions", s.Sessions)
	for _, x := range s.Switches {
		row(w, "switch "+x.DPID, fmt.Sprintf("%s, %s steering, %d flows %s",
			either(x.Connected, "connected", "not connected"), word(x.Steering), x.Flows, x.Error))
	}
	for _, n := range s.Nodes {
		row(w, "node "+n.Name, fmt.Sprintf("%s, %s", n.word(), list(n.Roles)))
	}
}

func (s Services) table(w io.Writer) {
	row(w, "SERVICE", "VIPS", "SERVERS", "LEASES")
	for _, x := range s {
		leases := each(x.Leases, func(l Lease) string { return l.Dispatcher + "=" + l.Address })
		row(w, x.Name, list(x.VIPs), list(x.Servers), list(leases))
	}
}

func (s Sessions) table(w io.Writer) {
	row(w, "CLIENT", "SERVICE", "NODE", "PATH")
	for _, x := range s {
		row(w, x.Client, word(x.Service), word(x.Node), x.Path)
	}
}

func (h Handoffs) table(w io.Writer) {
	row(w, "STARTED", "CLIENT", "SERVICE", "FROM", "TO", "OUTCOME", "TOTAL", "STEPS (µs)", "REASON")
	for _, x := range h {
		steps := each(x.Steps, func(s Step) string { return fmt.Sprintf("%s=%d", s.Name, s.US) })
		row(w, x.Started, x.Client, x.Service, x.From, word(x.To), x.Outcome, fmt.Sprint(x.TotalUS, " µs"), list(steps), x.Reason)
	}
}

func (n Nodes) table(w io.Writer) {
	row(w, "NODE", "ROLES", "STATE", "MAC", "ADDRESSES", "APPLICATIONS", "SESSIONS", "PROXIED", "POLICY")
	for _, x := range n {
		apps := each(x.Applications, func(a Application) string { return a.Service + either(a.Ready, "", " (not ready)") })
		row(w, x.Name, list(x.Roles), x.word(), x.MAC, list(x.Addresses), list(apps), x.Sessions, x.Proxied,
			either(x.PolicyError == "", fmt.Sprint(x.PolicyRevision), fmt.Sprint(x.PolicyRevision, ", refuses a later one")))
	}
}

func (f Flows) table(w io.Writer) {
	row(w, "SWITCH", "TABLE", "PRIORITY", "PACKETS", "BYTES", "COOKIE", "MATCH", "ACTIONS")
	for _, x := range f {
		row(w, x.DPID, x.Table, x.Priority, x.Packets, x.Bytes, x.Cookie, word(x.Match), x.Actions)
	}
}
