package openflow_test

import (
	"encoding/binary"
	"errors"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	of "github.com/shunt-sdn/shunt/controller/openflow"
)

func TestSwitchesRefuseMatchesAsTheSpecificationHasIt(t *testing.T) {
	tcp := of.IPProto(of.ProtoTCP)
	for name, tt := range map[string]struct {
		m    of.Match
		want of.Code
	}{
		"no prerequisite":          {of.Match{of.TCPDst(80)}, of.BadMatchBadPrereq},
		"prerequisite of UDP":      {ip4(of.IPProto(17), of.TCPDst(80)), of.BadMatchBadPrereq},
		"IPv6 address in IPv4":     {ip4(of.IPDst(v6)), of.BadMatchBadPrereq},
		"ARP field in IP":          {ip4(of.U16(of.FieldARPOp, 1)), of.BadMatchBadPrereq},
		"ND target in an echo":     {ip6(of.IPProto(58), of.U8(of.FieldICMPv6Type, 128), of.FieldValue{Field: of.FieldNDTarget, Value: v6.AsSlice()}), of.BadMatchBadPrereq},
		"ICMPv6 in IPv4":           {ip4(of.IPProto(58), of.U8(of.FieldICMPv6Type, 128)), of.BadMatchBadPrereq},
		"bits outside the mask":    {ip4(of.FieldValue{Field: of.FieldIPv4Dst, Value: []byte{1, 2, 3, 4}, Mask: []byte{255, 0, 0, 0}}), of.BadMatchBadValue},
		"a mask where none may be": {of.Match{of.U32Masked(of.FieldInPort, 1, 1)}, of.BadMatchBadMask},
		"unknown field":            {of.Match{{Field: 0x8000<<16 | 39<<9, Value: []byte{0}}}, of.BadMatchBadField},
		"short value":              {of.Match{{Field: of.FieldInPort, Value: []byte{1}}}, of.BadMatchBadLen},
		"twice":                    {ip4(tcp, of.TCPDst(1), of.TCPDst(2)), of.BadMatchDupField},
	} {
		if err := tt.m.Check(); !errors.Is(err, tt.want) {
			t.Errorf("%s: %v, want %v", name, err, tt.want)
		}
	}
	for name, m := range matchSamples() {
		if err := m.Check(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := of.EncodeMatch(of.Match{of.InPort(1), of.InPort(2)}); !errors.Is(err, of.BadMatchDupField) {
		t.Errorf("encode a field twice: %v", err)
	}
}

// patch changes a copy of a message.
func patch(m of.Message, change func(b []byte)) of.Message {
	b := slices.Clone(m)
	change(b)
	return b
}

func u16At(i int, v uint16) func([]byte) {
	return func(b []byte) { binary.BigEndian.PutUint16(b[i:], v) }
}

func u32At(i int, v uint32) func([]byte) {
	return func(b []byte) { binary.BigEndian.PutUint32(b[i:], v) }
}

func TestMalformedMessagesHaveTheRightError(t *testing.T) {
	flow := add(of.Flow{Apply: []of.Action{of.Output{Port: 1}}})
	const match, instr, action = 48, 56, 64 // where they start in flow
	out := must(of.EncodePacketOut(1, of.PacketOut{InPort: 1, Apply: []of.Action{of.Output{Port: 1}}}))
	group := must(of.EncodeGroupMod(1, of.GroupMod{ID: 1, Buckets: []of.Bucket{{Apply: []of.Action{of.Output{Port: 1}}}}}))
	parseFlow := func(m of.Message) error { _, err := of.ParseFlowMod(m); return err }
	parseOut := func(m of.Message) error { _, err := of.ParsePacketOut(m); return err }
	parseGroup := func(m of.Message) error { _, err := of.ParseGroupMod(m); return err }
	parseRole := func(m of.Message) error { _, _, err := of.ParseRoleRequest(m); return err }
	parseStats := func(m of.Message) error { _, err := of.ParseMultipartRequest(m); return err }
	for name, tt := range map[string]struct {
		err  error
		want of.Code
	}{
		"cut":                  {parseFlow(flow[:40]), of.BadRequestBadLen},
		"less than a header":   {parseFlow(flow[:4]), of.BadRequestBadLen},
		"version":              {parseFlow(patch(flow, func(b []byte) { b[0] = 5 })), of.BadRequestBadVersion},
		"another type":         {parseFlow(out), of.BadRequestBadType},
		"command":              {parseFlow(patch(flow, func(b []byte) { b[25] = 9 })), of.FlowModBadCommand},
		"buffer":               {parseFlow(patch(flow, u32At(32, 7))), of.BadRequestBufUnknown},
		"flags":                {parseFlow(patch(flow, u16At(44, 0x8000))), of.FlowModBadFlags},
		"match type":           {parseFlow(patch(flow, u16At(match, 0))), of.BadMatchBadType},
		"match length":         {parseFlow(patch(flow, u16At(match+2, 3))), of.BadMatchBadLen},
		"match too long":       {parseFlow(patch(flow, u16At(match+2, 600))), of.BadMatchBadLen},
		"instruction length":   {parseFlow(patch(flow, u16At(instr+2, 9))), of.BadInstrBadLen},
		"instruction too long": {parseFlow(patch(flow, u16At(instr+2, 800))), of.BadInstrBadLen},
		"unknown instruction":  {parseFlow(patch(flow, u16At(instr, 77))), of.BadInstrUnknown},
		"meter":                {parseFlow(patch(flow, u16At(instr, 6))), of.BadInstrUnsupported},
		"experimenter":         {parseFlow(patch(flow, u16At(instr, 0xffff))), of.BadInstrBadExp},
		"goto 0":               {parseFlow(patch(add(of.Flow{Goto: 1}), func(b []byte) { b[instr+4] = 0 })), of.BadInstrBadTableID},
		"action length":        {parseFlow(patch(flow, u16At(action+2, 0))), of.BadActionBadLen},
		"short output":         {parseFlow(patch(flow, u16At(action+2, 8))), of.BadActionBadLen},
		"unknown action":       {parseFlow(patch(flow, u16At(action, 99))), of.BadActionBadType},
		"foreign action":       {parseFlow(patch(flow, u16At(action, 0xffff))), of.BadActionBadExp},
		"nicira action": {parseFlow(patch(flow, func(b []byte) { u16At(action, 0xffff)(b); u32At(action+4, 0x2320)(b); u16At(action+8, 300)(b) })),
			of.BadActionBadExpType},
		"packet-out buffer":  {parseOut(patch(out, u32At(8, 1))), of.BadRequestBufUnknown},
		"packet-out actions": {parseOut(patch(out, u16At(16, 500))), of.BadRequestBadLen},
		"group command":      {parseGroup(patch(group, u16At(8, 9))), of.GroupModBadCommand},
		"group type":         {parseGroup(patch(group, func(b []byte) { b[10] = 0 })), of.GroupModBadType},
		"group id":           {parseGroup(patch(group, u32At(12, of.AllGroups))), of.GroupModInvalid},
		"bucket":             {parseGroup(patch(group, u16At(16, 15))), of.GroupModBadBucket},
		"role":               {parseRole(patch(of.EncodeRoleRequest(1, of.RoleMaster, 1), u32At(8, 4))), of.RoleBadRole},
		"role cut":           {parseRole(of.Message{4, 24, 0, 12, 0, 0, 0, 1, 0, 0, 0, 1}), of.BadRequestBadLen},
		"request in parts": {parseStats(patch(must(of.EncodeMultipartRequest(1, of.MultipartRequest{})), u16At(10, 1))),
			of.BadRequestBadStat},
	} {
		var pe *of.ParseError
		if !errors.Is(tt.err, tt.want) || !errors.As(tt.err, &pe) || pe.Code != tt.want {
			t.Errorf("%s: %v, want %v", name, tt.err, tt.want)
		}
	}
}

func TestWhatCannotBeEncodedIsRefused(t *testing.T) {
	exec := func(a of.Action, commit bool) []of.Action {
		return []of.Action{of.CT{Commit: commit, Table: of.NoTable, Exec: []of.Action{a}}}
	}
	for name, f := range map[string]of.Flow{
		"masked set_field":    {Apply: []of.Action{set(of.U16Masked(of.FieldTCPSrc, 1, 1))}},
		"unknown set_field":   {Apply: []of.Action{set(of.FieldValue{Field: 7, Value: []byte{1}})}},
		"move of two widths":  {Apply: []of.Action{of.Move{Src: of.FieldEthSrc, Dst: of.FieldIPv4Src}}},
		"exec without commit": {Apply: exec(set(of.CTMark(1)), false)},
		"exec of output":      {Apply: exec(of.Output{Port: 1}, true)},
		"exec of an address":  {Apply: exec(set(of.IPSrc(v4)), true)},
		"timeout":             {IdleTimeout: 70000 * time.Second},
		"negative timeout":    {HardTimeout: -2 * time.Second},
		"half an action":      {Apply: []of.Action{of.Other{Raw: []byte{0, 1, 0, 16, 0, 0, 0, 0}}}},
		"too many actions":    {Apply: slices.Repeat([]of.Action{of.Output{Port: 1}}, 5000)},
	} {
		m, err := of.EncodeFlowMod(1, of.FlowMod{Flow: f})
		if err == nil || !strings.HasPrefix(err.Error(), "encode add cookie") {
			t.Errorf("%s: %x, %v", name, m, err)
		}
	}
	if _, err := of.EncodePacketOut(1, of.PacketOut{Data: make([]byte, 65530)}); err == nil {
		t.Error("a packet larger than a message was encoded")
	}
	if _, err := of.EncodeGroupMod(1, of.GroupMod{Command: of.DeleteStrict}); !errors.Is(err, of.GroupModBadCommand) {
		t.Errorf("delete_strict of a group: %v", err)
	}
	b := []byte("kept")
	if got, err := of.AppendFlowMod(b, 1, of.FlowMod{Command: 9}); err == nil || string(got) != "kept" {
		t.Errorf("%q, %v", got, err)
	}
}

// What other controllers install must survive a dump, and be told apart.
func TestDumpsKeepWhatTheModelLacks(t *testing.T) {
	metadata := []byte{0x80, 0, 2 << 1, 8, 0, 0, 0, 0, 0, 0, 0, 5}
	entry := must(of.EncodeFlowEntry(of.FlowEntry{
		Flow:  of.Flow{Table: 3, Cookie: 9, Apply: []of.Action{of.Other{Raw: []byte{0, 18, 0, 8, 0, 0, 0, 0}}, of.Output{Port: 2}}},
		Other: []byte{0, 6, 0, 8, 0, 0, 0, 1},
	}))
	// Put the metadata field into the empty match: 8 octets grow to 16.
	withField := slices.Concat(entry[:48], []byte{0, 1, 0, 16}, metadata, entry[56:])
	binary.BigEndian.PutUint16(withField, uint16(len(withField)))
	got, err := of.ParseFlowEntries(slices.Concat(withField, entry))
	if err != nil || len(got) != 2 {
		t.Fatalf("%v, %v", got, err)
	}
	const actions = "action(18),output:2,instruction(6)"
	want := "cookie=0x9,duration=0.000s,table=3,n_packets=0,n_bytes=0,priority=0,oxm(0x8000:2)=0x0000000000000005,actions=" + actions
	if s := got[0].Dump().String(); s != want {
		t.Errorf("dump\n%s, want\n%s", s, want)
	}
	if diff := cmp.Diff(actions, got[1].Actions()); diff != "" {
		t.Error(diff)
	}
}

// Open vSwitch reports tcp_flags in OpenFlow 1.3 as ONF's experimenter field.
func TestBothEncodingsOfTCPFlagsAreOneField(t *testing.T) {
	tail := []byte{0xff, 0xff, 42<<1 | 1, 8, 0x4f, 0x4e, 0x46, 0, 0, 2, 0, 0x12}
	m, err := of.ParseMatch(slices.Concat(must(of.EncodeMatch(ip4(of.IPProto(of.ProtoTCP)))), tail))
	if err != nil || m.String() != "tcp,tcp_flags=+syn-ack" {
		t.Errorf("%v, %v", m, err)
	}
}

func TestErrorsAreNamed(t *testing.T) {
	nicira := append([]byte{0, 0, 0x23, 0x20}, make([]byte, 8)...)
	for _, tt := range []struct {
		code of.Code
		data []byte
		want string
	}{
		{of.FlowModTableFull, nil, "OFPFMFC_TABLE_FULL"},
		{of.RoleStale, nil, "OFPRRFC_STALE"},
		{of.MakeCode(5, 99), nil, "type 5 code 99"},
		{of.MakeCode(200, 1), nil, "type 200 code 1"},
		{of.MakeCode(0xffff, 42), nicira, "NXBAC_CT_DATAPATH_SUPPORT"},
		{of.MakeCode(0xffff, 999), nicira, "experimenter 0x2320 error 999"},
		{of.MakeCode(0xffff, 7), nil, "experimenter error 7"},
	} {
		e, err := of.ParseErrorMessage(of.EncodeError(3, tt.code, tt.data))
		if err != nil || e.Name != tt.want || !errors.Is(e, tt.code) || e.Xid != 3 {
			t.Errorf("%v: %+v, %v", tt.code, e, err)
		}
	}
}

func TestRepliesArePackedWhole(t *testing.T) {
	entry := make([]byte, 30000)
	parts := of.EncodeMultipartReply(5, of.MultipartFlow, entry, entry, entry, entry, entry)
	var more []bool
	total := 0
	for _, m := range parts {
		r, err := of.ParseMultipartReply(m)
		if err != nil || r.Kind != of.MultipartFlow || m.Xid() != 5 {
			t.Fatalf("%+v, %v", r, err)
		}
		more, total = append(more, r.More), total+len(r.Body)
	}
	if diff := cmp.Diff([]bool{true, true, false}, more); diff != "" || total != 150000 {
		t.Errorf("%d octets, %s", total, diff)
	}
	if empty := of.EncodeMultipartReply(5, of.MultipartFlow); len(empty) != 1 || len(empty[0]) != 16 {
		t.Errorf("no entries: %x", empty)
	}
}

func TestPrefixesOfBothFamilies(t *testing.T) {
	for _, p := range []string{"10.0.0.0/8", "10.1.2.3/32", "fd10::/64", "fd10::1/128"} {
		prefix := netip.MustParsePrefix(p)
		want := strings.TrimSuffix(strings.TrimSuffix(p, "/32"), "/128")
		if s := of.IPDstIn(prefix).String(); !strings.HasSuffix(s, "_dst="+want) {
			t.Errorf("%s: %s", p, s)
		}
	}
}
