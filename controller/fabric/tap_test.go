package fabric

import (
	"net"
	"net/netip"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shunt-sdn/shunt/controller/fabric/frame"
)

// A tap is a raw socket on a host's eth0.
type tap struct {
	t    *testing.T
	fd   int
	mine bool // next passes over what is addressed to other hosts
}

func (h *host) tap(t *testing.T) *tap {
	t.Helper()
	p := &tap{t: t}
	h.Do(func() error {
		link, err := net.InterfaceByName("eth0")
		if err != nil {
			return err
		}
		if p.fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, int(htons(unix.ETH_P_ALL))); err != nil {
			return err
		}
		return unix.Bind(p.fd, &unix.SockaddrLinklayer{Protocol: htons(unix.ETH_P_ALL), Ifindex: link.Index})
	})
	t.Cleanup(func() { unix.Close(p.fd) })
	return p
}

func htons(v uint16) uint16 { return v<<8 | v>>8 }

func (p *tap) send(data []byte) {
	p.t.Helper()
	if _, err := unix.Write(p.fd, data); err != nil {
		p.t.Fatalf("send a frame: %v", err)
	}
}

// next returns the next TCP segment that came in from a client's port, or nil if
// none comes for a while.
func (p *tap) next(port uint16, patience time.Duration) *segment {
	p.t.Helper()
	deadline := time.Now().Add(patience)
	buf := make([]byte, 2048)
	for {
		n, from, err := unix.Recvfrom(p.fd, buf, 0)
		if err == nil {
			if ll, ok := from.(*unix.SockaddrLinklayer); ok && (ll.Pkttype == unix.PACKET_OUTGOING || p.mine && ll.Pkttype == unix.PACKET_OTHERHOST) {
				continue
			}
			if s := parseSegment(buf[:n]); s != nil && s.src.Port() == port {
				return s
			}
			continue
		}
		left := time.Until(deadline)
		if left <= 0 {
			return nil
		}
		unix.Poll([]unix.PollFd{{Fd: int32(p.fd), Events: unix.POLLIN}}, int(left.Milliseconds())+1)
	}
}

// A segment is what a tap saw of a TCP segment.
type segment struct {
	dstMAC, srcMAC string
	src, dst       netip.AddrPort
	ttl            uint8
	flags          uint8
}

func parseSegment(b []byte) *segment {
	if len(b) < 54 {
		return nil
	}
	s := &segment{dstMAC: net.HardwareAddr(b[:6]).String(), srcMAC: net.HardwareAddr(b[6:12]).String()}
	var src, dst netip.Addr
	var tcp []byte
	switch {
	case b[12] == 8 && b[13] == 0 && b[23] == 6:
		src, dst, s.ttl, tcp = netip.AddrFrom4([4]byte(b[26:30])), netip.AddrFrom4([4]byte(b[30:34])), b[22], b[34:]
	case b[12] == 0x86 && b[13] == 0xdd && b[20] == 6 && len(b) >= 74:
		src, dst, s.ttl, tcp = netip.AddrFrom16([16]byte(b[22:38])), netip.AddrFrom16([16]byte(b[38:54])), b[21], b[54:]
	default:
		return nil
	}
	s.src = netip.AddrPortFrom(src, uint16(tcp[0])<<8|uint16(tcp[1]))
	s.dst = netip.AddrPortFrom(dst, uint16(tcp[2])<<8|uint16(tcp[3]))
	s.flags = tcp[13]
	return s
}

// ack is a segment without data as a host sends it.
func ack(srcMAC, dstMAC net.HardwareAddr, src, dst netip.AddrPort, flags uint8) []byte {
	b := frame.ACK(src, dst, 1000, 5000)
	copy(b, dstMAC)
	copy(b[6:], srcMAC)
	at := 34
	if src.Addr().Is6() {
		at = 54
	}
	// RFC 1624: the checksum of the word that changed.
	old, sum := uint16(b[at+13]), uint32(b[at+16])<<8|uint32(b[at+17])
	b[at+13] = flags
	sum = uint32(^uint16(sum)) + uint32(^old&0xffff) + uint32(flags)
	for sum > 0xffff {
		sum = sum>>16 + sum&0xffff
	}
	b[at+16], b[at+17] = uint8(^sum>>8), uint8(^sum)
	return b
}
