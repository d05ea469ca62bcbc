package conformance

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/shunt-sdn/shunt/controller/openflow"
	"github.com/shunt-sdn/shunt/switchsim/afpacket"
	"github.com/shunt-sdn/shunt/switchsim/packet"
)

// patience bounds every wait.
const patience = 10 * time.Second

// markerType is the EtherType of the frames that end an observation: IEEE's
// "local experimental 1".
const markerType = 0x88b5

// received is a frame that came out of the switch, complete.
type received struct {
	port uint32
	data []byte
}

// tap is what all cases see of the wires.
type tap struct {
	frames chan received
	marker uint32 // of the last marker
}

// watch receives on the wires until the test ends.
func watch(t *testing.T, target Target) *tap {
	frames := make(chan received, 4096)
	for i, w := range target.Wires {
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			batch := afpacket.NewBatch()
			for {
				err := w.Read(batch)
				if errors.Is(err, afpacket.ErrClosed) {
					return
				}
				if err != nil {
					continue // the link is down for a while
				}
				for _, f := range batch.Frames {
					p := packet.Parse(bytes.Clone(f.Data), f.Offload)
					p.Complete()
					frames <- received{uint32(i + 1), p.Data}
				}
			}
		}()
		t.Cleanup(func() { w.Close(); <-ended })
	}
	return &tap{frames: frames}
}

// env is what a case works with.
type env struct {
	*testing.T
	target Target
	conn   *openflow.Conn
	tap    *tap
}

// newEnv connects, empties the switch, and installs the marker's flow.
func newEnv(t *testing.T, target Target, tap *tap) *env {
	t.Helper()
	e := &env{T: t, target: target, tap: tap}
	e.conn = e.connect()
	e.must(e.conn.SetAsync(e.ctx(), openflow.AsyncConfig{
		PacketIn: [2]uint32{1<<openflow.ReasonNoMatch | 1<<openflow.ReasonAction | 1<<openflow.ReasonInvalidTTL, 0}, PortStatus: [2]uint32{7, 7}, FlowRemoved: [2]uint32{15, 0}}))
	e.clear()
	return e
}

// ctx is a context for one request.
func (e *env) ctx() context.Context {
	ctx, cancel := context.WithTimeout(e.Context(), patience)
	e.Cleanup(cancel)
	return ctx
}

// connect makes another control connection, which ends with the case.
func (e *env) connect() *openflow.Conn {
	e.Helper()
	nc, err := e.target.Dial(e.ctx())
	if err != nil {
		e.Fatal(err)
	}
	c, err := openflow.Handshake(e.ctx(), nc, openflow.Config{})
	if err != nil {
		e.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = c.Run(ctx) }()
	e.Cleanup(func() { cancel(); <-done })
	return c
}

// clear removes all flows and groups, and installs the marker's flow.
func (e *env) clear() {
	e.Helper()
	e.must(e.conn.Apply(e.ctx(), openflow.FlowMod{Command: openflow.Delete, Flow: openflow.Flow{Table: openflow.NoTable}}))
	e.must(e.conn.Groups(e.ctx(), openflow.GroupMod{Command: openflow.Delete, ID: 0xfffffffc}))
	e.apply(add(openflow.Flow{Priority: 0xffff, Cookie: 0x3a4ce4, Match: openflow.Match{openflow.EthType(markerType)}, Apply: []openflow.Action{
		openflow.Controller{MaxLen: 0xffff}, out(port1), out(port2), out(port3), out(openflow.PortInPort)}}))
}

func (e *env) must(err error) {
	e.Helper()
	if err != nil {
		e.Fatal(err)
	}
}

// apply changes flows and waits until that is in force.
func (e *env) apply(mods ...openflow.FlowMod) {
	e.Helper()
	e.must(e.conn.Apply(e.ctx(), mods...))
	e.settle()
}

func (e *env) settle() {
	if e.target.Settle != nil {
		e.target.Settle()
	}
}

// refused fails unless the switch refuses the flow mod with the error.
func (e *env) refused(want openflow.Code, mod openflow.FlowMod) {
	e.Helper()
	if err := e.conn.Apply(e.ctx(), mod); !errors.Is(err, want) {
		e.Errorf("%v: got %v, want %v", mod, err, want)
	}
}

// observed is what the switch did with the frames of a send.
type observed struct {
	ports     [4][][]byte // by port number
	packetIns []openflow.PacketIn
	others    []openflow.Event
}

// inject puts frames on the wire of a port.
func (e *env) inject(port uint32, frames ...[]byte) {
	e.Helper()
	w := afpacket.NewWriter()
	for _, f := range frames {
		if len(f) < 60 {
			f = append(bytes.Clone(f), make([]byte, 60-len(f))...)
		}
		w.Add(f, packet.Offload{})
		if s := w.Flush(e.target.Wires[port-1]); s.Packets != 1 {
			e.Fatalf("the wire of port %d took no frame of %d octets", port, len(f))
		}
	}
}

