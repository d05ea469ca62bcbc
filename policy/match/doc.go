// Package match finds the first of a list of matches that a request fulfils.
//
// Hosts are looked up in maps, paths in a radix tree and in a tree of segments
// per host, so that the cost of a request grows with the length of its host and
// path and not with the number of routes. What is left (methods, headers,
// cookies, query, clients, CEL) is tested for the candidates only, in order.
// RE2 paths and CEL expressions are linear in their number per host.
//
// Finding allocates nothing unless a path or query parameter must be decoded
// or a candidate has a CEL expression.
package match
