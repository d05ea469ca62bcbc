package guard

import (
	"errors"
	"fmt"

	"github.com/cilium/ebpf"
	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// clsact attaches as a cls_bpf filter of the clsact qdisc, for kernels before
// 6.6. The filter has the guard's name, and a fixed handle at the first
// priority, so that setting it again replaces it in one step.
type clsact struct {
	nl      *netlink.Handle
	ifindex int
}

const (
	filterHandle   = 1
	filterPriority = 1
)

func (clsact) String() string { return "clsact" }

func (c clsact) link() netlink.Link {
	return &netlink.GenericLink{LinkAttrs: netlink.LinkAttrs{Index: c.ifindex}}
}

func (c clsact) filters() ([]*netlink.BpfFilter, error) {
	all, err := c.nl.FilterList(c.link(), netlink.HANDLE_MIN_INGRESS)
	// Without an ingress qdisc the kernel says one of these.
	if errors.Is(err, unix.ENOENT) || errors.Is(err, unix.EINVAL) || errors.Is(err, unix.EOPNOTSUPP) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("list the ingress filters of interface %d: %w", c.ifindex, err)
	}
	var ours []*netlink.BpfFilter
	for _, f := range all {
		if b, ok := f.(*netlink.BpfFilter); ok && b.Name == programName {
			ours = append(ours, b)
		}
	}
	return ours, nil
}

func (c clsact) find() ([]*ebpf.Program, error) {
	filters, err := c.filters()
	if err != nil {
		return nil, err
	}
	var found []*ebpf.Program
	for _, f := range filters {
		p, err := guardByID(ebpf.ProgramID(f.Id))
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

func (c clsact) attach(p *ebpf.Program) error {
	qdisc := &netlink.GenericQdisc{
		QdiscType: "clsact",
		QdiscAttrs: netlink.QdiscAttrs{
			LinkIndex: c.ifindex, Handle: netlink.MakeHandle(0xffff, 0), Parent: netlink.HANDLE_CLSACT,
		},
	}
	// Another's clsact or ingress qdisc does as well.
	if err := c.nl.QdiscAdd(qdisc); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("add a clsact qdisc to interface %d (the kernel needs CONFIG_NET_SCH_INGRESS): %w", c.ifindex, err)
	}
	return c.set(p, c.nl.FilterAdd)
}

func (c clsact) replace(_, p *ebpf.Program) error { return c.set(p, c.nl.FilterReplace) }

func (c clsact) set(p *ebpf.Program, do func(netlink.Filter) error) error {
	err := do(&netlink.BpfFilter{
		FilterAttrs: netlink.FilterAttrs{
			LinkIndex: c.ifindex, Parent: netlink.HANDLE_MIN_INGRESS,
			Handle: filterHandle, Priority: filterPriority, Protocol: unix.ETH_P_ALL,
		},
		Fd: p.FD(), Name: programName, DirectAction: true,
	})
	if errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("set the ingress filter of interface %d: another filter has priority %d and handle %d; move it: %w",
			c.ifindex, filterPriority, filterHandle, err)
	}
	if err != nil {
		return fmt.Errorf("set the ingress filter of interface %d (the kernel needs CONFIG_NET_CLS_BPF): %w", c.ifindex, err)
	}
	return nil
}

// detach removes the filter and leaves the qdisc, which others may use.
func (c clsact) detach(p *ebpf.Program) error {
	info, err := p.Info()
	if err != nil {
		return err
	}
	id, _ := info.ID()
	filters, err := c.filters()
	if err != nil {
		return err
	}
	for _, f := range filters {
		if ebpf.ProgramID(f.Id) != id {
			continue
		}
		if err := c.nl.FilterDel(f); err != nil && !errors.Is(err, unix.ENOENT) {
			return fmt.Errorf("remove the ingress filter of interface %d: %w", c.ifindex, err)
		}
	}
	return nil
}
