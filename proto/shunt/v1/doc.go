// Package shuntv1 is Shunt's gRPC API, generated from the .proto files beside
// it, and the conversions between its messages and net/netip.
package shuntv1

//go:generate sh -c "cd ../.. && go tool -modfile=../tools/go.mod buf generate"
