package conformance

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/shunt-sdn/shunt/controller/openflow"
)

var (
	macClient  = net.HardwareAddr{2, 0xc1, 0, 0, 0, 1}
	macGateway = net.HardwareAddr{2, 0xff, 0, 0, 0, 1}
	macNode    = net.HardwareAddr{2, 0x50, 0, 0, 0, 1}
	macOther   = net.HardwareAddr{2, 0x50, 0, 0, 0, 2}
	macMarker  = net.HardwareAddr{2, 0x3a, 0, 0, 0, 1}
)

// addresses of one family.
type family struct {
	name                 string
	client, vip, session netip.Addr
	etherType            uint16
}

var families = []family{
	{"IPv4", netip.MustParseAddr("10.10.1.11"), netip.MustParseAddr("10.10.0.80"), netip.MustParseAddr("172.31.0.7"), openflow.EthTypeIPv4},
	{"IPv6", netip.MustParseAddr("fd10:1::11"), netip.MustParseAddr("fd10::80"), netip.MustParseAddr("fd31::7"), openflow.EthTypeIPv6},
}

// segment is a TCP or UDP packet.
type segment struct {
	ethSrc, ethDst net.HardwareAddr
	src, dst       netip.Addr
	sport, dport   uint16
	flags          uint16
	ttl            uint8 // 0: 64
	payload        string
	udp            bool
	fragOffset     uint16 // IPv4, in units of 8 octets
	moreFragments  bool
}

// toVIP is a client's packet to a service.
func (f family) toVIP(sport uint16, flags uint16) segment {
	return segment{ethSrc: macClient, ethDst: macGateway, src: f.client, dst: f.vip, sport: sport, dport: 80, flags: flags, payload: "GET / HTTP/1.1\r\n\r"}
}

// toClient is a node's packet from its session address.
func (f family) toClient(dport uint16, flags uint16) segment {
	return segment{ethSrc: macNode, ethDst: macGateway, src: f.session, dst: f.client, sport: 80, dport: dport, flags: flags, payload: "HTTP/1.1 200 OK\r\n"}
}

func (s segment) bytes() []byte {
	eth := &layers.Ethernet{SrcMAC: s.ethSrc, DstMAC: s.ethDst, EthernetType: layers.EthernetTypeIPv4}
	ttl := s.ttl
	if ttl == 0 {
		ttl = 64
	}
	proto := layers.IPProtocolTCP
	if s.udp {
		proto = layers.IPProtocolUDP
	}
	var network gopacket.NetworkLayer
	var l3 gopacket.SerializableLayer
	if s.src.Is4() {
		ip := &layers.IPv4{Version: 4, IHL: 5, TTL: ttl, Protocol: proto, SrcIP: s.src.AsSlice(), DstIP: s.dst.AsSlice(), FragOffset: s.fragOffset}
		if s.moreFragments {
			ip.Flags = layers.IPv4MoreFragments
		}
		network, l3 = ip, ip
	} else {
		eth.EthernetType = layers.EthernetTypeIPv6
		ip := &layers.IPv6{Version: 6, HopLimit: ttl, NextHeader: proto, SrcIP: s.src.AsSlice(), DstIP: s.dst.AsSlice()}
		network, l3 = ip, ip
	}
	stack := []gopacket.SerializableLayer{eth, l3}
	switch {
	case s.fragOffset > 0:
	case s.udp:
		u := &layers.UDP{SrcPort: layers.UDPPort(s.sport), DstPort: layers.UDPPort(s.dport)}
		_ = u.SetNetworkLayerForChecksum(network)
		stack = append(stack, u)
	default:
		t := &layers.TCP{SrcPort: layers.TCPPort(s.sport), DstPort: layers.TCPPort(s.dport), Seq: 1000, Ack: 2000, Window: 512,
			SYN: s.flags&openflow.TCPSyn != 0, ACK: s.flags&openflow.TCPAck != 0, FIN: s.flags&openflow.TCPFin != 0,
			RST: s.flags&openflow.TCPRst != 0, PSH: s.flags&openflow.TCPPsh != 0}
		_ = t.SetNetworkLayerForChecksum(network)
		stack = append(stack, t)
	}
	buf := gopacket.NewSerializeBuffer()
	err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, append(stack, gopacket.Payload(s.payload))...)
	if err != nil {
		panic(err)
	}
	b := buf.Bytes()
	if s.flags&openflow.TCPTeaches != 0 {
		teach(b[len(b)-len(s.payload)-20:])
	}
	return b
}

// teach sets the bit that a guard sets, and has the checksum follow (RFC 1624).
func teach(tcp []byte) {
	sum := uint32(^binary.BigEndian.Uint16(tcp[16:])) + uint32(^binary.BigEndian.Uint16(tcp[12:]))
	tcp[12] |= openflow.TCPTeaches >> 8
	for sum += uint32(binary.BigEndian.Uint16(tcp[12:])); sum > 0xffff; {
		sum = sum>>16 + sum&0xffff
	}
	binary.BigEndian.PutUint16(tcp[16:], ^uint16(sum))
}

// to returns the segment with other Ethernet addresses.
func (s segment) to(src, dst net.HardwareAddr) segment {
	s.ethSrc, s.ethDst = src, dst
	return s
}

// ethernet is the start of a frame.
func ethernet(src, dst net.HardwareAddr, etherType uint16) []byte {
	b := append(append([]byte(nil), dst...), src...)
	return binary.BigEndian.AppendUint16(b, etherType)
}

// arp is an ARP packet for IPv4 over Ethernet.
func arp(ethSrc, ethDst net.HardwareAddr, op uint16, sha net.HardwareAddr, spa netip.Addr, tha net.HardwareAddr, tpa netip.Addr) []byte {
	b := append(ethernet(ethSrc, ethDst, openflow.EthTypeARP), 0, 1, 8, 0, 6, 4)
	b = binary.BigEndian.AppendUint16(b, op)
	b = append(append(b, sha...), spa.AsSlice()...)
	return append(append(b, tha...), tpa.AsSlice()...)
}

// sameFrame compares frames but for padding to the least size of Ethernet.
func sameFrame(a, b []byte) bool {
	if len(a) > len(b) {
		a, b = b, a
	}
	return bytes.HasPrefix(b, a) && (len(a) == len(b) || len(b) == 60) && len(bytes.Trim(b[len(a):], "\x00")) == 0
}

func describe(frame []byte) string {
	p := gopacket.NewPacket(frame, layers.LayerTypeEthernet, gopacket.Default)
	s := ""
	for _, l := range p.Layers() {
		s += gopacket.LayerString(l) + " "
	}
	return fmt.Sprintf("%d octets: %s\n     % x", len(frame), s, frame)
}
