package openflow

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"
)

// Notation of ovs-ofctl(8), ovs-fields(7) and ovs-actions(7), in the names that
// OpenFlow 1.3 dumps use.

var fieldNames = map[Field]string{
	FieldInPort: "in_port", FieldEthDst: "dl_dst", FieldEthSrc: "dl_src", FieldEthType: "dl_type",
	FieldIPProto: "nw_proto", FieldIPv4Src: "nw_src", FieldIPv4Dst: "nw_dst",
	FieldTCPSrc: "tp_src", FieldTCPDst: "tp_dst", FieldICMPv4Type: "icmp_type", FieldICMPv4Code: "icmp_code",
	FieldARPOp: "arp_op", FieldARPSPA: "arp_spa", FieldARPTPA: "arp_tpa", FieldARPSHA: "arp_sha", FieldARPTHA: "arp_tha",
	FieldIPv6Src: "ipv6_src", FieldIPv6Dst: "ipv6_dst", FieldICMPv6Type: "icmp_type", FieldICMPv6Code: "icmp_code",
	FieldNDTarget: "nd_target", FieldNDSLL: "nd_sll", FieldNDTLL: "nd_tll",
	FieldTCPFlags: "tcp_flags", FieldCTState: "ct_state", FieldCTMark: "ct_mark",
	FieldNDReserved: "nd_reserved", FieldNDOptionType: "nd_options_type",
}

// Names that set_field uses where they differ from a match's.
var setNames = map[Field]string{
	FieldEthDst: "eth_dst", FieldEthSrc: "eth_src", FieldIPv4Src: "ip_src", FieldIPv4Dst: "ip_dst",
	FieldTCPSrc: "tcp_src", FieldTCPDst: "tcp_dst", FieldICMPv6Type: "icmpv6_type", FieldICMPv6Code: "icmpv6_code",
	FieldEthType: "eth_type", FieldIPProto: "ip_proto",
}

// Names that move uses: the NXM ones.
var moveNames = map[Field]string{
	FieldInPort: "OXM_OF_IN_PORT", FieldEthDst: "NXM_OF_ETH_DST", FieldEthSrc: "NXM_OF_ETH_SRC", FieldEthType: "NXM_OF_ETH_TYPE",
	FieldIPProto: "NXM_OF_IP_PROTO", FieldIPv4Src: "NXM_OF_IP_SRC", FieldIPv4Dst: "NXM_OF_IP_DST",
	FieldTCPSrc: "NXM_OF_TCP_SRC", FieldTCPDst: "NXM_OF_TCP_DST", FieldICMPv4Type: "NXM_OF_ICMP_TYPE", FieldICMPv4Code: "NXM_OF_ICMP_CODE",
	FieldARPOp: "NXM_OF_ARP_OP", FieldARPSPA: "NXM_OF_ARP_SPA", FieldARPTPA: "NXM_OF_ARP_TPA", FieldARPSHA: "NXM_NX_ARP_SHA", FieldARPTHA: "NXM_NX_ARP_THA",
	FieldIPv6Src: "NXM_NX_IPV6_SRC", FieldIPv6Dst: "NXM_NX_IPV6_DST", FieldICMPv6Type: "NXM_NX_ICMPV6_TYPE", FieldICMPv6Code: "NXM_NX_ICMPV6_CODE",
	FieldNDTarget: "NXM_NX_ND_TARGET", FieldNDSLL: "NXM_NX_ND_SLL", FieldNDTLL: "NXM_NX_ND_TLL",
	FieldTCPFlags: "NXM_NX_TCP_FLAGS", FieldCTState: "NXM_NX_CT_STATE", FieldCTMark: "NXM_NX_CT_MARK",
	FieldNDReserved: "ERICOXM_OF_ICMPV6_ND_RESERVED", FieldNDOptionType: "ERICOXM_OF_ICMPV6_ND_OPTIONS_TYPE",
}

// String is the field's name in a match.
func (f Field) String() string {
	if s, ok := fieldNames[f]; ok {
		return s
	}
	return fmt.Sprintf("oxm(%#x:%d)", uint32(f)>>16, uint32(f)>>9&0x7f)
}

var portNames = map[uint32]string{
	PortInPort: "in_port", PortTable: "TABLE", PortFlood: "FLOOD", PortAll: "ALL",
	PortController: "controller", PortLocal: "LOCAL", PortAny: "ANY", 0xfffffffa: "NORMAL",
}

// PortName is a port's number, or the name of a reserved one.
func PortName(no uint32) string {
	if s, ok := portNames[no]; ok {
		return s
	}
	return strconv.FormatUint(uint64(no), 10)
}

