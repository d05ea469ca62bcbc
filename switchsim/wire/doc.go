// Package wire is the switch's side of the OpenFlow 1.3 protocol: framing,
// constants, and the decoding of what a controller sends, with the errors that
// the specification (OpenFlow Switch Specification 1.3.5) has for each fault.
// Open vSwitch's extensions for the connection tracker, TCP flags and moving
// fields can be turned off, as on a switch that does not know them.
package wire
