package pipeline

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/shunt-sdn/shunt/controller/openflow"
	"github.com/shunt-sdn/shunt/switchsim/packet"
	"github.com/shunt-sdn/shunt/switchsim/wire"
)

// rig is a pipeline with ports 1 to 4 and a clock.
type rig struct {
	t   *testing.T
	p   *Pipeline
	x   *Executor
	now time.Time
}

func newRig(t *testing.T, cfg Config) *rig {
	cfg.Tables = 10
	r := &rig{t: t, p: New(cfg), now: time.Unix(1_800_000_000, 0)}
	for n := uint32(1); n <= 4; n++ {
		r.p.SetPort(Port{Number: n, Live: true}, r.now)
	}
	r.x = r.p.NewExecutor(true)
	return r
}

var decoder = wire.Decoder{Tables: 10}

func (r *rig) try(m openflow.FlowMod) ([]Removed, error) {
	r.t.Helper()
	msg, err := openflow.EncodeFlowMod(1, m)
	if err != nil {
		r.t.Fatal(err)
	}
	fm, err := decoder.ParseFlowMod(msg)
	if err != nil {
		r.t.Fatal(err)
	}
	return r.p.FlowMod(&fm, r.now)
}

func (r *rig) add(f openflow.Flow) {
	r.t.Helper()
	if _, err := r.try(openflow.FlowMod{Flow: f}); err != nil {
		r.t.Fatal(err)
	}
}

// in runs one frame in by port 1 and returns the ports that it leaves by.
func (r *rig) in(data []byte, off packet.Offload) (ports []uint32, emits []Emit) {
	r.x.Begin(r.now)
	defer r.x.End()
	r.x.Receive(slices.Clone(data), off, 1)
	for _, e := range r.x.Emits() {
		ports, emits = append(ports, e.Port), append(emits, e)
	}
	return ports, emits
}

func (r *rig) want(what string, frame []byte, ports ...uint32) {
	r.t.Helper()
	if got, _ := r.in(frame, packet.Offload{}); !slices.Equal(got, ports) {
		r.t.Errorf("%s: left by ports %v, want %v", what, got, ports)
	}
}

var client, vip, session = netip.MustParseAddr("10.10.1.11"), netip.MustParseAddr("10.10.0.80"), netip.MustParseAddr("172.31.0.7")

func tcpFrame(src, dst netip.Addr, sport, dport uint16, flags uint16) []byte {
	ip := &layers.IPv4{Version: 4, IHL: 5, TTL: 64, Protocol: 6, SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
	tcp := &layers.TCP{SrcPort: layers.TCPPort(sport), DstPort: layers.TCPPort(dport), SYN: flags&2 != 0, ACK: flags&16 != 0, FIN: flags&1 != 0, RST: flags&4 != 0}
	_ = tcp.SetNetworkLayerForChecksum(ip)
	buf := gopacket.NewSerializeBuffer()
	if err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
		&layers.Ethernet{SrcMAC: net.HardwareAddr{2, 0, 0, 0, 0, 1}, DstMAC: net.HardwareAddr{2, 0, 0, 0, 0, 2}, EthernetType: 0x800}, ip, tcp, gopacket.Payload("data")); err != nil {
		panic(err)
	}
	return buf.Bytes()
}

func tcpMatch(more ...openflow.FieldValue) openflow.Match {
	return append(openflow.Match{openflow.EthType(0x800), openflow.IPProto(6)}, more...)
}

func to(port uint32) []openflow.Action { return []openflow.Action{openflow.Output{Port: port}} }

func TestACachedPathEndsWithTheChange(t *testing.T) {
	r := newRig(t, Config{})
	frame := tcpFrame(client, vip, 1000, 80, 16)
	r.want("no flow", frame)
	r.add(openflow.Flow{Priority: 1, Match: tcpMatch(), Goto: 2})
	r.want("no flow in table 2", frame)
	r.add(openflow.Flow{Table: 2, Priority: 1, Match: tcpMatch(), Apply: to(2)})
	r.want("to 2", frame, 2)
	r.add(openflow.Flow{Table: 2, Priority: 2, Match: tcpMatch(openflow.TCPSrc(1000)), Apply: to(3)})
	r.want("to 3", frame, 3)
	if _, err := r.try(openflow.FlowMod{Command: openflow.Modify, Flow: openflow.Flow{Table: 2, Match: tcpMatch(), Apply: to(4)}}); err != nil {
		t.Fatal(err)
	}
	r.want("modified", frame, 4)
	if _, err := r.try(openflow.FlowMod{Command: openflow.Delete, Flow: openflow.Flow{Table: openflow.NoTable}}); err != nil {
		t.Fatal(err)
	}
	r.want("deleted", frame)
}

