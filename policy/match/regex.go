package match

import (
	"regexp"
	"regexp/syntax"
	"strings"
)

// Limits of regular expressions. RE2 takes time in proportion to the size of the
// expression and that of the text, whatever either says.
const (
	// MaxRegex is how long one may be, in octets.
	MaxRegex = 1024
	// MaxRegexSize is how many parts it may have when repetitions such as x{100}
	// are written out.
	MaxRegexSize = 5000
)

// regex compiles an expression that must match the whole text.
func (c *compiler) regex(field, text string) (*regexp.Regexp, bool) {
	if text == "" || len(text) > MaxRegex {
		c.fault(field, "", "the regular expression has %d octets; 1 to %d are allowed", len(text), MaxRegex)
		return nil, false
	}
	tree, err := syntax.Parse(text, syntax.Perl)
	if err != nil {
		c.fault(field, "see https://github.com/google/re2/wiki/Syntax", "the regular expression %q is wrong: %s", text, strings.TrimPrefix(err.Error(), "error parsing regexp: "))
		return nil, false
	}
	if n := regexSize(tree); n > MaxRegexSize {
		c.fault(field, "make the numbers in braces smaller", "the regular expression %q has %d parts when it is written out; at most %d are allowed", text, n, MaxRegexSize)
		return nil, false
	}
	re, err := regexp.Compile(`\A(?:` + text + `)\z`)
	if err != nil {
		c.fault(field, "make it smaller", "the regular expression %q is wrong: %v", text, err)
		return nil, false
	}
	return re, true
}

// regexSize counts the parts of an expression, repetitions written out.
func regexSize(re *syntax.Regexp) int {
	n := max(len(re.Rune), 1)
	for _, sub := range re.Sub {
		n += regexSize(sub)
	}
	if re.Op == syntax.OpRepeat {
		n *= max(re.Max, re.Min, 1)
	}
	return min(n, 1<<30)
}
