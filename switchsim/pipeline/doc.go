// Package pipeline is the forwarding core of the simulated switch: flow tables,
// groups and the connection tracker on one side, packets in and packets out on
// the other. It does no I/O, reads no clock and starts no goroutine.
package pipeline
