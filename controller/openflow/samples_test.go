package openflow_test

import (
	"net"
	"net/netip"
	"slices"
	"testing"
	"time"

	of "github.com/shunt-sdn/shunt/controller/openflow"
)

// A sample is one encoding that Shunt puts on the wire, or understands.
type sample struct {
	name string
	msg  of.Message
}

var (
	macA = net.HardwareAddr{2, 0, 0, 0, 0, 0xa}
	v4   = netip.MustParseAddr("10.10.0.80")
	v6   = netip.MustParseAddr("fd10::80")
)

func set(fv of.FieldValue) of.Action { return of.SetField{FieldValue: fv} }

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func add(f of.Flow) of.Message { return must(of.EncodeFlowMod(0x11, of.FlowMod{Flow: f})) }

func ip4(more ...of.FieldValue) of.Match {
	return append(of.Match{of.EthType(of.EthTypeIPv4)}, more...)
}

func ip6(more ...of.FieldValue) of.Match {
	return append(of.Match{of.EthType(of.EthTypeIPv6)}, more...)
}

func arp(more ...of.FieldValue) of.Match {
	return append(of.Match{of.EthType(of.EthTypeARP)}, more...)
}

// matchSamples has every field, with and without masks, in deliberately odd
// order.
func matchSamples() map[string]of.Match {
	tcp := of.IPProto(of.ProtoTCP)
	nd := func(t uint8, more ...of.FieldValue) of.Match {
		return append(ip6(of.IPProto(of.ProtoICMPv6), of.U8(of.FieldICMPv6Type, t), of.U8(of.FieldICMPv6Code, 0)), more...)
	}
	return map[string]of.Match{
		"any":              nil,
		"in_port":          {of.InPort(7)},
		"in_port local":    {of.InPort(of.PortLocal)},
		"eth":              {of.EthDst(macA), of.EthSrc(macA)},
		"eth masked":       {{Field: of.FieldEthDst, Value: []byte{1, 0, 0, 0, 0, 0}, Mask: []byte{1, 0, 0, 0, 0, 0}}},
		"arp":              arp(of.U16(of.FieldARPOp, 1), of.FieldValue{Field: of.FieldARPTPA, Value: v4.AsSlice()}),
		"arp all":          arp(of.U16(of.FieldARPOp, 2), of.FieldValue{Field: of.FieldARPSPA, Value: v4.AsSlice()}, of.MAC(of.FieldARPSHA, macA), of.MAC(of.FieldARPTHA, macA)),
		"ip":               ip4(of.IPSrc(v4), of.IPDst(v4)),
		"ip prefix":        ip4(of.IPDstIn(netip.MustParsePrefix("172.31.0.0/24"))),
		"ip default route": ip4(of.IPDstIn(netip.MustParsePrefix("0.0.0.0/0"))),
		"ip odd mask":      ip4(of.FieldValue{Field: of.FieldIPv4Src, Value: []byte{10, 0, 0, 1}, Mask: []byte{255, 0, 0, 255}}),
		"tcp":              append(of.Match{of.TCPDst(80), of.TCPSrc(4321), tcp}, ip4(of.IPDst(v4))...),
		"tcp slot":         append(of.Match{of.U16Masked(of.FieldTCPSrc, 6, 0x7e), tcp}, ip4()...),
		"syn":              append(of.Match{of.TCPFlags(of.TCPSyn, of.TCPSyn|of.TCPAck), tcp}, ip4()...),
		"flags exact":      append(of.Match{of.U16(of.FieldTCPFlags, of.TCPAck), tcp}, ip6()...),
		"tcp6":             append(of.Match{of.TCPDst(80), tcp}, ip6(of.IPDst(v6), of.IPSrcIn(netip.MustParsePrefix("fd31::/120")))...),
		"icmp":             ip4(of.IPProto(of.ProtoICMP), of.U8(of.FieldICMPv4Type, 8), of.U8(of.FieldICMPv4Code, 0)),
		"icmp6":            nd(128),
		"nd solicitation":  nd(135, of.FieldValue{Field: of.FieldNDTarget, Value: v6.AsSlice()}, of.MAC(of.FieldNDSLL, macA)),
		"nd extensions":    nd(136, of.U8(of.FieldNDOptionType, 2), of.U32(of.FieldNDReserved, 0xe0000000)),
		"nd advertisement": nd(136, of.FieldValue{Field: of.FieldNDTarget, Value: v6.AsSlice()}, of.MAC(of.FieldNDTLL, macA)),
		"ct":               append(of.Match{of.CTMark(5), of.U32Masked(of.FieldCTState, 0x22, 0x23)}, ip4()...),
		"ct mark masked":   append(of.Match{of.U32Masked(of.FieldCTMark, 0x30007, 0xffff0000), of.U32Masked(of.FieldCTState, 0x20, 0x20)}, ip6()...),
	}
}

