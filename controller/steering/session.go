package steering

import (
	"errors"
	"net/netip"

	"github.com/shunt-sdn/shunt/controller/openflow"
	"github.com/shunt-sdn/shunt/controller/pipeline"
)

// A Session is a client's connection that a node holds.
type Session struct {
	ID     string         // of the hand-off
	Client netip.AddrPort // as the service's application sees it
	VIP    netip.AddrPort // what the client connected to
	Local  netip.AddrPort // the session address behind the switch's NAT
	Node   string         // who holds it
	// The next sequence number of the client, and what it last acknowledged.
	// Conntrack steering shows them to the tracker, which then sees the end
	// of the connection. 0 if unknown.
	ClientSeq, ClientAck uint32
}

// A Key tells sessions apart.
type Key struct{ Client, VIP netip.AddrPort }

// Key returns the session's key.
func (s Session) Key() Key { return KeyOf(s.Client, s.VIP) }

// KeyOf returns the key of a session's two ends.
func KeyOf(client, vip netip.AddrPort) Key { return Key{unmap(client), unmap(vip)} }

func unmap(a netip.AddrPort) netip.AddrPort {
	return netip.AddrPortFrom(a.Addr().Unmap(), a.Port())
}

// A Target is where a session goes: the node, and for conntrack steering the
// number of the session's lease.
type Target struct {
	Node  pipeline.Node
	Lease uint16
}

// Errors of steering. The session is remembered all the same, and steered as
// soon as that is possible.
var (
	// ErrNoSwitch: no switch is connected, or it was lost before it answered.
	ErrNoSwitch = errors.New("no switch is connected")
	// ErrUnresolved: it is not known where the node or the lease is.
	ErrUnresolved = errors.New("the node or the session's lease is not known to the switch")
	// ErrReplaced: another request for the same session came first.
	ErrReplaced = errors.New("another steering of the session came before this one was carried out")
)

// Messages are what a switch is sent: flow mods, then packet-outs.
type Messages struct {
	Mods []openflow.FlowMod
	Outs []openflow.PacketOut
}
