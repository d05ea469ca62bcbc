package sockdiag

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os/exec"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/shunt-sdn/shunt/internal/testnet"
)

// families gives each family's session address, pool and an address outside.
var families = []struct {
	name, session, elsewhere string
	pools                    []netip.Prefix
}{
	{"IPv4", "10.9.0.1:80", "10.8.0.1:80", []netip.Prefix{netip.MustParsePrefix("10.9.0.0/16")}},
	{"IPv6", "[fd09::1]:80", "[fd08::1]:80", []netip.Prefix{netip.MustParsePrefix("fd09::/64")}},
}

// host is a namespace where all those addresses are local.
func host(t testing.TB) *testnet.NS {
	t.Helper()
	ns := testnet.NewNS(t)
	lo, err := ns.Link.LinkByName("lo")
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []string{"10.9.0.0/16", "10.8.0.0/16", "fd09::/64", "fd08::/64"} {
		_, dst, _ := net.ParseCIDR(s)
		r := &netlink.Route{LinkIndex: lo.Attrs().Index, Dst: dst, Type: unix.RTN_LOCAL, Table: unix.RT_TABLE_LOCAL}
		if dst.IP.To4() != nil {
			r.Scope = netlink.SCOPE_HOST
		}
		if err := ns.Link.RouteAdd(r); err != nil {
			t.Fatal(err)
		}
	}
	return ns
}

// conn is both ends of a TCP connection.
type conn struct {
	server, client *net.TCPConn
	local, remote  netip.AddrPort // of the server's end
}

func listen(t testing.TB, ns *testnet.NS, network, addr string) *net.TCPListener {
	t.Helper()
	var l net.Listener
	ns.Do(func() (err error) {
		lc := net.ListenConfig{Control: freebind}
		lc.SetMultipathTCP(false)
		l, err = lc.Listen(t.Context(), network, addr)
		return
	})
	t.Cleanup(func() { l.Close() })
	return l.(*net.TCPListener)
}

func freebind(network, _ string, raw syscall.RawConn) (err error) {
	if network == "tcp6" {
		raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_FREEBIND, 1) })
	}
	return err
}

func connect(t *testing.T, ns *testnet.NS, l *net.TCPListener, addr string) conn {
	t.Helper()
	var c conn
	ns.Do(func() error {
		client, err := net.Dial("tcp", addr)
		if err != nil {
			return err
		}
		c.client = client.(*net.TCPConn)
		return nil
	})
	var err error
	if c.server, err = l.AcceptTCP(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.client.Close(); c.server.Close() })
	c.local = netip.MustParseAddrPort(addr)
	r := c.server.RemoteAddr().(*net.TCPAddr).AddrPort()
	c.remote = netip.AddrPortFrom(r.Addr().Unmap(), r.Port())
	return c
}

func list(t *testing.T, ns *testnet.NS, pools []netip.Prefix) (sockets []Socket) {
	t.Helper()
	ns.Do(func() (err error) { sockets, err = List(t.Context(), pools); return })
	return sockets
}

// await waits for the socket to be listed in the state.
func await(t *testing.T, ns *testnet.NS, pools []netip.Prefix, c conn, state uint8) Socket {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); ; {
		sockets := list(t, ns, pools)
		for _, s := range sockets {
			if s.Local == c.local && s.Remote == c.remote && s.State == state {
				return s
			}
		}
		if time.Now().After(deadline) {
			t.Fatalf("%s to %s is not listed in state %d: %+v", c.local, c.remote, state, sockets)
		}
	}
}

func TestListHasTheConnectionsOfPoolAddressesOnly(t *testing.T) {
	for _, f := range families {
		for _, bind := range []struct{ name, session, elsewhere string }{
			{"bound to the address", f.session, f.elsewhere},
			{"accepted by a wildcard listener", ":80", ":80"},
		} {
			t.Run(f.name+" "+bind.name, func(t *testing.T) {
				ns := host(t)
				l := listen(t, ns, "tcp", bind.session)
				c := connect(t, ns, l, f.session)
				m := l
				if bind.elsewhere != ":80" {
					m = listen(t, ns, "tcp", bind.elsewhere)
				}
				connect(t, ns, m, f.elsewhere)
				sockets := list(t, ns, f.pools)
				sockets = slices.DeleteFunc(sockets, func(s Socket) bool { return s.Remote == c.local }) // the client's end
				if len(sockets) != 1 {
					t.Fatalf("listed %+v, want one", sockets)
				}
				s := sockets[0]
				if s.Local != c.local || s.Remote != c.remote || s.State != Established || s.Inode == 0 || s.UID != 0 {
					t.Errorf("listed %+v, want the connection from %s to %s", s, c.local, c.remote)
				}
			})
		}
	}
}

func TestListShowsEveryStateButListen(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			ns := host(t)
			l := listen(t, ns, "tcp", f.session)
			c := connect(t, ns, l, f.session)
			c.client.CloseWrite()
			await(t, ns, f.pools, c, CloseWait)
			c.server.Close()
			c.client.Close()
			c = connect(t, ns, l, f.session)
			c.server.CloseWrite()
			await(t, ns, f.pools, c, FinWait2)
			c.client.Close()
			if s := await(t, ns, f.pools, c, TimeWait); s.Inode != 0 {
				t.Errorf("a socket in TIME-WAIT has inode %d", s.Inode)
			}
			for _, s := range list(t, ns, f.pools) {
				if s.State == Listen || s.Remote.Port() == 0 {
					t.Errorf("listed %+v", s)
				}
			}
		})
	}
}

