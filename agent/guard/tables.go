package guard

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/cilium/ebpf"
	"golang.org/x/sys/unix"
)

// Home says where a session address is at home.
type Home struct {
	MAC  net.HardwareAddr // of home's data interface; unused if Self
	Self bool             // this node is home
}

type (
	// prefixKey is struct prefix: the number of bits in host order, and the
	// address, IPv4-mapped, so that an IPv4 prefix has 96 bits more.
	prefixKey [20]byte
	// homeValue is struct home: a MAC, whether it is this node, a zero.
	homeValue [8]byte
)

func newPrefixKey(p netip.Prefix) (k prefixKey, err error) {
	addr, bits := p.Addr(), p.Bits()
	if !p.IsValid() {
		return k, fmt.Errorf("%v is not a prefix", p)
	}
	if addr.Is4In6() {
		if bits < 96 {
			return k, fmt.Errorf("%v covers all of IPv4", p)
		}
		addr, bits = addr.Unmap(), bits-96
	}
	masked := netip.PrefixFrom(addr, bits).Masked().Addr().As16()
	if addr.Is4() {
		bits += 96
	}
	binary.NativeEndian.PutUint32(k[:], uint32(bits))
	copy(k[4:], masked[:])
	return k, nil
}

// SetPools makes the set of session addresses equal to the union of the
// prefixes. Pools that stay are not touched, and new ones come before old ones
// go. It fails on an invalid prefix, before any change, and with more than
// 1,024 prefixes.
func (g *Guard) SetPools(pools []netip.Prefix) error {
	want := make(map[prefixKey]uint8, len(pools))
	for _, p := range pools {
		k, err := newPrefixKey(p)
		if err != nil {
			return fmt.Errorf("set the pools of the guard on %s: %w", g.name, err)
		}
		want[k] = 1
	}
	if err := equalise(g.pools, want); err != nil {
		return fmt.Errorf("set the pools of the guard on %s: %w", g.name, err)
	}
	return nil
}

// SetHomes makes the guard's knowledge of homes equal to homes. Entries that
// stay are not touched, and new ones come before old ones go. It fails on a
// home with neither Self nor a MAC of 6 bytes, before any change, and with
// more than 65,536 addresses.
func (g *Guard) SetHomes(homes map[netip.Addr]Home) error {
	want := make(map[[16]byte]homeValue, len(homes))
	for addr, h := range homes {
		var v homeValue
		if !addr.IsValid() {
			return fmt.Errorf("set the homes of the guard on %s: an address is not valid", g.name)
		}
		if h.Self {
			v[6] = 1
		} else if copy(v[:6], h.MAC) != 6 || len(h.MAC) != 6 {
			return fmt.Errorf("set the homes of the guard on %s: home of %s has MAC %q, want 6 bytes", g.name, addr, h.MAC)
		}
		want[addr.As16()] = v
	}
	if err := equalise(g.homes, want); err != nil {
		return fmt.Errorf("set the homes of the guard on %s: %w", g.name, err)
	}
	return nil
}

// equalise makes a map of the kernel equal to want, which it uses up.
func equalise[K, V comparable](m *ebpf.Map, want map[K]V) error {
	var (
		k     K
		v     V
		stale []K
		it    = m.Iterate()
	)
	for it.Next(&k, &v) {
		if w, ok := want[k]; !ok {
			stale = append(stale, k)
		} else if w == v {
			delete(want, k)
		}
	}
	if err := it.Err(); err != nil {
		return fmt.Errorf("read %d of at most %d entries: %w", len(stale), m.MaxEntries(), err)
	}
	// A full map has no room for the new beside the old.
	if len(want)+len(stale) > int(m.MaxEntries()) {
		if err := remove(m, stale); err != nil {
			return err
		}
		stale = nil
	}
	for k, v := range want {
		err := m.Put(&k, &v)
		if errors.Is(err, unix.E2BIG) || errors.Is(err, unix.ENOSPC) {
			return fmt.Errorf("the map is full with %d entries: use fewer", m.MaxEntries())
		}
		if err != nil {
			return err
		}
	}
	return remove(m, stale)
}

func remove[K comparable](m *ebpf.Map, keys []K) error {
	for _, k := range keys {
		if err := m.Delete(&k); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
			return err
		}
	}
	return nil
}
