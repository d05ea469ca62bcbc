// Package afpacket receives and sends whole Ethernet frames on a Linux interface,
// in batches. Frames keep their offload state (PACKET_VNET_HDR), so that the
// large segments and unfinished checksums that virtual links carry pass through
// as they are. Frames that this machine itself sends are not received.
package afpacket
