package pipeline

import (
	"slices"
	"time"

	"github.com/shunt-sdn/shunt/switchsim/packet"
	"github.com/shunt-sdn/shunt/switchsim/wire"
)

// maxDepth bounds nested groups and connection-tracker passes of one packet.
const maxDepth = 32

// An Emit is a frame to be sent out of a port.
type Emit struct {
	Port    uint32
	Data    []byte
	Offload packet.Offload
}

// A PacketIn is a packet for the controller. Data is a copy.
type PacketIn struct {
	InPort   uint32
	Table    uint8
	Reason   uint8
	Cookie   uint64
	Metadata uint64
	TotalLen int
	Data     []byte
}

// An Executor runs packets through a pipeline. It belongs to one goroutine.
type Executor struct {
	p         *Pipeline
	cache     *cache // nil: every packet looks its flows up
	now       time.Time
	emits     []Emit
	packetIns []PacketIn
	todo      []job
}

// job is a packet that is to enter a table.
type job struct {
	pkt    packet.Packet
	table  uint8
	inPort uint32
	set    actionSet
	depth  int
	shared bool // the frame was emitted: copy it before it is written to
	out    bool // from a packet-out
	last   bool // nothing follows the actions that are being applied
}

// NewExecutor returns an executor, with a cache of paths if cached is true.
func (p *Pipeline) NewExecutor(cached bool) *Executor {
	x := &Executor{p: p}
	if cached {
		x.cache = newCache()
	}
	return x
}

// Begin starts a batch: it takes the pipeline's read lock, so that no packet of
// the batch sees half a change, and none is still on its way by an old flow when
// a change is acknowledged. End must follow.
func (x *Executor) Begin(now time.Time) {
	x.p.mu.RLock()
	x.now = now
	clear(x.emits)
	clear(x.packetIns)
	x.emits, x.packetIns = x.emits[:0], x.packetIns[:0]
}

// Emits returns the frames of the batch so far, in order. They refer to the
// memory of the packets that came in.
func (x *Executor) Emits() []Emit { return x.emits }

// PacketIns returns the packets of the batch for the controller.
func (x *Executor) PacketIns() []PacketIn { return x.packetIns }

// End ends the batch that Begin started. What Emits and PacketIns returned stays
// valid until the next.
func (x *Executor) End() { x.p.mu.RUnlock() }

// Receive runs a frame that came in by a port. The frame's memory is the
// executor's until the batch's emits are sent.
func (x *Executor) Receive(data []byte, off packet.Offload, inPort uint32) {
	if x.p.ports[inPort].Config&(wire.PortConfigNoRecv|wire.PortConfigDown) != 0 {
		return
	}
	pkt := packet.Parse(data, off)
	pkt.Key.PutU32(packet.InPort, inPort)
	x.todo = append(x.todo[:0], job{pkt: pkt, inPort: inPort})
	x.run()
}

// PacketOut runs a controller's actions on a packet. Its error is a *wire.Error.
func (x *Executor) PacketOut(po *wire.PacketOut) error {
	if err := x.p.checkGroups(&wire.Instructions{Apply: po.Actions}); err != nil {
		return err
	}
	j := job{pkt: packet.Parse(slices.Clone(po.Data), packet.Offload{}), inPort: po.InPort, out: true}
	j.pkt.Key.PutU32(packet.InPort, po.InPort)
	x.todo = x.todo[:0]
	x.apply(&j, po.Actions, nil)
	x.run()
	return nil
}

func (x *Executor) run() {
	for len(x.todo) > 0 {
		j := x.todo[0]
		x.todo = x.todo[1:]
		if j.depth <= maxDepth {
			x.walk(&j)
		}
	}
}

// walk takes a packet from table to table.
func (x *Executor) walk(j *job) {
	length := uint64(len(j.pkt.Data))
	path := x.cachedPath(j)
	for i, table := 0, j.table; ; i++ {
		t := x.p.tables[table]
		f, program := path.step(x, t, &j.pkt.Key, i)
		t.lookups.Add(1)
		if f == nil {
			return
		}
		t.matches.Add(1)
		f.packets.Add(1)
		f.bytes.Add(length)
		f.used.Store(x.now.UnixNano())
		j.last = program.Goto == 0 && len(program.Write) == 0 && (program.Clear || j.set.empty())
		if !x.apply(j, program.Apply, f) {
			return
		}
		if program.Clear {
			j.set = actionSet{}
		}
		if len(program.Write) > 0 {
			j.set = j.set.write(program.Write, f)
		}
		if program.MetaMask != 0 {
			j.writeMetadata(program.Metadata, program.MetaMask)
		}
		if program.Goto == 0 {
			break
		}
		table = program.Goto
		j.table = table
	}
	if !j.set.empty() {
		j.last = true
		x.apply(j, j.set.ordered(), j.set.from)
	}
}

