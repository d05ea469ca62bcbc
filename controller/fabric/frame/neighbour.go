package frame

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
)

// A Neighbour is an ARP or neighbour discovery message.
type Neighbour struct {
	// Question: an ARP request or a neighbour solicitation; else an answer.
	Question bool
	// Sender is who sent it, and SenderMAC its hardware address. Sender is
	// not valid when the message does not say (a probe for a duplicate
	// address); SenderMAC is nil when it does not say.
	//
	// A neighbour advertisement speaks for its target, which is its Sender.
	Sender    netip.Addr
	SenderMAC net.HardwareAddr
	// Target is the address asked for. In answers: who asked, if known.
	Target netip.Addr
	// Source is the frame's source address.
	Source net.HardwareAddr
}

const (
	arpLen          = 28
	ndSolicitation  = 135
	ndAdvertisement = 136
	optionSource    = 1
	optionTarget    = 2
)

var (
	broadcast = net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff}
	nobody    = net.HardwareAddr{0, 0, 0, 0, 0, 0}
	allNodes  = netip.AddrFrom16([16]byte{0xff, 0x02, 15: 1})
)

// ParseNeighbour reads an ARP or neighbour discovery message. Neighbour
// discovery is checked as RFC 4861, 7.1, asks.
func ParseNeighbour(data []byte) (Neighbour, error) {
	if len(data) < etherLen {
		return Neighbour{}, errShort
	}
	n := Neighbour{Source: slices.Clone(net.HardwareAddr(data[6:12]))}
	var err error
	switch kind := binary.BigEndian.Uint16(data[12:]); kind {
	case typeARP:
		err = n.parseARP(data[etherLen:])
	case typeIPv6:
		err = n.parseND(data[etherLen:])
	default:
		err = fmt.Errorf("frame has EtherType %#04x, want ARP or IPv6", kind)
	}
	return n, err
}

func (n *Neighbour) parseARP(b []byte) error {
	if len(b) < arpLen {
		return errShort
	}
	if [6]byte(b[:6]) != [6]byte{0, 1, 8, 0, 6, 4} {
		return fmt.Errorf("ARP is not for Ethernet and IPv4: % x", b[:6])
	}
	op := binary.BigEndian.Uint16(b[6:])
	if op != 1 && op != 2 {
		return fmt.Errorf("ARP has operation %d, want 1 or 2", op)
	}
	n.Question = op == 1
	if s := netip.AddrFrom4([4]byte(b[14:18])); !s.IsUnspecified() {
		n.Sender = s
	}
	n.SenderMAC = slices.Clone(net.HardwareAddr(b[8:14]))
	n.Target = netip.AddrFrom4([4]byte(b[24:28]))
	return unicastOnly(n.SenderMAC)
}

func (n *Neighbour) parseND(b []byte) error {
	if len(b) < 40+24 {
		return errShort
	}
	length := int(binary.BigEndian.Uint16(b[4:]))
	if b[6] != protoND || b[7] != 255 {
		return fmt.Errorf("IPv6 packet has next header %d and hop limit %d, want neighbour discovery with 255", b[6], b[7])
	}
	if length < 24 || len(b) < 40+length {
		return errShort
	}
	src, dst, icmp := netip.AddrFrom16([16]byte(b[8:24])), netip.AddrFrom16([16]byte(b[24:40])), b[40:40+length]
	if sum := checksum(pseudo(src, dst, protoND, length), icmp); sum != 0 {
		return fmt.Errorf("neighbour discovery from %v has a wrong checksum", src)
	}
	kind, target := icmp[0], netip.AddrFrom16([16]byte(icmp[8:24]))
	if (kind != ndSolicitation && kind != ndAdvertisement) || icmp[1] != 0 || target.IsMulticast() {
		return fmt.Errorf("ICMPv6 type %d, code %d for %v is no neighbour solicitation or advertisement", kind, icmp[1], target)
	}
	mac, err := option(icmp[24:], map[byte]byte{ndSolicitation: optionSource, ndAdvertisement: optionTarget}[kind])
	if err != nil {
		return err
	}
	n.Question, n.SenderMAC = kind == ndSolicitation, mac
	if n.Question {
		n.Target = target
		if !src.IsUnspecified() {
			n.Sender = src
		}
	} else {
		n.Sender, n.Target = target, dst
	}
	if mac == nil {
		return nil
	}
	return unicastOnly(mac)
}

