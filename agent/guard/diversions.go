package guard

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"unsafe"

	"github.com/cilium/ebpf"
)

// Diversion is a connection whose packets are forwarded to another node.
type Diversion struct {
	Client, Session netip.AddrPort
	MAC             net.HardwareAddr // of the node that it is diverted to
	Owner           uint64           // as Divert was told
}

// Diversions lists the diversions in the kernel, also those of an earlier
// process. One that is made, replaced or ended meanwhile may be listed as it was
// before or after, and may be missing.
func (g *Guard) Diversions() ([]Diversion, error) {
	var all []Diversion
	err := g.eachDiversion(func(key *flowKey, hop *nextHop) error {
		d := Diversion{MAC: bytes.Clone(hop.mac()), Owner: hop.owner()}
		d.Client, d.Session = key.ends()
		all = append(all, d)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("list the diversions in the guard on %s: %w", g.name, err)
	}
	return all, nil
}

// eachDiversion calls f, which may end diversions, for each one, until f fails.
func (g *Guard) eachDiversion(f func(*flowKey, *nextHop) error) error {
	const chunk = 4096 // more than one bucket of the map can hold
	var (
		cursor ebpf.MapBatchCursor
		keys   = make([]flowKey, chunk)
		hops   = make([]nextHop, chunk)
	)
	for {
		got, err := g.divert.BatchLookup(&cursor, keys, hops, nil)
		last := errors.Is(err, ebpf.ErrKeyNotExist)
		if err != nil && !last {
			return err
		}
		for i := range got {
			if err := f(&keys[i], &hops[i]); err != nil {
				return err
			}
		}
		if last {
			return nil
		}
	}
}

// undivertIf ends a diversion if it is there and may go: Divert may have changed
// it since the caller saw it, and cannot while this looks again.
func (g *Guard) undivertIf(key *flowKey, may func(now *nextHop) bool) (bool, error) {
	g.diverting.Lock()
	defer g.diverting.Unlock()
	var now nextHop
	err := g.divert.Lookup(unsafe.Pointer(key), unsafe.Pointer(&now))
	if err == nil && !may(&now) {
		return false, nil
	}
	if err == nil {
		err = g.divert.Delete(unsafe.Pointer(key))
	}
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return false, nil
	}
	return err == nil, err
}
