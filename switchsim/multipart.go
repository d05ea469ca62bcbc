package switchsim

import (
	"encoding/binary"
	"time"

	"github.com/shunt-sdn/shunt/switchsim/pipeline"
	"github.com/shunt-sdn/shunt/switchsim/wire"
)

// multipart answers a request for a description or for statistics.
func (c *conn) multipart(msg []byte) error {
	e := binary.BigEndian
	if len(msg) < 16 {
		return wire.ErrBadLen
	}
	typ, flags, body := e.Uint16(msg[8:]), e.Uint16(msg[10:]), msg[16:]
	r := &multipartReply{c: c, xid: wire.ParseHeader(msg).XID, typ: typ}
	if flags&wire.MultipartMore != 0 && typ != wire.MultipartTableFeatures {
		return wire.ErrBadMultipart // only table features may be spread over requests
	}
	var err error
	switch typ {
	case wire.MultipartDesc:
		r.add(c.s.description())
	case wire.MultipartFlow, wire.MultipartAggregate:
		err = c.flowStats(r, body)
	case wire.MultipartTable:
		for i, t := range c.s.pipe.Tables() {
			b := e.AppendUint32([]byte{uint8(i), 0, 0, 0}, t.Active)
			b = e.AppendUint64(b, t.Lookups)
			r.add(e.AppendUint64(b, t.Matches))
		}
	case wire.MultipartPortStats:
		err = c.portStats(r, body)
	case wire.MultipartPortDesc:
		for _, p := range c.s.ports.all() {
			r.add(appendPort(nil, p))
		}
	case wire.MultipartQueue:
		if len(body) != 8 {
			err = wire.ErrBadLen
		}
	case wire.MultipartGroup, wire.MultipartGroupDesc:
		err = c.groupStats(r, body)
	case wire.MultipartGroupFeatures:
		r.add(groupFeatures())
	case wire.MultipartMeter, wire.MultipartMeterConfig: // there are none
	case wire.MultipartMeterFeatures:
		r.add(make([]byte, 16))
	case wire.MultipartTableFeatures:
		if len(body) > 0 {
			return wire.ErrTableFeaturesEPERM
		}
		for i := range c.s.cfg.Tables {
			r.add(c.s.tableFeatures(uint8(i)))
		}
	case wire.MultipartExperimenter:
		err = wire.ErrBadExperimenter
	default:
		err = wire.ErrBadMultipart
	}
	if err == nil {
		r.finish()
	}
	return err
}

// multipartReply collects records into as many messages as they need.
type multipartReply struct {
	c    *conn
	xid  uint32
	typ  uint16
	body []byte
}

const multipartSize = 32 << 10

func (r *multipartReply) add(record []byte) {
	if len(r.body)+len(record) > multipartSize && len(r.body) > 0 {
		r.send(wire.MultipartMore)
	}
	r.body = append(r.body, record...)
}

func (r *multipartReply) finish() { r.send(0) }

func (r *multipartReply) send(flags uint16) {
	b := wire.Message(wire.TypeMultipartReply, r.xid)
	b = binary.BigEndian.AppendUint16(b, r.typ)
	b = binary.BigEndian.AppendUint16(b, flags)
	b = append(b, 0, 0, 0, 0)
	r.c.reply(wire.Finish(append(b, r.body...)))
	r.body = r.body[:0]
}

func (s *Switch) description() []byte {
	var b []byte
	for _, f := range []struct {
		text string
		size int
	}{{"Shunt", 256}, {"switchsim", 256}, {"simulated OpenFlow 1.3 switch", 256}, {"", 32}, {"", 256}} {
		field := make([]byte, f.size)
		copy(field[:f.size-1], f.text)
		b = append(b, field...)
	}
	return b
}

func (c *conn) flowStats(r *multipartReply, body []byte) error {
	filter, err := c.s.decoder.ParseFlowFilter(body)
	if err != nil {
		return err
	}
	flows := c.s.pipe.Flows(&filter)
	if r.typ == wire.MultipartAggregate {
		var packets, octets uint64
		for _, f := range flows {
			packets, octets = packets+f.Packets, octets+f.Bytes
		}
		b := binary.BigEndian.AppendUint64(nil, packets)
		b = binary.BigEndian.AppendUint64(b, octets)
		b = binary.BigEndian.AppendUint32(b, uint32(len(flows)))
		r.add(append(b, 0, 0, 0, 0))
		return nil
	}
	now := time.Now()
	for i := range flows {
		r.add(flowStat(&flows[i], now))
	}
	return nil
}

