// Package shuntv1 is Shunt's gRPC API, generated from the .proto files beside
// it, and the conversions between its messages and net/netip.
package shuntv1

//go:generate go tool -modfile=../../../tools/go.mod buf generate --template ../../buf.gen.yaml -o ../.. ../..
