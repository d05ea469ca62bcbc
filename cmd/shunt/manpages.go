package main

import (
	"bytes"
	"cmp"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/shunt-sdn/shunt/internal/configdoc"
)

// newManCommand returns the command that packages are built with.
func newManCommand() *cobra.Command {
	var date, source string
	cmd := &cobra.Command{
		Use:    "man DIRECTORY",
		Short:  "Write the manual pages",
		Args:   cobra.ExactArgs(1),
		Hidden: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := os.MkdirAll(args[0], 0o755); err != nil {
				return fmt.Errorf("write manual pages: %w", err)
			}
			pages := manPages(cmd.Root(), date)
			reference, err := configurationPage(source, date)
			if err != nil {
				return err
			}
			pages["shunt.yaml.5"] = reference
			for name, text := range pages {
				if err := os.WriteFile(filepath.Join(args[0], name), text, 0o644); err != nil {
					return fmt.Errorf("write manual pages: %w", err)
				}
			}
			return nil
		},
	}
	cmd.Flags().StringVar(&date, "date", time.Now().UTC().Format(time.DateOnly), "`date` of the pages")
	cmd.Flags().StringVar(&source, "source", ".", "`directory` of the source tree, for the configuration's reference")
	return cmd
}

// daemons and what else is for administrators only has its page in section 8.
var administrators = []string{"controller", "agent", "doctor", "switchsim"}

func pageOf(cmd *cobra.Command) (name, section string) {
	name = strings.ReplaceAll(cmd.CommandPath(), " ", "-")
	if slices.Contains(administrators, cmd.Name()) {
		return name, "8"
	}
	return name, "1"
}

// manPages returns one page for the program and one for each of its commands,
// by file name. Subcommands are on their command's page.
func manPages(root *cobra.Command, date string) map[string][]byte {
	pages := map[string][]byte{}
	commands := slices.DeleteFunc(slices.Clone(root.Commands()), func(c *cobra.Command) bool { return !listed(c) })
	for _, cmd := range append([]*cobra.Command{root}, commands...) {
		name, section := pageOf(cmd)
		p := &page{}
		p.head(name, section, date, cmd.Short)
		p.section("SYNOPSIS")
		p.synopsis(cmd)
		p.section("DESCRIPTION")
		p.paragraphs(cmp.Or(cmd.Long, cmd.Short+"."))
		if cmd == root {
			p.section("COMMANDS")
			for _, c := range commands {
				sub, s := pageOf(c)
				p.item(fmt.Sprintf(`\fB%s\fR(%s)`, escape(sub), s), c.Short)
			}
		} else if cmd.HasAvailableSubCommands() {
			p.section("COMMANDS")
			for _, c := range cmd.Commands() {
				if listed(c) {
					p.item(`\fB`+escape(c.Use)+`\fR`, cmp.Or(c.Long, c.Short))
					p.flags(c.Flags())
				}
			}
		}
		if cmd.Flags().HasAvailableFlags() {
			p.section("OPTIONS")
			p.flags(cmd.Flags())
		}
		for _, s := range prose[cmd.Name()] {
			p.section(s.title)
			for _, e := range s.entries {
				p.item(`\fB`+escape(e[0])+`\fR`, e[1])
			}
		}
		if cmd.Example != "" {
			p.section("EXAMPLES")
			p.code(cmd.Example)
		}
		p.section("SEE ALSO")
		var others []string
		for _, c := range append([]*cobra.Command{root}, commands...) {
			if n, s := pageOf(c); c != cmd {
				others = append(others, fmt.Sprintf(`\fB%s\fR(%s)`, escape(n), s))
			}
		}
		fmt.Fprintf(p, "%s,\n\\fBshunt.yaml\\fR(5)\n", strings.Join(others, ",\n"))
		pages[name+"."+section] = p.Bytes()
	}
	return pages
}

func listed(c *cobra.Command) bool {
	return c.IsAvailableCommand() && c.Name() != "help" && c.Name() != "completion"
}

// page is a manual page in the macros of man(7).
type page struct{ bytes.Buffer }

func (p *page) head(name, section, date, short string) {
	fmt.Fprintf(p, ".TH \"%s\" \"%s\" \"%s\" \"Shunt\" \"Shunt\"\n.SH NAME\n%s \\- %s\n", escape(strings.ToUpper(name)), section, date, escape(name), escape(short))
}

func (p *page) section(title string) { fmt.Fprintf(p, ".SH %s\n", escape(title)) }

// synopsis shows the command and, if that is all it has, its subcommands.
func (p *page) synopsis(cmd *cobra.Command) {
	lines := []string{cmd.UseLine()}
	if !cmd.Runnable() {
		lines = nil
		for _, c := range cmd.Commands() {
			if listed(c) {
				lines = append(lines, c.UseLine())
			}
		}
	}
	for i, l := range lines {
		if i > 0 {
			fmt.Fprintln(p, ".br")
		}
		fmt.Fprintln(p, escape(l))
	}
}

// paragraphs writes text whose paragraphs are separated by empty lines;
// indented ones are code.
func (p *page) paragraphs(text string) {
	for i, part := range strings.Split(strings.Trim(text, "\n"), "\n\n") {
		if i > 0 {
			fmt.Fprintln(p, ".PP")
		}
		if strings.HasPrefix(part, "  ") || strings.HasPrefix(part, "\t") {
			p.code(part)
		} else {
			fmt.Fprintln(p, escape(part))
		}
	}
}

func (p *page) code(text string) {
	fmt.Fprintf(p, ".nf\n%s\n.fi\n", escape(strings.Trim(text, "\n")))
}

// item writes a tagged paragraph; the tag is markup already.
func (p *page) item(tag, text string) { fmt.Fprintf(p, ".TP\n%s\n%s\n", tag, escape(text)) }

func (p *page) flags(set *pflag.FlagSet) {
	set.VisitAll(func(f *pflag.Flag) {
		if f.Hidden || f.Name == "help" {
			return
		}
		kind, usage := pflag.UnquoteUsage(f)
		tag := "--" + f.Name
		if f.Shorthand != "" {
			tag = "-" + f.Shorthand + ", " + tag
		}
		tag = `\fB` + escape(tag) + `\fR`
		if kind != "" {
			tag += ` \fI` + escape(kind) + `\fR`
		}
		if d := f.DefValue; d != "" && d != "false" && d != "[]" && d != "0" && d != "0s" {
			usage += " (default " + d + ")"
		}
		p.item(tag, usage)
	})
}

// escape makes text safe for roff: no backslash of its own, hyphens that can be
// copied, no line that begins with a control character.
func escape(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`, "’", `\(cq`).Replace(s)
	lines := strings.Split(s, "\n")
	for i, l := range lines {
		if strings.HasPrefix(l, ".") || strings.HasPrefix(l, "'") {
			lines[i] = `\&` + l
		}
	}
	return strings.Join(lines, "\n")
}

// configurationPage is shunt.yaml(5), made from the source tree.
func configurationPage(root, date string) ([]byte, error) {
	files, err := configdoc.Read(root)
	if err != nil {
		return nil, fmt.Errorf("the configuration's reference: %w; name the source tree with --source", err)
	}
	return []byte(configdoc.Man(files, date)), nil
}