// apply runs a list of actions on a packet. It returns false if the packet is at
// its end. f is the flow that the actions are of, nil for a packet-out's.
func (x *Executor) apply(j *job, actions []wire.Action, f *Flow) bool {
	for i, a := range actions {
		switch a := a.(type) {
		case wire.Output:
			x.output(j, a, f)
		case wire.Group:
			x.runGroup(j, a.ID, f)
		case wire.SetField:
			j.own()
			set(&j.pkt, a)
		case wire.Move:
			j.own()
			move(&j.pkt, a)
		case wire.DecTTL:
			j.own()
			if !j.pkt.DecTTL() {
				x.toController(j, wire.ReasonInvalidTTL, f)
				return false
			}
		case wire.PushVLAN:
			j.own()
			j.pkt.PushVLAN()
		case wire.PopVLAN:
			j.own()
			j.pkt.PopVLAN()
		case wire.CT:
			x.track(j, &a, j.last && i == len(actions)-1)
		}
	}
	return true
}

// track runs the packet through the connection tracker. If it goes on in a table
// it does so as a copy (unless this is the last that happens to the original):
// the rest of the actions see the untracked packet.
func (x *Executor) track(j *job, ct *wire.CT, last bool) {
	tracked := j.pkt.Key
	x.p.tracker.Track(&tracked, ct, x.now)
	if ct.Table == wire.TableAll {
		return
	}
	next := *j
	if !last {
		next.pkt, next.shared = j.pkt.Clone(), false
	}
	next.pkt.Key = tracked
	next.table, next.depth = ct.Table, j.depth+1
	next.set = j.set.clone()
	x.todo = append(x.todo, next)
}

func (x *Executor) output(j *job, o wire.Output, f *Flow) {
	switch o.Port {
	case wire.PortController:
		reason := uint8(wire.ReasonAction)
		if f != nil && f.isMiss() {
			reason = wire.ReasonNoMatch
		}
		x.toController(j, reason, f)
	case wire.PortInPort:
		x.emit(j, j.inPort)
	case wire.PortFlood, wire.PortAll:
		numbers := make([]uint32, 0, len(x.p.ports))
		for n := range x.p.ports {
			numbers = append(numbers, n)
		}
		slices.Sort(numbers)
		for _, n := range numbers {
			if n != j.inPort {
				x.emit(j, n)
			}
		}
	case wire.PortTable:
		if j.out {
			next := *j
			next.pkt, next.table, next.shared, next.depth, next.out = j.pkt.Clone(), 0, false, j.depth+1, false
			next.pkt.Key.PutU32(packet.InPort, j.inPort)
			x.todo = append(x.todo, next)
		}
	default:
		if o.Port != j.inPort {
			x.emit(j, o.Port)
		}
	}
}

func (x *Executor) emit(j *job, port uint32) {
	p, ok := x.p.ports[port]
	if !ok || p.Config&(wire.PortConfigNoForward|wire.PortConfigDown) != 0 {
		return
	}
	x.emits = append(x.emits, Emit{port, j.pkt.Data, j.pkt.Offload})
	j.shared = true
}

// toController sends the whole packet, whatever length was asked for: nothing is
// buffered here, and what is not buffered is sent whole (7.4.1).
func (x *Executor) toController(j *job, reason uint8, f *Flow) {
	if x.p.ports[j.inPort].Config&wire.PortConfigNoPacketIn != 0 {
		return
	}
	c := j.pkt.Clone()
	c.Complete()
	in := PacketIn{InPort: j.inPort, Table: j.table, Reason: reason, Cookie: ^uint64(0), TotalLen: len(c.Data), Data: c.Data,
		Metadata: be64(c.Key.Get(packet.Metadata))}
	if f != nil {
		in.Cookie = f.Cookie
	}
	x.packetIns = append(x.packetIns, in)
}

func (x *Executor) runGroup(j *job, id uint32, f *Flow) {
	g := x.p.groups[id]
	if g == nil || j.depth > maxDepth {
		return
	}
	n := uint64(len(j.pkt.Data))
	g.packets.Add(1)
	g.bytes.Add(n)
	for _, i := range x.p.choose(g, &j.pkt.Key) {
		g.counts[i].packets.Add(1)
		g.counts[i].bytes.Add(n)
		copied := *j
		copied.pkt, copied.shared, copied.depth = j.pkt.Clone(), false, j.depth+1
		set := actionSet{}.write(g.buckets[i].Actions, f)
		x.apply(&copied, set.ordered(), f)
	}
}

// own makes sure that the frame can be written to.
func (j *job) own() {
	if j.shared {
		j.pkt, j.shared = j.pkt.Clone(), false
	}
}

func (j *job) writeMetadata(v, mask uint64) {
	m := j.pkt.Key.Get(packet.Metadata)
	v = be64(m)&^mask | v&mask
	for i := range m {
		m[i] = byte(v >> (56 - 8*i))
	}
}

func be64(b []byte) uint64 { return uint64(be32(b))<<32 | uint64(be32(b[4:])) }
