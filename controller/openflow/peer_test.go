package openflow_test

import (
	"context"
	"net"
	"testing"
	"testing/synctest"

	of "github.com/shunt-sdn/shunt/controller/openflow"
)

// A peer is the switch's end of a channel, played by the test. It runs in a
// synctest bubble, so all time in it is free.
type peer struct {
	t  *testing.T
	nc net.Conn
	r  *of.Reader
}

// recv returns the next message.
func (p *peer) recv() of.Message {
	p.t.Helper()
	m, err := p.r.Next()
	if err != nil {
		p.t.Fatalf("the controller's next message: %v", err)
	}
	return m
}

// expect returns the next message, which has to be of type want.
func (p *peer) expect(want of.Type) of.Message {
	p.t.Helper()
	m := p.recv()
	if m.Type() != want {
		p.t.Fatalf("the controller sent %v, not %v: %x", m.Type(), want, m)
	}
	return m
}

func (p *peer) send(msgs ...of.Message) {
	p.t.Helper()
	for _, m := range msgs {
		if _, err := p.nc.Write(m); err != nil {
			p.t.Fatalf("send %v: %v", m.Type(), err)
		}
	}
}

// greet plays a whole handshake.
func (p *peer) greet() {
	p.t.Helper()
	p.expect(of.TypeHello)
	p.send(of.EncodeHello(0))
	for range 4 {
		switch m := p.recv(); m.Type() {
		case of.TypeFeaturesRequest:
			p.send(of.EncodeFeaturesReply(m.Xid(), of.Features{DatapathID: 42, Tables: 8}))
		case of.TypeMultipartRequest:
			r, err := of.ParseMultipartRequest(m)
			if err != nil {
				p.t.Fatal(err)
			}
			if r.Kind == of.MultipartDesc {
				p.send(of.EncodeMultipartReply(m.Xid(), r.Kind, of.EncodeDesc(of.Desc{Hardware: "a test"}))...)
				continue
			}
			// In two parts.
			first := of.EncodeMultipartReply(m.Xid(), r.Kind, of.EncodePort(of.Port{No: 2, Name: "p2", LinkUp: true}))[0]
			first[of.HeaderLen+3] = 1 // more
			p.send(first)
			p.send(of.EncodeMultipartReply(m.Xid(), r.Kind, of.EncodePort(of.Port{No: 1, Name: "p1"}))...)
		case of.TypeSetConfig:
		default:
			p.t.Fatalf("%v in the handshake", m.Type())
		}
	}
}

// A channel is a Conn that runs, and its peer.
type channel struct {
	*peer
	c     *of.Conn
	ended chan error
	stop  context.CancelFunc
}

// play runs test in a bubble, on a channel past its handshake. Afterwards the
// channel is stopped, and no goroutine of it may be left.
func play(t *testing.T, test func(t *testing.T, ch *channel)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		near, far := net.Pipe()
		p := &peer{t: t, nc: far, r: of.NewReader(far, 0)}
		ctx, cancel := context.WithCancel(context.Background())
		ch := &channel{peer: p, ended: make(chan error, 1), stop: cancel}
		greeted := make(chan struct{})
		go func() { defer close(greeted); p.greet() }()
		c, err := of.Handshake(ctx, near, of.Config{})
		<-greeted
		if err != nil {
			t.Fatal(err)
		}
		ch.c = c
		go func() { ch.ended <- c.Run(ctx); close(ch.ended) }()
		t.Cleanup(func() {
			cancel()
			far.Close()
			for range ch.ended { // Run has returned
			}
		})
		test(t, ch)
	})
}

// confirm answers barriers, and hands everything else to other, until the
// channel ends.
func (p *peer) confirm(other func(of.Message)) {
	for {
		m, err := p.r.Next()
		if err != nil {
			return
		}
		if m.Type() == of.TypeBarrierRequest {
			if _, err := p.nc.Write(of.EncodeBarrierReply(m.Xid())); err != nil {
				return
			}
		} else if other != nil {
			other(m)
		}
	}
}
