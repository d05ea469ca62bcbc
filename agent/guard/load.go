package guard

import (
	"errors"
	"fmt"
	"io/fs"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// load loads the program, with the maps of earlier guards where they have the
// layout that it needs.
func (g *Guard) load(maxDivert uint32, earlier []*ebpf.Program) error {
	spec, err := loadGuard()
	if err != nil {
		return fmt.Errorf("read the compiled program: %w", err)
	}
	spec.Maps[guardMapShuntDivert].MaxEntries = maxDivert

	adopted := make(map[string]*ebpf.Map)
	defer func() {
		for _, m := range adopted {
			m.Close()
		}
	}()
	for _, p := range earlier {
		if err := g.adopt(spec, p, adopted); err != nil {
			return err
		}
	}

	var objects guardObjects
	opts := &ebpf.CollectionOptions{MapReplacements: adopted}
	err = spec.LoadAndAssign(&objects, opts)
	if errors.Is(err, fs.ErrPermission) {
		// Kernels before 5.11 count maps as locked memory, and its limit is low.
		unlimited := unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}
		if unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unlimited) == nil {
			err = spec.LoadAndAssign(&objects, opts)
		}
	}
	if err != nil {
		return fmt.Errorf("load the program: %w", err)
	}
	g.prog = objects.ShuntGuard
	g.divert, g.homes = objects.ShuntDivert, objects.ShuntHomes
	g.others, g.begun = objects.ShuntOthers, objects.ShuntBegun
	g.pools, g.counters = objects.ShuntPools, objects.ShuntCounters
	return nil
}

// adopt adds to adopted the maps of an earlier program that fit the spec.
func (g *Guard) adopt(spec *ebpf.CollectionSpec, p *ebpf.Program, adopted map[string]*ebpf.Map) error {
	info, err := p.Info()
	if err != nil {
		return fmt.Errorf("query the earlier guard: %w", err)
	}
	ids, ok := info.MapIDs()
	if !ok {
		return fmt.Errorf("query the maps of the earlier guard: %w", ebpf.ErrNotSupported)
	}
	for _, id := range ids {
		m, err := ebpf.NewMapFromID(id)
		if err != nil {
			return fmt.Errorf("open map %d of the earlier guard: %w", id, err)
		}
		mi, err := m.Info()
		if err != nil {
			m.Close()
			return fmt.Errorf("query map %d of the earlier guard: %w", id, err)
		}
		want, known := spec.Maps[mi.Name]
		if !known || adopted[mi.Name] != nil {
			m.Close()
			continue
		}
		if mi.Name == guardMapShuntDivert && want.MaxEntries != m.MaxEntries() {
			g.log.Info("the divert map keeps its size until a clean stop", "interface", g.name,
				"size", m.MaxEntries(), "configured", want.MaxEntries)
			want.MaxEntries = m.MaxEntries()
		}
		if err := want.Compatible(m); err != nil {
			g.log.Warn("a map of the earlier guard has another layout and is left behind", "interface", g.name,
				"map", mi.Name, "difference", err)
			m.Close()
			continue
		}
		adopted[mi.Name] = m
	}
	return nil
}
