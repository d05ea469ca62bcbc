// Package health decides whether a server, or an operator's program, may be
// used: by active checks, by the failures of what was sent to it, and by a
// circuit breaker. It performs nothing: results and the time come in.
package health