// actionSamples has every action, and every field that is written.
func actionSamples() map[string][]of.Action {
	const zone = 0x5348
	return map[string][]of.Action{
		"drop":       nil,
		"output":     {of.Output{Port: 3}},
		"in_port":    {of.Output{Port: of.PortInPort}},
		"flood":      {of.Output{Port: of.PortFlood}, of.Output{Port: of.PortAll}, of.Output{Port: of.PortLocal}, of.Output{Port: of.PortTable}},
		"controller": {of.Controller{MaxLen: 128}, of.Controller{MaxLen: 0xffff}},
		"group":      {of.Group{ID: 9}},
		"dec_ttl":    {of.DecTTL{}},
		"rewrite": {set(of.EthDst(macA)), set(of.EthSrc(macA)), set(of.IPSrc(v4)), set(of.IPDst(v4)),
			set(of.TCPSrc(80)), set(of.TCPDst(80))},
		"rewrite6": {set(of.IPSrc(v6)), set(of.IPDst(v6))},
		"arp reply": {
			of.Move{Src: of.FieldEthSrc, Dst: of.FieldEthDst}, set(of.EthSrc(macA)), set(of.U16(of.FieldARPOp, 2)),
			of.Move{Src: of.FieldARPSHA, Dst: of.FieldARPTHA}, of.Move{Src: of.FieldARPSPA, Dst: of.FieldARPTPA},
			set(of.MAC(of.FieldARPSHA, macA)), set(of.FieldValue{Field: of.FieldARPSPA, Value: v4.AsSlice()}),
		},
		"echo reply": {of.Move{Src: of.FieldIPv4Src, Dst: of.FieldIPv4Dst}, set(of.U8(of.FieldICMPv4Type, 0))},
		"nd reply": {of.Move{Src: of.FieldIPv6Src, Dst: of.FieldIPv6Dst}, set(of.U8(of.FieldNDOptionType, 2)), set(of.U32(of.FieldNDReserved, 0xe0000000)),
			set(of.U8(of.FieldICMPv6Type, 136)), set(of.MAC(of.FieldNDTLL, macA)), set(of.FieldValue{Field: of.FieldNDTarget, Value: v6.AsSlice()})},
		"ct table":        {of.CT{Zone: zone, Table: 4}},
		"ct commit":       {of.CT{Zone: zone, Commit: true, Table: of.NoTable, Exec: []of.Action{set(of.CTMark(3<<16 | 7))}}},
		"ct force commit": {of.CT{Zone: zone, Commit: true, Force: true, Table: of.NoTable}},
	}
}

