// Package testnet gives tests network namespaces of their own, joined by veth
// pairs, and says what a test needs from the machine it runs on.
//
// Namespaces made here have no name on the file system: they vanish with the
// last file descriptor or thread that refers to them, also when the test is
// killed.
package testnet

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// NeedRoot ends the test unless it runs as root: it fails when the variable CI
// is set, and skips with the reason elsewhere.
func NeedRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() != 0 {
		Lack(t, "this test makes network namespaces and needs root")
	}
}

// NeedProgram ends the test unless every named program is on PATH, by the same
// rule as NeedRoot, and returns the paths.
func NeedProgram(t testing.TB, names ...string) []string {
	t.Helper()
	var paths []string
	for _, n := range names {
		p, err := exec.LookPath(n)
		if err != nil {
			Lack(t, fmt.Sprintf("this test drives %s, which is not installed: run ./scripts/setup.sh", n))
		}
		paths = append(paths, p)
	}
	return paths
}

// Lack ends a test that lacks something: it fails in CI, where nothing may be
// missing, and is skipped elsewhere.
func Lack(t testing.TB, reason string) {
	t.Helper()
	if os.Getenv("CI") != "" {
		t.Fatal(reason)
	}
	t.Skip(reason)
}

// NS is a network namespace with its loopback up.
type NS struct {
	t      testing.TB
	Handle netns.NsHandle
	Link   *netlink.Handle // route netlink inside the namespace
}

// NewNS makes a namespace that lives until the test ends.
func NewNS(t testing.TB) *NS {
	t.Helper()
	NeedRoot(t)
	ns := &NS{t: t}
	errc := make(chan error, 1)
	go func() {
		// The thread's namespace is changed for good, so the goroutine ends
		// without unlocking it and the runtime destroys the thread.
		runtime.LockOSThread()
		h, err := netns.New()
		ns.Handle = h
		errc <- err
	}()
	if err := <-errc; err != nil {
		t.Fatalf("make a network namespace: %v", err)
	}
	t.Cleanup(func() { ns.Handle.Close() })
	h, err := netlink.NewHandleAt(ns.Handle)
	if err != nil {
		t.Fatalf("open netlink in a new namespace: %v", err)
	}
	ns.Link = h
	t.Cleanup(h.Close)
	lo, err := h.LinkByName("lo")
	if err == nil {
		err = h.LinkSetUp(lo)
	}
	if err != nil {
		t.Fatalf("set lo up: %v", err)
	}
	return ns
}

// Do runs f on a thread inside the namespace and waits for it. Sockets that f
// opens belong to the namespace for good; goroutines that f starts do not run
// in it. f must not call t.FailNow; return an error instead.
func (ns *NS) Do(f func() error) {
	ns.t.Helper()
	if err := ns.Try(f); err != nil {
		ns.t.Fatal(err)
	}
}

// Try is Do for callers that want the error.
func (ns *NS) Try(f func() error) error {
	errc := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread dies with the goroutine
		if err := netns.Set(ns.Handle); err != nil {
			errc <- fmt.Errorf("enter the namespace: %w", err)
			return
		}
		errc <- f()
	}()
	return <-errc
}

// Start starts cmd inside the namespace. The caller waits for it.
func (ns *NS) Start(cmd *exec.Cmd) error { return ns.Try(cmd.Start) }

// Run runs cmd inside the namespace and returns what it printed to both
// outputs; it fails the test when the command fails.
func (ns *NS) Run(name string, args ...string) string {
	ns.t.Helper()
	var out []byte
	err := ns.Try(func() (err error) {
		out, err = exec.CommandContext(ns.t.Context(), name, args...).CombinedOutput()
		return err
	})
	if err != nil {
		ns.t.Fatalf("%s %v: %v\n%s", name, args, err, out)
	}
	return string(out)
}

// Veth joins a and b by a veth pair named aName in a and bName in b, both up.
func Veth(a *NS, aName string, b *NS, bName string) {
	a.t.Helper()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = aName
	v := &netlink.Veth{LinkAttrs: attrs, PeerName: bName, PeerNamespace: netlink.NsFd(b.Handle)}
	if err := a.Link.LinkAdd(v); err != nil {
		a.t.Fatalf("make the veth pair %s-%s: %v", aName, bName, err)
	}
	for _, end := range []struct {
		ns   *NS
		name string
	}{{a, aName}, {b, bName}} {
		l, err := end.ns.Link.LinkByName(end.name)
		if err == nil {
			err = end.ns.Link.LinkSetUp(l)
		}
		if err != nil {
			a.t.Fatalf("set %s up: %v", end.name, err)
		}
	}
}

// Addr adds addresses to a link; IPv6 ones skip duplicate address detection.
func (ns *NS) Addr(link string, prefixes ...string) {
	ns.t.Helper()
	l, err := ns.Link.LinkByName(link)
	if err != nil {
		ns.t.Fatalf("find %s: %v", link, err)
	}
	for _, s := range prefixes {
		p := netip.MustParsePrefix(s)
		a := &netlink.Addr{IPNet: &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}}
		if p.Addr().Is6() {
			a.Flags = 0x02 // IFA_F_NODAD
		}
		if err := ns.Link.AddrAdd(l, a); err != nil {
			ns.t.Fatalf("add %s to %s: %v", s, link, err)
		}
	}
}

// MAC returns the hardware address of a link.
func (ns *NS) MAC(link string) net.HardwareAddr {
	ns.t.Helper()
	l, err := ns.Link.LinkByName(link)
	if err != nil {
		ns.t.Fatalf("find %s: %v", link, err)
	}
	return l.Attrs().HardwareAddr
}
