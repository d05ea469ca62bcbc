package guard

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/shunt-sdn/shunt/agent/hostaddr"
	"github.com/shunt-sdn/shunt/internal/testnet"
)

const patience = 5 * time.Second

// A family is one of IPv4 and IPv6 in the network that the tests share.
type family struct {
	name            string
	pool            netip.Prefix
	session         netip.AddrPort // at home on node a
	orphan          netip.AddrPort // in the pool, without a home
	client, a, b, c netip.Addr
}

var families = []family{
	{
		"IPv4", netip.MustParsePrefix("10.9.0.0/16"),
		netip.MustParseAddrPort("10.9.0.1:80"), netip.MustParseAddrPort("10.9.0.2:80"),
		netip.MustParseAddr("10.1.0.1"), netip.MustParseAddr("10.1.0.2"), netip.MustParseAddr("10.1.0.3"), netip.MustParseAddr("10.1.0.4"),
	},
	{
		"IPv6", netip.MustParsePrefix("fd09::/48"),
		netip.MustParseAddrPort("[fd09::1]:80"), netip.MustParseAddrPort("[fd09::2]:80"),
		netip.MustParseAddr("fd01::1"), netip.MustParseAddr("fd01::2"), netip.MustParseAddr("fd01::3"), netip.MustParseAddr("fd01::4"),
	},
}

// node is a host on the bridge; the client has no guard.
type node struct {
	*testnet.NS
	t    testing.TB
	name string
	mac  net.HardwareAddr
	g    *Guard
}

// lan is a client and the nodes a, b and c on one bridge. Every node has the
// pools and a guard; the session addresses are at home on a.
type lan struct {
	t               testing.TB
	sw              *testnet.NS
	client, a, b, c *node
}

func newLAN(t testing.TB, o Options) *lan {
	t.Helper()
	n := &lan{t: t, sw: testnet.NewNS(t)}
	n.sw.Do(func() error {
		// Where bridges pass packets to netfilter, they also mend and drop them.
		for _, tables := range []string{"iptables", "ip6tables"} {
			err := os.WriteFile("/proc/sys/net/bridge/bridge-nf-call-"+tables, []byte("0"), 0)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				return err
			}
		}
		return nil
	})
	bridge := &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: "br0"}}
	off := false
	bridge.MulticastSnooping = &off
	if err := n.sw.Link.LinkAdd(bridge); err != nil {
		t.Fatal(err)
	}
	if err := n.sw.Link.LinkSetUp(bridge); err != nil {
		t.Fatal(err)
	}
	n.client = n.host("client", families[0].client, families[1].client)
	n.a = n.host("a", families[0].a, families[1].a)
	n.b = n.host("b", families[0].b, families[1].b)
	n.c = n.host("c", families[0].c, families[1].c)
	for _, x := range []*node{n.a, n.b, n.c} {
		x.addPools()
		x.open(o)
		n.setHome(x, n.a)
		if err := x.g.SetPools([]netip.Prefix{families[0].pool, families[1].pool}); err != nil {
			t.Fatal(err)
		}
	}
	n.steer(n.a)
	return n
}

func (n *lan) host(name string, addrs ...netip.Addr) *node {
	n.t.Helper()
	ns := testnet.NewNS(n.t)
	testnet.Veth(ns, "eth0", n.sw, name)
	port, err := n.sw.Link.LinkByName(name)
	if err == nil {
		err = n.sw.Link.LinkSetMasterByIndex(port, mustIndex(n.t, n.sw, "br0"))
	}
	if err != nil {
		n.t.Fatal(err)
	}
	for _, a := range addrs {
		bits := 24
		if a.Is6() {
			bits = 64
		}
		ns.Addr("eth0", netip.PrefixFrom(a, bits).String())
	}
	return &node{NS: ns, t: n.t, name: name, mac: ns.MAC("eth0")}
}

func mustIndex(t testing.TB, ns *testnet.NS, link string) int {
	t.Helper()
	l, err := ns.Link.LinkByName(link)
	if err != nil {
		t.Fatal(err)
	}
	return l.Attrs().Index
}

func (x *node) addPools() {
	x.t.Helper()
	x.Do(func() error {
		r, err := hostaddr.Open(quiet)
		if err != nil {
			return err
		}
		defer r.Leave()
		return r.Set([]netip.Prefix{families[0].pool, families[1].pool})
	})
}

var quiet = slog.New(slog.NewTextHandler(io.Discard, nil))

// open opens the node's guard, which is closed when the test ends.
func (x *node) open(o Options) {
	x.t.Helper()
	o.Interface = "eth0"
	if o.Log == nil {
		o.Log = quiet
	}
	var g *Guard
	x.Do(func() (err error) { g, err = Open(o); return })
	x.t.Cleanup(func() {
		if x.g == g {
			g.Close()
		}
	})
	x.g = g
}