func TestAStaleCacheKeepsPathsForItsTime(t *testing.T) {
	r := newRig(t, Config{StaleCache: 100 * time.Millisecond})
	known, fresh := tcpFrame(client, vip, 1000, 80, 16), tcpFrame(client, vip, 1001, 80, 16)
	r.add(openflow.Flow{Priority: 1, Match: tcpMatch(), Apply: to(2)})
	r.want("before", known, 2)
	r.add(openflow.Flow{Priority: 2, Match: tcpMatch(), Apply: to(3)})
	r.want("a known connection, at once", known, 2)
	r.want("a new connection", fresh, 3)
	r.now = r.now.Add(99 * time.Millisecond)
	r.want("a known connection, 99 ms later", known, 2)
	r.now = r.now.Add(2 * time.Millisecond)
	r.want("a known connection, 101 ms later", known, 3)
}

func TestMarksAreNotCached(t *testing.T) {
	r := newRig(t, Config{StaleCache: time.Hour})
	frame := tcpFrame(client, vip, 1000, 80, 16)
	r.add(openflow.Flow{Priority: 1, Match: tcpMatch(), Apply: []openflow.Action{openflow.CT{Zone: 1, Table: 1}}})
	for mark := uint32(0); mark < 3; mark++ {
		r.add(openflow.Flow{Table: 1, Priority: 1, Match: tcpMatch(openflow.CTMark(mark)), Apply: to(2 + mark)})
	}
	r.want("unmarked", frame, 2)
	for _, mark := range []uint32{1, 2, 1, 0} {
		r.mark(frame, mark)
		r.want(fmt.Sprint("mark ", mark), frame, 2+mark)
	}
}

// mark commits the frame's connection in zone 1.
func (r *rig) mark(frame []byte, mark uint32) {
	r.t.Helper()
	msg, err := openflow.EncodePacketOut(1, openflow.PacketOut{InPort: openflow.PortController, Data: frame, Apply: []openflow.Action{
		openflow.CT{Zone: 1, Commit: true, Table: openflow.NoTable, Exec: []openflow.Action{openflow.SetField{FieldValue: openflow.CTMark(mark)}}}}})
	if err != nil {
		r.t.Fatal(err)
	}
	po, err := decoder.ParsePacketOut(msg)
	if err != nil {
		r.t.Fatal(err)
	}
	x := r.p.NewExecutor(false)
	x.Begin(r.now)
	defer x.End()
	if err := x.PacketOut(&po); err != nil {
		r.t.Fatal(err)
	}
}

func TestAPartialChecksumSurvivesTheTracker(t *testing.T) {
	r := newRig(t, Config{})
	r.add(openflow.Flow{Priority: 1, Match: tcpMatch(), Apply: []openflow.Action{openflow.CT{Zone: 1, Table: 1}}})
	r.add(openflow.Flow{Table: 1, Priority: 1, Match: tcpMatch(), Apply: []openflow.Action{
		openflow.SetField{FieldValue: openflow.IPDst(session)}, openflow.DecTTL{}, openflow.Output{Port: 2}}})
	frame := tcpFrame(client, vip, 1000, 80, 16)
	// Leave the pseudo-header's sum in the field, as a sender with offload does.
	frame[50], frame[51] = 0, 0
	pseudo := append(append([]byte(nil), frame[26:34]...), 0, 6, 0, 24) // the frame is padded
	sum := ^packet.Checksum(pseudo)
	frame[50], frame[51] = byte(sum>>8), byte(sum)
	off := packet.Offload{Flags: 1, GSOType: 1, GSOSize: 1448, HeaderLen: 54, ChecksumStart: 34, ChecksumOffset: 16}
	_, emits := r.in(frame, off)
	if len(emits) != 1 || emits[0].Offload != off {
		t.Fatalf("emits %+v", emits)
	}
	p := packet.Parse(emits[0].Data, emits[0].Offload)
	p.Complete()
	whole := tcpFrame(client, session, 1000, 80, 16)
	want := packet.Parse(whole, packet.Offload{})
	want.DecTTL()
	if !slices.Equal(p.Data, want.Data) {
		t.Errorf("got\n% x, want\n% x", p.Data, want.Data)
	}
}

