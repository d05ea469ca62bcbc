package openflow

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"
)

// xids of the handshake's requests.
const (
	xidHello = iota + 1
	xidFeatures
	xidDesc
	xidPorts
	xidConfig
)

// Handshake takes an established connection to a switch through OpenFlow's
// handshake: HELLO, the switch's features, description and ports, and
// SET_CONFIG with whole packets, without which Open vSwitch sends a passive
// controller nothing unasked. A peer that cannot speak 1.3 gets OFPT_ERROR
// HELLO_FAILED. It ends with ctx, or when the peer takes longer than EchoInterval plus
// EchoTimeout; on an error nc is closed.
func Handshake(ctx context.Context, nc net.Conn, cfg Config) (_ *Conn, err error) {
	cfg = cfg.withDefaults()
	ctx, cancel := context.WithTimeout(ctx, cfg.EchoInterval+cfg.EchoTimeout)
	defer cancel()
	stop := context.AfterFunc(ctx, func() { _ = nc.SetDeadline(time.Unix(1, 0)) })
	h := &handshake{
		c:    newConn(nc, NewReader(nc, cfg.MaxMessage), cfg),
		out:  make(chan Message, maxUrgent),
		sent: make(chan struct{}),
	}
	go h.write(nc)
	err = h.run()
	close(h.out)
	if err != nil {
		// What is queued (the reason, for the peer) gets a moment.
		_ = nc.SetDeadline(time.Now().Add(100 * time.Millisecond))
	}
	<-h.sent
	if stop() && err == nil {
		err = nc.SetDeadline(time.Time{})
	} else if ctx.Err() != nil {
		err = errors.Join(context.Cause(ctx), err)
	}
	if err != nil {
		nc.Close()
		return nil, fmt.Errorf("OpenFlow handshake with %v: %w", nc.RemoteAddr(), err)
	}
	return h.c, nil
}

// A handshake is a conversation in lock step, apart from writing: both sides
// speak first.
type handshake struct {
	c    *Conn
	out  chan Message
	sent chan struct{} // closed when out is closed and written

	features, desc, ports bool // answered
	size                  int  // octets of multipart replies
}

func (h *handshake) write(nc net.Conn) {
	defer close(h.sent)
	var failed bool
	for m := range h.out {
		if !failed {
			_, err := nc.Write(m)
			failed = err != nil // the reader sees the reason
		}
	}
}

func (h *handshake) send(m Message) error {
	select {
	case h.out <- m:
		return nil
	default:
		return fmt.Errorf("%d answers wait for a peer that asks but does not read", maxUrgent)
	}
}

func (h *handshake) run() error {
	if err := h.send(EncodeHello(xidHello)); err != nil {
		return err
	}
	if err := h.hello(); err != nil {
		return err
	}
	desc, err := EncodeMultipartRequest(xidDesc, MultipartRequest{Kind: MultipartDesc})
	if err != nil {
		return err
	}
	ports, err := EncodeMultipartRequest(xidPorts, MultipartRequest{Kind: MultipartPortDesc})
	if err != nil {
		return err
	}
	for _, m := range []Message{
		EncodeFeaturesRequest(xidFeatures), desc,
		EncodeSetConfig(xidConfig, SwitchConfig{MissSendLen: 0xffff}), ports,
	} {
		if err := h.send(m); err != nil {
			return err
		}
	}
	for !h.features || !h.desc || !h.ports {
		m, err := h.c.rd.Next()
		if err != nil {
			return h.frame(err)
		}
		if m.Version() != Version {
			_ = h.send(EncodeError(m.Xid(), BadRequestBadVersion, m))
			return fmt.Errorf("%v of version %d after HELLO agreed on 1.3 (%d)", m.Type(), m.Version(), Version)
		}
		if err := h.answer(m); err != nil {
			return err
		}
	}
	return nil
}

func (h *handshake) frame(err error) error {
	var frame *FrameError
	if errors.As(err, &frame) {
		_ = h.send(frame.Reply())
	}
	return err
}

// maxHello bounds the first message, so that a peer of another protocol is told
// from its first octets.
const maxHello = 1024

// hello waits for the peer's HELLO, which has to be first.
func (h *handshake) hello() error {
	limit := h.c.rd.max
	h.c.rd.max = min(limit, maxHello)
	m, err := h.c.rd.Next()
	h.c.rd.max = limit
	if err != nil {
		return h.frame(err)
	}
	if m.Type() == TypeError {
		if e, err := ParseErrorMessage(m); err == nil {
			return fmt.Errorf("the switch rejects OpenFlow 1.3: %s: %q", e.Name, e.Data)
		}
	}
	if m.Type() != TypeHello {
		_ = h.send(EncodeError(m.Xid(), BadRequestBadType, m))
		return fmt.Errorf("the first message is %v of version %d, not HELLO", m.Type(), m.Version())
	}
	ok, err := ParseHello(m)
	if err != nil {
		return err
	}
	if !ok {
		_ = h.send(EncodeError(m.Xid(), HelloIncompatible, []byte("this controller speaks OpenFlow 1.3 only")))
		return fmt.Errorf("the switch speaks wire version %d but not OpenFlow 1.3 (%d): enable 1.3 on the switch (for Open vSwitch: ovs-vsctl set bridge BRIDGE protocols=OpenFlow13)",
			m.Version(), Version)
	}
	return nil
}

// answer takes one message of the switch.
func (h *handshake) answer(m Message) error {
	switch m.Type() {
	case TypeFeaturesReply:
		f, err := ParseFeaturesReply(m)
		if err != nil {
			return err
		}
		if f.AuxiliaryID != 0 {
			return fmt.Errorf("auxiliary connection %d of datapath %016x: only main connections are served", f.AuxiliaryID, f.DatapathID)
		}
		h.c.features, h.features = f, true
		return nil
	case TypeMultipartReply:
		return h.multipart(m)
	case TypeEchoRequest:
		return h.send(EncodeEchoReply(m))
	case TypeError:
		return h.refused(m)
	}
	// What else a switch says early (port status) is an event of the channel.
	return h.c.dispatch(m)
}

func (h *handshake) multipart(m Message) error {
	r, err := ParseMultipartReply(m)
	if err != nil {
		return err
	}
	if h.size += len(m); h.size > maxMultipart {
		return malformed(BadRequestBadLen, "descriptions of more than %d octets", maxMultipart)
	}
	switch {
	case r.Kind == MultipartDesc && m.Xid() == xidDesc:
		h.desc = true
		h.c.desc, err = ParseDesc(r.Body)
		return err
	case r.Kind == MultipartPortDesc && m.Xid() == xidPorts:
		ports, err := ParsePorts(r.Body)
		for _, p := range ports {
			h.c.ports[p.No] = p
		}
		h.ports = !r.More
		return err
	}
	return nil
}

// refused decides what of the handshake can be missing.
func (h *handshake) refused(m Message) error {
	e, err := ParseErrorMessage(m)
	if err != nil {
		return err
	}
	switch e.Xid {
	case xidDesc: // a switch need not describe itself
		h.desc = true
		return nil
	case xidConfig:
		h.c.cfg.Log.Warn("the switch refused SET_CONFIG", "err", e.Name)
		return nil
	case xidFeatures:
		e.Request = "FEATURES_REQUEST"
	case xidPorts:
		e.Request = "the port descriptions"
	}
	return e
}
