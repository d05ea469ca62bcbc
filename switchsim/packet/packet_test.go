package packet

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"
)

var (
	macA = net.HardwareAddr{2, 0, 0, 0, 0, 1}
	macB = net.HardwareAddr{2, 0, 0, 0, 0, 2}
	macC = net.HardwareAddr{2, 0, 0, 0, 0, 3}
)

// frame builds a frame with the checksums complete.
func frame(t testing.TB, src, dst netip.Addr, transport string, vlan bool) []byte {
	t.Helper()
	eth := &layers.Ethernet{SrcMAC: macA, DstMAC: macB, EthernetType: layers.EthernetTypeIPv4}
	stack := []gopacket.SerializableLayer{eth}
	inner := layers.EthernetTypeIPv4
	if src.Is6() {
		inner = layers.EthernetTypeIPv6
	}
	eth.EthernetType = inner
	if vlan {
		eth.EthernetType = layers.EthernetTypeDot1Q
		stack = append(stack, &layers.Dot1Q{VLANIdentifier: 7, Priority: 3, Type: inner})
	}
	proto := map[string]layers.IPProtocol{"tcp": 6, "udp": 17, "icmp": 1, "icmp6": 58}[transport]
	var network gopacket.NetworkLayer
	if src.Is4() {
		ip := &layers.IPv4{Version: 4, IHL: 5, TTL: 64, TOS: 0xb9, Id: 9, Protocol: proto, SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
		network, stack = ip, append(stack, ip)
	} else {
		ip := &layers.IPv6{Version: 6, HopLimit: 64, TrafficClass: 0xb9, FlowLabel: 0x12345, NextHeader: proto, SrcIP: src.AsSlice(), DstIP: dst.AsSlice()}
		network, stack = ip, append(stack, ip)
	}
	switch transport {
	case "tcp":
		l := &layers.TCP{SrcPort: 40000, DstPort: 80, Seq: 7, Ack: 8, ACK: true, PSH: true, Window: 512}
		must(t, l.SetNetworkLayerForChecksum(network))
		stack = append(stack, l)
	case "udp":
		l := &layers.UDP{SrcPort: 40000, DstPort: 53}
		must(t, l.SetNetworkLayerForChecksum(network))
		stack = append(stack, l)
	case "icmp":
		stack = append(stack, &layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(8, 0), Id: 1, Seq: 2})
	case "icmp6":
		l := &layers.ICMPv6{TypeCode: layers.CreateICMPv6TypeCode(135, 0)}
		must(t, l.SetNetworkLayerForChecksum(network))
		stack = append(stack, l, &layers.ICMPv6NeighborSolicitation{TargetAddress: dst.AsSlice(),
			Options: layers.ICMPv6Options{{Type: 1, Data: macA}}})
	}
	if transport != "icmp6" {
		stack = append(stack, gopacket.Payload("hello, odd payload."))
	}
	buf := gopacket.NewSerializeBuffer()
	must(t, gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true}, stack...))
	return buf.Bytes()
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// verify fails unless the checksums of the frame are right.
func verify(t testing.TB, data []byte) {
	t.Helper()
	p := Parse(data, Offload{})
	if p.l3 == 0 {
		t.Fatalf("no network header in % x", data)
	}
	var pseudo []byte
	var transport []byte
	if p.Key.U16(EthType) == TypeIPv4 {
		header := int(data[p.l3]&15) * 4
		if c := Checksum(data[p.l3 : p.l3+header]); c != 0 {
			t.Errorf("IPv4 header checksum is off by %#x", c)
		}
		pseudo = append(pseudo, data[p.l3+12:p.l3+20]...)
		transport = data[p.l4 : p.l3+int(binary.BigEndian.Uint16(data[p.l3+2:]))]
	} else {
		pseudo = append(pseudo, data[p.l3+8:p.l3+40]...)
		transport = data[p.l4 : p.l3+40+int(binary.BigEndian.Uint16(data[p.l3+4:]))]
	}
	pseudo = binary.BigEndian.AppendUint32(pseudo, uint32(len(transport)))
	pseudo = append(pseudo, 0, 0, 0, p.Key.U8(IPProto))
	if p.Key.U8(IPProto) == ProtoICMP {
		pseudo = nil
	}
	if c := Checksum(append(pseudo, transport...)); c != 0 {
		t.Errorf("transport checksum is off by %#x", c)
	}
}