// option finds a link-layer address option; nil when there is none.
func option(b []byte, kind byte) (net.HardwareAddr, error) {
	for len(b) > 0 {
		if len(b) < 8 || b[1] == 0 || len(b) < int(b[1])*8 {
			return nil, fmt.Errorf("neighbour discovery has a malformed option")
		}
		if b[0] == kind {
			return slices.Clone(net.HardwareAddr(b[2:8])), nil
		}
		b = b[int(b[1])*8:]
	}
	return nil, nil
}

func unicastOnly(mac net.HardwareAddr) error {
	if mac[0]&1 != 0 || slices.Equal(mac, nobody) {
		return fmt.Errorf("%v is no host's hardware address", mac)
	}
	return nil
}

// Ask builds a question for target from our address: an ARP request or a
// neighbour solicitation. to is the hardware address to ask, nil for everyone.
func Ask(mac net.HardwareAddr, our, target netip.Addr, to net.HardwareAddr) []byte {
	if target.Is4() {
		if to == nil {
			to = broadcast
		}
		return appendARP(ether(to, mac, typeARP), 1, mac, our, nobody, target)
	}
	t := target.As16()
	dst := target
	if to == nil {
		// The solicited-node multicast address, RFC 4291, 2.7.1.
		dst = netip.AddrFrom16([16]byte{0xff, 2, 11: 1, 12: 0xff, 13: t[13], 14: t[14], 15: t[15]})
		to = net.HardwareAddr{0x33, 0x33, 0xff, t[13], t[14], t[15]}
	}
	return appendND(ether(to, mac, typeIPv6), our, dst, ndSolicitation, 0, target, optionSource, mac)
}

// Answer builds the answer to question n: target is at mac. router says whether
// it is one, for IPv6.
func Answer(n Neighbour, mac net.HardwareAddr) []byte {
	if n.Target.Is4() {
		who := n.Sender
		if !who.IsValid() {
			who = netip.IPv4Unspecified()
		}
		return appendARP(ether(n.SenderMAC, mac, typeARP), 2, mac, n.Target, n.SenderMAC, who)
	}
	const router, solicited, override = 0x80, 0x40, 0x20
	if !n.Sender.IsValid() { // to a probe for a duplicate: to everyone
		return appendND(ether(net.HardwareAddr{0x33, 0x33, 0, 0, 0, 1}, mac, typeIPv6), n.Target, allNodes, ndAdvertisement, router|override, n.Target, optionTarget, mac)
	}
	to := n.SenderMAC
	if to == nil {
		to = n.Source
	}
	return appendND(ether(to, mac, typeIPv6), n.Target, n.Sender, ndAdvertisement, router|solicited|override, n.Target, optionTarget, mac)
}

func appendARP(b []byte, op uint16, sha net.HardwareAddr, spa netip.Addr, tha net.HardwareAddr, tpa netip.Addr) []byte {
	b = append(b, 0, 1, 8, 0, 6, 4)
	b = binary.BigEndian.AppendUint16(b, op)
	b = append(append(b, sha...), spa.AsSlice()...)
	return append(append(b, tha...), tpa.AsSlice()...)
}

func appendND(b []byte, src, dst netip.Addr, kind, flags uint8, target netip.Addr, opt uint8, mac net.HardwareAddr) []byte {
	const length = 32
	b = appendIPv6(b, src, dst, protoND, 255, length)
	icmp := append([]byte{kind, 0, 0, 0, flags, 0, 0, 0}, target.AsSlice()...)
	icmp = append(append(icmp, opt, 1), mac...)
	binary.BigEndian.PutUint16(icmp[2:], checksum(pseudo(src, dst, protoND, length), icmp))
	return append(b, icmp...)
}
