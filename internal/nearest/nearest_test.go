package nearest

import "testing"

func TestAWordIsGuessedOnlyWhenItIsNear(t *testing.T) {
	for _, c := range []struct {
		word, want string
		candidates []string
	}{
		{"Listen", "listen", []string{"listen", "interface", "insecure"}},
		{"lsten", "listen", []string{"listen", "interface", "insecure"}},
		{"interfaces", "interface", []string{"listen", "interface", "insecure"}},
		{"secure", "insecure", []string{"listen", "interface", "insecure"}},
		{"controller", "", []string{"listen", "interface", "insecure"}},
		{"x", "", []string{"listen"}},
		{"", "", []string{"listen"}},
		{"", "a", []string{"a"}},
		{"statik", "Static", []string{"Static"}},
		{"pool3", "pool1", []string{"pool2", "pool1"}},
		{"pool3", "pool3", []string{"pool1", "pool3"}},
		{"pool", "", nil},
	} {
		if got := Word(c.word, c.candidates); got != c.want {
			t.Errorf("%q of %q: %q, want %q", c.word, c.candidates, got, c.want)
		}
	}
}