func addrs(v6 bool) (src, dst, other netip.Addr) {
	if v6 {
		return netip.MustParseAddr("fd10:1::11"), netip.MustParseAddr("fd10::80"), netip.MustParseAddr("fd31::7")
	}
	return netip.MustParseAddr("10.10.1.11"), netip.MustParseAddr("10.10.0.80"), netip.MustParseAddr("172.31.0.7")
}

func TestRewritingKeepsChecksumsRight(t *testing.T) {
	type set struct {
		f Field
		v []byte
	}
	_, _, other4 := addrs(false)
	_, _, other6 := addrs(true)
	for _, v6 := range []bool{false, true} {
		for _, transport := range []string{"tcp", "udp", "icmp", "icmp6"} {
			if transport == "icmp" && v6 || transport == "icmp6" && !v6 {
				continue
			}
			for _, vlan := range []bool{false, true} {
				for _, s := range []set{
					{EthDst, macC}, {IPv4Src, other4.AsSlice()}, {IPv4Dst, other4.AsSlice()},
					{IPv6Src, other6.AsSlice()}, {IPv6Dst, other6.AsSlice()}, {TCPSrc, []byte{0x12, 0x34}},
					{TCPDst, []byte{0, 0}}, {UDPSrc, []byte{0xff, 0xff}}, {UDPDst, []byte{1, 2}}, {IPTTL, []byte{3}},
					{IPDSCP, []byte{10}}, {IPECN, []byte{2}}, {ICMPv4Type, []byte{0}}, {ICMPv4Code, []byte{5}},
					{ICMPv6Type, []byte{136}}, {NDTarget, other6.AsSlice()}, {NDSLL, macC}, {IPv6FLabel, []byte{0, 1, 2, 3}},
				} {
					for _, partial := range []bool{false, true} {
						name := fmt.Sprintf("v6=%v %s vlan=%v set %s partial=%v", v6, transport, vlan, s.f, partial)
						t.Run(name, func(t *testing.T) {
							src, dst, _ := addrs(v6)
							data := frame(t, src, dst, transport, vlan)
							p := Parse(data, Offload{})
							if partial {
								if transport == "icmp" || transport == "icmp6" {
									return // never left to an interface
								}
								makePartial(&p)
							}
							p.Set(s.f, s.v)
							if partial {
								p.Complete()
							}
							verify(t, p.Data)
							again := Parse(p.Data, Offload{})
							if d := cmp.Diff(again.Key, p.Key); d != "" {
								t.Errorf("the key is not the frame's (-frame +key):\n%s", d)
							}
						})
					}
				}
			}
		}
	}
}

// makePartial puts the packet in the state in which a sender that leaves the
// checksum to its interface hands it over.
func makePartial(p *Packet) {
	l4 := p.Data[p.l4:]
	var pseudo []byte
	if p.Key.U16(EthType) == TypeIPv4 {
		pseudo = append(pseudo, p.Data[p.l3+12:p.l3+20]...)
		l4 = l4[:int(binary.BigEndian.Uint16(p.Data[p.l3+2:]))-20]
	} else {
		pseudo = append(pseudo, p.Data[p.l3+8:p.l3+40]...)
	}
	pseudo = binary.BigEndian.AppendUint32(pseudo, uint32(len(l4)))
	pseudo = append(pseudo, 0, 0, 0, p.Key.U8(IPProto))
	binary.BigEndian.PutUint16(p.Data[p.l4Checksum:], fold(add(0, pseudo)))
	p.Offload = Offload{Flags: flagNeedsChecksum, ChecksumStart: uint16(p.l4), ChecksumOffset: uint16(p.l4Checksum - p.l4)}
}

