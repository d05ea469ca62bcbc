package pipeline

import (
	"testing"
	"time"

	"github.com/shunt-sdn/shunt/controller/openflow"
	"github.com/shunt-sdn/shunt/switchsim/packet"
	"github.com/shunt-sdn/shunt/switchsim/wire"
)

// FuzzForward runs any frame through a pipeline that a fuzzed flow mod changed.
func FuzzForward(f *testing.F) {
	flows := []openflow.FlowMod{
		{Flow: openflow.Flow{Priority: 1, Match: tcpMatch(), Apply: []openflow.Action{openflow.CT{Zone: 1, Table: 1}, openflow.Output{Port: 2}}}},
		{Flow: openflow.Flow{Priority: 2, Apply: []openflow.Action{openflow.Controller{MaxLen: 9}, openflow.Output{Port: openflow.PortFlood}}, Goto: 1}},
		{Flow: openflow.Flow{Table: 1, Priority: 1, Match: tcpMatch(), Apply: []openflow.Action{
			openflow.SetField{FieldValue: openflow.IPDst(session)}, openflow.Move{Src: openflow.FieldEthSrc, Dst: openflow.FieldEthDst}, openflow.DecTTL{}, openflow.Output{Port: openflow.PortInPort}}}},
	}
	for _, m := range flows {
		msg, err := openflow.EncodeFlowMod(1, m)
		if err != nil {
			f.Fatal(err)
		}
		f.Add([]byte(msg), tcpFrame(client, vip, 1, 80, 16), uint8(0), uint16(0))
		f.Add([]byte(msg), tcpFrame(client, vip, 1, 80, 16), uint8(1), uint16(34))
	}
	f.Fuzz(func(t *testing.T, mod, frame []byte, flags uint8, start uint16) {
		p, now := New(Config{Tables: 10}), time.Unix(1_800_000_000, 0)
		for n := uint32(1); n <= 3; n++ {
			p.SetPort(Port{Number: n, Live: true}, now)
		}
		if m, err := decoder.ParseFlowMod(mod); err == nil {
			removed, err := p.FlowMod(&m, now)
			if err == nil && len(removed) > 0 {
				t.Fatal("an empty pipeline lost flows")
			}
		}
		x := p.NewExecutor(true)
		for range 2 { // by the tables, and by the cache
			x.Begin(now)
			x.Receive(append([]byte(nil), frame...), packet.Offload{Flags: flags & 1, ChecksumStart: start, ChecksumOffset: 16}, 1)
			x.End()
		}
		p.Flows(&wire.FlowFilter{Table: wire.TableAll, OutPort: wire.PortAny, OutGroup: wire.GroupAny})
		p.Expire(now.Add(time.Hour))
	})
}
