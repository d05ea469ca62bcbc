package openflow

import (
	"context"
	"errors"
	"fmt"
	"time"
)

const (
	firstXid = 16 // the handshake uses smaller ones; switches use 0
	// maxHeld bounds the messages that are queued or unconfirmed; callers wait
	// for room beyond it.
	maxHeld = 16384
	// maxBarriers is how many batches may be unconfirmed at once. Few barriers
	// make large batches under load: ofproto reads at most 50 messages per
	// connection and loop, so each barrier that is not sent is a flow_mod more.
	maxBarriers = 4
	// maxBatch is about how many octets are encoded before they are written.
	maxBatch = 128 << 10
)

// An op is messages of one caller that are confirmed by one barrier, the first
// that follows them.
type op struct {
	mods   []FlowMod
	outs   []PacketOut
	groups []GroupMod
	raw    []rawRequest
	call   Message     // a request with a reply of its own; its xid is set
	done   func(error) // nil: errors become events

	first uint32 // xid of message 0; the others follow
	sent  int    // messages that are encoded
	errs  []error
}

// rawRequest is a message that is encoded already.
type rawRequest struct {
	m    Message
	name string
}

// len is the number of messages that get an xid of the op's; call has its own.
func (o *op) len() int { return len(o.mods) + len(o.outs) + len(o.groups) + len(o.raw) }

// cost is what the op takes of maxHeld.
func (o *op) cost() int { return max(1, o.len()) }

// encode appends message i.
func (o *op) encode(b []byte, i int) ([]byte, error) {
	xid := o.first + uint32(i)
	if i < len(o.mods) {
		return AppendFlowMod(b, xid, o.mods[i])
	}
	i -= len(o.mods)
	if i < len(o.outs) {
		return AppendPacketOut(b, xid, o.outs[i])
	}
	i -= len(o.outs)
	if i < len(o.groups) {
		m, err := EncodeGroupMod(xid, o.groups[i])
		return append(b, m...), err
	}
	m := o.raw[i-len(o.groups)].m
	m.SetXid(xid)
	return append(b, m...), nil
}

// describe names message i for an error.
func (o *op) describe(i int) string {
	if i < len(o.mods) {
		return o.mods[i].String()
	}
	i -= len(o.mods)
	if i < len(o.outs) {
		return o.outs[i].String()
	}
	i -= len(o.outs)
	if i < len(o.groups) {
		return o.groups[i].String()
	}
	return o.raw[i-len(o.groups)].name
}

// has reports whether xid is one of the op's messages.
func (o *op) has(xid uint32) bool { return xid-o.first < uint32(o.sent) }

// A batch is the ops that one barrier confirms.
type batch struct {
	xid  uint32 // the barrier's
	sent time.Time
	ops  []*op
}

// Apply sends flow changes and waits until the switch has processed them. The
// error joins a *SwitchError for each that it refused; the others are in force.
// When ctx ends first the changes may still be made.
func (c *Conn) Apply(ctx context.Context, mods ...FlowMod) error {
	return c.do(ctx, &op{mods: mods})
}

// Groups is Apply for groups.
func (c *Conn) Groups(ctx context.Context, mods ...GroupMod) error {
	return c.do(ctx, &op{groups: mods})
}

// Barrier waits until the switch has processed all that was sent before.
func (c *Conn) Barrier(ctx context.Context) error { return c.do(ctx, &op{}) }

// SetAsync chooses the asynchronous messages that the switch sends here. A
// switch that did not dial us (a passive or unix socket) may send none until it
// is asked to.
func (c *Conn) SetAsync(ctx context.Context, a AsyncConfig) error {
	return c.do(ctx, &op{raw: []rawRequest{{EncodeSetAsync(0, a), "SET_ASYNC"}}})
}

