package httpframe

// word is the beginning of something that is compared with a few short
// constants, in lower case. What is longer than all of them is none of them.
type word struct {
	n   uint8
	gap bool // whitespace came last: it counts if more comes
	b   [19]byte
}

func (w *word) reset() { w.n, w.gap = 0, false }

// addTrimmed adds an octet, but no whitespace at either end.
func (w *word) addTrimmed(c byte) {
	if c == ' ' || c == '\t' {
		w.gap = w.n > 0
		return
	}
	if w.gap {
		w.gap = false
		w.add(' ')
	}
	w.add(c)
}

func (w *word) add(c byte) {
	if 'A' <= c && c <= 'Z' {
		c |= 0x20
	}
	if int(w.n) < len(w.b) {
		w.b[w.n] = c
	}
	if int(w.n) <= len(w.b) {
		w.n++
	}
}

func (w *word) is(s string) bool { return int(w.n) == len(s) && string(w.b[:w.n]) == s }

// What an octet may be part of, one bit each.
const (
	isToken = 1 << iota // tchar: RFC 9110, section 5.6.2
	isValue             // field-vchar, SP or HTAB: RFC 9110, section 5.5
	isHex
)

var octets = classify()

func classify() (t [256]uint8) {
	mark := func(class uint8, chars string) {
		for i := range len(chars) {
			t[chars[i]] |= class
		}
	}
	mark(isToken, "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz!#$%&'*+-.^_`|~")
	mark(isHex, "0123456789ABCDEFabcdef")
	for c := range 256 {
		if c == '\t' || c >= ' ' && c != 0x7f {
			t[c] |= isValue
		}
	}
	return t
}

func hex(c byte) int64 {
	switch {
	case c <= '9':
		return int64(c - '0')
	case c <= 'F':
		return int64(c-'A') + 10
	}
	return int64(c-'a') + 10
}
