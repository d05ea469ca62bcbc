package guard

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"unsafe"

	"github.com/cilium/ebpf"
)

// Keys and values of the maps are arrays of bytes, laid out as in guard.c:
// that is what the library passes to the kernel as it is.
type (
	// flowKey is struct flow: client and session address IPv4-mapped, client
	// and session port in network order, zeros.
	flowKey [40]byte
	// nextHop is struct next_hop: a MAC, zeros.
	nextHop [8]byte
)

func newFlowKey(client, session netip.AddrPort) (k flowKey, err error) {
	c, s := client.Addr().Unmap(), session.Addr().Unmap()
	if !c.IsValid() || !s.IsValid() || c.Is4() != s.Is4() {
		return k, fmt.Errorf("%s and %s are not two addresses of one family", client, session)
	}
	c16, s16 := c.As16(), s.As16()
	copy(k[0:], c16[:])
	copy(k[16:], s16[:])
	binary.BigEndian.PutUint16(k[32:], client.Port())
	binary.BigEndian.PutUint16(k[34:], session.Port())
	return k, nil
}

func (h *nextHop) mac() net.HardwareAddr { return h[:6] }

// Divert forwards the packets of a connection to the node with this MAC from
// now on: a packet that enters the interface after Divert has returned is
// forwarded. A diversion lasts until Undivert, a SYN of the same connection,
// or, when there are more than Options.MaxDivert, until it is among those that
// no packet has used for longest. It replaces an earlier one.
func (g *Guard) Divert(client, session netip.AddrPort, mac net.HardwareAddr) error {
	key, err := newFlowKey(client, session)
	if err == nil && len(mac) != 6 {
		err = fmt.Errorf("MAC %q does not have 6 bytes", mac)
	}
	if err != nil {
		return fmt.Errorf("divert %s to %s: %w", client, session, err)
	}
	var hop nextHop
	copy(hop[:], mac)
	g.diverting.RLock()
	err = g.divert.Put(unsafe.Pointer(&key), unsafe.Pointer(&hop))
	g.diverting.RUnlock()
	if err != nil {
		return fmt.Errorf("divert %s to %s in the guard on %s: %w", client, session, g.name, err)
	}
	return nil
}

// Undivert ends the diversion of a connection, if there is one.
func (g *Guard) Undivert(client, session netip.AddrPort) error {
	key, err := newFlowKey(client, session)
	if err != nil {
		return fmt.Errorf("undivert %s to %s: %w", client, session, err)
	}
	if err := g.divert.Delete(unsafe.Pointer(&key)); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("undivert %s to %s in the guard on %s: %w", client, session, g.name, err)
	}
	return nil
}

// Diverted returns the node that a connection is diverted to; ok is false if
// it is not diverted.
func (g *Guard) Diverted(client, session netip.AddrPort) (mac net.HardwareAddr, ok bool, err error) {
	key, err := newFlowKey(client, session)
	if err != nil {
		return nil, false, fmt.Errorf("look up the diversion of %s to %s: %w", client, session, err)
	}
	var hop nextHop
	err = g.divert.Lookup(unsafe.Pointer(&key), unsafe.Pointer(&hop))
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("look up the diversion of %s to %s in the guard on %s: %w", client, session, g.name, err)
	}
	return hop.mac(), true, nil
}

// UndivertNode ends all diversions to the node with this MAC, because it is
// dead, and returns how many there were. Diversions made to it meanwhile may
// remain.
func (g *Guard) UndivertNode(mac net.HardwareAddr) (int, error) {
	const chunk = 4096 // more than one bucket of the map can hold
	var (
		cursor ebpf.MapBatchCursor
		keys   = make([]flowKey, chunk)
		hops   = make([]nextHop, chunk)
		n      int
	)
	for {
		got, err := g.divert.BatchLookup(&cursor, keys, hops, nil)
		last := errors.Is(err, ebpf.ErrKeyNotExist)
		if err != nil && !last {
			return n, fmt.Errorf("list the diversions to %s in the guard on %s: %w", mac, g.name, err)
		}
		for i := range got {
			if !bytes.Equal(hops[i].mac(), mac) {
				continue
			}
			gone, err := g.undivertIf(&keys[i], hops[i])
			if err != nil {
				return n, fmt.Errorf("end the diversions to %s in the guard on %s: %w", mac, g.name, err)
			}
			if gone {
				n++
			}
		}
		if last {
			return n, nil
		}
	}
}

// undivertIf ends a diversion if it still goes to hop: Divert may have changed
// it since it was listed, and cannot while this looks again.
func (g *Guard) undivertIf(key *flowKey, hop nextHop) (bool, error) {
	g.diverting.Lock()
	defer g.diverting.Unlock()
	var now nextHop
	err := g.divert.Lookup(unsafe.Pointer(key), unsafe.Pointer(&now))
	if err == nil && now != hop {
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
