package guard

import (
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
	// nextHop is struct next_hop: a MAC, settled, seen, the owner in host order.
	nextHop [16]byte
)

// Bits of nextHop's settled. Keep in step with guard.c.
const (
	settled    = 0x01
	acked      = 0x7e
	unanswered = 0x80
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

// ends returns what newFlowKey was given, IPv4-mapped addresses unmapped.
func (k *flowKey) ends() (client, session netip.AddrPort) {
	return netip.AddrPortFrom(netip.AddrFrom16([16]byte(k[0:16])).Unmap(), binary.BigEndian.Uint16(k[32:])),
		netip.AddrPortFrom(netip.AddrFrom16([16]byte(k[16:32])).Unmap(), binary.BigEndian.Uint16(k[34:]))
}

func newNextHop(mac net.HardwareAddr, owner uint64) (h nextHop, err error) {
	if len(mac) != 6 {
		return h, fmt.Errorf("MAC %q does not have 6 bytes", mac)
	}
	copy(h[:], mac)
	binary.NativeEndian.PutUint64(h[8:], owner)
	return h, nil
}

func (h *nextHop) mac() net.HardwareAddr { return h[:6] }
func (h *nextHop) owner() uint64         { return binary.NativeEndian.Uint64(h[8:]) }
func (h *nextHop) settle()               { h[6] |= settled }
func (h *nextHop) used() bool            { return h[7] != 0 }

// answered tells whether a packet that took the diversion, of a connection on which
// nothing was sent here, has acknowledged something: a sequence number other than
// sent.
func (h *nextHop) answered(sent uint32) bool {
	digest := byte((sent^sent>>6^sent>>12^sent>>18)<<1) & acked
	return h[6]&unanswered != 0 && h.used() && (h[6]&settled != 0 || h[6]&acked != digest)
}

// ownedBy tells whether the diversion is that of an owner. 0 fits any.
func (h *nextHop) ownedBy(owner uint64) bool {
	return owner == 0 || h.owner() == 0 || h.owner() == owner
}

// Divert forwards the packets of a connection to the node with this MAC from
// now on: a packet that enters the interface after Divert has returned is
// forwarded. A diversion lasts until Undivert, a SYN of the same connection,
// or, when there are more than Options.MaxDivert, until it is among those that
// no packet has used for longest. It replaces an earlier one, whoever owns that.
//
// The owner says who may end the diversion through Release: a number of the
// caller's, such as that of the hand-off; 0 is nobody in particular. It is kept
// in the kernel, with the diversion.
func (g *Guard) Divert(client, session netip.AddrPort, mac net.HardwareAddr, owner uint64) error {
	return g.put(client, session, mac, owner, 0)
}

// DivertUnanswered is Divert for a connection on which this node has sent nothing
// since its SYN. Such a diversion is settled without Settle, too: by the client, once it
// acknowledges more than in its first packet that takes the diversion, for only
// the other node can have sent that.
func (g *Guard) DivertUnanswered(client, session netip.AddrPort, mac net.HardwareAddr, owner uint64) error {
	return g.put(client, session, mac, owner, unanswered)
}

func (g *Guard) put(client, session netip.AddrPort, mac net.HardwareAddr, owner uint64, state byte) error {
	key, err := newFlowKey(client, session)
	var hop nextHop
	if err == nil {
		hop, err = newNextHop(mac, owner)
		hop[6] = state
	}
	if err != nil {
		return fmt.Errorf("divert %s to %s: %w", client, session, err)
	}
	g.used.Store(true)
	g.diverting.RLock()
	err = g.divert.Put(unsafe.Pointer(&key), unsafe.Pointer(&hop))
	g.diverting.RUnlock()
	if err != nil {
		return fmt.Errorf("divert %s to %s in the guard on %s: %w", client, session, g.name, err)
	}
	return nil
}

// Undivert ends the diversion of a connection, if there is one, whoever owns it.
func (g *Guard) Undivert(client, session netip.AddrPort) error {
	key, err := newFlowKey(client, session)
	if err != nil {
		return fmt.Errorf("undivert %s to %s: %w", client, session, err)
	}
	if !g.used.Load() {
		return nil
	}
	if err := g.divert.Delete(unsafe.Pointer(&key)); err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("undivert %s to %s in the guard on %s: %w", client, session, g.name, err)
	}
	return nil
}