// samples is every kind of message.
func samples(t testing.TB) []sample {
	t.Helper()
	full := of.Flow{Table: 1, Priority: 300, Cookie: 0x5348000000000001, Match: ip4(of.IPDst(v4)), Apply: []of.Action{of.Output{Port: 3}}}
	var s []sample
	put := func(name string, msgs ...of.Message) {
		for _, m := range msgs {
			s = append(s, sample{name, m})
		}
	}
	for _, name := range sortedKeys(matchSamples()) {
		put("match/"+name, add(of.Flow{Match: matchSamples()[name]}))
	}
	for _, name := range sortedKeys(actionSamples()) {
		// Prerequisites of set_field and move are checked against the match.
		f := of.Flow{Match: ip4(of.IPProto(of.ProtoTCP)), Apply: actionSamples()[name]}
		switch name {
		case "arp reply":
			f.Match = arp()
		case "echo reply":
			f.Match = ip4(of.IPProto(of.ProtoICMP))
		case "nd reply":
			f.Match = ip6(of.IPProto(of.ProtoICMPv6), of.U8(of.FieldICMPv6Type, 136), of.U8(of.FieldICMPv6Code, 0))
		case "rewrite6":
			f.Match = ip6()
		}
		put("action/"+name, add(f))
	}
	f := full
	f.Goto, f.IdleTimeout, f.HardTimeout = 2, 1500*time.Millisecond, time.Hour
	put("flow_mod/goto and timeouts", add(f))
	for _, c := range []of.Command{of.Modify, of.ModifyStrict, of.DeleteStrict} {
		put("flow_mod/"+c.String(), must(of.EncodeFlowMod(1, of.FlowMod{Command: c, Flow: full, CookieMask: 0xffff << 48})))
	}
	put("flow_mod/flags", must(of.EncodeFlowMod(1, of.FlowMod{Flow: full, Flags: of.SendFlowRem | of.CheckOverlap})))
	put("flow_mod/delete by cookie", must(of.EncodeFlowMod(1, of.FlowMod{
		Command: of.Delete, CookieMask: ^uint64(0), OutPort: 4, OutGroup: 5, Flow: of.Flow{Table: of.NoTable, Cookie: 0x53481},
	})))
	put("hello", of.EncodeHello(1))
	put("error", of.EncodeError(7, of.FlowModTableFull, add(full)))
	put("error/hello", of.EncodeError(7, of.HelloIncompatible, []byte("no 1.3")))
	put("echo", of.EncodeEchoRequest(3, []byte("ping")), of.EncodeEchoReply(of.EncodeEchoRequest(3, []byte("ping"))))
	put("barrier", of.EncodeBarrierRequest(4), of.EncodeBarrierReply(4))
	put("features", of.EncodeFeaturesRequest(5), of.EncodeFeaturesReply(5, of.Features{
		DatapathID: 0xfeed, Buffers: 0, Tables: 254, Capabilities: of.CapabilityFlowStats | of.CapabilityTableStats | of.CapabilityPortStats | of.CapabilityGroupStats,
	}))
	put("config", of.EncodeSetConfig(6, of.SwitchConfig{MissSendLen: 0xffff}), of.EncodeGetConfigReply(6, of.SwitchConfig{MissSendLen: 128}))
	put("packet_in", must(of.EncodePacketIn(0, of.PacketIn{InPort: 2, Table: 3, Cookie: 77, Reason: of.ReasonAction, Data: ack})))
	put("packet_in/cut", must(of.EncodePacketIn(0, of.PacketIn{InPort: 2, Reason: of.ReasonNoMatch, TotalLen: 1500, Data: ack})))
	put("packet_out", must(of.EncodePacketOut(9, of.PacketOut{InPort: of.PortController, Apply: []of.Action{of.Output{Port: 3}}, Data: ack})))
	put("packet_out/ct", must(of.EncodePacketOut(9, of.PacketOut{InPort: 1, Apply: actionSamples()["ct commit"], Data: ack})))
	for _, c := range []of.Command{of.Add, of.Modify} {
		put("group_mod/"+c.String(), must(of.EncodeGroupMod(10, of.GroupMod{Command: c, ID: 7, Buckets: []of.Bucket{
			{Weight: 3, Apply: []of.Action{set(of.EthDst(macA)), of.Output{Port: 1}}}, {Weight: 1, Apply: []of.Action{of.Output{Port: 2}}},
		}})))
	}
	put("group_mod/delete", must(of.EncodeGroupMod(10, of.GroupMod{Command: of.Delete, ID: of.AllGroups})))
	port := of.Port{No: 3, Name: "eth0", MAC: [6]byte(macA), LinkUp: true}
	put("port_status", of.EncodePortStatus(0, of.PortStatus{Reason: of.PortModified, Port: of.Port{No: 3, Name: "a-name-too-long-for-it"}}))
	put("role", of.EncodeRoleRequest(2, of.RoleMaster, 77), of.EncodeRoleReply(2, of.RoleMaster, 77))
	put("async", of.EncodeSetAsync(2, of.AllAsync), of.EncodeGetAsyncReply(2, of.AsyncConfig{PacketIn: [2]uint32{3, 0}}))
	put("flow_removed", must(of.EncodeFlowRemoved(0, of.FlowRemoved{
		Reason: of.RemovedIdle, Table: 2, Priority: 5, Cookie: 6, Match: full.Match, Duration: 1500 * time.Millisecond, IdleTimeout: 3 * time.Second, Packets: 8, Bytes: 900,
	})))
	for _, r := range []of.MultipartRequest{
		{Kind: of.MultipartDesc}, {Kind: of.MultipartPortDesc}, {Kind: of.MultipartTable}, {Kind: of.MultipartGroupDesc},
		{Kind: of.MultipartPortStats, ID: of.PortAny}, {Kind: of.MultipartGroup, ID: of.AllGroups},
		{Kind: of.MultipartFlow, Flows: of.FlowStatsRequest{Table: of.NoTable, Cookie: 0x5348 << 48, CookieMask: 0xffff << 48}},
		{Kind: of.MultipartAggregate, Flows: of.FlowStatsRequest{Table: 3, OutPort: 2, OutGroup: 8, Match: full.Match}},
	} {
		put("multipart request", must(of.EncodeMultipartRequest(12, r)))
	}
	entry := must(of.EncodeFlowEntry(of.FlowEntry{Flow: full, Packets: 5, Bytes: 600, Duration: 1250 * time.Millisecond}))
	put("multipart/flow", of.EncodeMultipartReply(12, of.MultipartFlow, entry, entry)...)
	put("multipart/ports", of.EncodeMultipartReply(12, of.MultipartPortDesc, of.EncodePort(port), of.EncodePort(of.Port{No: 4, Name: "down"}))...)
	put("multipart/desc", of.EncodeMultipartReply(12, of.MultipartDesc, of.EncodeDesc(of.Desc{Manufacturer: "m", Hardware: "h", Software: "s", Serial: "n", Datapath: "d"}))...)
	put("multipart/aggregate", of.EncodeMultipartReply(12, of.MultipartAggregate, of.EncodeAggregate(5, 600, 7))...)
	put("multipart/table", of.EncodeMultipartReply(12, of.MultipartTable, of.EncodeTableStats(1, 2, 3, 4))...)
	put("multipart/port stats", of.EncodeMultipartReply(12, of.MultipartPortStats, of.EncodePortCounters(of.PortCounters{
		Port: 3, RxPackets: 1, TxPackets: 2, RxBytes: 3, TxBytes: 4, RxDropped: 5, TxDropped: 6, RxErrors: 7, TxErrors: 8, Duration: 2 * time.Second,
	}))...)
	put("multipart/group desc", of.EncodeMultipartReply(12, of.MultipartGroupDesc, must(of.EncodeGroupDesc(7, []of.Bucket{{Weight: 3, Apply: []of.Action{of.Output{Port: 1}}}})))...)
	return s
}

func sortedKeys[V any](m map[string]V) []string {
	var keys []string
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
