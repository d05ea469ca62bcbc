package openflow

import (
	"context"
	"fmt"
)

// A call is a request with a reply of its own.
type call struct {
	name  string
	kind  MultipartKind // of a multipart request
	multi bool
	parts []Message
	size  int
	err   error
	done  chan struct{} // closed when parts and err are final
}

func (k *call) end(err error) {
	k.err = err
	close(k.done)
}

// request sends m, whose xid it sets, and waits for the whole reply.
func (c *Conn) request(ctx context.Context, m Message, k *call) ([]Message, error) {
	k.done = make(chan struct{})
	c.mu.Lock()
	if c.err != nil {
		err := c.closedErr()
		c.mu.Unlock()
		return nil, err
	}
	xid := c.takeXids(1)
	c.calls[xid] = k
	c.mu.Unlock()
	m.SetXid(xid)
	// The message goes through the queue, so that it follows what the caller
	// sent before.
	if err := c.enqueue(ctx, &op{call: m}); err != nil {
		c.forget(xid)
		return nil, err
	}
	select {
	case <-k.done:
		return k.parts, k.err
	case <-ctx.Done():
		c.forget(xid)
		return nil, fmt.Errorf("wait for the switch's answer to %s: %w", k.name, context.Cause(ctx))
	}
}

func (c *Conn) forget(xid uint32) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.calls, xid)
}

// replied hands a reply of one message to its call.
func (c *Conn) replied(xid uint32, m Message) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if k, ok := c.calls[xid]; ok && !k.multi {
		delete(c.calls, xid)
		k.parts = []Message{m}
		k.end(nil)
	}
}

// multipartReplied adds a part to its call. A part for nobody is from a request
// whose caller gave up.
func (c *Conn) multipartReplied(m Message) error {
	r, err := ParseMultipartReply(m)
	if err != nil {
		c.malformed(m, err)
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	k, ok := c.calls[m.Xid()]
	if !ok || !k.multi {
		return nil
	}
	switch {
	case r.Kind != k.kind:
		err = malformed(BadRequestBadStat, "reply of kind %d to %s, of kind %d", r.Kind, k.name, k.kind)
	case k.size+len(m) > maxMultipart:
		err = malformed(BadRequestBadLen, "reply to %s exceeds %d octets", k.name, maxMultipart)
	default:
		k.parts, k.size = append(k.parts, m), k.size+len(m)
		if r.More {
			return nil
		}
	}
	delete(c.calls, m.Xid())
	k.end(err)
	return nil
}

// errorReplied gives an error to the request that caused it, or makes it an
// event.
func (c *Conn) errorReplied(e *SwitchError) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if k, ok := c.calls[e.Xid]; ok {
		delete(c.calls, e.Xid)
		e.Request = k.name
		k.end(e)
		return
	}
	if o := c.opOf(e.Xid); o != nil {
		if len(o.errs) < o.len() { // a switch cannot make it grow without bound
			e.Request = o.describe(int(e.Xid - o.first))
			o.errs = append(o.errs, e)
		}
		return
	}
	_ = c.events.put(e) // there is room, or errors are dropped
}

func (c *Conn) multipart(ctx context.Context, name string, r MultipartRequest) ([]Message, error) {
	m, err := EncodeMultipartRequest(0, r)
	if err != nil {
		return nil, err
	}
	return c.request(ctx, m, &call{name: name, kind: r.Kind, multi: true})
}

// FlowEntries reads the flows of all tables whose cookie has the bits of cookie
// under mask (mask 0: all flows), with everything that the switch says.
func (c *Conn) FlowEntries(ctx context.Context, cookie, mask uint64) ([]FlowEntry, error) {
	parts, err := c.multipart(ctx, fmt.Sprintf("a dump of the flows with cookie %#x/%#x", cookie, mask), MultipartRequest{
		Kind: MultipartFlow, Flows: FlowStatsRequest{Table: NoTable, Cookie: cookie, CookieMask: mask},
	})
	if err != nil {
		return nil, err
	}
	var all []FlowEntry
	for _, m := range parts {
		entries, err := ParseFlowEntries(m.Body()[multipartHead:])
		if err != nil {
			return nil, fmt.Errorf("the switch's dump of flows: %w", err)
		}
		all = append(all, entries...)
	}
	return all, nil
}

// FlowStats is FlowEntries without what the flows do.
func (c *Conn) FlowStats(ctx context.Context, cookie, mask uint64) ([]FlowStat, error) {
	entries, err := c.FlowEntries(ctx, cookie, mask)
	if err != nil {
		return nil, err
	}
	stats := make([]FlowStat, len(entries))
	for i, e := range entries {
		stats[i] = e.Stat()
	}
	return stats, nil
}

// DumpFlows is FlowEntries for operators to read.
func (c *Conn) DumpFlows(ctx context.Context, cookie, mask uint64) ([]FlowDump, error) {
	entries, err := c.FlowEntries(ctx, cookie, mask)
	if err != nil {
		return nil, err
	}
	dumps := make([]FlowDump, len(entries))
	for i, e := range entries {
		dumps[i] = e.Dump()
	}
	return dumps, nil
}

// SetRole asks for the role of master, or of equal. The switch refuses a
// generation that is not newer than the newest it knows (RoleStale); a master
// turns other masters into slaves, which can change nothing.
func (c *Conn) SetRole(ctx context.Context, master bool, generation uint64) error {
	role := RoleEqual
	if master {
		role = RoleMaster
	}
	parts, err := c.request(ctx, EncodeRoleRequest(0, role, generation), &call{name: fmt.Sprintf("role %d, generation %d", role, generation)})
	if err != nil {
		return err
	}
	got, _, err := ParseRoleReply(parts[0])
	if err != nil {
		return err
	}
	if got != role {
		return fmt.Errorf("the switch granted role %d, not %d", got, role)
	}
	return nil
}