func (c *Conn) do(ctx context.Context, o *op) error {
	done := make(chan error, 1)
	o.done = func(err error) { done <- err }
	if err := c.enqueue(ctx, o); err != nil {
		return err
	}
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// ApplyAsync queues flow changes and then packet-outs; they are pipelined with
// those of other callers, in the order of the calls, and share barriers with
// them. done runs once, with the joined errors of this call, when the barrier
// that follows was answered or the channel has ended: on another goroutine than
// the caller's, one callback of a Conn after the other, in order. It should not
// wait for anything. ApplyAsync itself waits while too much is unconfirmed;
// done callbacks are not needed for it to go on. The slices must not change
// before done runs. done may be nil: errors are then events.
func (c *Conn) ApplyAsync(mods []FlowMod, outs []PacketOut, done func(error)) {
	o := &op{mods: mods, outs: outs, done: done}
	if err := c.enqueue(context.Background(), o); err != nil && done != nil {
		go done(err) // Run may have returned, and the caller may hold a lock that done takes
	}
}

// PacketOut queues a packet-out, in order with ApplyAsync. The error says that
// it cannot be encoded or that the channel has ended; if the switch refuses it
// there will be an event.
func (c *Conn) PacketOut(p PacketOut) error {
	m, err := EncodePacketOut(0, p)
	if err != nil {
		return err
	}
	return c.enqueue(context.Background(), &op{raw: []rawRequest{{m, p.String()}}})
}

// enqueue waits for room and queues o.
func (c *Conn) enqueue(ctx context.Context, o *op) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.held >= maxHeld && c.err == nil {
		stop := context.AfterFunc(ctx, func() {
			c.mu.Lock()
			defer c.mu.Unlock()
			c.changed.Broadcast()
		})
		defer stop()
		for c.held >= maxHeld && c.err == nil && ctx.Err() == nil {
			c.changed.Wait()
		}
	}
	if c.err != nil {
		return c.closedErr()
	}
	if err := ctx.Err(); err != nil {
		return context.Cause(ctx)
	}
	c.queue = append(c.queue, o)
	c.held += o.cost()
	c.changed.Broadcast()
	return nil
}

// takeXids reserves n consecutive xids. It needs mu.
func (c *Conn) takeXids(n int) uint32 {
	if uint64(c.xid)+uint64(n) > 0xffffffff {
		c.xid = firstXid
	}
	first := c.xid
	c.xid += uint32(n)
	return first
}

// writeLoop is the only writer.
func (c *Conn) writeLoop() {
	buf := make([]byte, 0, 2*maxBatch)
	for {
		var ok bool
		if buf, ok = c.nextWrite(buf[:0]); !ok {
			return
		}
		if len(buf) == 0 {
			continue
		}
		// A peer that neither reads nor answers is dead all the same.
		_ = c.nc.SetWriteDeadline(time.Now().Add(c.cfg.EchoInterval + c.cfg.EchoTimeout))
		if _, err := c.nc.Write(buf); err != nil {
			c.fail(fmt.Errorf("write to the switch: %w", err))
			return
		}
		c.cfg.Counts.wrote(buf)
		if cap(buf) > 8*maxBatch {
			buf = make([]byte, 0, 2*maxBatch)
		}
	}
}

// nextWrite waits for something to send and encodes it, up to about maxBatch
// octets. It registers what it returns as in flight before it returns, so
// replies cannot come too early.
func (c *Conn) nextWrite(buf []byte) ([]byte, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		if c.err != nil {
			return nil, false
		}
		ready := (len(c.queue) > 0 || c.sending != nil) && len(c.batches) < maxBarriers
		if len(c.urgent) > 0 || ready {
			for _, m := range c.urgent {
				buf = append(buf, m...)
			}
			c.urgent = c.urgent[:0]
			if ready {
				buf = c.encodeBatch(buf)
			}
			return buf, true
		}
		c.changed.Wait()
	}
}

