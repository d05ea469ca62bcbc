// Package switchsim is a simulated OpenFlow 1.3 switch that forwards real
// packets between Linux interfaces. It needs nothing installed, and can be told
// to be as slow, full or faulty as switches are: installing flows late, using
// stale caches, losing its controller.
//
// The forwarding core is switchsim/pipeline, which is pure; switchsim/wire is
// the protocol, switchsim/packet the packets, switchsim/afpacket the ports.
// Flows, groups and tracked connections live as long as the Switch: they survive
// the loss of the controller (fail secure), not the end of the process.
package switchsim
