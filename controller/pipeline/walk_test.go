package pipeline

import (
	"bytes"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"testing"

	"github.com/shunt-sdn/shunt/controller/openflow"
)

// A packet is its fields. FieldCTMark is the mark that the tracker would give;
// it shows once the packet went through ct.
type packet map[openflow.Field][]byte

func newPacket(inPort uint32, src, dst string, fields ...openflow.FieldValue) packet {
	p := packet{}
	for _, fv := range append([]openflow.FieldValue{openflow.InPort(inPort), openflow.EthSrc(mac(src)), openflow.EthDst(mac(dst))}, fields...) {
		p[fv.Field] = fv.Value
	}
	return p
}

// segment is a TCP segment as it comes in by a port.
func segment(inPort uint32, srcMAC, dstMAC, src, dst string, flags uint16) packet {
	s, d := netip.MustParseAddrPort(src), netip.MustParseAddrPort(dst)
	return newPacket(inPort, srcMAC, dstMAC, openflow.EthType(openflow.EtherTypeOf(s.Addr())), openflow.IPProto(6), openflow.IPSrc(s.Addr()), openflow.IPDst(d.Addr()),
		openflow.TCPSrc(s.Port()), openflow.TCPDst(d.Port()), openflow.U16(openflow.FieldTCPFlags, flags))
}

// An outcome is what leaves the switch by one port.
type outcome struct {
	port uint32
	pkt  packet
}

// walk sends a packet through the flows, as a switch would.
func walk(t *testing.T, flows Set, p packet) []outcome {
	t.Helper()
	w := walker{t: t, flows: flows.Sorted(), mark: p[openflow.FieldCTMark], ttl: 64}
	p = maps.Clone(p)
	delete(p, openflow.FieldCTMark)
	w.table(TablePorts, p)
	return w.out
}

type walker struct {
	t         *testing.T
	flows     []openflow.Flow
	mark      []byte // in the tracker
	committed []byte
	marked    []byte // the destination of the packet that was committed
	ttl       int
	out       []outcome
	depth     int
}

func (w *walker) table(table uint8, p packet) {
	w.t.Helper()
	if w.depth++; w.depth > 20 {
		w.t.Fatalf("packet goes round in circles at table %d", table)
	}
	for _, f := range w.flows { // sorted by priority within the table
		if f.Table != table || !matches(f.Match, p) {
			continue
		}
		w.apply(f.Apply, p)
		if f.Goto != 0 {
			if f.Goto <= f.Table {
				w.t.Fatalf("flow of table %d leads back to %d", f.Table, f.Goto)
			}
			w.table(f.Goto, p)
		}
		return
	}
	if table == TablePorts {
		return // dropped, as OpenFlow 1.3 has it: what else is in this table is others'
	}
	w.t.Fatalf("table %d has no flow for %v: a miss is not explicit", table, p)
}

func matches(m openflow.Match, p packet) bool {
	for _, fv := range m {
		have, ok := p[fv.Field]
		if !ok {
			return false
		}
		for i := range have {
			mask := byte(0xff)
			if fv.Mask != nil {
				mask = fv.Mask[i]
			}
			if have[i]&mask != fv.Value[i]&mask {
				return false
			}
		}
	}
	return true
}

func (w *walker) apply(actions []openflow.Action, p packet) {
	w.t.Helper()
	for _, a := range actions {
		switch a := a.(type) {
		case openflow.Output:
			port := a.Port
			in := openflow.InPort(port).Value
			if bytes.Equal(in, p[openflow.FieldInPort]) {
				continue // a switch does not send a packet back where it came from
			}
			if port == openflow.PortInPort {
				port = uint32(p[openflow.FieldInPort][3])
			}
			w.out = append(w.out, outcome{port, maps.Clone(p)})
		case openflow.Controller:
			w.out = append(w.out, outcome{openflow.PortController, maps.Clone(p)})
		case openflow.SetField:
			p[a.Field] = a.Value
		case openflow.Move:
			p[a.Dst] = p[a.Src]
		case openflow.DecTTL:
			w.ttl--
		case openflow.CT:
			if a.Commit {
				w.committed = a.Exec[0].(openflow.SetField).Value
				w.marked = append(p[openflow.FieldIPv4Dst], p[openflow.FieldIPv6Dst]...)
				w.mark = w.committed
			}
			if a.Table != openflow.NoTable {
				q := maps.Clone(p)
				q[openflow.FieldCTMark] = w.mark
				if w.mark == nil {
					q[openflow.FieldCTMark] = []byte{0, 0, 0, 0}
				}
				w.table(a.Table, q)
			}
		default:
			w.t.Fatalf("walk knows no %T", a)
		}
	}
}

func (o outcome) String() string {
	if o.port == openflow.PortController {
		return "controller"
	}
	s := fmt.Sprintf("port %d %v→%v", o.port, net.HardwareAddr(o.pkt[openflow.FieldEthSrc]), net.HardwareAddr(o.pkt[openflow.FieldEthDst]))
	for _, pair := range [][2]openflow.Field{{openflow.FieldIPv4Src, openflow.FieldIPv4Dst}, {openflow.FieldIPv6Src, openflow.FieldIPv6Dst}} {
		if a, ok := netip.AddrFromSlice(o.pkt[pair[0]]); ok {
			b, _ := netip.AddrFromSlice(o.pkt[pair[1]])
			s += fmt.Sprintf(" %v→%v", a, b)
		}
	}
	return s
}

func mac(s string) net.HardwareAddr {
	m, err := net.ParseMAC(s)
	if err != nil {
		panic(err)
	}
	return m
}