func TestDecTTLStopsAtOne(t *testing.T) {
	for _, v6 := range []bool{false, true} {
		src, dst, _ := addrs(v6)
		p := Parse(frame(t, src, dst, "tcp", false), Offload{})
		for want := uint8(63); want >= 1; want-- {
			if !p.DecTTL() || p.Key.U8(IPTTL) != want {
				t.Fatalf("TTL %d after decrement, want %d", p.Key.U8(IPTTL), want)
			}
		}
		if p.DecTTL() || p.Key.U8(IPTTL) != 1 {
			t.Error("a packet with TTL 1 was let through")
		}
		verify(t, p.Data)
	}
}

func TestVLANTagsMoveTheRest(t *testing.T) {
	src, dst, other := addrs(false)
	plain := frame(t, src, dst, "tcp", false)
	p := Parse(plain, Offload{})
	makePartial(&p)
	p.PushVLAN()
	p.Set(VLANVID, []byte{0x10, 0x2a})
	p.Set(IPv4Dst, other.AsSlice())
	if got := p.Key.U16(VLANVID); got != 0x102a {
		t.Errorf("vlan_vid %#x", got)
	}
	tagged := p.Clone()
	tagged.Complete()
	verify(t, tagged.Data)
	p.PopVLAN()
	p.Complete()
	verify(t, p.Data)
	if p.Key.U16(VLANVID) != 0 || len(p.Data) != len(plain) {
		t.Errorf("the tag is still there")
	}
}

func TestParseARP(t *testing.T) {
	arp := &layers.ARP{AddrType: 1, Protocol: layers.EthernetTypeIPv4, HwAddressSize: 6, ProtAddressSize: 4, Operation: 1,
		SourceHwAddress: macA, SourceProtAddress: []byte{10, 0, 0, 1}, DstHwAddress: make([]byte, 6), DstProtAddress: []byte{10, 0, 0, 2}}
	buf := gopacket.NewSerializeBuffer()
	must(t, gopacket.SerializeLayers(buf, gopacket.SerializeOptions{},
		&layers.Ethernet{SrcMAC: macA, DstMAC: net.HardwareAddr{255, 255, 255, 255, 255, 255}, EthernetType: layers.EthernetTypeARP}, arp))
	p := Parse(buf.Bytes(), Offload{})
	p.Set(ARPOp, []byte{0, 2})
	p.Set(ARPTHA, p.Key.Get(ARPSHA))
	p.Set(ARPSHA, macB)
	p.Set(ARPSPA, []byte{10, 0, 0, 2})
	p.Set(ARPTPA, []byte{10, 0, 0, 1})
	got := gopacket.NewPacket(p.Data, layers.LayerTypeEthernet, gopacket.Default).Layer(layers.LayerTypeARP).(*layers.ARP)
	if got.Operation != 2 || net.HardwareAddr(got.SourceHwAddress).String() != macB.String() ||
		net.HardwareAddr(got.DstHwAddress).String() != macA.String() || got.DstProtAddress[3] != 1 || got.SourceProtAddress[3] != 2 {
		t.Errorf("answer is %+v", got)
	}
}

func FuzzParseAndRewrite(f *testing.F) {
	for _, v6 := range []bool{false, true} {
		src, dst, _ := addrs(v6)
		for _, transport := range []string{"tcp", "udp", "icmp6"} {
			f.Add(frame(f, src, dst, transport, false), uint8(IPv4Src), uint16(0), uint16(0), uint8(0))
			f.Add(frame(f, src, dst, transport, true), uint8(TCPDst), uint16(34), uint16(16), uint8(1))
		}
	}
	f.Fuzz(func(t *testing.T, data []byte, field uint8, start, off uint16, flags uint8) {
		p := Parse(data, Offload{Flags: flags & 1, ChecksumStart: start, ChecksumOffset: off})
		n := len(p.Data)
		for _, fl := range []Field{Field(field) % NumFields, IPTTL, IPv6Dst, NDTLL, ARPTHA} {
			p.Set(fl, make([]byte, fl.Width()))
		}
		p.DecTTL()
		if len(p.Data) != n {
			t.Fatal("a rewrite changed the length")
		}
		p.PushVLAN()
		p.PopVLAN()
		p.Complete()
	})
}
