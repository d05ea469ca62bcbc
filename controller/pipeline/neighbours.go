package pipeline

import (
	"net"
	"net/netip"

	"github.com/shunt-sdn/shunt/controller/openflow"
)

// neighbourDiscovery answers questions for the interface's addresses and for
// VIPs on its link, floods other questions, and shows the controller what there
// is to learn.
func (b *builder) neighbourDiscovery(i int) {
	t, ifc := b.table(i), b.Interfaces[i]
	learn := openflow.Controller{MaxLen: maxControllerLen}
	for _, a := range OwnAddresses(b.Interfaces, b.Services, i) {
		if a.Is4() {
			b.answerARP(t, ifc.MAC, a)
		} else {
			b.answerSolicitation(t, ifc.MAC, a)
		}
	}
	flood := append([]openflow.Action{learn}, b.flood(i)...)
	broadcast := openflow.EthDst(net.HardwareAddr{0xff, 0xff, 0xff, 0xff, 0xff, 0xff})
	multicast := openflow.FieldValue{Field: openflow.FieldEthDst, Value: []byte{0x33, 0x33, 0, 0, 0, 0}, Mask: []byte{0xff, 0xff, 0, 0, 0, 0}}
	arp := openflow.EthType(openflow.EthTypeARP)
	b.flow(t, prioNeighbourUs, openflow.Match{arp, openflow.EthDst(ifc.MAC)}, 0, learn)
	b.flow(t, prioNeighbourAll, openflow.Match{arp, broadcast}, 0, flood...)
	b.flow(t, prioLearn, openflow.Match{arp}, 0, flood...)
	for _, kind := range []uint8{ndSolicitation, ndAdvertisement} {
		b.flow(t, prioNeighbourUs, nd(kind, openflow.EthDst(ifc.MAC)), 0, learn)
		b.flow(t, prioNeighbourAll, nd(kind, multicast), 0, flood...)
		b.flow(t, prioLearn, nd(kind), 0, flood...)
	}
}

// ICMPv6 types, RFC 4861.
const (
	ndSolicitation  = 135
	ndAdvertisement = 136
)

func nd(kind uint8, fields ...openflow.FieldValue) openflow.Match {
	return match(openflow.EthTypeIPv6, append([]openflow.FieldValue{
		openflow.IPProto(openflow.ProtoICMPv6), openflow.U8(openflow.FieldICMPv6Type, kind), openflow.U8(openflow.FieldICMPv6Code, 0)}, fields...)...)
}

// OwnAddresses returns the addresses that the switch answers for on the link of
// interface i: its own, and the VIPs that lie within its prefixes.
func OwnAddresses(interfaces []Interface, services []Service, i int) []netip.Addr {
	var own []netip.Addr
	for _, p := range interfaces[i].Addresses {
		own = append(own, p.Addr())
	}
	for _, s := range services {
		for _, v := range s.VIPs {
			if on, ok := OnLink(interfaces, v); ok && on == i {
				own = append(own, v)
			}
		}
	}
	return own
}

// answerARP turns a question for a into its answer. The controller gets the
// question, to learn who asked; without Move also to answer it.
func (b *builder) answerARP(t uint8, mac net.HardwareAddr, a netip.Addr) {
	m := openflow.Match{openflow.EthType(openflow.EthTypeARP), openflow.U16(openflow.FieldARPOp, 1), {Field: openflow.FieldARPTPA, Value: a.AsSlice()}}
	actions := []openflow.Action{openflow.Controller{MaxLen: maxControllerLen}}
	if b.Features.Move {
		actions = append(actions,
			openflow.Move{Src: openflow.FieldEthSrc, Dst: openflow.FieldEthDst}, set(openflow.EthSrc(mac)),
			set(openflow.U16(openflow.FieldARPOp, 2)),
			openflow.Move{Src: openflow.FieldARPSHA, Dst: openflow.FieldARPTHA}, set(openflow.MAC(openflow.FieldARPSHA, mac)),
			openflow.Move{Src: openflow.FieldARPSPA, Dst: openflow.FieldARPTPA}, set(openflow.FieldValue{Field: openflow.FieldARPSPA, Value: a.AsSlice()}),
			openflow.Output{Port: openflow.PortInPort})
	}
	b.flow(t, prioNeighbourUs+1, m, 0, actions...)
}

// answerSolicitation turns a neighbour solicitation for a into an
// advertisement. That takes two tables: the option is first turned from the
// asker's address into a target's, and only an advertisement's can be set.
// A solicitation without an option or without a source address (duplicate
// address detection) is left to the controller: NeedsController says which.
func (b *builder) answerSolicitation(t uint8, mac net.HardwareAddr, a netip.Addr) {
	learn := openflow.Controller{MaxLen: maxControllerLen}
	target := openflow.FieldValue{Field: openflow.FieldNDTarget, Value: a.AsSlice()}
	if !b.Features.Move || !b.Features.Advertise {
		b.flow(t, prioNeighbourUs+1, nd(ndSolicitation, target), 0, learn)
		return
	}
	noOption := openflow.MAC(openflow.FieldNDSLL, make(net.HardwareAddr, 6))
	b.flow(t, prioNeighbourUs+2, nd(ndSolicitation, target, noOption), 0, learn)
	b.flow(t, prioNeighbourUs+1, nd(ndSolicitation, target), TableAdvertise,
		learn,
		set(openflow.U8(openflow.FieldNDOptionType, 2)),
		set(openflow.U32(openflow.FieldNDReserved, 0xe0000000)), // router, solicited, override
		set(openflow.U8(openflow.FieldICMPv6Type, ndAdvertisement)),
		openflow.Move{Src: openflow.FieldEthSrc, Dst: openflow.FieldEthDst}, set(openflow.EthSrc(mac)),
		openflow.Move{Src: openflow.FieldIPv6Src, Dst: openflow.FieldIPv6Dst}, set(openflow.IPSrc(a)))
	b.flow(TableAdvertise, prioAdvertise, nd(ndAdvertisement, openflow.EthSrc(mac), target), 0,
		set(openflow.MAC(openflow.FieldNDTLL, mac)), openflow.Output{Port: openflow.PortInPort})
}
