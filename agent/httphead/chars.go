package httphead

// What an octet may be part of, one bit each.
const (
	isToken  = 1 << iota // tchar, RFC 9110 section 5.6.2
	isValue              // field-vchar, SP or HTAB, RFC 9110 section 5.5
	isTarget             // visible ASCII but '#', see the package comment
	isHost               // unreserved or sub-delims, RFC 3986: a reg-name without percent-encoding
	isHex
)

var octets = classify()

func classify() (t [256]uint8) {
	mark := func(class uint8, chars string) {
		for i := range len(chars) {
			t[chars[i]] |= class
		}
	}
	const alnum = "0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"
	mark(isToken, alnum+"!#$%&'*+-.^_`|~")
	mark(isHost, alnum+"-._~"+"!$&'()*+,;=")
	mark(isHex, "0123456789ABCDEFabcdef")
	for c := range 256 {
		if c == '\t' || c == ' ' || c > ' ' && c != 0x7f {
			t[c] |= isValue
		}
		if c > ' ' && c < 0x7f && c != '#' {
			t[c] |= isTarget
		}
	}
	return t
}

// all reports whether every octet of b is of the class.
func all(b []byte, class uint8) bool {
	for _, c := range b {
		if octets[c]&class == 0 {
			return false
		}
	}
	return true
}

// text is what the head is made of: octets while it is parsed, a string afterwards.
type text interface{ []byte | string }

// is compares without regard to the case of ASCII letters. The lower-case
// constant consists of letters, digits and '-', and s has no control characters.
func is[T text](s T, lower string) bool {
	if len(s) != len(lower) {
		return false
	}
	for i := range len(lower) {
		if s[i]|0x20 != lower[i] {
			return false
		}
	}
	return true
}

// trim takes optional whitespace off both ends.
func trim[T text](s T) T {
	for len(s) > 0 && (s[0] == ' ' || s[0] == '\t') {
		s = s[1:]
	}
	for len(s) > 0 && (s[len(s)-1] == ' ' || s[len(s)-1] == '\t') {
		s = s[:len(s)-1]
	}
	return s
}

// element cuts the first element off a comma-separated list.
func element(list []byte) (first, rest []byte) {
	for i, c := range list {
		if c == ',' {
			return trim(list[:i]), list[i+1:]
		}
	}
	return trim(list), nil
}

// hasElement reports whether a comma-separated list has an element, in any case.
func hasElement(list []byte, lower string) bool {
	for len(list) > 0 {
		var e []byte
		e, list = element(list)
		if is(e, lower) {
			return true
		}
	}
	return false
}
