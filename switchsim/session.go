package switchsim

import (
	"encoding/binary"

	"github.com/shunt-sdn/shunt/switchsim/wire"
)

// Capabilities, 7.3.1: statistics of flows, tables, ports and groups.
const capabilities = 1<<0 | 1<<1 | 1<<2 | 1<<3

func (c *conn) features(xid uint32) []byte {
	e := binary.BigEndian
	b := wire.Message(wire.TypeFeaturesReply, xid)
	b = e.AppendUint64(b, c.s.cfg.DatapathID)
	b = e.AppendUint32(b, 0) // buffers
	b = append(b, uint8(c.s.cfg.Tables), 0, 0, 0)
	b = e.AppendUint32(b, capabilities)
	return wire.Finish(e.AppendUint32(b, 0))
}

func (c *conn) getConfig(xid uint32) []byte {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	b := wire.Message(wire.TypeGetConfigReply, xid)
	b = binary.BigEndian.AppendUint16(b, 0)
	return wire.Finish(binary.BigEndian.AppendUint16(b, c.missSendLen))
}

func (c *conn) setConfig(body []byte) error {
	if len(body) != 4 {
		return wire.ErrBadLen
	}
	if binary.BigEndian.Uint16(body) > 0 {
		return wire.ErrConfigFlags // fragments pass as they are; nothing else is offered
	}
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.missSendLen = binary.BigEndian.Uint16(body[2:])
	return nil
}

// setRole changes the connection's role, 6.3.6: a new master makes the old one a
// slave, and its generation_id must not be older than the last.
func (c *conn) setRole(xid uint32, body []byte) error {
	if len(body) != 16 {
		return wire.ErrBadLen
	}
	e := binary.BigEndian
	role, generation, err := c.s.takeRole(c, e.Uint32(body), e.Uint64(body[8:]))
	if err != nil {
		return err
	}
	b := wire.Message(wire.TypeRoleReply, xid)
	b = e.AppendUint32(b, role)
	b = e.AppendUint32(b, 0)
	c.reply(wire.Finish(e.AppendUint64(b, generation)))
	return nil
}

// takeRole returns the role that the connection has afterwards and the generation
// known, all ones if there is none.
func (s *Switch) takeRole(c *conn, role uint32, generation uint64) (uint32, uint64, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch role {
	case wire.RoleNoChange:
	case wire.RoleEqual:
		c.role = role
	case wire.RoleMaster, wire.RoleSlave:
		if s.haveGen && int64(generation-s.generation) < 0 {
			return 0, 0, wire.ErrStaleGeneration
		}
		s.generation, s.haveGen = generation, true
		if role == wire.RoleMaster {
			for other := range s.conns {
				if other.role == wire.RoleMaster {
					other.role = wire.RoleSlave
				}
			}
		}
		c.role = role
	default:
		return 0, 0, wire.ErrRole
	}
	if !s.haveGen {
		return c.role, ^uint64(0), nil
	}
	return c.role, s.generation, nil
}

func (c *conn) getAsync(xid uint32) []byte {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	b := wire.Message(wire.TypeGetAsyncReply, xid)
	for _, masks := range [][2]uint32{c.async.packetIn, c.async.portStatus, c.async.flowRemoved} {
		b = binary.BigEndian.AppendUint32(b, masks[0])
		b = binary.BigEndian.AppendUint32(b, masks[1])
	}
	return wire.Finish(b)
}

func (c *conn) setAsync(body []byte) error {
	if len(body) != 24 {
		return wire.ErrBadLen
	}
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	for i, masks := range []*[2]uint32{&c.async.packetIn, &c.async.portStatus, &c.async.flowRemoved} {
		masks[0] = binary.BigEndian.Uint32(body[8*i:])
		masks[1] = binary.BigEndian.Uint32(body[8*i+4:])
	}
	return nil
}
