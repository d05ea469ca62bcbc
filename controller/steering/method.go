package steering

import (
	"fmt"

	"github.com/shunt-sdn/shunt/controller/fabric/frame"
	"github.com/shunt-sdn/shunt/controller/openflow"
	"github.com/shunt-sdn/shunt/controller/pipeline"
)

// A Method turns a session's path into messages for a switch. Methods have no
// state.
type Method interface {
	// Name is the method's name in configurations: "flows" or "conntrack".
	Name() string
	// Steer has the session's packets go to a target, wherever they went
	// before. It fails for a session that it cannot express.
	Steer(s Session, to Target) (Messages, error)
	// Unsteer has the session's packets go home. It does no harm to a
	// session that is not steered.
	Unsteer(s Session) Messages
	// PerNode says that sessions name their node by a number, so that they
	// need not be told when its hardware address changes.
	PerNode() bool
}

// Flows steers by one exact flow per session.
type Flows struct{}

// Name implements Method.
func (Flows) Name() string { return "flows" }

// PerNode implements Method.
func (Flows) PerNode() bool { return false }

// Steer implements Method.
func (Flows) Steer(s Session, to Target) (Messages, error) {
	if err := s.check(); err != nil {
		return Messages{}, err
	}
	return Messages{Mods: []openflow.FlowMod{{Command: openflow.Add, Flow: flowOf(s, to)}}}, nil
}

func flowOf(s Session, to Target) openflow.Flow {
	return pipeline.SessionFlow(unmap(s.Client), unmap(s.VIP), s.Local.Addr().Unmap(), to.Node)
}

// Unsteer implements Method. The flow is found by its match, which costs a
// switch the same however many flows there are.
func (Flows) Unsteer(s Session) Messages {
	f := pipeline.SessionFlow(unmap(s.Client), unmap(s.VIP), s.VIP.Addr().Unmap(), pipeline.Node{MAC: make([]byte, 6)})
	f.Cookie = pipeline.CookieBase | uint64(pipeline.ClassSession)<<44
	mod := pipeline.DeleteOf(f)
	mod.CookieMask = pipeline.CookieMask | 0xf<<44 // whatever session flow it is
	return Messages{Mods: []openflow.FlowMod{mod}}
}

// Marks steers by the connection tracker's marks.
type Marks struct{ Zone uint16 }

// Name implements Method.
func (Marks) Name() string { return "conntrack" }

// PerNode implements Method.
func (Marks) PerNode() bool { return true }

// Steer implements Method. The first crafted acknowledgement makes or updates
// the connection's entry and sets the mark, before the switch handles the next
// message. The two that follow show the tracker an established connection:
// else the entry, and with it the mark, would expire after 30 s in which the
// server sends nothing.
func (m Marks) Steer(s Session, to Target) (Messages, error) {
	if err := s.check(); err != nil {
		return Messages{}, err
	}
	if to.Node.Mark == 0 || to.Lease == 0 {
		return Messages{}, fmt.Errorf("steer %v to %s: %w", s.Key(), s.Node, ErrUnresolved)
	}
	mark := openflow.SetField{FieldValue: openflow.CTMark(pipeline.Mark(to.Lease, to.Node.Mark))}
	commit := openflow.CT{Zone: m.Zone, Commit: true, Table: openflow.NoTable, Exec: []openflow.Action{mark}}
	track := openflow.CT{Zone: m.Zone, Table: openflow.NoTable}
	there := frame.ACK(s.Client, s.VIP, s.ClientSeq, s.ClientAck)
	back := frame.ACK(s.VIP, s.Client, s.ClientAck, s.ClientSeq)
	return Messages{Outs: []openflow.PacketOut{packetOut(there, commit), packetOut(back, track), packetOut(there, track)}}, nil
}

// Unsteer implements Method. The tracker deletes an entry when a packet of its
// reply direction is committed by force, and makes no new one of a SYN+ACK: so
// nothing is left of the connection, whether the tracker saw its end or not.
func (m Marks) Unsteer(s Session) Messages {
	forget := openflow.CT{Zone: m.Zone, Commit: true, Force: true, Table: openflow.NoTable}
	return Messages{Outs: []openflow.PacketOut{packetOut(frame.SYNACK(s.VIP, s.Client), forget)}}
}

func packetOut(data []byte, a ...openflow.Action) openflow.PacketOut {
	return openflow.PacketOut{InPort: openflow.PortController, Apply: a, Data: data}
}

func (s Session) check() error {
	c, v, l := s.Client.Addr().Unmap(), s.VIP.Addr().Unmap(), s.Local.Addr().Unmap()
	if !s.Client.IsValid() || !s.VIP.IsValid() || !s.Local.IsValid() || c.Is4() != v.Is4() || v.Is4() != l.Is4() {
		return fmt.Errorf("session %q has ends %v, %v and %v, want three addresses of one family", s.ID, s.Client, s.VIP, s.Local)
	}
	return nil
}
