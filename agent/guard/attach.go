package guard

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// programName is how a guard is recognised on an interface.
const programName = guardProgShuntGuard

// hook is a way to attach a program to the ingress of an interface such that
// it outlives the process. All calls must run in the interface's namespace.
type hook interface {
	// find returns the guards that are attached, the caller closes them. It
	// fails with ErrNotSupported if the kernel does not have this hook.
	find() ([]*ebpf.Program, error)
	// attach attaches p before the programs of others.
	attach(p *ebpf.Program) error
	// replace puts p in the place of old, in one step.
	replace(old, p *ebpf.Program) error
	// detach ends p's attachment; nil if it has none.
	detach(p *ebpf.Program) error
	String() string
}

// hooks returns the hook to use, and the one where a guard may also be from an
// earlier start with other options, or nil.
func hooks(nl *netlink.Handle, ifindex int, forceClsact bool) (use, other hook, err error) {
	x, c := tcx{ifindex}, clsact{nl, ifindex}
	found, err := x.find()
	closePrograms(found)
	switch {
	case errors.Is(err, ebpf.ErrNotSupported):
		return c, nil, nil
	case err != nil:
		return nil, nil, err
	case forceClsact:
		return c, x, nil
	default:
		return x, c, nil
	}
}

func closePrograms(ps []*ebpf.Program) {
	for _, p := range ps {
		p.Close()
	}
}

// guardByID returns the program if it is a guard, else nil.
func guardByID(id ebpf.ProgramID) (*ebpf.Program, error) {
	p, err := ebpf.NewProgramFromID(id)
	if errors.Is(err, unix.ENOENT) {
		return nil, nil // it went away after it was listed
	}
	if err != nil {
		return nil, fmt.Errorf("open program %d of the interface: %w", id, err)
	}
	info, err := p.Info()
	if err != nil {
		p.Close()
		return nil, fmt.Errorf("query program %d of the interface: %w", id, err)
	}
	if p.Type() != ebpf.SchedCLS || info.Name != programName {
		p.Close()
		return nil, nil
	}
	return p, nil
}
