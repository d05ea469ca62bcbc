package registry

import (
	"regexp"
	"strings"
	"testing"
)

func FuzzNames(f *testing.F) {
	name := regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$`)
	for _, s := range []string{
		"", "a", "Z9", "server1", "a.b_c-d", "-a", "a-", ".", "_", "a..b", "a b", "a\n", "ä", "a\x00b", "a/b",
		strings.Repeat("x", 63), strings.Repeat("x", 64), strings.Repeat("x", 62) + ".",
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if got, want := isName(s), name.MatchString(s); got != want {
			t.Errorf("%q is a name: %v, want %v", s, got, want)
		}
	})
}