// setHome tells x that home is home of both families' session addresses.
func (n *lan) setHome(x, home *node) {
	n.t.Helper()
	h := Home{MAC: home.mac}
	if x == home {
		h = Home{Self: true}
	}
	homes := map[netip.Addr]Home{families[0].session.Addr(): h, families[1].session.Addr(): h}
	if err := x.g.SetHomes(homes); err != nil {
		n.t.Fatal(err)
	}
}

// steer makes the client send the pools' packets to x: what the switch does.
func (n *lan) steer(x *node) {
	n.t.Helper()
	for _, f := range families {
		via := map[*node]netip.Addr{n.a: f.a, n.b: f.b, n.c: f.c}[x]
		r := &netlink.Route{
			LinkIndex: mustIndex(n.t, n.client.NS, "eth0"), Gw: via.AsSlice(),
			Dst: &net.IPNet{IP: f.pool.Addr().AsSlice(), Mask: net.CIDRMask(f.pool.Bits(), f.pool.Addr().BitLen())},
		}
		if err := n.client.Link.RouteReplace(r); err != nil {
			n.t.Fatalf("steer %s to %s: %v", f.pool, x.name, err)
		}
	}
}

func (x *node) counters() Counters {
	x.t.Helper()
	c, err := x.g.Counters()
	if err != nil {
		x.t.Fatal(err)
	}
	return c
}

// wantCounters waits until the node's counters are as wanted.
func (x *node) wantCounters(want Counters) {
	x.t.Helper()
	for deadline := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		got := x.counters()
		if got == want {
			return
		}
		if time.Now().After(deadline) {
			x.t.Fatalf("node %s counts\n%+v, want\n%+v", x.name, got, want)
		}
	}
}

// resets returns how many RST segments the node's kernel has sent.
func (x *node) resets() int {
	x.t.Helper()
	var b []byte
	x.Do(func() (err error) { b, err = os.ReadFile("/proc/thread-self/net/snmp"); return })
	var names []string
	for line := range strings.Lines(string(b)) {
		fields := strings.Fields(line)
		if len(fields) == 0 || fields[0] != "Tcp:" {
			continue
		}
		if names == nil {
			names = fields
			continue
		}
		for i, name := range names {
			if name == "OutRsts" {
				v, err := strconv.Atoi(fields[i])
				if err != nil {
					x.t.Fatal(err)
				}
				return v
			}
		}
	}
	x.t.Fatalf("no count of RSTs in\n%s", b)
	return 0
}

// packetSocket opens an AF_PACKET socket on the node's eth0.
func (x *node) packetSocket(protocol uint16) int {
	x.t.Helper()
	fd := -1
	x.Do(func() (err error) {
		fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0)
		if err != nil {
			return err
		}
		return unix.Bind(fd, &unix.SockaddrLinklayer{
			Protocol: protocol<<8 | protocol>>8, Ifindex: mustIndex(x.t, x.NS, "eth0"),
		})
	})
	x.t.Cleanup(func() { unix.Close(fd) })
	return fd
}

// send puts a frame on the wire.
func (x *node) send(frame []byte) {
	x.t.Helper()
	fd := x.packetSocket(0)
	if _, err := unix.Write(fd, frame); err != nil {
		x.t.Fatalf("send a frame: %v", err)
	}
}

// capture returns a function that waits for the next frame to enter the node
// with the given Ethernet addresses and source port.
func (x *node) capture() func(dst, src net.HardwareAddr, match func([]byte) bool) []byte {
	x.t.Helper()
	fd := x.packetSocket(unix.ETH_P_ALL)
	timeout := unix.NsecToTimeval(int64(patience))
	if err := unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &timeout); err != nil {
		x.t.Fatal(err)
	}
	return func(dst, src net.HardwareAddr, match func([]byte) bool) []byte {
		x.t.Helper()
		buf := make([]byte, 65536)
		var seen strings.Builder
		for deadline := time.Now().Add(patience); time.Now().Before(deadline); {
			n, _, err := unix.Recvfrom(fd, buf, 0)
			if err == unix.EINTR {
				continue
			}
			if err != nil {
				break
			}
			f := bytes.Clone(buf[:n])
			if n >= 14 && bytes.Equal(f[:6], dst) && bytes.Equal(f[6:12], src) && match(f) {
				return f
			}
			if f[0]&1 == 0 {
				fmt.Fprintf(&seen, "%x\n", f[:min(n, 80)])
			}
		}
		x.t.Fatalf("no frame from %s to %s came to %s, only\n%s", src, dst, x.name, seen.String())
		return nil
	}
}
