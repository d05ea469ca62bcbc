package main

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/spf13/cobra"

	"github.com/shunt-sdn/shunt/internal/pages"
)

// documentation is the README and everything below docs.
func documentation(t *testing.T) []pages.Page {
	t.Helper()
	all, err := pages.Read("../..")
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 5 {
		t.Fatalf("only %d pages found", len(all))
	}
	return all
}

var link = regexp.MustCompile(`\]\(([^)\s]+)\)`)

// Links between pages, and from them to files, lead somewhere; so do anchors.
func TestLinksInTheDocumentationLeadSomewhere(t *testing.T) {
	for _, p := range documentation(t) {
		page := filepath.Join("../..", p.Path)
		for _, m := range link.FindAllStringSubmatch(p.Text, -1) {
			target, anchor, _ := strings.Cut(m[1], "#")
			if strings.Contains(target, "://") {
				continue
			}
			file := page
			if target != "" {
				file = filepath.Join(filepath.Dir(page), target)
			}
			b, err := os.ReadFile(file)
			if info, serr := os.Stat(file); serr == nil && info.IsDir() {
				err = nil
			}
			if err != nil {
				t.Errorf("%s: link to %s: %v", page, m[1], err)
				continue
			}
			if anchor != "" && !hasAnchor(string(b), anchor) {
				t.Errorf("%s: link to %s: no such heading", page, m[1])
			}
		}
	}
}

var notInAnchor = regexp.MustCompile(`[^\p{L}\p{N} _-]`)

// hasAnchor tells whether a heading of the page has the anchor that renderers
// give it.
func hasAnchor(text, anchor string) bool {
	for line := range strings.Lines(text) {
		if heading, ok := strings.CutPrefix(line, "#"); ok {
			s := notInAnchor.ReplaceAllString(strings.ToLower(strings.TrimSpace(strings.TrimLeft(heading, "#"))), "")
			if strings.ReplaceAll(s, " ", "-") == anchor {
				return true
			}
		}
	}
	return false
}

// Every shunt command that a page shows, in a block or in its text, exists, with
// the flags shown.
func TestCommandsInTheDocumentationExist(t *testing.T) {
	checked := 0
	check := func(at, line string) {
		for _, words := range shuntCommands(line) {
			checked++
			root := newRootCommand()
			root.InitDefaultCompletionCmd()
			if problem := unknown(root, words); problem != "" {
				t.Errorf("%s: shunt %s: %s", at, strings.Join(words, " "), problem)
			}
		}
	}
	for _, p := range documentation(t) {
		for _, b := range p.Blocks {
			if b.HasCommands() {
				for _, line := range b.Commands() {
					check(b.At(), line)
				}
			}
		}
		for _, s := range p.Spans() {
			check(fmt.Sprintf("%s:%d", p.Path, s.Line), s.Text)
		}
	}
	if checked < 50 {
		t.Errorf("only %d commands were found", checked)
	}
}

// shuntCommands finds the program's command lines in one of a shell.
func shuntCommands(line string) (out [][]string) {
	words := strings.Fields(strings.NewReplacer("[", "", "]", "").Replace(line))
	for i, w := range words {
		if w != "shunt" && !strings.HasSuffix(w, "/shunt") || i > 0 && strings.HasPrefix(words[i-1], "-") && words[i-1] != "--" {
			continue
		}
		end := i + 1
		for end < len(words) && !strings.ContainsAny(words[end][:1], "|>&;") && words[end] != "--" {
			end++
		}
		if end > i+1 && (i == 0 || words[i-1] == "--" || words[i-1] == "sudo" || words[i-1] == "&&" || words[i-1] == "|") {
			out = append(out, words[i+1:end])
		}
	}
	return out
}

// unknown says what of a command line the program does not know.
func unknown(root *cobra.Command, words []string) string {
	cmd, rest, err := root.Find(words)
	if err != nil {
		return err.Error()
	}
	if cmd == root && !strings.HasPrefix(words[0], "-") {
		return "no such command"
	}
	for _, w := range rest {
		name, isLong := strings.CutPrefix(w, "--")
		name, _, _ = strings.Cut(name, "=")
		switch {
		case isLong && name != "" && name != "help" && name != "version":
			if cmd.Flag(name) == nil && cmd.InheritedFlags().Lookup(name) == nil {
				return "no flag --" + name
			}
		case !isLong && len(w) == 2 && w[0] == '-' && w != "-h":
			if cmd.Flags().ShorthandLookup(w[1:]) == nil && cmd.InheritedFlags().ShorthandLookup(w[1:]) == nil {
				return "no flag " + w
			}
		}
	}
	return ""
}
