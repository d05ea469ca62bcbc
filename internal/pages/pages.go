// Package pages reads the documentation, so that tests can run what it tells
// its readers to run.
//
// Commands stand in fenced blocks of the language sh, or console if their
// output is shown too. The words after the language say where they are run:
// on which hosts of a test's. Places has all of them, and for each the test that
// runs every block of that place in every page. A block without a place is run
// nowhere; a test has a list of those, with the reason of each.
package pages

import (
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode/utf8"
)

// Places are where commands are run, with the test that does so, as
// directory:function.
var Places = map[string]string{
	// In a checkout, as root; "bin/shunt lab up" makes a lab.
	"checkout": "lab/e2e:TestThePagesCommands",
	// On a host of the lab that the page has made.
	"controller": "lab/e2e:TestThePagesCommands",
	// In the checkout, to make packages, and on a Debian with systemd.
	"build":  "packaging:TestThePagesOfThePackage",
	"debian": "packaging:TestThePagesOfThePackage",
	// On the hosts of deploy-next-to-ovs.md.
	"sw1":     "packaging:TestGuide",
	"node1":   "packaging:TestGuide",
	"node2":   "packaging:TestGuide",
	"client1": "packaging:TestGuide",
	// In the checkout, on a machine with Docker.
	"docker": "deploy/compose:TestTheLabOfContainers",
}

// A Page is a file of the documentation.
type Page struct {
	Path   string // from the checkout's top, such as docs/lab.md
	Text   string
	Blocks []Block // in their order
}

// A Block is a fenced block.
type Block struct {
	Page     string // its page's path
	Line     int    // of the fence that opens it, from 1
	Language string // "" if the fence names none
	Places   []string
	Text     string
}

