package wire

import (
	"bytes"
	"errors"
	"io"
	"testing"

	"github.com/shunt-sdn/shunt/controller/openflow"
	"github.com/shunt-sdn/shunt/switchsim/packet"
)

var full = Decoder{Tables: 254}

func TestReadMessageFramesByLength(t *testing.T) {
	one, two := Finish(Message(TypeHello, 1)), Finish(append(Message(TypeEchoRequest, 2), "abc"...))
	r := bytes.NewReader(append(append([]byte(nil), one...), two...))
	for _, want := range [][]byte{one, two} {
		got, err := ReadMessage(r)
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("got % x, %v, want % x", got, err, want)
		}
	}
	if _, err := ReadMessage(r); err != io.EOF {
		t.Errorf("at the end: %v", err)
	}
	if _, err := ReadMessage(bytes.NewReader(two[:10])); !errors.Is(err, io.ErrUnexpectedEOF) {
		t.Errorf("a message cut short: %v", err)
	}
	if _, err := ReadMessage(bytes.NewReader([]byte("GET / HTTP"[:8]))); err == nil {
		t.Error("not OpenFlow, and the length was believed")
	}
	if _, err := ReadMessage(bytes.NewReader([]byte{4, 0, 0, 7, 0, 0, 0, 0})); err == nil {
		t.Error("a length of 7 was taken")
	}
}

// TestAControllersEncodingsAreUnderstood decodes what the other end of the
// channel, written apart from this one, encodes.
func TestAControllersEncodingsAreUnderstood(t *testing.T) {
	flow := openflow.Flow{
		Table: 3, Priority: 7, Cookie: 9, Goto: 5,
		Match: openflow.Match{openflow.EthType(0x86dd), openflow.IPProto(6), openflow.TCPFlags(2, 0x12), openflow.CTMark(5), openflow.U16Masked(openflow.FieldTCPSrc, 0x40, 0x7e)},
		Apply: []openflow.Action{openflow.DecTTL{}, openflow.Move{Src: openflow.FieldEthSrc, Dst: openflow.FieldEthDst},
			openflow.CT{Zone: 6, Commit: true, Table: openflow.NoTable, Exec: []openflow.Action{openflow.SetField{FieldValue: openflow.CTMark(3)}}},
			openflow.Controller{MaxLen: 100}, openflow.Output{Port: openflow.PortInPort}},
	}
	msg, err := openflow.EncodeFlowMod(1, openflow.FlowMod{Flow: flow})
	if err != nil {
		t.Fatal(err)
	}
	m, err := full.ParseFlowMod(msg)
	if err != nil {
		t.Fatal(err)
	}
	if m.Table != 3 || m.Priority != 7 || m.Cookie != 9 || m.Instructions.Goto != 5 || len(m.Instructions.Apply) != 5 {
		t.Errorf("decoded as %+v", m)
	}
	if m.Match.Value.U16(packet.TCPFlags) != 2 || m.Match.Mask.U16(packet.TCPFlags) != 0x12 || m.Match.Mask.U16(packet.TCPSrc) != 0x7e || m.Match.Value.U32(packet.CTMark) != 5 {
		t.Errorf("match decoded as %+v", m.Match)
	}
	ct, ok := m.Instructions.Apply[2].(CT)
	if !ok || ct.Zone != 6 || !ct.Commit || ct.Table != TableAll || len(ct.Exec) != 1 {
		t.Errorf("ct decoded as %+v", m.Instructions.Apply[2])
	}
	if _, err := (Decoder{Tables: 254, NoNicira: true}).ParseFlowMod(msg); !errors.Is(err, ErrMatchField) {
		t.Errorf("without extensions: %v, want %v", err, ErrMatchField)
	}
	if _, err := (Decoder{Tables: 5}).ParseFlowMod(msg); !errors.Is(err, ErrGotoTable) {
		t.Errorf("goto beyond the tables: %v, want %v", err, ErrGotoTable)
	}
}

// FuzzParse: whatever a controller sends is decoded or refused with an OpenFlow
// error.
func FuzzParse(f *testing.F) {
	for _, m := range []openflow.FlowMod{
		{Flow: openflow.Flow{Match: openflow.Match{openflow.EthType(0x800), openflow.IPProto(6), openflow.TCPDst(80)}, Apply: []openflow.Action{openflow.DecTTL{}, openflow.Output{Port: 1}}}},
		{Flow: openflow.Flow{Match: openflow.Match{openflow.EthType(0x806)}, Apply: []openflow.Action{openflow.Move{Src: openflow.FieldEthSrc, Dst: openflow.FieldARPTHA}}}},
	} {
		if msg, err := openflow.EncodeFlowMod(1, m); err == nil {
			f.Add([]byte(msg))
		}
	}
	if msg, err := openflow.EncodeGroupMod(1, openflow.GroupMod{ID: 1, Buckets: []openflow.Bucket{{Weight: 1, Apply: []openflow.Action{openflow.Output{Port: 1}}}}}); err == nil {
		f.Add([]byte(msg))
	}
	if msg, err := openflow.EncodePacketOut(1, openflow.PacketOut{InPort: openflow.PortController, Data: make([]byte, 60), Apply: []openflow.Action{openflow.CT{Zone: 1, Table: 2}}}); err == nil {
		f.Add([]byte(msg))
	}
	f.Fuzz(func(t *testing.T, msg []byte) {
		for _, d := range []Decoder{full, {Tables: 3, NoNicira: true}} {
			_, e1 := d.ParseFlowMod(msg)
			_, e2 := d.ParseGroupMod(msg)
			_, e3 := d.ParsePacketOut(msg)
			_, e4 := d.ParseFlowFilter(msg)
			for _, err := range []error{e1, e2, e3, e4} {
				var e *Error
				if err != nil && !errors.As(err, &e) {
					t.Fatalf("an error that cannot be sent: %v", err)
				}
			}
		}
	})
}
