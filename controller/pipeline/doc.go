// Package pipeline says which flows a switch needs. It is pure: a description
// of interfaces, services, nodes and neighbours goes in, a set of flows comes
// out, the same for the same input. The tables are drawn in docs/flow-tables.md.
//
// Every flow carries a cookie that says that it is Shunt's and what it holds,
// so that a switch can be reconciled by comparing cookies alone.
package pipeline