func TestTheActionSetRunsInTheSpecifiedOrder(t *testing.T) {
	r := newRig(t, Config{})
	// write(output:2, set nw_dst), goto 1; table 1: write(output:3): the later output wins.
	m := wire.FlowMod{Match: matchOf(t, tcpMatch()), Instructions: wire.Instructions{Goto: 1, Write: []wire.Action{
		wire.Output{Port: 2}, wire.SetField{Field: packet.IPv4Dst, Value: session.AsSlice()}, wire.DecTTL{}}}}
	second := wire.FlowMod{Table: 1, Match: matchOf(t, tcpMatch()), Instructions: wire.Instructions{Write: []wire.Action{wire.Output{Port: 3}}}}
	for _, m := range []*wire.FlowMod{&m, &second} {
		if _, err := r.p.FlowMod(m, r.now); err != nil {
			t.Fatal(err)
		}
	}
	ports, emits := r.in(tcpFrame(client, vip, 1, 80, 16), packet.Offload{})
	if !slices.Equal(ports, []uint32{3}) {
		t.Fatalf("left by %v, want 3", ports)
	}
	p := packet.Parse(emits[0].Data, packet.Offload{})
	if netip.AddrFrom4([4]byte(p.Key.Get(packet.IPv4Dst))) != session || p.Key.U8(packet.IPTTL) != 63 {
		t.Errorf("sent % x", emits[0].Data)
	}
	second.Instructions.Clear = true
	if _, err := r.p.FlowMod(&second, r.now); err != nil {
		t.Fatal(err)
	}
	_, emits = r.in(tcpFrame(client, vip, 1, 80, 16), packet.Offload{})
	if len(emits) != 1 || netip.AddrFrom4([4]byte(emits[0].Data[30:34])) != vip {
		t.Errorf("after clear-actions: %+v", emits)
	}
}

func TestMetadataIsMatchedInLaterTables(t *testing.T) {
	r := newRig(t, Config{})
	first := wire.FlowMod{Instructions: wire.Instructions{Goto: 1, Metadata: 0xabcd, MetaMask: 0xff00}}
	var m wire.Match
	m.Value.Put(packet.Metadata, []byte{0, 0, 0, 0, 0, 0, 0xab, 0})
	m.Mask.Put(packet.Metadata, []byte{255, 255, 255, 255, 255, 255, 255, 255})
	second := wire.FlowMod{Table: 1, Match: m, Instructions: wire.Instructions{Apply: []wire.Action{wire.Output{Port: 4}}}}
	for _, m := range []*wire.FlowMod{&first, &second} {
		if _, err := r.p.FlowMod(m, r.now); err != nil {
			t.Fatal(err)
		}
	}
	r.want("metadata", tcpFrame(client, vip, 1, 80, 16), 4)
}

