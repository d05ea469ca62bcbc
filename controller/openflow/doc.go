// Package openflow is the controller's end of the OpenFlow 1.3 channel: framing,
// the handshake, requests matched to replies and errors by transaction id,
// liveness, and the flow model that the rest of the controller speaks. The
// codec library does not leave this package.
package openflow
