package guard

import (
	"cmp"
	"encoding/binary"
	"net"
	"net/netip"
	"testing"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// segment is a TCP segment to craft.
type segment struct {
	from, to   *node
	src, dst   netip.AddrPort
	flags      string // of S, A, F, R
	ttl        uint8  // 0: 64
	options    bool   // IPv4 options, or six IPv6 extension headers
	vlan       bool   // an 802.1Q tag
	dstMAC     net.HardwareAddr
	udp        bool
	payload    string
	pad        bool // to Ethernet's least length
	cut        int  // bytes to cut off the end
	v4Fragment uint16
	more       bool
	v6Fragment int // -1: no fragment header
	extensions int // IPv6: additional destination options headers
	teaches    bool
	early      bool
	ack        uint32 // 0: 2000
}

func (s segment) bytes(t testing.TB) []byte {
	t.Helper()
	eth := &layers.Ethernet{SrcMAC: s.from.mac, DstMAC: s.to.mac}
	if s.dstMAC != nil {
		eth.DstMAC = s.dstMAC
	}
	if s.ttl == 0 {
		s.ttl = 64
	}
	stack := []gopacket.SerializableLayer{eth}
	etherType := layers.EthernetTypeIPv6
	if s.dst.Addr().Is4() {
		etherType = layers.EthernetTypeIPv4
	}
	eth.EthernetType = etherType
	if s.vlan {
		eth.EthernetType = layers.EthernetTypeDot1Q
		stack = append(stack, &layers.Dot1Q{VLANIdentifier: 5, Type: etherType})
	}

	transport := layers.IPProtocolTCP
	if s.udp {
		transport = layers.IPProtocolUDP
	}
	var network gopacket.NetworkLayer
	if s.dst.Addr().Is4() {
		ip := &layers.IPv4{
			Version: 4, TTL: s.ttl, Protocol: transport, FragOffset: s.v4Fragment,
			SrcIP: s.src.Addr().AsSlice(), DstIP: s.dst.Addr().AsSlice(),
		}
		if s.more {
			ip.Flags = layers.IPv4MoreFragments
		}
		if s.options {
			ip.Options = []layers.IPv4Option{{OptionType: 1}, {OptionType: 1}, {OptionType: 1}, {OptionType: 1}, {OptionType: 1}}
		}
		network = ip
		stack = append(stack, ip)
	} else {
		headers, first := s.extensionHeaders(transport)
		ip := &layers.IPv6{
			Version: 6, HopLimit: s.ttl, NextHeader: first,
			SrcIP: s.src.Addr().AsSlice(), DstIP: s.dst.Addr().AsSlice(),
		}
		network = ip
		stack = append(stack, ip)
		if len(headers) > 0 {
			stack = append(stack, gopacket.Payload(headers))
		}
	}

	if s.udp {
		udp := &layers.UDP{SrcPort: layers.UDPPort(s.src.Port()), DstPort: layers.UDPPort(s.dst.Port())}
		if err := udp.SetNetworkLayerForChecksum(network); err != nil {
			t.Fatal(err)
		}
		stack = append(stack, udp)
	} else {
		tcp := &layers.TCP{
			SrcPort: layers.TCPPort(s.src.Port()), DstPort: layers.TCPPort(s.dst.Port()),
			Seq: 1000, Ack: cmp.Or(s.ack, 2000), Window: 1000,
		}
		for _, f := range s.flags {
			switch f {
			case 'S':
				tcp.SYN = true
			case 'A':
				tcp.ACK = true
			case 'F':
				tcp.FIN = true
			case 'R':
				tcp.RST = true
			}
		}
		if err := tcp.SetNetworkLayerForChecksum(network); err != nil {
			t.Fatal(err)
		}
		stack = append(stack, tcp, gopacket.Payload(s.payload))
	}

	buf := gopacket.NewSerializeBuffer()
	err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, stack...)
	if err != nil {
		t.Fatal(err)
	}
	b := buf.Bytes()
	start, size := 14, 0
	if s.vlan {
		start = 18
	}
	if s.dst.Addr().Is4() {
		size = start + int(binary.BigEndian.Uint16(b[start+2:]))
	} else {
		size = start + 40 + int(binary.BigEndian.Uint16(b[start+4:]))
	}
	b = b[:size-s.cut] // without gopacket's padding
	if s.teaches {
		mark(b[size-tcpLen-len(s.payload):], 0x08)
	}
	if s.early {
		mark(b[size-tcpLen-len(s.payload):], 0x04)
	}
	if s.pad {
		b = append(b, make([]byte, max(0, 60-len(b)))...)
	}
	return b
}

const tcpLen = 20

// mark sets a reserved bit, and has the checksum follow (RFC 1624).
func mark(tcp []byte, bit byte) {
	sum := uint32(^binary.BigEndian.Uint16(tcp[16:])) + uint32(^binary.BigEndian.Uint16(tcp[12:]))
	tcp[12] |= bit
	for sum += uint32(binary.BigEndian.Uint16(tcp[12:])); sum > 0xffff; {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(tcp[16:], ^uint16(sum))
}

// extensionHeaders returns encoded IPv6 extension headers and the first one's
// number.
func (s segment) extensionHeaders(last layers.IPProtocol) ([]byte, layers.IPProtocol) {
	const dstOpts = layers.IPProtocol(60)
	type header struct {
		number layers.IPProtocol
		body   []byte // after the next header's number
	}
	var chain []header
	padding := []byte{0, 1, 4, 0, 0, 0, 0} // length 0: 8 bytes, one PadN option
	if s.options {
		long := append([]byte{2, 0x1e, 20}, make([]byte, 20)...) // length 2: 24 bytes, an option to skip
		chain = append(chain, header{0, padding}, header{dstOpts, long}, header{43, []byte{0, 253, 0, 0, 0, 0, 0}}, header{dstOpts, padding})
	}
	for range s.extensions {
		chain = append(chain, header{dstOpts, padding})
	}
	if s.v6Fragment >= 0 && (s.v6Fragment > 0 || s.more) {
		field := uint16(s.v6Fragment) << 3
		if s.more {
			field |= 1
		}
		chain = append(chain, header{44, []byte{0, byte(field >> 8), byte(field), 0, 0, 0, 9}})
	}
	first := last
	var out []byte
	for i := len(chain) - 1; i >= 0; i-- {
		out = append(append([]byte{byte(first)}, chain[i].body...), out...)
		first = chain[i].number
	}
	return out, first
}

// hopLimit returns the TTL or hop limit of a frame.
func hopLimit(frame []byte) uint8 {
	if frame[12] == 0x08 {
		return frame[14+8]
	}
	return frame[14+7]
}

// checksumOK says whether an IPv4 header's checksum is right; IPv6 has none.
func checksumOK(frame []byte) bool {
	if frame[12] != 0x08 {
		return true
	}
	sum := uint32(0)
	for i := 14; i < 14+int(frame[14]&15)*4; i += 2 {
		sum += uint32(frame[i])<<8 | uint32(frame[i+1])
	}
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	return sum == 0xffff
}