func TestListEndsWithItsContext(t *testing.T) {
	ns := host(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	err := ns.Try(func() error { _, err := List(ctx, families[0].pools); return err })
	if !errors.Is(err, context.Canceled) {
		t.Errorf("List with a cancelled context: %v", err)
	}
}

// watch collects the ends of sockets of the pools.
func watch(t *testing.T, ns *testnet.NS, pools []netip.Prefix, except ...netip.Addr) <-chan Event {
	t.Helper()
	var w *Watcher
	ns.Do(func() (err error) { w, err = OpenWatcher(); return })
	if err := w.Only(pools, except); err != nil {
		t.Fatal(err)
	}
	events := make(chan Event, 1024)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() {
		done <- w.Run(ctx, func(e Event) { events <- e })
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("Run: %v", err)
		}
		w.Close()
	})
	return events
}

// wantEnd waits for the end of c's server side; the client's may come between.
func wantEnd(t *testing.T, events <-chan Event, c conn) {
	t.Helper()
	timeout := time.After(5 * time.Second)
	for {
		select {
		case e := <-events:
			if e.Local == c.local && e.Remote == c.remote {
				return
			}
			if e.Overrun || e.Remote != c.local {
				t.Fatalf("announced %+v, want %s to %s", e, c.local, c.remote)
			}
		case <-timeout:
			t.Fatalf("the end of %s to %s was not announced", c.local, c.remote)
		}
	}
}

func TestTheEndOfASocketIsAnnounced(t *testing.T) {
	for _, f := range families {
		for _, listener := range []string{f.session, ":80"} {
			t.Run(f.name+" "+listener, func(t *testing.T) {
				ns := host(t)
				l := listen(t, ns, "tcp", listener)
				events := watch(t, ns, f.pools)

				c := connect(t, ns, l, f.session)
				c.client.Write([]byte("unread"))
				io.ReadFull(c.server, make([]byte, 1))
				c.server.Close() // RST
				wantEnd(t, events, c)

				c = connect(t, ns, l, f.session)
				c.client.Close()
				io.Copy(io.Discard, c.server)
				c.server.Close() // LAST-ACK
				wantEnd(t, events, c)
			})
		}
	}
}

func TestTheEndIsAnnouncedAtEntryIntoTimeWait(t *testing.T) {
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			ns := host(t)
			l := listen(t, ns, "tcp", f.session)
			events := watch(t, ns, f.pools)
			c := connect(t, ns, l, f.session)
			c.server.Close()
			io.Copy(io.Discard, c.client)
			c.client.Close()
			wantEnd(t, events, c)
			await(t, ns, f.pools, c, TimeWait)
		})
	}
}

func TestTheEndOfAKilledProcessesSocketIsAnnounced(t *testing.T) {
	nc := testnet.NeedProgram(t, "sleep")[0]
	for _, f := range families {
		t.Run(f.name, func(t *testing.T) {
			ns := host(t)
			l := listen(t, ns, "tcp", f.session)
			events := watch(t, ns, f.pools)
			c := connect(t, ns, l, f.session)
			file, err := c.server.File()
			if err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command(nc, "1000")
			cmd.ExtraFiles = append(cmd.ExtraFiles, file)
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			file.Close()
			c.server.Close() // the process has it now
			if s := await(t, ns, f.pools, c, Established); s.Inode == 0 {
				t.Fatal("the process does not have the socket")
			}
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			cmd.Wait()
			c.client.SetReadDeadline(time.Now().Add(5 * time.Second))
			io.Copy(io.Discard, c.client)
			c.client.Close()
			wantEnd(t, events, c)
		})
	}
}

func TestTheEndOfADisconnectedSocketHasNoRemotePort(t *testing.T) {
	repair := func(c *net.TCPConn) (err error) {
		raw, err := c.SyscallConn()
		if err != nil {
			return err
		}
		raw.Control(func(fd uintptr) { err = unix.SetsockoptInt(int(fd), unix.IPPROTO_TCP, unix.TCP_REPAIR, 1) })
		return err
	}
	linger := func(c *net.TCPConn) error { return c.SetLinger(0) }
	for _, f := range families {
		for _, how := range []struct {
			name    string
			prepare func(*net.TCPConn) error
		}{{"closed in repair mode", repair}, {"aborted by SO_LINGER", linger}} {
			t.Run(f.name+" "+how.name, func(t *testing.T) {
				ns := host(t)
				l := listen(t, ns, "tcp", f.session)
				events := watch(t, ns, f.pools)
				c := connect(t, ns, l, f.session)
				s := await(t, ns, f.pools, c, Established)
				if err := how.prepare(c.server); err != nil {
					t.Fatal(err)
				}
				c.server.Close()
				select {
				case e := <-events:
					want := netip.AddrPortFrom(c.remote.Addr(), 0)
					if e.Local != c.local || e.Remote != want || e.Cookie != s.Cookie {
						t.Errorf("announced %+v; want %s to %s with cookie %d", e, c.local, want, s.Cookie)
					}
				case <-time.After(5 * time.Second):
					t.Error("not announced")
				}
			})
		}
	}
}

func TestLostEventsAreAnnounced(t *testing.T) {
	ns := host(t)
	f := families[0]
	l := listen(t, ns, "tcp", f.session)
	var w *Watcher
	ns.Do(func() (err error) { w, err = openWatcher(1); return }) // the kernel's least
	defer w.Close()
	for range 100 { // nobody reads yet
		c := connect(t, ns, l, f.session)
		c.server.SetLinger(0)
		c.server.Close()
		c.client.Close()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	overrun := false
	err := w.Run(ctx, func(e Event) {
		if e.Overrun {
			overrun = true
			cancel()
		}
	})
	if err != nil || !overrun {
		t.Errorf("events were lost, and Run said overrun: %v, error %v", overrun, err)
	}
}
