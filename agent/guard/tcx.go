package guard

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/link"
	"golang.org/x/sys/unix"
)

// tcx attaches through BPF_PROG_ATTACH (Linux 6.6): unlike a link, that
// attachment needs no descriptor and no pin to live.
type tcx struct{ ifindex int }

func (tcx) String() string { return "tcx" }

func (t tcx) find() ([]*ebpf.Program, error) {
	res, err := link.QueryPrograms(link.QueryOptions{Target: t.ifindex, Attach: ebpf.AttachTCXIngress})
	if errors.Is(err, unix.EINVAL) {
		return nil, fmt.Errorf("TCX: %w", ebpf.ErrNotSupported)
	}
	if errors.Is(err, unix.ENOENT) { // what some say if there are none
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list the TCX programs of interface %d: %w", t.ifindex, err)
	}
	var found []*ebpf.Program
	for _, a := range res.Programs {
		if _, linked := a.LinkID(); linked {
			continue // a guard never is
		}
		p, err := guardByID(a.ID)
		if err != nil {
			closePrograms(found)
			return nil, err
		}
		if p != nil {
			found = append(found, p)
		}
	}
	return found, nil
}

func (t tcx) attach(p *ebpf.Program) error {
	return t.attachAt(p, link.Head())
}

func (t tcx) replace(old, p *ebpf.Program) error {
	return t.attachAt(p, link.ReplaceProgram(old))
}

func (t tcx) attachAt(p *ebpf.Program, at link.Anchor) error {
	return link.RawAttachProgram(link.RawAttachProgramOptions{
		Target: t.ifindex, Program: p, Attach: ebpf.AttachTCXIngress, Anchor: at,
	})
}

func (t tcx) detach(p *ebpf.Program) error {
	err := link.RawDetachProgram(link.RawDetachProgramOptions{
		Target: t.ifindex, Program: p, Attach: ebpf.AttachTCXIngress,
	})
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.ENODEV) {
		return nil
	}
	return err
}
