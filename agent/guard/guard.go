package guard

import (
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"github.com/cilium/ebpf/features"
	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// DefaultMaxDivert is how many diversions a guard holds unless told otherwise.
const DefaultMaxDivert = 262144

// minMaxDivert keeps the kernel's per-CPU caches of free entries, which an LRU
// map fills first, small against the map.
const minMaxDivert = 1024

// Options say where and how to attach a guard.
type Options struct {
	Interface   string       // the node's data interface: an Ethernet interface in the caller's namespace
	MaxDivert   int          // how many diversions to hold, at least 1,024; 0: DefaultMaxDivert
	Log         *slog.Logger // nil: slog.Default()
	ForceClsact bool         // use clsact even where the kernel has TCX
}

// Guard is the guard on one interface. Its methods may be called concurrently,
// but none together with or after Close and Detach; Close again does nothing.
type Guard struct {
	name string // of the interface
	log  *slog.Logger

	prog                                          *ebpf.Program
	divert, homes, others, begun, pools, counters *ebpf.Map

	hook hook
	nl   *netlink.Handle // in the interface's namespace
	ns   netns.NsHandle  // the interface's namespace

	// diverting is held for reading by those that write diversions, and for
	// writing by the one that looks at a diversion before it ends it.
	diverting sync.RWMutex

	// used is set before the first diversion: most servers never make one, and
	// need not ask the kernel for one to end.
	used atomic.Bool
}

// Open attaches the guard to an interface in the network namespace of the
// calling thread; a caller that is not in the process's own namespace must
// have locked its goroutine to the thread.
//
// If the interface has a guard of an earlier process, its maps and their
// contents are adopted and only the program is replaced; a map of another
// layout is left behind with a warning. The size of an adopted divert map is
// kept until Detach.
//
// Errors wrap [ebpf.ErrNotSupported] if the kernel lacks something, and
// [fs.ErrPermission] if the process does.
func Open(o Options) (*Guard, error) {
	g := &Guard{name: o.Interface, log: o.Log, ns: netns.None()}
	if g.log == nil {
		g.log = slog.Default()
	}
	if err := g.open(o); err != nil {
		g.Close()
		return nil, fmt.Errorf("open the guard on %s: %w", o.Interface, explain(err))
	}
	return g, nil
}

func (g *Guard) open(o Options) (err error) {
	switch {
	case o.MaxDivert == 0:
		o.MaxDivert = DefaultMaxDivert
	case o.MaxDivert < minMaxDivert:
		return fmt.Errorf("room for %d diversions: want at least %d", o.MaxDivert, minMaxDivert)
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if g.ns, err = netns.Get(); err != nil {
		return fmt.Errorf("open the thread's network namespace: %w", err)
	}
	if g.nl, err = netlink.NewHandle(unix.NETLINK_ROUTE); err != nil {
		return fmt.Errorf("open a route netlink socket: %w", err)
	}
	l, err := g.nl.LinkByName(o.Interface)
	if err != nil {
		return fmt.Errorf("find the interface: %w", err)
	}
	if a := l.Attrs(); a.EncapType != "ether" || len(a.HardwareAddr) != 6 {
		return fmt.Errorf("it is a %s interface, but forwarding to nodes by MAC needs Ethernet", a.EncapType)
	}
	var other hook
	if g.hook, other, err = hooks(g.nl, l.Attrs().Index, o.ForceClsact); err != nil {
		return err
	}
	return g.install(other, uint32(o.MaxDivert))
}

// install loads the program with the maps of the guards that it finds, if any,
// and puts it in their place.
func (g *Guard) install(other hook, maxDivert uint32) error {
	here, err := g.hook.find()
	defer func() { closePrograms(here) }()
	if err != nil {
		return err
	}
	var elsewhere []*ebpf.Program
	if other != nil {
		if elsewhere, err = other.find(); err != nil {
			return err
		}
		defer closePrograms(elsewhere)
	}
	if err := g.load(maxDivert, append(here[:len(here):len(here)], elsewhere...)); err != nil {
		return err
	}
	g.used.Store(len(here)+len(elsewhere) > 0)
	if len(here) > 0 {
		err = g.hook.replace(here[0], g.prog)
	} else {
		err = g.hook.attach(g.prog)
	}
	if err != nil {
		return fmt.Errorf("attach the program through %s: %w", g.hook, err)
	}
	for i, p := range here {
		if i > 0 {
			err = errors.Join(err, g.hook.detach(p))
		}
	}
	for _, p := range elsewhere {
		err = errors.Join(err, other.detach(p))
	}
	g.log.Info("guard attached", "interface", g.name, "hook", g.hook.String(), "adopted", len(here)+len(elsewhere) > 0,
		"max_divert", g.divert.MaxEntries())
	return err
}

// explain adds what to do about an error.
func explain(err error) error {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return fmt.Errorf("%w: run as root, or with CAP_BPF, CAP_NET_ADMIN and CAP_SYS_ADMIN", err)
	case errors.Is(features.HaveProgramType(ebpf.SchedCLS), ebpf.ErrNotSupported):
		return fmt.Errorf("%w: the kernel cannot run eBPF programs on interfaces: it needs CONFIG_BPF_SYSCALL and CONFIG_NET_CLS_ACT", err)
	case errors.Is(features.HaveProgramHelper(ebpf.SchedCLS, asm.FnSkcLookupTcp), ebpf.ErrNotSupported):
		return fmt.Errorf("%w: the kernel lacks bpf_skc_lookup_tcp: it needs Linux 5.3 or later with CONFIG_INET", err)
	}
	return err
}

// Close closes the process's handles. The guard goes on without them.
func (g *Guard) Close() error {
	var errs []error
	if g.prog != nil {
		errs = append(errs, g.prog.Close())
		g.prog = nil
	}
	for _, m := range []**ebpf.Map{&g.divert, &g.homes, &g.others, &g.begun, &g.pools, &g.counters} {
		if *m != nil {
			errs = append(errs, (*m).Close())
			*m = nil
		}
	}
	if g.nl != nil {
		g.nl.Close()
		g.nl = nil
	}
	if g.ns.IsOpen() {
		errs = append(errs, g.ns.Close())
	}
	return errors.Join(errs...)
}

// Detach removes the guard from the interface, for a clean stop, and closes
// it. It may be called on any thread.
func (g *Guard) Detach() error {
	err := g.inNamespace(func() error { return g.hook.detach(g.prog) })
	if err != nil {
		err = fmt.Errorf("remove the guard from %s: %w", g.name, err)
	}
	return errors.Join(err, g.Close())
}

// inNamespace runs f on a thread in the interface's namespace.
func (g *Guard) inNamespace(f func() error) error {
	errc := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		here, err := netns.Get()
		if err != nil {
			errc <- err
			return // with the thread locked, so that it dies
		}
		same := here.Equal(g.ns)
		here.Close()
		if same { // entering even the own namespace would need CAP_SYS_ADMIN
			defer runtime.UnlockOSThread()
		} else if err := netns.Set(g.ns); err != nil {
			errc <- fmt.Errorf("enter the interface's network namespace: %w", err)
			return
		}
		errc <- f()
	}()
	return <-errc
}
