package tcprepair

import (
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"strconv"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

// ends are the addresses of a connection as host 0 sees them.
func ends(family string, c net.Conn) (client, local netip.AddrPort) {
	return c.LocalAddr().(*net.TCPAddr).AddrPort(), netip.AddrPortFrom(sessionAddrs[family], 80)
}

func (b *bed) probe(client, local netip.AddrPort) {
	b.Helper()
	b.hosts[0].Do(func() error { return Probe(client, local) })
}

func TestAProbeTellsAClientThatItsConnectionIsLost(t *testing.T) {
	for _, c := range []struct {
		name      string
		listening bool // a listener is still there
		halfOpen  bool // the client has shut down its side
	}{
		{"an idle client", false, false},
		{"a client of a port that others listen on", true, false},
		{"a client that has sent its FIN", false, true},
	} {
		for family := range sessionAddrs {
			t.Run(family+": "+c.name, func(t *testing.T) {
				t.Parallel()
				b := newBed(t)
				client, fd := b.open(family)
				if _, err := client.Write([]byte("GET")); err != nil {
					t.Fatal(err)
				}
				b.awaitUnread(fd, 3)
				if c.halfOpen {
					client.(*net.TCPConn).CloseWrite()
					b.await("the FIN", func() bool {
						state, err := TCPState(fd)
						b.must(err)
						return state == 8 // CLOSE_WAIT
					})
				}
				b.must(CloseSilently(fd))
				if c.listening {
					b.hosts[0].Do(func() error {
						lc := ListenConfig()
						l, err := lc.Listen(t.Context(), "tcp", ":80")
						if err == nil {
							t.Cleanup(func() { l.Close() })
						}
						return err
					})
				}
				begun := time.Now()
				b.probe(ends(family, client))
				client.SetReadDeadline(time.Now().Add(patience))
				if _, err := client.Read(make([]byte, 1)); !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("the client read %v, want that it was reset", err)
				}
				if d := time.Since(begun); d > time.Second {
					t.Errorf("that took %v", d)
				}
			})
		}
	}
}

func TestAProbeDoesALiveConnectionNoHarm(t *testing.T) {
	for family := range sessionAddrs {
		t.Run(family, func(t *testing.T) {
			t.Parallel()
			b := newBed(t)
			client, fd := b.open(family)
			server := b.conn(fd)
			go func() {
				for range 50 {
					b.hosts[0].Try(func() error { return Probe(ends(family, client)) })
					server.Write(pattern(1000, 1))
				}
				server.Close()
			}()
			for range 50 {
				expect(t, client, pattern(1000, 1), false)
			}
			expect(t, client, nil, true)
			b.noResets()
		})
	}
}

func TestAProbeOfNobodyIsRefusedInSilence(t *testing.T) {
	for family := range sessionAddrs {
		t.Run(family, func(t *testing.T) {
			t.Parallel()
			b := newBed(t)
			client, fd := b.open(family)
			to, from := ends(family, client)
			unix.SetsockoptLinger(fd, unix.SOL_SOCKET, unix.SO_LINGER, &unix.Linger{Onoff: 1})
			unix.Close(fd) // with a RST, so that no TIME_WAIT is left
			before, err := strconv.Atoi(b.snmp(b.client, "OutRsts"))
			b.must(err)
			client.Close()
			b.probe(to, from)
			b.await("the client's refusal", func() bool {
				n, err := strconv.Atoi(b.snmp(b.client, "OutRsts"))
				b.must(err)
				return n > before
			})
		})
	}
}

func TestWhatCannotBeProbed(t *testing.T) {
	b := newBed(t)
	c4, s4 := netip.MustParseAddrPort("10.0.0.1:5000"), netip.AddrPortFrom(sessionAddrs["IPv4"], 80)
	c6, s6 := netip.MustParseAddrPort("[fd00::1]:5000"), netip.AddrPortFrom(sessionAddrs["IPv6"], 80)
	for _, c := range []struct {
		client, local netip.AddrPort
		want          error
	}{
		{c4, s6, ErrInvalid},
		{c6, s4, ErrInvalid},
		{netip.AddrPort{}, s4, ErrInvalid},
		{c4, netip.AddrPort{}, ErrInvalid},
		{netip.MustParseAddrPort("[fe80::1%eth0]:5000"), s6, ErrInvalid},
		{c4, netip.MustParseAddrPort("192.0.2.1:80"), unix.EADDRNOTAVAIL}, // not of this host
		{netip.MustParseAddrPort("192.0.2.1:80"), s4, unix.ENETUNREACH},
		{netip.MustParseAddrPort("[2001:db8::1]:80"), s6, unix.ENETUNREACH},
	} {
		if err := b.hosts[0].Try(func() error { return Probe(c.client, c.local) }); !errors.Is(err, c.want) {
			t.Errorf("Probe(%s, %s) says %v, want %v", c.client, c.local, err, c.want)
		}
	}
	err := b.hosts[0].Try(func() error {
		hdr := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var none [2]unix.CapUserData
		if err := unix.Capset(&hdr, &none[0]); err != nil {
			return err
		}
		return Probe(c4, s4)
	})
	if !errors.Is(err, fs.ErrPermission) {
		t.Errorf("without capabilities: %v", err)
	}
}

func TestAProbesSegmentIsRight(t *testing.T) {
	for family, local := range sessionAddrs {
		client, from := netip.MustParseAddrPort("10.0.0.1:5001"), netip.AddrPortFrom(local, 80)
		var network gopacket.NetworkLayer = &layers.IPv4{Protocol: layers.IPProtocolTCP, SrcIP: local.AsSlice(), DstIP: client.Addr().AsSlice()}
		if local.Is6() {
			client = netip.MustParseAddrPort("[fd00::1]:5001")
			network = &layers.IPv6{NextHeader: layers.IPProtocolTCP, SrcIP: local.AsSlice(), DstIP: client.Addr().AsSlice()}
		}
		for _, n := range [][2]uint32{{0, 0}, {1, 2}, {1<<32 - 1, 1<<32 - 1}, {0x12345678, 0xfedcba98}} {
			tcp := &layers.TCP{
				SrcPort: 80, DstPort: 5001, Seq: n[0], Ack: n[1], SYN: true, ACK: true, Window: 0xffff,
			}
			b := gopacket.NewSerializeBuffer()
			if err := tcp.SetNetworkLayerForChecksum(network); err != nil {
				t.Fatal(err)
			}
			if err := tcp.SerializeTo(b, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}); err != nil {
				t.Fatal(err)
			}
			if got := probeSegment(client, from, n[0], n[1]); string(got[:]) != string(b.Bytes()) {
				t.Errorf("%s: % x, want % x", family, got, b.Bytes())
			}
		}
	}
}
