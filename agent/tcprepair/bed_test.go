package tcprepair

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/shunt-sdn/shunt/internal/testnet"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// patience is how long any condition of these tests may take to come true.
const patience = 20 * time.Second

// bed is a client and two hosts on one switch. Both hosts hold the session
// addresses; the client's neighbour entries decide which of them its packets
// reach.
type bed struct {
	testing.TB
	client, sw *testnet.NS
	hosts      [2]*testnet.NS
}

var sessionAddrs = map[string]netip.Addr{
	"IPv4": netip.MustParseAddr("10.9.0.1"),
	"IPv6": netip.MustParseAddr("fd09::1"),
}

func newBed(t testing.TB) *bed {
	t.Helper()
	b := &bed{TB: t, client: testnet.NewNS(t), sw: testnet.NewNS(t)}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "br0"
	br := &netlink.Bridge{LinkAttrs: attrs}
	b.must(b.sw.Link.LinkAdd(br))
	b.must(b.sw.Link.LinkSetUp(br))
	plug := func(ns *testnet.NS, i int) {
		// Neighbour discovery on behalf of a session address uses the link-local
		// address; no two seconds of waiting for it.
		b.sysctl(ns, "ipv6/conf/default/accept_dad", "0")
		port := fmt.Sprintf("p%d", i)
		testnet.Veth(b.sw, port, ns, "eth0")
		l, err := b.sw.Link.LinkByName(port)
		b.must(err)
		b.must(b.sw.Link.LinkSetMaster(l, br))
		ns.Addr("eth0", fmt.Sprintf("10.0.0.%d/24", i), fmt.Sprintf("fd00::%d/64", i))
	}
	plug(b.client, 1)
	for i := range b.hosts {
		b.hosts[i] = testnet.NewNS(t)
		plug(b.hosts[i], 2+i)
		lo, err := b.hosts[i].Link.LinkByName("lo")
		b.must(err)
		for _, pool := range []string{"10.9.0.0/24", "fd09::/64"} {
			_, dst, _ := net.ParseCIDR(pool)
			b.must(b.hosts[i].Link.RouteAdd(&netlink.Route{
				Dst: dst, LinkIndex: lo.Attrs().Index, Type: unix.RTN_LOCAL, Table: unix.RT_TABLE_LOCAL, Scope: netlink.SCOPE_HOST}))
		}
	}
	eth0, err := b.client.Link.LinkByName("eth0")
	b.must(err)
	for _, a := range sessionAddrs {
		b.must(b.client.Link.RouteAdd(&netlink.Route{Dst: netlink.NewIPNet(a.AsSlice()), LinkIndex: eth0.Attrs().Index}))
	}
	b.steer(0)
	return b
}

func (b *bed) must(err error) {
	b.Helper()
	if err != nil {
		b.Fatal(err)
	}
}

// steer makes the client's packets go to a host.
func (b *bed) steer(host int) {
	b.Helper()
	eth0, err := b.client.Link.LinkByName("eth0")
	b.must(err)
	for _, a := range sessionAddrs {
		b.must(b.client.Link.NeighSet(&netlink.Neigh{
			LinkIndex: eth0.Attrs().Index, State: netlink.NUD_PERMANENT,
			IP: a.AsSlice(), HardwareAddr: b.hosts[host].MAC("eth0")}))
	}
}

// sysctl sets a variable of the namespace; paths are below /proc/sys/net.
func (b *bed) sysctl(ns *testnet.NS, path, value string) {
	b.Helper()
	ns.Do(func() error { return os.WriteFile("/proc/sys/net/"+path, []byte(value), 0) })
}

// open makes a connection from the client to a session address on host 0 and
// returns the client's end and the descriptor of the other one.
func (b *bed) open(family string) (net.Conn, int) {
	b.Helper()
	return b.openFrom(family, 0)
}

// openFrom is open from a port of the client, or any if it is 0.
func (b *bed) openFrom(family string, port uint16) (net.Conn, int) {
	b.Helper()
	lc := net.ListenConfig{KeepAlive: -1}
	lc.SetMultipathTCP(false)
	var l net.Listener
	b.hosts[0].Do(func() (err error) {
		// Dual-stack, so that IPv4 arrives in IPv6 form, as it does in most daemons.
		l, err = lc.Listen(context.Background(), "tcp", ":80")
		return err
	})
	defer l.Close()
	var c net.Conn
	b.client.Do(func() (err error) {
		d := net.Dialer{Timeout: patience, KeepAlive: -1, LocalAddr: &net.TCPAddr{Port: int(port)}}
		c, err = d.Dial("tcp", netip.AddrPortFrom(sessionAddrs[family], 80).String())
		return err
	})
	b.Cleanup(func() { c.Close() })
	s, err := l.Accept()
	b.must(err)
	return c, takeFD(b, s)
}

