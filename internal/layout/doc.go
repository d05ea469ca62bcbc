// Package layout holds the tests that keep the module's layout: which package
// may import which, and that every package says what it is for.
package layout
