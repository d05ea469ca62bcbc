// Package tracing gives each hand-off a trace that can be followed through the
// dispatcher, the server and the controller: W3C trace contexts that travel in
// the messages, the trace's id in every log line that names a hand-off, and
// spans for OpenTelemetry.
//
// Spans are made of what was measured anyway, after the hand-off: nothing of
// this package stands between a request and its server but the choice of two
// numbers.
package tracing
