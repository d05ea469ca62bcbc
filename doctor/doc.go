// Package doctor looks at a host or a switch before Shunt uses it, or when
// something does not work, and says what is wrong and what to change.
//
// Every check has an identifier that does not change. What it finds is told by
// observation where possible: that connections can be moved is tried with a
// connection, in a network namespace that vanishes afterwards. Nothing on the
// host or in the switch is changed for longer than the check takes.
package doctor
