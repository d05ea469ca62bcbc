// Package steering sends the packets of sessions to the nodes that hold them,
// past the home that they would reach otherwise. There are two methods behind
// one small interface, Method: exact flows, which any OpenFlow 1.3 switch
// offers, and conntrack marks, which need Open vSwitch and cost no flow per
// session. Sessions keeps, for one switch, what it should know about every
// session and what it was told, in order per session.
//
// Steering is an optimisation: while a session's steering is missing or late,
// its packets reach its home, whose guard sends them on.
package steering