// Settle says that the node that a connection is diverted to has it, and that it
// will not come back by itself. From now on its packets may teach the switch the
// way: all but the first few carry a mark for it, for as long as they come here. It
// concerns the diversion of this owner only, as with Release, and is nil if there
// is none.
//
// It is atomic against Divert of this process.
func (g *Guard) Settle(client, session netip.AddrPort, owner uint64) error {
	key, err := newFlowKey(client, session)
	if err != nil {
		return fmt.Errorf("settle the diversion of %s to %s: %w", client, session, err)
	}
	g.diverting.Lock()
	defer g.diverting.Unlock()
	var hop nextHop
	err = g.divert.Lookup(unsafe.Pointer(&key), unsafe.Pointer(&hop))
	if err == nil && hop.ownedBy(owner) {
		hop.settle()
		err = g.divert.Update(unsafe.Pointer(&key), unsafe.Pointer(&hop), ebpf.UpdateExist)
	}
	if err != nil && !errors.Is(err, ebpf.ErrKeyNotExist) {
		return fmt.Errorf("settle the diversion of %s to %s in the guard on %s: %w", client, session, g.name, err)
	}
	return nil
}

// Unused tells whether the connection's diversion is this owner's and no packet has
// taken it yet: whoever it leads to, the client has not said a word since. It is
// false, too, if there is no diversion.
func (g *Guard) Unused(client, session netip.AddrPort, owner uint64) (bool, error) {
	hop, err := g.lookUp(client, session)
	return hop != nil && hop.owner() == owner && !hop.used(), err
}

// Answered tells whether the client of a connection that was diverted by
// DivertUnanswered, by this owner, is known to have heard of the other node: it has
// acknowledged more than this node has sent, the sequence numbers before sent. If not,
// it may have heard of it all the same.
func (g *Guard) Answered(client, session netip.AddrPort, owner uint64, sent uint32) (bool, error) {
	hop, err := g.lookUp(client, session)
	return hop != nil && hop.owner() == owner && hop.answered(sent), err
}

// Release ends the diversion of a connection if it has this owner: one that a
// later hand-off of the same connection, or of a later connection with the same
// addresses and ports, has put in its place stays. Owner 0, in the diversion or
// given, fits any. It is nil, too, if there is nothing to end.
//
// It is atomic against Divert of this process.
func (g *Guard) Release(client, session netip.AddrPort, owner uint64) error {
	key, err := newFlowKey(client, session)
	if err != nil {
		return fmt.Errorf("release the diversion of %s to %s: %w", client, session, err)
	}
	_, err = g.undivertIf(&key, func(now *nextHop) bool { return now.ownedBy(owner) })
	if err != nil {
		return fmt.Errorf("release the diversion of %s to %s in the guard on %s: %w", client, session, g.name, err)
	}
	return nil
}

// Diverted returns the node that a connection is diverted to; ok is false if
// it is not diverted.
func (g *Guard) Diverted(client, session netip.AddrPort) (mac net.HardwareAddr, ok bool, err error) {
	hop, err := g.lookUp(client, session)
	if err != nil || hop == nil {
		return nil, false, err
	}
	return hop.mac(), true, nil
}

// lookUp returns the diversion of a connection, nil if there is none.
func (g *Guard) lookUp(client, session netip.AddrPort) (*nextHop, error) {
	key, err := newFlowKey(client, session)
	if err != nil {
		return nil, fmt.Errorf("look up the diversion of %s to %s: %w", client, session, err)
	}
	var hop nextHop
	err = g.divert.Lookup(unsafe.Pointer(&key), unsafe.Pointer(&hop))
	if errors.Is(err, ebpf.ErrKeyNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look up the diversion of %s to %s in the guard on %s: %w", client, session, g.name, err)
	}
	return &hop, nil
}
