package openflow_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/shunt-sdn/shunt/controller/openflow"
	"github.com/shunt-sdn/shunt/internal/testnet"
	"github.com/shunt-sdn/shunt/internal/testovs"
)

// connect takes nc through the handshake and runs the channel until the test
// ends.
func connect(t testing.TB, nc net.Conn) (*openflow.Conn, <-chan error) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	c, err := openflow.Handshake(ctx, nc, openflow.Config{})
	if err != nil {
		cancel()
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	var wg sync.WaitGroup
	wg.Go(func() { ended <- c.Run(ctx) })
	t.Cleanup(func() { cancel(); wg.Wait() })
	return c, ended
}

func dial(t testing.TB, target string) (*openflow.Conn, <-chan error) {
	t.Helper()
	nc, err := openflow.Dial(t.Context(), target, nil)
	if err != nil {
		t.Fatal(err)
	}
	return connect(t, nc)
}

func within(t testing.TB, d time.Duration) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

func sessionFlow(i int, port uint32) openflow.FlowMod {
	client := netip.AddrFrom4([4]byte{198, 18, byte(i >> 16), byte(i >> 8)})
	return openflow.FlowMod{Flow: openflow.Flow{
		Table: 3, Priority: 100, Cookie: 0x5348<<48 | 1<<44 | uint64(i),
		Match: openflow.Match{
			openflow.EthType(openflow.EthTypeIPv4), openflow.IPProto(openflow.ProtoTCP),
			openflow.IPSrc(client), openflow.IPDst(netip.MustParseAddr("10.10.0.80")),
			openflow.TCPSrc(uint16(1024 + i&0xff)), openflow.TCPDst(80),
		},
		Apply: []openflow.Action{
			openflow.SetField{FieldValue: openflow.EthDst(net.HardwareAddr{2, 0, 0, 0, 0, 1})},
			openflow.SetField{FieldValue: openflow.IPDst(netip.MustParseAddr("172.31.0.1"))},
			openflow.DecTTL{}, openflow.Output{Port: port},
		},
	}}
}

// private starts a switch with two ports, p1 (1) and p2 (2), whose far ends are
// eth0 of two hosts.
func private(t *testing.T) (s *testovs.Switch, a, b *testnet.NS) {
	t.Helper()
	sw := testnet.NewNS(t)
	a, b = testnet.NewNS(t), testnet.NewNS(t)
	testnet.Veth(sw, "p1", a, "eth0")
	testnet.Veth(sw, "p2", b, "eth0")
	testovs.NoOffload(a, "eth0")
	testovs.NoOffload(b, "eth0")
	a.Addr("eth0", "192.0.2.1/24")
	b.Addr("eth0", "192.0.2.2/24")
	s = testovs.Start(t, sw, testovs.WithDPID(0xfeed))
	s.AddPort("p1", 1)
	s.AddPort("p2", 2)
	return s, a, b
}

func TestHandshakeWithOpenVSwitch(t *testing.T) {
	s, _, _ := private(t)
	c, _ := dial(t, s.Management())
	if c.DatapathID() != 0xfeed || c.Features().Tables < 250 {
		t.Errorf("features %+v", c.Features())
	}
	if d := c.Description(); !d.IsOpenVSwitch() || d.Software == "" || d.Manufacturer != "Nicira, Inc." {
		t.Errorf("description %+v", d)
	}
	var names []string
	for _, p := range c.Ports() {
		names = append(names, fmt.Sprintf("%s=%s up=%v", p.Name, openflow.PortName(p.No), p.LinkUp))
	}
	want := []string{"p1=1 up=true", "p2=2 up=true", "br0=LOCAL up=false"}
	if diff := cmp.Diff(want, names); diff != "" {
		t.Error(diff)
	}
}

