package frame

import (
	"encoding/binary"
	"net"
	"net/netip"
)

const (
	flagSYN = 0x02
	flagACK = 0x10
)

// ACK builds an acknowledgement without data, as src would send it to dst: what
// a connection tracker takes for a packet of the connection. The hardware
// addresses play no part.
func ACK(src, dst netip.AddrPort, seq, ack uint32) []byte {
	return segment(src, dst, seq, ack, flagACK)
}

// SYNACK builds the answer to a SYN, with which a connection tracker begins no
// connection.
func SYNACK(src, dst netip.AddrPort) []byte {
	return segment(src, dst, 0, 0, flagSYN|flagACK)
}

func segment(src, dst netip.AddrPort, seq, ack uint32, flags uint8) []byte {
	const tcpLen, window = 20, 0xffff
	s, d := src.Addr().Unmap(), dst.Addr().Unmap()
	tcp := make([]byte, 0, tcpLen)
	tcp = binary.BigEndian.AppendUint16(tcp, src.Port())
	tcp = binary.BigEndian.AppendUint16(tcp, dst.Port())
	tcp = binary.BigEndian.AppendUint32(tcp, seq)
	tcp = binary.BigEndian.AppendUint32(tcp, ack)
	tcp = append(tcp, tcpLen/4<<4, flags, window>>8, window&0xff, 0, 0, 0, 0)
	binary.BigEndian.PutUint16(tcp[16:], checksum(pseudo(s, d, protoTCP, tcpLen), tcp))

	us := net.HardwareAddr{0x02, 0, 0, 0, 0, 1}
	if s.Is6() {
		b := appendIPv6(ether(us, us, typeIPv6), s, d, protoTCP, 64, tcpLen)
		return append(b, tcp...)
	}
	b := ether(us, us, typeIPv4)
	ip := []byte{0x45, 0, 0, 20 + tcpLen, 0, 0, 0x40, 0, 64, protoTCP, 0, 0}
	ip = append(append(ip, s.AsSlice()...), d.AsSlice()...)
	binary.BigEndian.PutUint16(ip[10:], checksum(ip))
	return append(append(b, ip...), tcp...)
}