// Read reads README.md and every page below docs of the checkout at root.
func Read(root string) ([]Page, error) {
	files := []string{"README.md"}
	err := fs.WalkDir(os.DirFS(root), "docs", func(name string, _ fs.DirEntry, err error) error {
		if path.Ext(name) == ".md" {
			files = append(files, name)
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("list the pages below %s: %w", root, err)
	}
	var all []Page
	for _, name := range files {
		text, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			return nil, fmt.Errorf("read a page: %w", err)
		}
		p := Page{Path: name, Text: string(text)}
		if p.Blocks, err = blocks(name, p.Text); err != nil {
			return nil, err
		}
		all = append(all, p)
	}
	return all, nil
}

// fence is what opens or closes a block: CommonMark 4.5, with backquotes.
const fence = "```"

// blocks returns a text's fenced blocks.
func blocks(name, text string) (all []Block, err error) {
	if !utf8.ValidString(text) {
		return nil, fmt.Errorf("%s: the text is not UTF-8", name)
	}
	var open *Block
	for i, line := range strings.Split(text, "\n") {
		info, isFence := strings.CutPrefix(strings.TrimSpace(line), fence)
		switch {
		case open == nil && isFence:
			words := strings.Fields(info)
			open = &Block{Page: name, Line: i + 1}
			if len(words) > 0 {
				open.Language, open.Places = words[0], words[1:]
			}
		case open != nil && isFence:
			if info != "" {
				return nil, fmt.Errorf("%s:%d: a block opens inside the one of line %d", name, i+1, open.Line)
			}
			all = append(all, *open)
			open = nil
		case open != nil:
			open.Text += line + "\n"
		}
	}
	if open != nil {
		return nil, fmt.Errorf("%s:%d: the block is not closed", name, open.Line)
	}
	return all, nil
}

// Runs tells whether the block has commands that are run at one of the places.
func (b Block) Runs(places ...string) bool {
	return b.HasCommands() && slices.ContainsFunc(b.Places, func(p string) bool { return slices.Contains(places, p) })
}

// HasCommands tells whether the block is one of commands.
func (b Block) HasCommands() bool { return b.Language == "sh" || b.Language == "console" }

// At is where the block is, as compilers write it.
func (b Block) At() string { return fmt.Sprintf("%s:%d", b.Page, b.Line) }

// File is the name that the block's first line gives it: a block of a file's
// content begins with its name in a comment, "# shop.yaml". It is "" otherwise.
func (b Block) File() string {
	first, _, _ := strings.Cut(b.Text, "\n")
	if m := fileName.FindStringSubmatch(first); m != nil && !b.HasCommands() {
		return m[1]
	}
	return ""
}

var fileName = regexp.MustCompile(`^# ([a-z0-9-]+\.(?:yaml|json|conf|ini))$`)

// A Step is a script for bash, and what a page shows of its output.
type Step struct {
	Script string
	Output []string
}

// Steps returns what is to be run. A block of sh is one script; in a console
// each "$ " begins one, and the lines after it are output.
func (b Block) Steps() []Step {
	if b.Language != "console" {
		return []Step{{Script: b.Text}}
	}
	var all []Step
	for line := range strings.Lines(b.Text) {
		line = strings.TrimSuffix(line, "\n")
		if command, ok := strings.CutPrefix(line, "$ "); ok {
			all = append(all, Step{Script: command})
		} else if len(all) > 0 {
			all[len(all)-1].Output = append(all[len(all)-1].Output, line)
		}
	}
	return all
}

// Commands are the command lines of a block, without comments; lines that end
// with a backslash are joined.
func (b Block) Commands() (all []string) {
	for _, s := range b.Steps() {
		for line := range strings.Lines(strings.ReplaceAll(s.Script, "\\\n", " ")) {
			line, _, _ = strings.Cut(line, " #")
			if line = strings.Join(strings.Fields(line), " "); line != "" && line[0] != '#' {
				all = append(all, line)
			}
		}
	}
	return all
}

// Missing returns the first line that a page shows and that the output lacks,
// or "". Lines must come in the page's order, others may be between them. Whole
// numbers may differ, and so may the width of space; "…" stands for anything.
func (s Step) Missing(output string) string {
	lines := strings.Split(output, "\n")
	for _, want := range s.Output {
		pattern := shown(want)
		i := slices.IndexFunc(lines, pattern.MatchString)
		if i < 0 {
			return want
		}
		lines = lines[i+1:]
	}
	return ""
}

var variable = regexp.MustCompile(`[0-9]+(?:\.[0-9]+)+|\b[0-9]+\b|\s+|…`)

// shown is the pattern of a line of output.
func shown(line string) *regexp.Regexp {
	var b strings.Builder
	rest := strings.TrimSpace(line)
	last := 0
	for _, at := range variable.FindAllStringIndex(rest, -1) {
		b.WriteString(regexp.QuoteMeta(rest[last:at[0]]))
		switch part := rest[at[0]:at[1]]; {
		case part == "…":
			b.WriteString(".*")
		case strings.Contains(part, "."):
			b.WriteString(regexp.QuoteMeta(part))
		case strings.TrimSpace(part) == "":
			b.WriteString(`\s+`)
		default:
			b.WriteString("[0-9]+")
		}
		last = at[1]
	}
	b.WriteString(regexp.QuoteMeta(rest[last:]))
	return regexp.MustCompile(`^\s*` + b.String() + `\s*$`)
}

// A Span is code in a line of text.
type Span struct {
	Line int // from 1
	Text string
}

var code = regexp.MustCompile("`([^`]+)`")

// Spans returns the code in the page's text, outside its blocks.
func (p Page) Spans() (all []Span) {
	inside := false
	for i, line := range strings.Split(p.Text, "\n") {
		if strings.HasPrefix(strings.TrimSpace(line), fence) {
			inside = !inside
			continue
		}
		if inside {
			continue
		}
		for _, m := range code.FindAllStringSubmatch(line, -1) {
			all = append(all, Span{Line: i + 1, Text: strings.ReplaceAll(m[1], `\|`, "|")})
		}
	}
	return all
}
