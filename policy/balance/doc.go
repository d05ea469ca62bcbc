// Package balance holds the algorithms that choose one of several servers, by
// position in a list and without knowing what a server is. Nothing here reads a
// clock or draws a random number: callers pass them in, so that every choice
// can be repeated. Hashes are the same in every process and version: several
// dispatchers choose alike.
package balance