func flowStat(f *pipeline.FlowStat, now time.Time) []byte {
	e, age := binary.BigEndian, now.Sub(f.Created)
	b := make([]byte, 2, 128)
	b = append(b, f.Table, 0)
	b = e.AppendUint32(b, uint32(age/time.Second))
	b = e.AppendUint32(b, uint32(age%time.Second))
	b = e.AppendUint16(b, f.Priority)
	b = e.AppendUint16(b, uint16(f.Idle/time.Second))
	b = e.AppendUint16(b, uint16(f.Hard/time.Second))
	b = e.AppendUint16(b, f.Flags)
	b = append(b, 0, 0, 0, 0)
	b = e.AppendUint64(b, f.Cookie)
	b = e.AppendUint64(b, f.Packets)
	b = e.AppendUint64(b, f.Bytes)
	b = wire.AppendMatch(b, f.Match.OXM)
	b = append(b, f.Program.Raw...)
	e.PutUint16(b, uint16(len(b)))
	return b
}

func (c *conn) portStats(r *multipartReply, body []byte) error {
	if len(body) != 8 {
		return wire.ErrBadLen
	}
	number := binary.BigEndian.Uint32(body)
	ports := c.s.ports.all()
	if number != wire.PortAny {
		p := c.s.ports.get(number)
		if p == nil {
			return wire.ErrBadPort
		}
		ports = []*port{p}
	}
	for _, p := range ports {
		r.add(portStat(p))
	}
	return nil
}

func portStat(p *port) []byte {
	e, age := binary.BigEndian, time.Since(p.since)
	p.rxDropped.Add(p.socket.Overflows())
	b := e.AppendUint32(nil, p.number)
	b = append(b, 0, 0, 0, 0)
	for _, v := range []uint64{
		p.rxPackets.Load(), p.txPackets.Load(), p.rxBytes.Load(), p.txBytes.Load(), p.rxDropped.Load(), p.txDropped.Load(),
		0, 0, 0, 0, 0, 0, // errors and collisions: virtual links have none
	} {
		b = e.AppendUint64(b, v)
	}
	b = e.AppendUint32(b, uint32(age/time.Second))
	return e.AppendUint32(b, uint32(age%time.Second))
}

func (c *conn) groupStats(r *multipartReply, body []byte) error {
	e, id := binary.BigEndian, uint32(wire.GroupAll)
	if r.typ == wire.MultipartGroup {
		if len(body) != 8 {
			return wire.ErrBadLen
		}
		if id = e.Uint32(body); id == wire.GroupAny {
			id = wire.GroupAll
		}
	}
	for _, g := range c.s.pipe.Groups(id) {
		b := []byte{0, 0}
		if r.typ == wire.MultipartGroupDesc {
			b = append(b, g.Type, 0)
			b = e.AppendUint32(b, g.ID)
			for _, k := range g.Buckets {
				b = append(b, k.Raw...)
			}
		} else {
			age := time.Since(g.Created)
			b = append(b, 0, 0)
			b = e.AppendUint32(b, g.ID)
			b = e.AppendUint32(b, g.References)
			b = append(b, 0, 0, 0, 0)
			b = e.AppendUint64(b, g.Packets)
			b = e.AppendUint64(b, g.Bytes)
			b = e.AppendUint32(b, uint32(age/time.Second))
			b = e.AppendUint32(b, uint32(age%time.Second))
			for _, n := range g.BucketCounts {
				b = e.AppendUint64(b, n[0])
				b = e.AppendUint64(b, n[1])
			}
		}
		e.PutUint16(b, uint16(len(b)))
		r.add(b)
	}
	return nil
}

func groupFeatures() []byte {
	e := binary.BigEndian
	b := e.AppendUint32(nil, 0xf)              // every type
	b = e.AppendUint32(b, 1<<0|1<<1|1<<2|1<<3) // weights, liveness, chaining, loop checks
	for range 4 {
		b = e.AppendUint32(b, wire.GroupMax)
	}
	const actions = 1<<0 | 1<<17 | 1<<18 | 1<<22 | 1<<23 | 1<<24 | 1<<25
	for range 4 {
		b = e.AppendUint32(b, actions)
	}
	return b
}
