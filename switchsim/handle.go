package switchsim

import (
	"context"
	"encoding/binary"
	"errors"
	"time"

	"github.com/shunt-sdn/shunt/switchsim/wire"
)

// handle carries out one message. Messages of a connection are handled one after
// the other, so a barrier is answered when all before it is done.
func (c *conn) handle(ctx context.Context, msg []byte) {
	if wire.ParseHeader(msg).Version != wire.Version {
		c.fail(wire.ErrBadVersion, msg)
		return
	}
	err := c.dispatch(ctx, msg)
	if err == nil {
		return
	}
	var e *wire.Error
	if !errors.As(err, &e) {
		c.log.Error("unexpected error", "err", err)
		e = wire.ErrBadType
	}
	c.fail(e, msg)
}

func (c *conn) dispatch(ctx context.Context, msg []byte) error {
	h, body := wire.ParseHeader(msg), msg[wire.HeaderLen:]
	if c.mayNot(h.Type) {
		return wire.ErrIsSlave
	}
	switch h.Type {
	case wire.TypeHello, wire.TypeEchoReply, wire.TypeError:
		return nil
	case wire.TypeEchoRequest:
		c.reply(wire.Finish(append(wire.Message(wire.TypeEchoReply, h.XID), body...)))
		return nil
	case wire.TypeExperimenter:
		return c.experimenter(body)
	case wire.TypeFeaturesRequest:
		c.reply(c.features(h.XID))
		return nil
	case wire.TypeGetConfigRequest:
		c.reply(c.getConfig(h.XID))
		return nil
	case wire.TypeSetConfig:
		return c.setConfig(body)
	case wire.TypePacketOut:
		po, err := c.s.decoder.ParsePacketOut(msg)
		if err != nil {
			return err
		}
		return c.s.packetOut(c, &po)
	case wire.TypeFlowMod:
		return c.flowMod(msg)
	case wire.TypeGroupMod:
		return c.groupMod(msg)
	case wire.TypePortMod:
		return c.portMod(body)
	case wire.TypeTableMod:
		if len(body) != 8 {
			return wire.ErrBadLen
		}
		if body[0] != wire.TableAll && int(body[0]) >= c.s.cfg.Tables {
			return wire.ErrTableModTable
		}
		return nil // version 1.3 has nothing to configure
	case wire.TypeMultipartRequest:
		return c.multipart(msg)
	case wire.TypeBarrierRequest:
		if d := c.s.cfg.Misbehaviour.SlowBarrier; d > 0 && !sleep(ctx, d) {
			return nil
		}
		c.reply(wire.Finish(wire.Message(wire.TypeBarrierReply, h.XID)))
		return nil
	case wire.TypeQueueGetConfig:
		if len(body) != 8 {
			return wire.ErrBadLen
		}
		b := append(wire.Message(wire.TypeQueueConfigReply, h.XID), body[:4]...)
		c.reply(wire.Finish(append(b, 0, 0, 0, 0)))
		return nil
	case wire.TypeRoleRequest:
		return c.setRole(h.XID, body)
	case wire.TypeGetAsyncRequest:
		c.reply(c.getAsync(h.XID))
		return nil
	case wire.TypeSetAsync:
		return c.setAsync(body)
	}
	return wire.ErrBadType
}

// mayNot reports whether a message type is forbidden to a slave, 6.3.6.
func (c *conn) mayNot(typ uint8) bool {
	switch typ {
	case wire.TypePacketOut, wire.TypeFlowMod, wire.TypeGroupMod, wire.TypePortMod, wire.TypeTableMod, wire.TypeMeterMod:
		c.s.mu.Lock()
		defer c.s.mu.Unlock()
		return c.role == wire.RoleSlave
	}
	return false
}

func (c *conn) flowMod(msg []byte) error {
	m, err := c.s.decoder.ParseFlowMod(msg)
	if err != nil {
		return err
	}
	if c.s.delayed == nil {
		removed, err := c.s.pipe.FlowMod(&m, time.Now())
		c.s.announceRemoved(removed, time.Now())
		return err
	}
	if err := c.s.pipe.Check(&m); err != nil {
		return err
	}
	c.s.delayed.add(func() {
		removed, err := c.s.pipe.FlowMod(&m, time.Now())
		c.s.announceRemoved(removed, time.Now())
		if err != nil {
			c.log.Info("a delayed flow mod failed", "err", err)
		}
	})
	return nil
}

func (c *conn) groupMod(msg []byte) error {
	m, err := c.s.decoder.ParseGroupMod(msg)
	if err != nil {
		return err
	}
	removed, err := c.s.pipe.GroupMod(&m, time.Now())
	c.s.announceRemoved(removed, time.Now())
	return err
}

// portMod changes the configuration bits of a port. The interface itself is not
// touched: a port that is configured down is one that the switch does not use.
func (c *conn) portMod(body []byte) error {
	if len(body) != 32 {
		return wire.ErrBadLen
	}
	e := binary.BigEndian
	p := c.s.ports.get(e.Uint32(body))
	if p == nil {
		return wire.ErrPortModPort
	}
	if string(body[8:14]) != string(p.mac) {
		return wire.ErrPortModHWAddr
	}
	config, mask := e.Uint32(body[16:]), e.Uint32(body[20:])
	mask &= wire.PortConfigDown | wire.PortConfigNoRecv | wire.PortConfigNoForward | wire.PortConfigNoPacketIn
	old := p.config.Load()
	p.config.Store(old&^mask | config&mask)
	if p.config.Load() != old {
		c.s.pipe.SetPort(p.pipelinePort(), time.Now())
		c.s.announcePort(wire.PortModified, p)
	}
	return nil
}

// experimenter knows one message: Open vSwitch's flush of a tracker zone.
func (c *conn) experimenter(body []byte) error {
	if len(body) < 8 {
		return wire.ErrBadLen
	}
	e := binary.BigEndian
	if e.Uint32(body) != wire.NiciraVendor || c.s.cfg.Misbehaviour.NoNicira {
		return wire.ErrBadExperimenter
	}
	const flushZone = 29
	if e.Uint32(body[4:]) != flushZone {
		return wire.ErrBadExpType
	}
	if len(body) != 16 {
		return wire.ErrBadLen
	}
	c.s.pipe.Tracker().Flush(e.Uint16(body[14:]))
	return nil
}
