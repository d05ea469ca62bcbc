package switchsim

import (
	"encoding/binary"
	"time"

	"github.com/shunt-sdn/shunt/switchsim/pipeline"
	"github.com/shunt-sdn/shunt/switchsim/wire"
)

// each calls fn for the connections that want an asynchronous message with this
// reason, by the masks that pick selects.
func (s *Switch) each(reason uint8, pick func(*asyncMasks) [2]uint32, fn func(*conn)) {
	s.mu.Lock()
	var to []*conn
	for c := range s.conns {
		masks := pick(&c.async)
		mask := masks[0]
		if c.role == wire.RoleSlave {
			mask = masks[1]
		}
		// A connection that was made to us gets none until it has asked by a
		// miss_send_len, as with Open vSwitch.
		if c.ready && mask>>reason&1 != 0 && (!c.service || c.missSendLen != 0) {
			to = append(to, c)
		}
	}
	s.mu.Unlock()
	for _, c := range to {
		fn(c)
	}
}

// announcePacketIn sends a packet to the controllers. They get all of it or as
// much as a message holds; nothing is buffered.
func (s *Switch) announcePacketIn(in *pipeline.PacketIn) {
	var msg []byte
	s.each(in.Reason, func(a *asyncMasks) [2]uint32 { return a.packetIn }, func(c *conn) {
		if msg == nil {
			msg = packetInMessage(in)
		}
		c.notify(msg)
	})
}

func packetInMessage(in *pipeline.PacketIn) []byte {
	e := binary.BigEndian
	b := wire.Message(wire.TypePacketIn, 0)
	b = e.AppendUint32(b, wire.NoBuffer)
	b = e.AppendUint16(b, uint16(min(in.TotalLen, 0xffff)))
	b = append(b, in.Reason, in.Table)
	b = e.AppendUint64(b, in.Cookie)
	oxm := wire.AppendOXM(nil, 0, e.AppendUint32(nil, in.InPort))
	if in.Metadata != 0 {
		oxm = wire.AppendOXM(oxm, 2, e.AppendUint64(nil, in.Metadata))
	}
	b = wire.AppendMatch(b, oxm)
	b = append(b, 0, 0)
	return wire.Finish(append(b, in.Data[:min(len(in.Data), 0xffff-len(b))]...))
}

func (s *Switch) announcePort(reason uint8, p *port) {
	s.each(reason, func(a *asyncMasks) [2]uint32 { return a.portStatus }, func(c *conn) {
		b := wire.Message(wire.TypePortStatus, 0)
		b = append(b, reason, 0, 0, 0, 0, 0, 0, 0)
		c.reply(wire.Finish(appendPort(b, p)))
	})
}

func (s *Switch) announceRemoved(removed []pipeline.Removed, now time.Time) {
	for _, r := range removed {
		s.each(r.Reason, func(a *asyncMasks) [2]uint32 { return a.flowRemoved }, func(c *conn) {
			c.reply(flowRemovedMessage(r, now))
		})
	}
}

func flowRemovedMessage(r pipeline.Removed, now time.Time) []byte {
	e, f := binary.BigEndian, r.Flow
	packets, octets := f.Counters()
	age := now.Sub(f.Created)
	b := wire.Message(wire.TypeFlowRemoved, 0)
	b = e.AppendUint64(b, f.Cookie)
	b = e.AppendUint16(b, f.Priority)
	b = append(b, r.Reason, f.Table)
	b = e.AppendUint32(b, uint32(age/time.Second))
	b = e.AppendUint32(b, uint32(age%time.Second))
	b = e.AppendUint16(b, uint16(f.Idle/time.Second))
	b = e.AppendUint16(b, uint16(f.Hard/time.Second))
	b = e.AppendUint64(b, packets)
	b = e.AppendUint64(b, octets)
	return wire.Finish(wire.AppendMatch(b, f.Match.OXM))
}

// appendPort encodes a port description, 7.2.1.
func appendPort(b []byte, p *port) []byte {
	e := binary.BigEndian
	b = e.AppendUint32(b, p.number)
	b = append(b, 0, 0, 0, 0)
	var mac [8]byte
	copy(mac[:6], p.mac)
	b = append(b, mac[:]...)
	var name [16]byte
	copy(name[:15], p.name)
	b = append(b, name[:]...)
	b = e.AppendUint32(b, p.config.Load())
	b = e.AppendUint32(b, p.state())
	const tenGigabitCopper = 1<<6 | 1<<11
	for _, v := range []uint32{tenGigabitCopper, 0, 0, 0, 10_000_000, 0} {
		b = e.AppendUint32(b, v)
	}
	return b
}
