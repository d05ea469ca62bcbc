package switchsim

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/shunt-sdn/shunt/controller/openflow"
	"github.com/shunt-sdn/shunt/switchsim/wire"
)

// FuzzControl: whatever a well-framed message says, the switch answers the echo
// that follows it.
func FuzzControl(f *testing.F) {
	for typ := range uint8(31) {
		f.Add(typ, []byte{})
		f.Add(typ, make([]byte, 8))
		f.Add(typ, make([]byte, 40))
	}
	for _, m := range []openflow.FlowMod{
		{Flow: openflow.Flow{Priority: 1, Apply: []openflow.Action{openflow.Controller{MaxLen: 9}}}},
		{Command: openflow.Delete, Flow: openflow.Flow{Table: openflow.NoTable}},
	} {
		if msg, err := openflow.EncodeFlowMod(1, m); err == nil {
			f.Add(uint8(wire.TypeFlowMod), []byte(msg[wire.HeaderLen:]))
		}
	}
	for typ := range uint8(14) {
		f.Add(uint8(wire.TypeMultipartRequest), append([]byte{0, typ, 0, 0, 0, 0, 0, 0}, make([]byte, 40)...))
	}
	s, err := New(Config{})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, typ uint8, body []byte) {
		if len(body) > 60000 || typ == wire.TypeEchoRequest {
			return
		}
		ours, theirs := net.Pipe()
		done := make(chan error, 1)
		go func() { done <- s.serve(context.Background(), ours, true) }()
		theirs.SetDeadline(time.Now().Add(10 * time.Second))
		go func() {
			theirs.Write(hello())
			theirs.Write(wire.Finish(append(wire.Message(typ, 7), body...)))
			theirs.Write(wire.Finish(wire.Message(wire.TypeEchoRequest, 0xec40)))
		}()
		for {
			msg, err := wire.ReadMessage(theirs)
			if err != nil {
				t.Fatalf("type %d % x: %v", typ, body, err)
			}
			if h := wire.ParseHeader(msg); h.Type == wire.TypeEchoReply && h.XID == 0xec40 {
				break
			}
		}
		theirs.Close()
		<-done
	})
}