// send puts frames on the wire of a port and returns what they became.
func (e *env) send(port uint32, frames ...[]byte) observed {
	e.Helper()
	e.inject(port, frames...)
	return e.collect(port)
}

// collect sends markers in by a port and returns what came before the last.
// There are two because Open vSwitch works on batches of packets and keeps the
// order only among those of one flow: the second is in a later batch than the
// frames.
func (e *env) collect(port uint32) (o observed) {
	e.Helper()
	for range 2 {
		if wires, controller := e.awaitMarker(port, &o, patience); wires < 3 || controller == 0 {
			e.Fatalf("the marker sent in by port %d did not come back: %d of 3 copies, %d packet-ins", port, wires, controller)
		}
	}
	return o
}

// warm waits until the wires carry frames: a link that has just come up drops
// them for a while and says nothing.
func (e *env) warm() {
	e.Helper()
	for _, port := range []uint32{port1, port2, port3} {
		e.eventually("the wires carry frames", func() bool {
			wires, _ := e.awaitMarker(port, &observed{}, 100*time.Millisecond)
			return wires == 3
		})
	}
}

// awaitMarker sends a marker and gathers what comes before its copies, of which
// it returns the number: three, out of the two other ports and IN_PORT, and one
// to the controller.
func (e *env) awaitMarker(port uint32, o *observed, patience time.Duration) (wires, controller int) {
	e.Helper()
	e.tap.marker++
	marker := binary.BigEndian.AppendUint32(ethernet(macMarker, macMarker, markerType), e.tap.marker)
	marker = append(marker, make([]byte, 60-len(marker))...)
	e.inject(port, marker)
	timeout := time.After(patience)
	for wires < 3 || controller == 0 {
		select {
		case f := <-e.tap.frames:
			if bytes.Equal(f.data, marker) {
				wires++
			} else if binary.BigEndian.Uint16(f.data[12:]) != markerType {
				o.ports[f.port] = append(o.ports[f.port], f.data)
			}
		case ev := <-e.conn.Events():
			in, ok := ev.(openflow.PacketIn)
			switch {
			case !ok:
				o.others = append(o.others, ev)
			case bytes.Equal(in.Data, marker):
				controller++
			case len(in.Data) >= 14 && binary.BigEndian.Uint16(in.Data[12:]) != markerType:
				o.packetIns = append(o.packetIns, in)
			}
		case <-timeout:
			return wires, controller
		}
	}
	return wires, controller
}

// event waits for an asynchronous message that pick accepts.
func event[E openflow.Event](e *env, what string, pick func(E) bool) E {
	e.Helper()
	timeout := time.After(patience)
	for {
		select {
		case ev := <-e.conn.Events():
			if v, ok := ev.(E); ok && pick(v) {
				return v
			}
		case <-timeout:
			e.Fatalf("not within %v: %s", patience, what)
		}
	}
}

// want fails unless exactly these frames came out of a port, in any order:
// packets of different flows may overtake each other.
func (o observed) want(e *env, port uint32, frames ...[]byte) {
	e.Helper()
	o.ports[port] = slices.SortedFunc(slices.Values(o.ports[port]), bytes.Compare)
	o.wantInOrder(e, port, slices.SortedFunc(slices.Values(frames), bytes.Compare)...)
}

// wantInOrder fails unless exactly these frames came out of a port, in this order.
func (o observed) wantInOrder(e *env, port uint32, frames ...[]byte) {
	e.Helper()
	got := o.ports[port]
	if len(got) != len(frames) {
		e.Errorf("port %d sent %d frames, want %d%s", port, len(got), len(frames), list(got))
		return
	}
	for i := range got {
		if !sameFrame(got[i], frames[i]) {
			e.Errorf("port %d, frame %d:\n got %s\nwant %s", port, i, describe(got[i]), describe(frames[i]))
		}
	}
}

// only fails unless these frames came out of this port and none of others.
func (o observed) only(e *env, port uint32, frames ...[]byte) {
	e.Helper()
	for _, p := range []uint32{port1, port2, port3} {
		if p == port {
			o.want(e, p, frames...)
		} else {
			o.want(e, p)
		}
	}
}

// nothing fails if anything came out.
func (o observed) nothing(e *env) {
	e.Helper()
	o.only(e, 0)
}

func list(frames [][]byte) (s string) {
	for _, f := range frames {
		s += fmt.Sprintf("\n %s", describe(f))
	}
	return s
}

// eventually fails unless the condition holds within patience. Switches update
// counters some time after the packets.
func (e *env) eventually(what string, cond func() bool) {
	e.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !cond() {
		select {
		case <-deadline:
			e.Fatalf("not within %v: %s", patience, what)
		case <-tick.C:
		}
	}
}
