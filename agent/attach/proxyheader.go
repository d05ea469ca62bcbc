package attach

import (
	"encoding/binary"
	"net/netip"
)

const (
	proxySignature = "\r\n\r\n\x00\r\nQUIT\n"
	// localHeader says that a connection is the proxy's own, such as a probe.
	localHeader = proxySignature + "\x20\x00\x00\x00"
)

// proxyHeader is a PROXY protocol header, version 2, for a connection that the
// client made to the destination. Source: HAProxy's doc/proxy-protocol.txt.
func proxyHeader(client, destination netip.AddrPort) []byte {
	const (
		proxied    = 0x21 // version 2, command PROXY
		tcpOverIP4 = 0x11
		tcpOverIP6 = 0x21
	)
	family := byte(tcpOverIP4)
	src, dst := client.Addr().Unmap(), destination.Addr().Unmap()
	if !src.Is4() || !dst.Is4() {
		family = tcpOverIP6
		src, dst = netip.AddrFrom16(src.As16()), netip.AddrFrom16(dst.As16())
	}
	b := make([]byte, 0, len(proxySignature)+4+36)
	b = append(b, proxySignature...)
	b = append(b, proxied, family)
	b = binary.BigEndian.AppendUint16(b, uint16(2*len(src.AsSlice())+4))
	b = append(b, src.AsSlice()...)
	b = append(b, dst.AsSlice()...)
	b = binary.BigEndian.AppendUint16(b, client.Port())
	return binary.BigEndian.AppendUint16(b, destination.Port())
}
