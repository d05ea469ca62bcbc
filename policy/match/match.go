package match

import "net/netip"

// A Match holds for a request if all that is set does: one entry of Hosts,
// Paths, Methods and Clients, every entry of Headers, Cookies and Query. The
// zero Match holds for every request.
type Match struct {
	// Hosts are names or addresses without port, "*.name" for any number of
	// labels before the name, or "*".
	Hosts   []string
	Paths   []Path
	Methods []string
	Headers []Value
	Cookies []Value
	// Query are parameters, percent-decoded; the first of a name counts.
	Query   []Value
	Clients []netip.Prefix
	// CEL is an expression of type bool; see the package's Variables.
	CEL string
}

// PathKind is how a path is compared.
type PathKind uint8

const (
	PathExact PathKind = iota + 1
	// PathPrefix compares octets: "/a" matches "/ab".
	PathPrefix
	// PathTemplate compares segments: {name} and * are one that is not empty,
	// ** at the end is the rest, which may be empty.
	PathTemplate
	// PathRegex is RE2 and must match the whole path.
	PathRegex
)

// Path is a pattern for the normal form of a path, see Request.SetTarget.
type Path struct {
	Kind PathKind
	Text string
}

// ValueKind is how a value is compared.
type ValueKind uint8

const (
	// ValuePresent holds for every value but the empty one.
	ValuePresent ValueKind = iota
	ValueExact
	ValuePrefix
	ValueSuffix
	// ValueRegex is RE2 and must match the whole value.
	ValueRegex
)

// Value is a test of a header field, a cookie or a parameter. One that is
// absent is as one that is empty.
type Value struct {
	Name string
	Kind ValueKind
	Text string
	// Not turns the answer around.
	Not bool
}
