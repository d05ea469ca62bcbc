package conformance

import (
	"net"

	"github.com/gopacket/gopacket"
	"github.com/gopacket/gopacket/layers"

	"github.com/shunt-sdn/shunt/controller/openflow"
)

var broadcast = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}

// icmpEcho is an ICMP packet of 60 octets at least.
func icmpEcho(typ uint8) []byte {
	f := families[0]
	buf := gopacket.NewSerializeBuffer()
	err := gopacket.SerializeLayers(buf, gopacket.SerializeOptions{FixLengths: true, ComputeChecksums: true},
		&layers.Ethernet{SrcMAC: macClient, DstMAC: macGateway, EthernetType: layers.EthernetTypeIPv4},
		&layers.IPv4{Version: 4, IHL: 5, TTL: 64, Protocol: layers.IPProtocolICMPv4, SrcIP: f.client.AsSlice(), DstIP: f.vip.AsSlice()},
		&layers.ICMPv4{TypeCode: layers.CreateICMPv4TypeCode(typ, 0), Id: 5, Seq: 6}, gopacket.Payload("what a ping carries, odd"))
	if err != nil {
		panic(err)
	}
	return buf.Bytes()
}

var outputCases = []behaviour{
	{"output to the ingress port is dropped, IN_PORT is not", func(e *env) {
		f := families[0]
		e.apply(
			add(openflow.Flow{Priority: 5, Match: tcpMatch(f, openflow.TCPSrc(1)), Apply: []openflow.Action{out(port1)}}),
			add(openflow.Flow{Priority: 5, Match: tcpMatch(f, openflow.TCPSrc(2)), Apply: []openflow.Action{out(openflow.PortInPort)}}))
		p1, p2 := f.toVIP(1, openflow.TCPAck).bytes(), f.toVIP(2, openflow.TCPAck).bytes()
		e.send(port1, p1, p2).only(e, port1, p2)
	}},
	{"flood and all reach every other port", func(e *env) {
		f := families[0]
		e.apply(
			add(openflow.Flow{Priority: 5, Match: tcpMatch(f, openflow.TCPSrc(1)), Apply: []openflow.Action{out(openflow.PortFlood)}}),
			add(openflow.Flow{Priority: 5, Match: tcpMatch(f, openflow.TCPSrc(2)), Apply: []openflow.Action{out(openflow.PortAll)}}))
		p1, p2 := f.toVIP(1, openflow.TCPAck).bytes(), f.toVIP(2, openflow.TCPAck).bytes()
		o := e.send(port2, p1, p2)
		o.want(e, port1, p1, p2)
		o.want(e, port2)
		o.want(e, port3, p1, p2)
	}},
	{"several outputs each get the packet", func(e *env) {
		f := families[1]
		p := f.toVIP(3, openflow.TCPAck).bytes()
		e.apply(add(openflow.Flow{Priority: 5, Match: tcpMatch(f), Apply: []openflow.Action{out(port2), out(port3), out(openflow.PortInPort)}}))
		o := e.send(port1, p)
		for _, port := range []uint32{port1, port2, port3} {
			o.want(e, port, p)
		}
	}},
	{"output to a port that does not exist is a drop", func(e *env) {
		f := families[0]
		p := f.toVIP(4, openflow.TCPAck).bytes()
		e.apply(add(openflow.Flow{Priority: 5, Match: tcpMatch(f), Apply: []openflow.Action{out(4711), out(port2)}}))
		e.send(port1, p).only(e, port2, p)
	}},
	{"large and small frames pass whole", func(e *env) {
		f := families[0]
		e.apply(add(openflow.Flow{Priority: 5, Match: tcpMatch(f), Apply: []openflow.Action{openflow.DecTTL{}, out(port2)}}))
		for _, size := range []int{6, 7, 100, 1460} {
			p := f.toVIP(5, openflow.TCPAck)
			p.payload = string(make([]byte, size))
			want := p
			want.ttl = 63
			e.send(port1, p.bytes()).only(e, port2, want.bytes())
		}
	}},
	{"the order of packets of a connection is kept", func(e *env) {
		f := families[0]
		e.apply(add(openflow.Flow{Priority: 5, Match: tcpMatch(f), Apply: []openflow.Action{out(port2)}}))
		var frames [][]byte
		for i := range 200 {
			p := f.toVIP(6, openflow.TCPAck)
			p.payload = string([]byte{byte(i), byte(i >> 8), 1, 2, 3, 4})
			frames = append(frames, p.bytes())
		}
		e.send(port1, frames...).wantInOrder(e, port2, frames...)
	}},
}
