// Package openflow is the controller's end of the OpenFlow 1.3 channel: framing,
// the handshake, requests matched to replies and errors by transaction id,
// liveness, and the flow model that the rest of the controller speaks. The
// codec library does not leave this package.
//
// Listen or Dial gives a connection, Handshake makes a Conn of it, and Conn.Run
// owns it until it ends; a Conn never reconnects, its owner makes another. All
// changes of all callers are pipelined, and a barrier follows each batch, not
// each change: Open vSwitch reads at most 50 messages per connection in one
// round of its main loop.
//
// A simulated switch uses the same codec from the other side: Reader cuts the
// stream into Messages, the Parse functions decode and judge them as a switch
// does (their *ParseError holds the OFPT_ERROR to answer), the Encode functions
// make the replies.
//
// Flow, FlowMod and their parts print in the notation of ovs-ofctl(8).
package openflow
