package configdoc

import (
	"fmt"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Markdown writes the reference as a document.
func Markdown(files []File) string {
	var b strings.Builder
	b.WriteString(`# Configuration

<!-- Generated from the code by "make generate". Do not edit. -->

Both files are YAML. A daemon reads its file once, when it starts; what is wrong in it is reported all at once, each mistake with
its line and what to do. Check a file without starting anything with ` + "`shunt agent --check --config FILE`" + ` and
` + "`shunt controller --check --config FILE`" + `. A key that is not in this list is a mistake.

A name is 1 to 63 letters, digits, ` + "`.`, `_` or `-`" + `, with a letter or digit first and last. A duration is a number with a unit: ` + "`300ms`, `10s`, `2m`" + `.
`)
	for _, f := range files {
		fmt.Fprintf(&b, "\n## %s\n", f.Name)
		markdown(&b, f.Mapping, "")
	}
	return b.String()
}

func markdown(b *strings.Builder, m Mapping, at string) {
	if at != "" {
		fmt.Fprintf(b, "\n### %s\n", strings.TrimSuffix(at, "."))
		if m.Text != "" {
			fmt.Fprintf(b, "\n%s\n", sentence(m.Text))
		}
	}
	b.WriteString("\n| key | | value | default | meaning |\n|---|---|---|---|---|\n")
	cell := func(s string) string { return strings.ReplaceAll(s, "|", `\|`) }
	for _, k := range m.Keys {
		need := ""
		if k.Needed {
			need = "needed"
		}
		standard := ""
		if k.Default != "" {
			standard = "`" + k.Default + "`"
		}
		fmt.Fprintf(b, "| `%s` | %s | %s | %s | %s |\n", k.Name, need, cell(k.shape(at)), standard, cell(sentence(k.meaning())))
	}
	for _, k := range m.Keys {
		if k.Nested != nil {
			markdown(b, *k.Nested, at+k.Name+".")
		}
	}
}

// shape says what to write for a key.
func (k Key) shape(at string) string {
	switch {
	case k.Nested != nil && k.List:
		return "a list of mappings: see " + at + k.Name
	case k.Nested != nil:
		return "a mapping: see " + at + k.Name
	case k.List:
		return "a list, each: " + k.Value
	}
	return k.Value
}

func (k Key) meaning() string {
	if k.Text == "" && k.Nested != nil {
		return k.Nested.Text
	}
	return k.Text
}

// Man writes the reference as the manual page shunt.yaml(5).
func Man(files []File, date string) string {
	var b strings.Builder
	fmt.Fprintf(&b, ".TH \"SHUNT.YAML\" \"5\" \"%s\" \"Shunt\" \"Shunt\"\n.SH NAME\nshunt.yaml \\- configuration files of Shunt's daemons\n", date)
	b.WriteString(".SH SYNOPSIS\n/etc/shunt/agent.yaml\n.br\n/etc/shunt/controller.yaml\n.SH DESCRIPTION\n" +
		"Both files are YAML. A daemon reads its file once, when it starts, and reports all mistakes at once.\n.PP\n" +
		"A name is 1 to 63 letters, digits, dots, underscores or hyphens, with a letter or digit first and last. A duration is a number with a unit: 300ms, 10s, 2m.\n")
	for _, f := range files {
		fmt.Fprintf(&b, ".SH %s\n", strings.ToUpper(roff(f.Name)))
		man(&b, f.Mapping, "")
	}
	b.WriteString(".SH SEE ALSO\n\\fBshunt\\-agent\\fR(8),\n\\fBshunt\\-controller\\fR(8)\n")
	return b.String()
}

func man(b *strings.Builder, m Mapping, at string) {
	if at != "" {
		fmt.Fprintf(b, ".SS %s\n", roff(strings.TrimSuffix(at, ".")))
		if m.Text != "" {
			fmt.Fprintln(b, roff(sentence(m.Text)))
		}
	}
	for _, k := range m.Keys {
		fmt.Fprintf(b, ".TP\n\\fB%s\\fR", roff(k.Name))
		if k.Needed {
			b.WriteString(" (needed)")
		}
		fmt.Fprintf(b, "\n%s\n", roff(sentence(k.meaning())))
		fmt.Fprintf(b, "Value: %s.\n", roff(strings.ReplaceAll(k.shape(at), "`", "")))
		if k.Default != "" {
			fmt.Fprintf(b, "Default: %s.\n", roff(k.Default))
		}
	}
	for _, k := range m.Keys {
		if k.Nested != nil {
			man(b, *k.Nested, at+k.Name+".")
		}
	}
}

func roff(s string) string {
	s = strings.NewReplacer(`\`, `\e`, "-", `\-`, "…", "...").Replace(s)
	if strings.HasPrefix(s, ".") || strings.HasPrefix(s, "'") {
		s = `\&` + s
	}
	return s
}

// sentence begins with a capital and ends with a stop.
func sentence(s string) string {
	s = strings.TrimSpace(s)
	if s == "" {
		return s
	}
	first, n := utf8.DecodeRuneInString(s)
	second, _ := utf8.DecodeRuneInString(s[n:])
	if unicode.IsLower(first) && !strings.HasPrefix(s, "host:port") && !unicode.IsUpper(second) {
		s = string(unicode.ToUpper(first)) + s[n:]
	}
	if !strings.HasSuffix(s, ".") && !strings.HasSuffix(s, "?") {
		s += "."
	}
	return s
}