func matchOf(t *testing.T, m openflow.Match) wire.Match {
	t.Helper()
	oxm, err := openflow.EncodeMatch(m)
	if err != nil {
		t.Fatal(err)
	}
	out, _, err := decoder.ParseMatch(wire.AppendMatch(nil, oxm))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestAFullTableRefusesFlowsButTakesReplacements(t *testing.T) {
	r := newRig(t, Config{TableCapacity: 2})
	for i := range uint16(2) {
		r.add(openflow.Flow{Priority: i, Match: tcpMatch()})
	}
	full := openflow.FlowMod{Flow: openflow.Flow{Priority: 9, Match: tcpMatch()}}
	if _, err := r.try(full); !errors.Is(err, wire.ErrTableFull) {
		t.Errorf("a third flow: %v", err)
	}
	r.add(openflow.Flow{Priority: 1, Match: tcpMatch(), Apply: to(2)})
	r.add(openflow.Flow{Table: 1, Priority: 1, Match: tcpMatch()})
	if _, err := r.try(openflow.FlowMod{Command: openflow.DeleteStrict, Flow: openflow.Flow{Match: tcpMatch()}}); err != nil {
		t.Fatal(err)
	}
	if _, err := r.try(full); err != nil {
		t.Errorf("a flow after one was deleted: %v", err)
	}
}

func TestFlowsTimeOut(t *testing.T) {
	r := newRig(t, Config{})
	frame := tcpFrame(client, vip, 1, 80, 16)
	for _, m := range []openflow.FlowMod{
		{Flow: openflow.Flow{Priority: 1, Cookie: 1, Match: tcpMatch(), IdleTimeout: 10 * time.Second, Apply: to(2)}, Flags: openflow.SendFlowRem},
		{Flow: openflow.Flow{Table: 1, Priority: 1, Cookie: 2, Match: tcpMatch(), HardTimeout: 15 * time.Second}, Flags: openflow.SendFlowRem},
	} {
		if _, err := r.try(m); err != nil {
			t.Fatal(err)
		}
	}
	r.now = r.now.Add(9 * time.Second)
	r.want("used", frame, 2)
	var gone []string
	for range 12 {
		r.now = r.now.Add(time.Second)
		for _, x := range r.p.Expire(r.now) {
			gone = append(gone, fmt.Sprintf("flow %d reason %d at %v", x.Flow.Cookie, x.Reason, r.now.Sub(time.Unix(1_800_000_000, 0))))
		}
	}
	want := []string{"flow 2 reason 1 at 15s", "flow 1 reason 0 at 19s"}
	if !slices.Equal(gone, want) {
		t.Errorf("gone %v, want %v", gone, want)
	}
	r.want("gone", frame)
}

func TestASelectGroupMovesOnlyTheShareOfABucketThatLeaves(t *testing.T) {
	r := newRig(t, Config{})
	bucket := func(port uint32, watch uint32) wire.Bucket {
		return wire.Bucket{Weight: 1, WatchPort: watch, WatchGroup: wire.GroupAny, Actions: []wire.Action{wire.Output{Port: port}}}
	}
	g := wire.GroupMod{Type: wire.GroupTypeSelect, ID: 1, Buckets: []wire.Bucket{bucket(2, 2), bucket(3, 3), bucket(4, 4)}}
	if _, err := r.p.GroupMod(&g, r.now); err != nil {
		t.Fatal(err)
	}
	r.add(openflow.Flow{Priority: 1, Match: tcpMatch(), Apply: []openflow.Action{openflow.Group{ID: 1}}})
	choose := func() (out []uint32) {
		for sport := range uint16(3000) {
			ports, _ := r.in(tcpFrame(client, vip, sport, 80, 16), packet.Offload{})
			out = append(out, ports...)
		}
		return out
	}
	before := choose()
	share := map[uint32]int{}
	for _, p := range before {
		share[p]++
	}
	for p := uint32(2); p <= 4; p++ {
		if share[p] < 850 || share[p] > 1150 {
			t.Errorf("shares %v, want about 1000 each", share)
		}
	}
	r.p.SetPort(Port{Number: 3, Live: false}, r.now)
	for i, p := range choose() {
		if p == 3 || before[i] != 3 && p != before[i] {
			t.Fatalf("connection %d went by %d, now by %d", i, before[i], p)
		}
	}
}

func TestGroupsDoNotLoop(t *testing.T) {
	r := newRig(t, Config{})
	group := func(id, to uint32, command uint16) error {
		_, err := r.p.GroupMod(&wire.GroupMod{Command: command, ID: id, Buckets: []wire.Bucket{{Actions: []wire.Action{wire.Group{ID: to}}}}}, r.now)
		return err
	}
	if _, err := r.p.GroupMod(&wire.GroupMod{ID: 1}, r.now); err != nil {
		t.Fatal(err)
	}
	if err := group(2, 1, wire.GroupAdd); err != nil {
		t.Fatal(err)
	}
	if err := group(1, 2, wire.GroupModify); !errors.Is(err, wire.ErrGroupLoop) {
		t.Errorf("1 to 2 to 1: %v", err)
	}
	if err := group(3, 3, wire.GroupAdd); !errors.Is(err, wire.ErrOutGroup) {
		t.Errorf("3 to itself: %v", err)
	}
}