// encodeBatch encodes queued ops and the barrier that confirms the complete
// ones. It needs mu: encoding takes well under a millisecond, and callers that
// wait for it would wait for the wire anyway.
func (c *Conn) encodeBatch(buf []byte) []byte {
	var ops []*op
	for len(buf) < maxBatch {
		o := c.sending
		if o == nil {
			if len(c.queue) == 0 {
				break
			}
			o = c.queue[0]
			c.queue[0] = nil
			c.queue = c.queue[1:]
			o.first = c.takeXids(o.len())
			c.sending = o
		}
		buf = c.encodeOp(buf, o)
		if o.sent == o.len() {
			ops = append(ops, o)
			c.sending = nil
		}
	}
	if len(ops) == 0 {
		return buf // part of a large op; its barrier follows its end
	}
	b := &batch{xid: c.takeXids(1), sent: time.Now(), ops: ops}
	c.batches = append(c.batches, b)
	return append(buf, EncodeBarrierRequest(b.xid)...)
}

// encodeOp encodes what is left of o as far as buf has room. It needs mu.
func (c *Conn) encodeOp(buf []byte, o *op) []byte {
	for o.sent < o.len() && len(buf) < maxBatch {
		var err error
		if buf, err = o.encode(buf, o.sent); err != nil {
			o.errs = append(o.errs, err)
		}
		o.sent++
	}
	if o.sent == o.len() {
		buf = append(buf, o.call...)
	}
	return buf
}

// barrierReplied completes the batch that the barrier confirms. A switch may
// not answer barriers out of order, so those before it are done as well.
func (c *Conn) barrierReplied(xid uint32) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i, b := range c.batches {
		if b.xid != xid {
			continue
		}
		if i > 0 {
			return fmt.Errorf("the switch answered barrier %#x before %#x", xid, c.batches[0].xid)
		}
		c.batches = c.batches[1:]
		for _, o := range b.ops {
			c.complete(o, errors.Join(o.errs...))
		}
		c.changed.Broadcast()
		return nil
	}
	return nil // not ours; harmless
}

// opOf finds the op in flight that a message belongs to. It needs mu.
func (c *Conn) opOf(xid uint32) *op {
	for _, b := range c.batches {
		for _, o := range b.ops {
			if o.has(xid) {
				return o
			}
		}
	}
	if c.sending != nil && c.sending.has(xid) {
		return c.sending
	}
	return nil
}

// complete hands an op's result over. It needs mu.
func (c *Conn) complete(o *op, err error) {
	c.held -= o.cost()
	if done := o.done; done != nil {
		c.completed = append(c.completed, func() { done(err) })
		c.wake.Signal()
		return
	}
	for _, e := range o.errs {
		var se *SwitchError
		if errors.As(e, &se) {
			_ = c.events.put(se) // there is room, or errors are dropped
		} else {
			c.cfg.Log.Warn("a request was not sent", "err", e)
		}
	}
}

// completeLoop runs callbacks, in order, until abandon has ended the ops.
func (c *Conn) completeLoop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	for {
		for len(c.completed) > 0 {
			todo := c.completed
			c.completed = nil
			c.mu.Unlock()
			for _, f := range todo {
				f()
			}
			c.mu.Lock()
		}
		if c.ended {
			return
		}
		c.wake.Wait()
	}
}

// abandon fails everything that is unanswered, after the loops have ended.
func (c *Conn) abandon() {
	c.mu.Lock()
	defer c.mu.Unlock()
	err := c.closedErr()
	for _, b := range c.batches {
		for _, o := range b.ops {
			c.complete(o, errors.Join(append(o.errs, err)...))
		}
	}
	if c.sending != nil {
		c.queue = append([]*op{c.sending}, c.queue...)
	}
	for _, o := range c.queue {
		c.complete(o, errors.Join(append(o.errs, err)...))
	}
	for xid, call := range c.calls {
		delete(c.calls, xid)
		call.end(err)
	}
	c.batches, c.sending, c.queue, c.ended = nil, nil, nil, true
	c.wake.Signal()
}
