// Package wire turns the state of a TCP connection into the message that
// carries it between agents, and back.
package wire

import (
	"fmt"
	"math"

	"github.com/shunt-sdn/shunt/agent/tcprepair"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// Connection returns the message for a state. It shares the state's buffers.
func Connection(s *tcprepair.State) *shuntv1.Connection {
	c := &shuntv1.Connection{
		Session:     shuntv1.SessionOf(s.Remote, s.Local),
		TcpState:    uint32(s.TCPState),
		SndSeq:      s.SndSeq,
		RcvSeq:      s.RcvSeq,
		Unacked:     s.Unacked,
		Unsent:      s.Unsent,
		Received:    s.Received,
		FinReceived: s.FinReceived,
		MssClamp:    s.MSSClamp,
		WscaleOk:    s.WscaleOK,
		SndWscale:   uint32(s.SndWscale),
		RcvWscale:   uint32(s.RcvWscale),
		Sack:        s.SACK,
		Timestamps:  s.Timestamps,
		Timestamp:   s.Timestamp,
		SndWl1:      s.Window.SndWl1,
		SndWnd:      s.Window.SndWnd,
		MaxWindow:   s.Window.MaxWindow,
		RcvWnd:      s.Window.RcvWnd,
		RcvWup:      s.Window.RcvWup,
		NoDelay:     s.NoDelay,
	}
	if k := s.KeepAlive; k.On {
		c.KeepAlive = &shuntv1.KeepAlive{Idle: k.Idle, Interval: k.Interval, Count: k.Count}
	}
	return c
}

// State returns the state that a message carries, validated. It shares the
// message's buffers.
func State(c *shuntv1.Connection) (*tcprepair.State, error) {
	if c == nil {
		return nil, fmt.Errorf("the message carries no connection")
	}
	client, local, err := c.Session.Ends()
	if err != nil {
		return nil, err
	}
	for _, f := range []struct {
		name  string
		value uint32
	}{{"tcp_state", c.TcpState}, {"snd_wscale", c.SndWscale}, {"rcv_wscale", c.RcvWscale}} {
		if f.value > math.MaxUint8 {
			return nil, fmt.Errorf("%s is %d, more than 255", f.name, f.value)
		}
	}
	s := &tcprepair.State{
		Local: local, Remote: client,
		TCPState: uint8(c.TcpState),
		SndSeq:   c.SndSeq, RcvSeq: c.RcvSeq,
		Unacked: c.Unacked, Unsent: c.Unsent, Received: c.Received,
		FinReceived: c.FinReceived,
		MSSClamp:    c.MssClamp,
		WscaleOK:    c.WscaleOk, SndWscale: uint8(c.SndWscale), RcvWscale: uint8(c.RcvWscale),
		SACK:       c.Sack,
		Timestamps: c.Timestamps, Timestamp: c.Timestamp,
		Window: tcprepair.Window{SndWl1: c.SndWl1, SndWnd: c.SndWnd, MaxWindow: c.MaxWindow,
			RcvWnd: c.RcvWnd, RcvWup: c.RcvWup},
		NoDelay: c.NoDelay,
	}
	if k := c.KeepAlive; k != nil {
		s.KeepAlive = tcprepair.KeepAlive{On: true, Idle: k.Idle, Interval: k.Interval, Count: k.Count}
	}
	return s, s.Validate()
}
