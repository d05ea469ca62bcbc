package guard

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"net/netip"
)

// slots is how many shares the connections of a session address have.
const slots = 64

// MaxMore is how many dispatchers may be asked after the first: it keeps what a
// packet costs that nobody knows within bounds.
const MaxMore = 64

// A Share is the part of a session address's connections whose client's port has
// bits 1 to 6 equal to Slot (0 to 63).
type Share struct {
	Session netip.Addr
	Slot    uint8
}

// Another is a dispatcher that may know a connection that this one does not: by
// the session address that it has for the same service.
type Another struct {
	Session netip.Addr
	MAC     net.HardwareAddr // of its data interface
	More    uint8            // how many others may be asked after it, at most MaxMore
}

type (
	// shareKey is struct share: the session address, IPv4-mapped, and the slot
	// in host order.
	shareKey [20]byte
	// anotherValue is struct another: the other's session address, IPv4-mapped,
	// its MAC, how many more there are, a zero.
	anotherValue [24]byte
)

func newShareKey(s Share) (k shareKey, err error) {
	if !s.Session.IsValid() {
		return k, errors.New("an address is not valid")
	}
	if s.Slot >= slots {
		return k, fmt.Errorf("%s has no slot %d: want at most %d", s.Session, s.Slot, slots-1)
	}
	session := s.Session.As16()
	copy(k[:], session[:])
	binary.NativeEndian.PutUint32(k[16:], uint32(s.Slot))
	return k, nil
}

func newAnotherValue(s Share, a Another) (v anotherValue, err error) {
	if !a.Session.IsValid() || a.Session.Unmap().Is4() != s.Session.Unmap().Is4() {
		return v, fmt.Errorf("the other of %s, slot %d, has the address %s: want one of the same family", s.Session, s.Slot, a.Session)
	}
	if a.More > MaxMore {
		return v, fmt.Errorf("after the other of %s, slot %d, %d are to be asked: want at most %d", s.Session, s.Slot, a.More, MaxMore)
	}
	if len(a.MAC) != 6 {
		return v, fmt.Errorf("the other of %s, slot %d, has MAC %q, want 6 bytes", s.Session, s.Slot, a.MAC)
	}
	session := a.Session.As16()
	copy(v[:], session[:])
	copy(v[16:], a.MAC)
	v[22] = a.More
	return v, nil
}

// SetOthers makes the guard's knowledge of other dispatchers equal to others: a
// packet of a share that is at home here but that nothing here knows is passed to
// the other, with its session address. Entries that stay are not touched, and new
// ones come before old ones go. It fails on an address that is not valid, on two
// of different families, on a slot over 63 and on a MAC that does not have 6
// bytes, before any change, and with more than 65,536 shares.
//
// The dispatchers that may have a share form a ring, in which each names the next
// one and More is how many there are besides the two: then each is asked once,
// whoever begins.
func (g *Guard) SetOthers(others map[Share]Another) error {
	want := make(map[shareKey]anotherValue, len(others))
	for s, a := range others {
		k, err := newShareKey(s)
		if err == nil {
			want[k], err = newAnotherValue(s, a)
		}
		if err != nil {
			return fmt.Errorf("set the other dispatchers of the guard on %s: %w", g.name, err)
		}
	}
	if err := equalise(g.others, want); err != nil {
		return fmt.Errorf("set the other dispatchers of the guard on %s: %w", g.name, err)
	}
	return nil
}
