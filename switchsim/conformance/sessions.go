package conformance

import (
	"bytes"
	"context"
	"errors"

	"github.com/shunt-sdn/shunt/controller/openflow"
)

var sessionCases = []behaviour{
	{"an echo comes back whole", func(e *env) {
		r := e.raw()
		for _, data := range [][]byte{nil, []byte("x"), bytes.Repeat([]byte("echo"), 1000)} {
			replies := r.exchange(message(2, data...))
			if len(replies) != 1 || replies[0].Type() != openflow.TypeEchoReply || replies[0].Xid() != r.xid || !bytes.Equal(replies[0].Body(), data) {
				e.Errorf("echo of %d octets: %v", len(data), replies)
			}
		}
	}},
	{"flows survive the loss of their controller", func(e *env) {
		f := families[0]
		nc, err := e.target.Dial(e.ctx())
		e.must(err)
		c, err := openflow.Handshake(e.ctx(), nc, openflow.Config{})
		e.must(err)
		ctx, cancel := context.WithCancel(e.Context())
		done := make(chan struct{})
		go func() { defer close(done); _ = c.Run(ctx) }()
		e.must(c.Apply(e.ctx(), add(openflow.Flow{Priority: 5, Cookie: 55, Match: tcpMatch(f), Apply: []openflow.Action{out(port2)}})))
		cancel()
		<-done
		e.settle()
		p := f.toVIP(1, openflow.TCPAck).bytes()
		e.send(port1, p).only(e, port2, p)
		e.wantCookies(55)
	}},
	{"what one controller did before its barrier another one sees", func(e *env) {
		other := e.connect()
		f := families[1]
		for i := range uint64(20) {
			e.must(e.conn.Apply(e.ctx(), add(openflow.Flow{Priority: uint16(i + 1), Cookie: i + 1, Match: tcpMatch(f)})))
			stats, err := other.FlowStats(e.ctx(), i+1, ^uint64(0))
			e.must(err)
			if len(stats) != 1 {
				e.Fatalf("flow %d is not there after the barrier", i+1)
			}
		}
	}},
	{"a new master makes the old one a slave, and old generations are refused", func(e *env) {
		other := e.connect()
		// Generations only grow, also over the cases of one switch.
		const generation = 1 << 20
		e.must(other.SetRole(e.ctx(), true, generation))
		e.must(e.conn.SetRole(e.ctx(), true, generation+1))
		mod := add(openflow.Flow{Priority: 5, Cookie: 5, Match: tcpMatch(families[0])})
		if err := other.Apply(e.ctx(), mod); !errors.Is(err, openflow.BadRequestIsSlave) {
			e.Errorf("a slave's flow mod: %v, want %v", err, openflow.BadRequestIsSlave)
		}
		if err := other.SetRole(e.ctx(), true, generation); !errors.Is(err, openflow.RoleStale) {
			e.Errorf("an old generation: %v, want %v", err, openflow.RoleStale)
		}
		if _, err := other.FlowStats(e.ctx(), 0, 0); err != nil {
			e.Errorf("a slave may read: %v", err)
		}
		e.apply(mod)
		e.wantCookies(5)
		e.must(e.conn.SetRole(e.ctx(), false, 0))
	}},
	{"two controllers each get packet-ins", func(e *env) {
		f := families[0]
		other := &env{T: e.T, target: e.target, conn: e.connect(), tap: e.tap}
		e.apply(add(openflow.Flow{Priority: 5, Cookie: 12, Match: tcpMatch(f), Apply: []openflow.Action{tell}}))
		p := f.toVIP(1, openflow.TCPAck).bytes()
		e.inject(port1, p)
		for _, x := range []*env{e, other} {
			in := event(x, "the packet-in", func(openflow.PacketIn) bool { return true })
			if in.Cookie != 12 || !bytes.Equal(in.Data, p) {
				e.Errorf("packet-in %+v", in)
			}
		}
	}},
	{"a link that goes down and up is announced", func(e *env) {
		for _, up := range []bool{false, true} {
			e.target.SetLink(port3, up)
			event(e, "the port's new state", func(s openflow.PortStatus) bool {
				return s.Reason == openflow.PortModified && s.Port.No == port3 && s.Port.LinkUp == up
			})
		}
		p := families[0].toVIP(1, openflow.TCPAck).bytes()
		e.apply(add(openflow.Flow{Priority: 5, Match: tcpMatch(families[0]), Apply: []openflow.Action{out(port3)}}))
		e.warm()
		e.send(port1, p).only(e, port3, p)
	}},
	{"barriers are answered in order with their xids", func(e *env) {
		r := e.raw()
		var all []byte
		for xid := range uint32(50) {
			all = append(all, openflow.EncodeBarrierRequest(xid)...)
		}
		r.write(all)
		for xid := range uint32(50) {
			if m := r.read(); m.Type() != openflow.TypeBarrierReply || m.Xid() != xid {
				e.Fatalf("got %v with xid %d, want the reply of barrier %d", m.Type(), m.Xid(), xid)
			}
		}
	}},
	{"a message may arrive in pieces", func(e *env) {
		r := e.raw()
		for _, b := range openflow.EncodeBarrierRequest(0x77) {
			r.write([]byte{b})
		}
		if m := r.read(); m.Type() != openflow.TypeBarrierReply || m.Xid() != 0x77 {
			e.Errorf("got %v", m)
		}
	}},
}
