package afpacket

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"

	"golang.org/x/sys/unix"
)

// bufferSize is asked for the socket's receive and send queues, in octets. A
// queue must hold what arrives while the switch is not scheduled.
const bufferSize = 16 << 20

// A Port is an open packet socket on one interface. Read belongs to one goroutine
// at a time; Writers on the same port may run at the same time.
type Port struct {
	Name  string
	Index int
	MAC   net.HardwareAddr
	MTU   int

	file *os.File
	raw  syscall.RawConn
}

// Open opens an interface of the calling thread's network namespace. It needs
// CAP_NET_RAW, and CAP_NET_ADMIN for large queues.
func Open(name string) (*Port, error) {
	ifi, err := net.InterfaceByName(name)
	if err != nil {
		return nil, fmt.Errorf("open port %s: %w", name, err)
	}
	// Protocol 0 receives nothing until the socket is bound to the interface.
	fd, err := unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, 0)
	if err != nil {
		return nil, fmt.Errorf("open port %s: make a packet socket (needs CAP_NET_RAW): %w", name, err)
	}
	if err := configure(fd, ifi.Index); err != nil {
		unix.Close(fd)
		return nil, fmt.Errorf("open port %s: %w", name, err)
	}
	f := os.NewFile(uintptr(fd), "packet:"+name)
	raw, err := f.SyscallConn()
	if err != nil {
		f.Close()
		return nil, fmt.Errorf("open port %s: %w", name, err)
	}
	return &Port{Name: name, Index: ifi.Index, MAC: ifi.HardwareAddr, MTU: ifi.MTU, file: f, raw: raw}, nil
}

func configure(fd, index int) error {
	for _, o := range []struct {
		level, name, value int
		what               string
	}{
		{unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1, "PACKET_VNET_HDR"},
		{unix.SOL_PACKET, unix.PACKET_AUXDATA, 1, "PACKET_AUXDATA"},
		{unix.SOL_PACKET, unix.PACKET_IGNORE_OUTGOING, 1, "PACKET_IGNORE_OUTGOING (Linux 4.20)"},
	} {
		if err := unix.SetsockoptInt(fd, o.level, o.name, o.value); err != nil {
			return fmt.Errorf("set %s: %w", o.what, err)
		}
	}
	for _, o := range []struct{ force, polite int }{
		{unix.SO_RCVBUFFORCE, unix.SO_RCVBUF}, {unix.SO_SNDBUFFORCE, unix.SO_SNDBUF},
	} {
		if unix.SetsockoptInt(fd, unix.SOL_SOCKET, o.force, bufferSize) != nil {
			// Without CAP_NET_ADMIN the queues are as large as the system allows.
			_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, o.polite, bufferSize)
		}
	}
	sa := &unix.SockaddrLinklayer{Protocol: hostToNet(unix.ETH_P_ALL), Ifindex: index}
	if err := unix.Bind(fd, sa); err != nil {
		return fmt.Errorf("bind: %w", err)
	}
	m := &unix.PacketMreq{Ifindex: int32(index), Type: unix.PACKET_MR_PROMISC}
	if err := unix.SetsockoptPacketMreq(fd, unix.SOL_PACKET, unix.PACKET_ADD_MEMBERSHIP, m); err != nil {
		return fmt.Errorf("receive frames to all addresses: %w", err)
	}
	return nil
}

func hostToNet(v uint16) uint16 { return v<<8 | v>>8 }

// Close ends a Read that is under way and closes the socket.
func (p *Port) Close() error { return p.file.Close() }

// Overflows returns how many frames the kernel dropped, since it was last asked,
// because the receive queue was full.
func (p *Port) Overflows() (n uint64) {
	_ = p.raw.Control(func(fd uintptr) {
		if s, err := unix.GetsockoptTpacketStats(int(fd), unix.SOL_PACKET, unix.PACKET_STATISTICS); err == nil {
			n = uint64(s.Drops)
		}
	})
	return n
}

// ErrClosed is what Read returns after Close.
var ErrClosed = errors.New("the port is closed")
