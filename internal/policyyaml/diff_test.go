package policyyaml

import (
	"testing"
)

func TestDiff(t *testing.T) {
	for _, c := range []struct{ name, a, b, want string }{
		{"equal", "a\nb\n", "a\nb\n", ""},
		{"created", "", "a\nb\n", "@@ -0,0 +1,2 @@\n+a\n+b\n"},
		{"deleted", "a\nb\n", "", "@@ -1,2 +0,0 @@\n-a\n-b\n"},
		{"changed in the middle", "1\n2\n3\n4\n5\n6\n7\n", "1\n2\n3\nx\n5\n6\n7\n", "@@ -3,3 +3,3 @@\n 3\n-4\n+x\n 5\n"},
		{"two places far apart", "1\n2\n3\n4\n5\n6\n7\n", "x\n2\n3\n4\n5\n6\ny\n", "@@ -1,2 +1,2 @@\n-1\n+x\n 2\n@@ -6,2 +6,2 @@\n 6\n-7\n+y\n"},
		{"two places close by", "1\n2\n3\n4\n5\n", "1\nx\n3\ny\n5\n", "@@ -1,5 +1,5 @@\n 1\n-2\n+x\n 3\n-4\n+y\n 5\n"},
		{"inserted at the end", "1\n2\n", "1\n2\n3\n", "@@ -2,1 +2,2 @@\n 2\n+3\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := Diff(c.a, c.b, 1); got != c.want {
				t.Errorf("got:\n%s\nwant:\n%s", got, c.want)
			}
		})
	}
}