// takeFD turns a connection into a descriptor that is closed with the test.
func takeFD(t testing.TB, c net.Conn) int {
	t.Helper()
	raw, err := c.(*net.TCPConn).SyscallConn()
	fd := -1
	if err == nil {
		raw.Control(func(p uintptr) { fd, err = unix.FcntlInt(p, unix.F_DUPFD_CLOEXEC, 0) })
	}
	c.Close()
	if err != nil {
		t.Fatal(err)
	}
	return fd
}

// conn makes a connection of a descriptor and takes it over.
func (b *bed) conn(fd int) net.Conn {
	b.Helper()
	f := os.NewFile(uintptr(fd), "socket")
	defer f.Close()
	c, err := net.FileConn(f)
	b.must(err)
	b.Cleanup(func() { c.Close() })
	b.must(c.SetDeadline(time.Now().Add(patience)))
	return c
}

// restore restores s on a host.
func (b *bed) restore(host int, s *State) int {
	b.Helper()
	b.must(s.Validate())
	var fd int
	b.hosts[host].Do(func() (err error) { fd, err = Restore(s); return err })
	return fd
}

func (b *bed) dump(fd int) *State {
	b.Helper()
	b.must(Freeze(fd))
	s, err := Dump(fd)
	b.must(err)
	return s
}

// move takes a connection from host 0 to host 1.
func (b *bed) move(fd int) (*State, int) {
	b.Helper()
	s := b.dump(fd)
	to := b.restore(1, s)
	b.steer(1)
	b.must(Activate(to, s))
	b.must(CloseSilently(fd))
	return s, to
}

// await polls until f returns true.
func (b *bed) await(what string, f func() bool) {
	b.Helper()
	await(b, what, f)
}

func await(t testing.TB, what string, f func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(patience); !f(); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("waited %v in vain: %s", patience, what)
		}
	}
}

// awaitUnread waits until fd has n bytes to read.
func (b *bed) awaitUnread(fd, n int) {
	b.Helper()
	b.await(fmt.Sprintf("%d unread bytes", n), func() bool {
		got, err := unix.IoctlGetInt(fd, unix.SIOCINQ)
		b.must(err)
		return got >= n
	})
}

// snmp reads a counter of the namespace from the Tcp lines of /proc/net/snmp.
func (b *bed) snmp(ns *testnet.NS, name string) string {
	b.Helper()
	var text []byte
	ns.Do(func() (err error) { text, err = os.ReadFile("/proc/thread-self/net/snmp"); return err })
	var names []string
	for line := range strings.Lines(string(text)) {
		f := strings.Fields(line)
		if f[0] != "Tcp:" {
			continue
		}
		if names == nil {
			names = f
			continue
		}
		for i := range names {
			if names[i] == name {
				return f[i]
			}
		}
	}
	b.Fatalf("no counter %s in /proc/net/snmp", name)
	return ""
}

// noResets fails the test if anybody sent an RST.
func (b *bed) noResets() {
	b.Helper()
	for i, ns := range []*testnet.NS{b.client, b.hosts[0], b.hosts[1]} {
		if n := b.snmp(ns, "OutRsts"); n != "0" {
			b.Errorf("%s RST sent in namespace %d (0 is the client), want none", n, i)
		}
	}
}

// expect reads want from c, and, if end, end-of-file after it.
func expect(t testing.TB, c net.Conn, want []byte, end bool) {
	t.Helper()
	c.SetReadDeadline(time.Now().Add(patience))
	got := make([]byte, len(want))
	if n, err := io.ReadFull(c, got); err != nil {
		t.Fatalf("read %d bytes: %v after %d", len(want), err, n)
	}
	if !bytes.Equal(got, want) {
		t.Fatalf("read other bytes than were written")
	}
	if end {
		if n, err := c.Read(make([]byte, 1)); n != 0 || !errors.Is(err, io.EOF) {
			t.Fatalf("read after the end: %d bytes, %v; want io.EOF", n, err)
		}
	}
}

// pattern returns n bytes that differ from place to place.
func pattern(n int, seed byte) []byte {
	b := make([]byte, n)
	x := uint32(seed) + 1
	for i := range b {
		x = x*1664525 + 1013904223
		b[i] = byte(x >> 24)
	}
	return b
}