var (
	tcpFlagNames = []string{"fin", "syn", "rst", "psh", "ack", "urg", "ece", "cwr", "ns"}
	ctStateNames = []string{"new", "est", "rel", "rpl", "inv", "trk", "snat", "dnat"}
)

// flagList writes the bits of v under mask as +set-unset, or "" when the mask
// has bits without a name.
func flagList(names []string, v, mask uint64) string {
	if mask>>len(names) != 0 {
		return ""
	}
	var s strings.Builder
	for _, want := range []bool{true, false} {
		for i, n := range names {
			if mask>>i&1 == 1 && (v>>i&1 == 1) == want {
				s.WriteByte("-+"[b2i(want)])
				s.WriteString(n)
			}
		}
	}
	return s.String()
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

func number(b []byte) uint64 {
	var buf [8]byte
	copy(buf[8-len(b):], b)
	return binary.BigEndian.Uint64(buf[:])
}

// text writes a value of the field, without its mask.
func (f Field) text(v []byte) string {
	if len(v) != f.Width() || len(v) == 0 {
		return fmt.Sprintf("0x%x", v)
	}
	switch f {
	case FieldInPort:
		return PortName(binary.BigEndian.Uint32(v))
	case FieldEthType, FieldTCPFlags, FieldCTState, FieldCTMark, FieldNDReserved:
		return fmt.Sprintf("%#x", number(v))
	}
	switch len(v) {
	case 6:
		return net.HardwareAddr(v).String()
	case 4:
		return netip.AddrFrom4([4]byte(v)).String()
	case 16:
		return netip.AddrFrom16([16]byte(v)).String()
	}
	return strconv.FormatUint(number(v), 10)
}

// String is the value as a term of a match.
func (fv FieldValue) String() string {
	name := fv.Field.String()
	if fv.Field.Width() == 0 || fv.Mask == nil || len(fv.Mask) != len(fv.Value) {
		if s := fv.symbol(); s != "" {
			return s
		}
		return name + "=" + fv.Field.text(fv.Value)
	}
	switch fv.Field {
	case FieldTCPFlags:
		if s := flagList(tcpFlagNames, number(fv.Value), number(fv.Mask)); s != "" {
			return name + "=" + s
		}
	case FieldCTState:
		if s := flagList(ctStateNames, number(fv.Value), number(fv.Mask)); s != "" {
			return name + "=" + s
		}
	case FieldIPv4Src, FieldIPv4Dst, FieldARPSPA, FieldARPTPA, FieldIPv6Src, FieldIPv6Dst, FieldNDTarget:
		if ones, bits := net.IPMask(fv.Mask).Size(); bits != 0 {
			return fmt.Sprintf("%s=%s/%d", name, fv.Field.text(fv.Value), ones)
		}
	case FieldTCPSrc, FieldTCPDst:
		return fmt.Sprintf("%s=%#x/%#x", name, number(fv.Value), number(fv.Mask))
	}
	return name + "=" + fv.Field.text(fv.Value) + "/" + fv.Field.text(fv.Mask)
}

// symbol is the short form of a flag field without a mask.
func (fv FieldValue) symbol() string {
	if fv.Field != FieldCTState || fv.Mask != nil || len(fv.Value) != 4 {
		return ""
	}
	return fmt.Sprintf("ct_state=%#x", number(fv.Value))
}

// String is the match as ovs-ofctl takes it; the empty match is "".
func (m Match) String() string {
	m = m.ordered()
	proto, hidden := m.protocol()
	var terms []string
	for _, fv := range m {
		if fv.Mask != nil && allEqual(fv.Mask, 0) || proto != "" && (fv.Field == FieldEthType || hidden && fv.Field == FieldIPProto) {
			continue
		}
		terms = append(terms, fv.String())
	}
	if proto != "" {
		terms = append([]string{proto}, terms...)
	}
	return strings.Join(terms, ",")
}

// protocol is ovs-ofctl's word for the EtherType and, if hidesProto, the IP
// protocol of a match.
func (m Match) protocol() (word string, hidesProto bool) {
	switch m.number(FieldEthType) {
	case EthTypeARP:
		return "arp", false
	case EthTypeIPv4:
		switch m.number(FieldIPProto) {
		case ProtoTCP:
			return "tcp", true
		case ProtoICMP:
			return "icmp", true
		}
		return "ip", false
	case EthTypeIPv6:
		switch m.number(FieldIPProto) {
		case ProtoTCP:
			return "tcp6", true
		case ProtoICMPv6:
			return "icmp6", true
		}
		return "ipv6", false
	}
	return "", false
}
