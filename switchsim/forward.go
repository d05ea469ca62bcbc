package switchsim

import (
	"context"
	"errors"
	"time"

	"github.com/shunt-sdn/shunt/switchsim/afpacket"
	"github.com/shunt-sdn/shunt/switchsim/pipeline"
	"github.com/shunt-sdn/shunt/switchsim/wire"
)

// receive forwards the packets that come in by a port until it is closed.
func (s *Switch) receive(ctx context.Context, p *port) {
	x := s.pipe.NewExecutor(true)
	w := afpacket.NewWriter()
	batch := afpacket.NewBatch()
	for {
		err := p.socket.Read(batch)
		if errors.Is(err, afpacket.ErrClosed) || ctx.Err() != nil {
			return
		}
		if err != nil {
			s.cfg.Log.Debug("receive", "port", p.name, "err", err)
			continue // e.g. the link went down; the next Read waits
		}
		x.Begin(time.Now())
		var octets uint64
		for _, f := range batch.Frames {
			octets += uint64(len(f.Data))
			x.Receive(f.Data, f.Offload, p.number)
		}
		s.transmit(w, x.Emits())
		x.End()
		p.rxPackets.Add(uint64(len(batch.Frames)))
		p.rxBytes.Add(octets)
		for _, in := range x.PacketIns() {
			s.announcePacketIn(&in)
		}
	}
}

// transmit sends frames, runs of the same port at once.
func (s *Switch) transmit(w *afpacket.Writer, emits []pipeline.Emit) {
	var to *port
	flush := func() {
		if to == nil {
			return
		}
		sent := w.Flush(to.socket)
		to.txPackets.Add(sent.Packets)
		to.txBytes.Add(sent.Bytes)
		to.txDropped.Add(sent.Dropped)
	}
	for _, e := range emits {
		if to == nil || to.number != e.Port {
			flush()
			to = s.ports.get(e.Port)
		}
		if to == nil || len(e.Data) < 14 {
			continue
		}
		if !w.Add(e.Data, e.Offload) {
			flush()
			w.Add(e.Data, e.Offload)
		}
	}
	flush()
}

// packetOut runs a controller's packet. Its error is a *wire.Error.
func (s *Switch) packetOut(c *conn, po *wire.PacketOut) error {
	c.out.Begin(time.Now())
	err := c.out.PacketOut(po)
	s.transmit(c.writer, c.out.Emits())
	c.out.End()
	for _, in := range c.out.PacketIns() {
		s.announcePacketIn(&in)
	}
	return err
}