func TestFlowsAreAddedDumpedAndDeletedByCookie(t *testing.T) {
	s, _, _ := private(t)
	c, _ := dial(t, s.Management())
	ctx := within(t, 20*time.Second)
	if err := c.Apply(ctx, sessionFlow(1, 1), sessionFlow(2, 2)); err != nil {
		t.Fatal(err)
	}
	// Somebody else's flow, with what the model does not know.
	s.Ofctl("add-flow", "br0", "cookie=0x99,table=7,priority=9,metadata=1,reg0=5,actions=load:3->NXM_NX_REG1[],resubmit(,8),write_metadata:7")

	ours := within(t, 20*time.Second)
	stats, err := c.FlowStats(ours, 0x5348<<48, 0xffff<<48)
	if err != nil {
		t.Fatal(err)
	}
	got := map[uint64]string{}
	for _, f := range stats {
		got[f.Cookie] = fmt.Sprint(f.Table, f.Priority, f.Match)
	}
	want := map[uint64]string{}
	for _, i := range []int{1, 2} {
		f := sessionFlow(i, 1).Flow
		want[f.Cookie] = fmt.Sprint(f.Table, f.Priority, f.Match)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	dump, err := c.DumpFlows(ctx, 0, 0)
	if err != nil {
		t.Fatal(err)
	}
	if len(dump) != 3 {
		t.Errorf("%d flows: %v", len(dump), dump)
	}
	for _, d := range dump {
		if d.Cookie == 0x99 && !strings.Contains(d.Actions, "experimenter(0x2320") {
			t.Errorf("a flow with actions outside the model: %v", d)
		}
		if d.Cookie == sessionFlow(1, 1).Flow.Cookie && d.Actions != "set_field:02:00:00:00:00:01->eth_dst,set_field:172.31.0.1->ip_dst,dec_ttl,output:1" {
			t.Errorf("our flow: %v", d)
		}
	}

	gone := sessionFlow(1, 1).Flow.Cookie
	err = c.Apply(ctx, openflow.FlowMod{Command: openflow.Delete, CookieMask: ^uint64(0), Flow: openflow.Flow{Table: openflow.NoTable, Cookie: gone}})
	if err != nil {
		t.Fatal(err)
	}
	left, err := c.FlowStats(ctx, 0, 0)
	if err != nil || len(left) != 2 || left[0].Cookie == gone || left[1].Cookie == gone {
		t.Errorf("left %v, %v", left, err)
	}
}

func TestRefusedFlowsAreNamed(t *testing.T) {
	s, _, _ := private(t)
	c, _ := dial(t, s.Management())
	ctx := within(t, 20*time.Second)
	good, bad, worse := sessionFlow(1, 1), sessionFlow(2, 1), sessionFlow(3, 1)
	bad.Flow.Match = openflow.Match{openflow.TCPDst(80)}                                    // no prerequisites
	worse.Flow.Goto = 2                                                                     // backwards
	unsendable := sessionFlow(4, 1)                                                         // never leaves
	unsendable.Flow.Match = openflow.Match{{Field: openflow.FieldTCPDst, Value: []byte{1}}} // too short
	err := c.Apply(ctx, good, bad, worse, unsendable)
	for _, code := range []openflow.Code{openflow.BadMatchBadPrereq, openflow.BadInstrBadTableID, openflow.BadMatchBadLen} {
		if !errors.Is(err, code) {
			t.Errorf("no %v in %v", code, err)
		}
	}
	var se *openflow.SwitchError
	if !errors.As(err, &se) || se.Name != "OFPBMC_BAD_PREREQ" || se.Request != bad.String() {
		t.Errorf("first error %+v", se)
	}
	if stats, err := c.FlowStats(ctx, 0, 0); err != nil || len(stats) != 1 {
		t.Errorf("the good flow: %v, %v", stats, err)
	}
	// A group that does not exist, and one that does.
	group := openflow.GroupMod{Command: openflow.Add, ID: 4, Buckets: []openflow.Bucket{{Weight: 1, Apply: []openflow.Action{openflow.Output{Port: 1}}}}}
	if err := c.Groups(ctx, group); err != nil {
		t.Error(err)
	}
	if err := c.Groups(ctx, group); !errors.Is(err, openflow.GroupModExists) || !strings.Contains(err.Error(), "group_id=4") {
		t.Errorf("a group twice: %v", err)
	}
	if err := c.SetRole(ctx, true, 5); err != nil {
		t.Error(err)
	}
	if err := c.SetRole(ctx, true, 4); !errors.Is(err, openflow.RoleStale) {
		t.Errorf("an old generation: %v", err)
	}
}

func TestPacketsInAndOut(t *testing.T) {
	s, a, b := private(t)
	c, _ := dial(t, s.Management())
	ctx := within(t, 20*time.Second)
	if err := c.SetAsync(ctx, openflow.AllAsync); err != nil {
		t.Fatal(err)
	}
	err := c.Apply(ctx, openflow.FlowMod{Flow: openflow.Flow{
		Priority: 7, Cookie: 0xabcd, Match: openflow.Match{openflow.InPort(1)}, Apply: []openflow.Action{openflow.Controller{MaxLen: 0xffff}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	// The controller is the wire from a to b; b answers through a flow.
	err = c.Apply(ctx, openflow.FlowMod{Flow: openflow.Flow{
		Match: openflow.Match{openflow.InPort(2)}, Apply: []openflow.Action{openflow.Output{Port: 1}},
	}})
	if err != nil {
		t.Fatal(err)
	}
	var l net.Listener
	b.Do(func() (err error) { l, err = net.Listen("tcp", "192.0.2.2:80"); return err })
	defer l.Close()
	dialled := make(chan error, 1)
	go func() {
		dialled <- a.Try(func() error {
			nc, err := net.DialTimeout("tcp", "192.0.2.2:80", 15*time.Second)
			if err == nil {
				nc.Close()
			}
			return err
		})
	}()
	for {
		select {
		case e := <-c.Events():
			in, ok := e.(openflow.PacketIn)
			if !ok {
				continue
			}
			if in.InPort != 1 || in.Cookie != 0xabcd || in.TotalLen != len(in.Data) || in.Reason != openflow.ReasonAction {
				t.Errorf("packet-in from %d, cookie %#x, %d of %d octets, reason %d", in.InPort, in.Cookie, len(in.Data), in.TotalLen, in.Reason)
			}
			out := openflow.PacketOut{InPort: in.InPort, Apply: []openflow.Action{openflow.Output{Port: 2}}, Data: in.Data}
			if err := c.PacketOut(out); err != nil {
				t.Fatal(err)
			}
		case err := <-dialled:
			if err != nil {
				t.Error(err)
			}
			return
		}
	}
}

func TestARefusedPacketOutIsAnEvent(t *testing.T) {
	s, _, _ := private(t)
	c, _ := dial(t, s.Management())
	// Port 0xffffff10 is reserved and nothing.
	if err := c.PacketOut(openflow.PacketOut{InPort: 0xffffff10, Data: make([]byte, 60)}); err != nil {
		t.Fatal(err)
	}
	select {
	case e := <-c.Events():
		se, ok := e.(*openflow.SwitchError)
		if !ok || !errors.Is(se, openflow.BadRequestBadPort) || !strings.Contains(se.Request, "packet_out in_port=4294967056") {
			t.Errorf("event %+v", e)
		}
	case <-time.After(20 * time.Second):
		t.Error("no event")
	}
}

func TestConntrackMarksAreWritten(t *testing.T) {
	s, _, _ := private(t)
	c, _ := dial(t, s.Management())
	ctx := within(t, 20*time.Second)
	const zone = 0x5348
	tracked := openflow.Match{openflow.EthType(openflow.EthTypeIPv4), openflow.IPProto(openflow.ProtoTCP)}
	err := c.Apply(ctx,
		openflow.FlowMod{Flow: openflow.Flow{Match: tracked, Apply: []openflow.Action{openflow.CT{Zone: zone, Table: 4}}}},
		openflow.FlowMod{Flow: openflow.Flow{Table: 4, Priority: 5,
			Match: append(openflow.Match{openflow.U32Masked(openflow.FieldCTMark, 7, 0xffff), openflow.U32Masked(openflow.FieldCTState, 0x22, 0x22)}, tracked...),
			Apply: []openflow.Action{openflow.Output{Port: 2}}}},
	)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	c.ApplyAsync(nil, []openflow.PacketOut{{InPort: openflow.PortController, Data: ack, Apply: []openflow.Action{
		openflow.CT{Zone: zone, Commit: true, Table: openflow.NoTable, Exec: []openflow.Action{openflow.SetField{FieldValue: openflow.CTMark(3<<16 | 7)}}},
	}}}, func(err error) { done <- err })
	select {
	case err := <-done:
		if err != nil {
			t.Fatal(err)
		}
	case <-ctx.Done():
		t.Fatal(ctx.Err())
	}
	entries := s.Appctl("dpctl/dump-conntrack")
	for _, want := range []string{"src=192.0.2.1,dst=192.0.2.2,sport=4321,dport=80", fmt.Sprintf("zone=%d", zone), fmt.Sprintf("mark=%d", 3<<16|7)} {
		if !strings.Contains(entries, want) {
			t.Errorf("no %s in\n%s", want, entries)
		}
	}
}

// ack is an Ethernet frame with a bare ACK from 192.0.2.1:4321 to 192.0.2.2:80,
// checksums right.
var ack = func() []byte {
	frame := []byte{
		2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 8, 0,
		0x45, 0, 0, 40, 0, 1, 0x40, 0, 64, 6, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2,
		0x10, 0xe1, 0, 80, 0, 0, 0, 9, 0, 0, 0, 8, 0x50, 0x10, 0x10, 0, 0, 0, 0, 0,
	}
	sum := func(b []byte, start uint32) uint16 {
		for i := 0; i < len(b); i += 2 {
			start += uint32(b[i])<<8 | uint32(b[i+1])
		}
		for start > 0xffff {
			start = start>>16 + start&0xffff
		}
		return ^uint16(start)
	}
	ip, tcp := frame[14:34], frame[34:]
	c := sum(ip, 0)
	ip[10], ip[11] = byte(c>>8), byte(c)
	c = sum(tcp, uint32(6+len(tcp))+uint32(^sum(ip[12:20], 0)))
	tcp[16], tcp[17] = byte(c>>8), byte(c)
	return frame
}()

func TestTheChannelEndsWithTheSwitchAndComesBack(t *testing.T) {
	s, _, _ := private(t)
	c, ended := dial(t, s.Management())
	if err := c.Apply(within(t, 20*time.Second), sessionFlow(1, 1)); err != nil {
		t.Fatal(err)
	}
	s.Kill()
	select {
	case err := <-ended:
		if err == nil {
			t.Error("Run ended without a reason")
		}
	case <-time.After(20 * time.Second):
		t.Fatal("the channel outlives the switch")
	}
	if err := c.Apply(t.Context(), sessionFlow(1, 1)); !errors.Is(err, openflow.ErrClosed) {
		t.Errorf("a change after the end: %v", err)
	}
	s.Resume()
	c, _ = dial(t, s.Management())
	ctx := within(t, 20*time.Second)
	if stats, err := c.FlowStats(ctx, 0, 0); err != nil || len(stats) != 0 {
		t.Errorf("flows after a restart: %v, %v", stats, err)
	}
	if err := c.Apply(ctx, sessionFlow(1, 1)); err != nil {
		t.Error(err)
	}
}

func TestSwitchesDialInAndAHungOneIsGivenUp(t *testing.T) {
	s, _, _ := private(t)
	var l net.Listener
	s.Namespace().Do(func() (err error) {
		l, err = openflow.Listen("127.0.0.1:0", nil)
		return err
	})
	defer l.Close()
	s.SetController("tcp:" + l.Addr().String())
	nc, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	ctx := within(t, 30*time.Second)
	c, err := openflow.Handshake(ctx, nc, openflow.Config{EchoInterval: 300 * time.Millisecond, EchoTimeout: 300 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	if err := c.Apply(ctx, sessionFlow(1, 1)); err != nil {
		t.Fatal(err)
	}
	defer s.Suspend()()
	if err := <-ended; !errors.Is(err, openflow.ErrSilent) {
		t.Errorf("Run returned %v", err)
	}
}

func TestPortChangesAreEvents(t *testing.T) {
	s, _, _ := private(t)
	c, _ := dial(t, s.Management())
	ctx := within(t, 20*time.Second)
	if err := c.SetAsync(ctx, openflow.AllAsync); err != nil {
		t.Fatal(err)
	}
	s.DelPort("p2")
	for {
		select {
		case e := <-c.Events():
			st, ok := e.(openflow.PortStatus)
			if !ok || st.Port.Name != "p2" || st.Reason != openflow.PortDeleted {
				continue
			}
			for _, p := range c.Ports() {
				if p.Name == "p2" {
					t.Errorf("still listed: %+v", p)
				}
			}
			return
		case <-ctx.Done():
			t.Fatal("no event")
		}
	}
}

func TestADumpOfManyFlowsComesInParts(t *testing.T) {
	s, _, _ := private(t)
	c, _ := dial(t, s.Management())
	ctx := within(t, 60*time.Second)
	const n = 5000
	mods := make([]openflow.FlowMod, n)
	for i := range mods {
		mods[i] = sessionFlow(i, 1)
	}
	if err := c.Apply(ctx, mods...); err != nil {
		t.Fatal(err)
	}
	stats, err := c.FlowStats(ctx, 0x5348<<48, 0xffff<<48)
	if err != nil {
		t.Fatal(err)
	}
	seen := map[uint64]bool{}
	for _, f := range stats {
		seen[f.Cookie] = true
	}
	if len(seen) != n {
		t.Errorf("%d of %d flows", len(seen), n)
	}
}
