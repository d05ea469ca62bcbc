package policyyaml

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the errors that come into the catalogue")

// The catalogue of wrong policies: the lines that begin with "#!" are the error.
func TestWrongPoliciesAreRefusedWithTheirReason(t *testing.T) {
	files, err := filepath.Glob("testdata/wrong/*.yaml")
	if err != nil || len(files) < 30 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, path := range files {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".yaml"), func(t *testing.T) {
			s := read(t, path)
			var want, body []string
			for line := range strings.Lines(string(s.Data)) {
				if e, ok := strings.CutPrefix(line, "#! "); ok {
					want = append(want, strings.TrimSuffix(e, "\n"))
				} else {
					body = append(body, line)
				}
			}
			// What is expected stands at the end: line numbers do not count it.
			s.Data = []byte(strings.Join(body, ""))
			_, _, err := Load(s)
			if err == nil {
				t.Fatal("no error")
			}
			if *update {
				out := strings.Join(body, "") + "#! " + strings.ReplaceAll(err.Error(), "\n", "\n#! ") + "\n"
				if err := os.WriteFile(path, []byte(out), 0o644); err != nil {
					t.Fatal(err)
				}
				return
			}
			if got := err.Error(); got != strings.Join(want, "\n") {
				t.Errorf("got:\n%s\nwant:\n%s", got, strings.Join(want, "\n"))
			}
		})
	}
}
