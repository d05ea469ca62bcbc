package doctor

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os"
	"runtime"
	"strings"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/shunt-sdn/shunt/agent/guard"
	"github.com/shunt-sdn/shunt/agent/hostaddr"
	"github.com/shunt-sdn/shunt/agent/tcprepair"
)

// checkKernel tries what an agent asks of the kernel.
func (r *Report) checkKernel(ctx context.Context) {
	var name unix.Utsname
	if err := unix.Uname(&name); err == nil {
		release := unix.ByteSliceToString(name.Release[:])
		var major, minor int
		fmt.Sscanf(release, "%d.%d", &major, &minor)
		if major < 5 || major == 5 && minor < 15 {
			r.warn("kernel-version", "", "use Linux 5.15 or later", "Linux %s is older than what Shunt is tested with", release)
		} else {
			r.ok("kernel-version", "", "Linux %s", release)
		}
	}
	if !r.checkCapabilities() {
		return
	}
	err := inScratch(func() error {
		r.probe("kernel-tcp-repair", "a connection was moved", "use a kernel with CONFIG_CHECKPOINT_RESTORE=y, as Debian's is", moveConnection(ctx))
		r.probe("kernel-guard", "the guard was loaded and attached", "use a kernel with CONFIG_BPF_SYSCALL=y, CONFIG_BPF_JIT=y and CONFIG_NET_CLS_ACT=y, 5.15 or later", loadGuard())
		r.probe("kernel-anyip", "a prefix was made local", "use a kernel with policy routing (CONFIG_IP_MULTIPLE_TABLES=y)", makeLocal(ctx))
		return nil
	})
	if err != nil {
		r.warn("kernel-tcp-repair", "", "run shunt doctor as root, outside of containers", "not tried: %v", err)
	}
}

func (r *Report) probe(check, good, remedy string, err error) {
	if err != nil {
		r.fail(check, "", remedy, "%v", err)
		return
	}
	r.ok(check, "", "%s", good)
}

// needed are the agent's capabilities, by number: see shunt-agent.service.
var needed = []struct {
	bit  uint
	name string
}{{unix.CAP_NET_ADMIN, "CAP_NET_ADMIN"}, {unix.CAP_NET_BIND_SERVICE, "CAP_NET_BIND_SERVICE"}, {unix.CAP_NET_RAW, "CAP_NET_RAW"}, {unix.CAP_BPF, "CAP_BPF"}, {unix.CAP_SYS_ADMIN, "CAP_SYS_ADMIN"}}

// checkCapabilities reports whether probes can run.
func (r *Report) checkCapabilities() bool {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		r.warn("capabilities", "", "", "could not be read: %v", err)
		return true
	}
	var missing []string
	for _, c := range needed {
		if data[c.bit/32].Effective&(1<<(c.bit%32)) == 0 {
			missing = append(missing, c.name)
		}
	}
	if len(missing) > 0 {
		r.fail("capabilities", "", "run shunt doctor and the agent as root, or give them what is missing; in a container: --cap-add",
			"this process lacks %s; what needs them was not tried", strings.Join(missing, ", "))
		return false
	}
	r.ok("capabilities", "", "all that an agent needs are there")
	return true
}

// inScratch runs f on a thread in a new network namespace, which vanishes with
// it.
func inScratch(f func() error) error {
	errs := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread ends with the goroutine
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			errs <- fmt.Errorf("make a network namespace to try things in: %w", err)
			return
		}
		nl, err := netlink.NewHandle(unix.NETLINK_ROUTE)
		if err != nil {
			errs <- err
			return
		}
		defer nl.Close()
		lo, err := nl.LinkByName("lo")
		if err == nil {
			err = nl.LinkSetUp(lo)
		}
		if err != nil {
			errs <- fmt.Errorf("set up a network namespace to try things in: %w", err)
			return
		}
		errs <- f()
	}()
	return <-errs
}

// moveConnection takes a connection out of its socket and into another one, and
// sends an octet over it.
func moveConnection(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	lc := tcprepair.ListenConfig()
	l, err := lc.Listen(ctx, "tcp4", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	defer l.Close()
	client, err := (&net.Dialer{}).DialContext(ctx, "tcp4", l.Addr().String())
	if err != nil {
		return fmt.Errorf("connect: %w", err)
	}
	defer client.Close()
	deadline, _ := ctx.Deadline()
	if err := errors.Join(client.SetDeadline(deadline), l.(*net.TCPListener).SetDeadline(deadline)); err != nil {
		return err
	}
	if _, err := client.Write([]byte{1}); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	accepted, err := l.Accept()
	if err != nil {
		return fmt.Errorf("accept: %w", err)
	}
	defer accepted.Close()
	moved, err := move(accepted.(*net.TCPConn))
	if err != nil {
		return fmt.Errorf("move a connection with TCP_REPAIR: %w", err)
	}
	defer moved.Close()
	if _, err := moved.Write([]byte{2}); err != nil {
		return fmt.Errorf("write to a moved connection: %w", err)
	}
	if _, err := client.Read(make([]byte, 1)); err != nil {
		return fmt.Errorf("read from a moved connection: %w", err)
	}
	return nil
}

func move(c *net.TCPConn) (*os.File, error) {
	f, err := c.File() // a second descriptor of the socket
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fd := int(f.Fd())
	if err := tcprepair.Freeze(fd); err != nil {
		return nil, err
	}
	s, err := tcprepair.Dump(fd)
	if err != nil {
		return nil, err
	}
	// Closing the first descriptor does not end the socket, the silent close of
	// the last one does.
	if err := c.Close(); err != nil {
		return nil, err
	}
	last, err := unix.Dup(fd)
	if err != nil {
		return nil, err
	}
	f.Close()
	if err := tcprepair.CloseSilently(last); err != nil {
		return nil, err
	}
	fd, err = tcprepair.Restore(s)
	if err != nil {
		return nil, err
	}
	moved := os.NewFile(uintptr(fd), "moved connection")
	if err := tcprepair.Activate(fd, s); err != nil {
		moved.Close()
		return nil, err
	}
	return moved, nil
}

func loadGuard() error {
	nl, err := netlink.NewHandle(unix.NETLINK_ROUTE)
	if err != nil {
		return err
	}
	defer nl.Close()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "doctor0"
	link := &netlink.Veth{LinkAttrs: attrs, PeerName: "doctor1"}
	if err := nl.LinkAdd(link); err != nil {
		return fmt.Errorf("make an interface to attach the guard to: %w", err)
	}
	g, err := guard.Open(guard.Options{Interface: "doctor0", MaxDivert: 1024, Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		return err
	}
	return errors.Join(g.Detach(), g.Close())
}

// makeLocal tries AnyIP: bind to an address that no interface has.
func makeLocal(ctx context.Context) error {
	routes, err := hostaddr.Open(slog.New(slog.DiscardHandler))
	if err != nil {
		return err
	}
	defer routes.Leave()
	if err := routes.Set([]netip.Prefix{netip.MustParsePrefix("198.18.31.0/24")}); err != nil {
		return err
	}
	lc := tcprepair.ListenConfig()
	l, err := lc.Listen(ctx, "tcp4", "198.18.31.7:80")
	if err != nil {
		return fmt.Errorf("listen on an address under a local route: %w", err)
	}
	return l.Close()
}
