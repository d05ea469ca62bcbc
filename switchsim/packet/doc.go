// Package packet parses Ethernet frames into flow keys and rewrites their header
// fields, keeping every checksum right, whether it is complete in the frame or
// left to the transmitting interface (Linux's CHECKSUM_PARTIAL). It does no I/O.
package packet
