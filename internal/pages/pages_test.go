package pages

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const page = "# A page\n" +
	"Say `shunt status` or `a|b`.\n" +
	"```yaml\n# shop.yaml\nservices: []\n```\n" +
	"```sh node1 node2\nshunt status \\\n    -o json   # all of it\n# nothing\n\nshunt nodes\n```\n" +
	"```console controller\n$ shunt apply -f shop.yaml\nservice/web created\npool/app   version 7\n$ shunt nodes\n```\n" +
	"```\n`not a span`\n```\n"

func TestBlocksAreRead(t *testing.T) {
	all, err := blocks("docs/a.md", page)
	if err != nil {
		t.Fatal(err)
	}
	want := []Block{
		{Page: "docs/a.md", Line: 3, Language: "yaml", Places: []string{}, Text: "# shop.yaml\nservices: []\n"},
		{Page: "docs/a.md", Line: 7, Language: "sh", Places: []string{"node1", "node2"}, Text: "shunt status \\\n    -o json   # all of it\n# nothing\n\nshunt nodes\n"},
		{Page: "docs/a.md", Line: 14, Language: "console", Places: []string{"controller"}, Text: "$ shunt apply -f shop.yaml\nservice/web created\npool/app   version 7\n$ shunt nodes\n"},
		{Page: "docs/a.md", Line: 20, Text: "`not a span`\n"},
	}
	if diff := cmp.Diff(want, all); diff != "" {
		t.Fatal(diff)
	}
	if got := all[0].File(); got != "shop.yaml" {
		t.Errorf("the first block is the file %q", got)
	}
	if diff := cmp.Diff([]string{"shunt status -o json", "shunt nodes"}, all[1].Commands()); diff != "" {
		t.Error(diff)
	}
	if !all[1].Runs("node2", "elsewhere") || all[1].Runs("controller") || all[0].Runs("yaml") {
		t.Error("blocks do not know where they are run")
	}
	steps := []Step{{Script: "shunt apply -f shop.yaml", Output: []string{"service/web created", "pool/app   version 7"}}, {Script: "shunt nodes"}}
	if diff := cmp.Diff(steps, all[2].Steps()); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]Span{{2, "shunt status"}, {2, "a|b"}}, Page{Text: page}.Spans()); diff != "" {
		t.Error(diff)
	}
}

func TestBlocksThatDoNotCloseAreRefused(t *testing.T) {
	for text, want := range map[string]string{
		"\n```sh\nls\n":                   "docs/a.md:2: the block is not closed",
		"```sh\nls\n```yaml\na: b\n```\n": "docs/a.md:3: a block opens inside the one of line 1",
	} {
		if _, err := blocks("docs/a.md", text); err == nil || err.Error() != want {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

func TestOutputIsComparedButForNumbersAndSpace(t *testing.T) {
	for _, tc := range []struct {
		shown, output, missing string
	}{
		{"service/web created", "warning: x\nservice/web created\n", ""},
		{"server2  up  3 sessions", "server2 up 12 sessions", ""},
		{"server2  up  3 sessions", "server1 up 12 sessions", "server2  up  3 sessions"},
		{"shunt: conflict: pool static has version 9, …", "shunt: conflict: pool static has version 4, read it again", ""},
		{"a.b", "aXb", "a.b"},
		{"10.0.0.1 has 7", "10.0.0.1 has 8", ""},
		{"level 1.3", "level 1.4", "level 1.3"},
		{"one\ntwo", "two\none", "two"},
		{"a\na", "a", "a"},
	} {
		s := Step{Output: strings.Split(tc.shown, "\n")}
		if got := s.Missing(tc.output); got != tc.missing {
			t.Errorf("%q in %q: missing is %q, want %q", tc.shown, tc.output, got, tc.missing)
		}
	}
}

func FuzzBlocks(f *testing.F) {
	f.Add(page)
	f.Add("```console\nx\n$ y\n```")
	f.Add("```sh\n\\\n # \n```\n````\n```")
	f.Fuzz(func(t *testing.T, text string) {
		all, err := blocks("docs/a.md", text)
		if err != nil {
			return
		}
		for _, b := range all {
			b.File()
			b.Commands()
			for _, s := range b.Steps() {
				if missing := s.Missing(strings.Join(s.Output, "\n")); missing != "" && !strings.Contains(text, "…") {
					t.Errorf("%q is not in itself", missing)
				}
			}
		}
		for _, s := range (Page{Text: text}).Spans() {
			if s.Line < 1 || s.Text == "" {
				t.Errorf("span %+v", s)
			}
		}
	})
}
