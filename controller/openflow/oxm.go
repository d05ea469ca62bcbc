package openflow

import (
	"cmp"
	"encoding/binary"
	"slices"
)

// OXM header: class 16 bits, field 7, mask flag 1, payload length 8.
const (
	oxmHasMask         = 1 << 8
	oxmFieldMask       = 0xfffffe00
	oxmExperimenter    = 0xffff << 16
	experimenterNicira = 0x00002320
	experimenterONF    = 0x4f4e4600
	// ONF extension 109: tcp_flags in OpenFlow 1.3, as Open vSwitch reports it.
	fieldONFTCPFlags Field = oxmExperimenter | 42<<9
)

// header is the field's OXM header with neither mask bit nor experimenter.
func (f Field) header() uint32 { return uint32(f) | uint32(f.Width()) }

// rank orders a match so that every field comes after its prerequisites.
func (f Field) rank() int {
	switch f {
	case FieldInPort:
		return 0
	case FieldEthDst, FieldEthSrc:
		return 1
	case FieldEthType:
		return 2
	case FieldIPProto:
		return 3
	case FieldIPv4Src, FieldIPv4Dst, FieldIPv6Src, FieldIPv6Dst,
		FieldARPOp, FieldARPSPA, FieldARPTPA, FieldARPSHA, FieldARPTHA:
		return 4
	case FieldTCPSrc, FieldTCPDst, FieldTCPFlags, FieldICMPv4Type, FieldICMPv4Code,
		FieldICMPv6Type, FieldICMPv6Code:
		return 5
	case FieldNDTarget, FieldNDSLL, FieldNDTLL, FieldNDReserved, FieldNDOptionType:
		return 6
	}
	return 7
}

// ordered returns m with prerequisites first, otherwise by field number.
func (m Match) ordered() Match {
	less := func(a, b FieldValue) int {
		return cmp.Or(cmp.Compare(a.Field.rank(), b.Field.rank()), cmp.Compare(a.Field, b.Field))
	}
	if slices.IsSortedFunc(m, less) {
		return m
	}
	s := slices.Clone(m)
	slices.SortStableFunc(s, less)
	return s
}

func appendOXM(b []byte, fv FieldValue) ([]byte, error) {
	w := fv.Field.Width()
	if w == 0 {
		return nil, malformed(BadMatchBadField, "field %#x is not in the model", uint32(fv.Field))
	}
	if len(fv.Value) != w {
		return nil, malformed(BadMatchBadLen, "%v has %d octets, the value %d", fv.Field, w, len(fv.Value))
	}
	h := fv.Field.header()
	if fv.Mask == nil {
		b = binary.BigEndian.AppendUint32(b, h)
		return append(b, fv.Value...), nil
	}
	if len(fv.Mask) != w {
		return nil, malformed(BadMatchBadLen, "%v has %d octets, the mask %d", fv.Field, w, len(fv.Mask))
	}
	b = binary.BigEndian.AppendUint32(b, h&^0xff|oxmHasMask|uint32(2*w))
	b = append(b, fv.Value...)
	return append(b, fv.Mask...), nil
}

// EncodeMatch encodes the match's fields as OXM TLVs, prerequisites first,
// without the match header and padding. It refuses fields outside the model,
// wrong widths, and a field given twice. Values whose mask is all zero, and
// masks that are all ones, are left out.
func EncodeMatch(m Match) ([]byte, error) { return appendOXMs(nil, m) }

func appendOXMs(b []byte, m Match) ([]byte, error) {
	var err error
	m = m.ordered()
	for i, fv := range m {
		if i > 0 && m[i-1].Field == fv.Field {
			return nil, malformed(BadMatchDupField, "%v occurs twice in a match", fv.Field)
		}
		if fv.Mask != nil && len(fv.Mask) == fv.Field.Width() {
			if allEqual(fv.Mask, 0) {
				continue
			}
			if allEqual(fv.Mask, 0xff) {
				fv.Mask = nil
			}
		}
		if b, err = appendOXM(b, fv); err != nil {
			return nil, err
		}
	}
	return b, nil
}

func allEqual(b []byte, v byte) bool {
	for _, x := range b {
		if x != v {
			return false
		}
	}
	return true
}

// nextOXM splits the first TLV off b. Fields outside the model come back with
// their payload as it is and no mask, so that flows of others survive a dump.
func nextOXM(b []byte) (fv FieldValue, rest []byte, err error) {
	if len(b) < 4 {
		return fv, nil, malformed(BadMatchBadLen, "%d octets left where a match field starts", len(b))
	}
	h := binary.BigEndian.Uint32(b)
	n := int(h & 0xff)
	if len(b) < 4+n {
		return fv, nil, malformed(BadMatchBadLen, "match field %#x of %d octets, %d left", h, n, len(b)-4)
	}
	payload, rest := b[4:4+n:4+n], b[4+n:]
	f := Field(h & oxmFieldMask)
	if f == fieldONFTCPFlags && n >= 4 && binary.BigEndian.Uint32(payload) == experimenterONF {
		f, payload = FieldTCPFlags, payload[4:]
	}
	w := f.Width()
	masked := h&oxmHasMask != 0
	switch {
	case w == 0:
		return FieldValue{Field: f | Field(h&oxmHasMask), Value: payload}, rest, nil
	case !masked && len(payload) == w:
		return FieldValue{Field: f, Value: payload}, rest, nil
	case masked && len(payload) == 2*w:
		return FieldValue{Field: f, Value: payload[:w:w], Mask: payload[w:]}, rest, nil
	}
	return fv, nil, malformed(BadMatchBadLen, "%v with a payload of %d octets", f, len(payload))
}

// ParseMatch decodes OXM TLVs (without the match header and padding) and checks
// them as a switch does: known fields, once each, prerequisites there, no bit
// of the value outside the mask.
func ParseMatch(oxm []byte) (Match, error) {
	m, err := parseOXMs(oxm)
	if err != nil {
		return nil, err
	}
	return m, m.Check()
}

// parseOXMs decodes without judging: what another controller installed must
// survive a dump.
func parseOXMs(b []byte) (Match, error) {
	var m Match
	for len(b) > 0 {
		fv, rest, err := nextOXM(b)
		if err != nil {
			return nil, err
		}
		m, b = append(m, fv), rest
	}
	return m, nil
}

// appendMatch appends an ofp_match: header, TLVs, padding.
func appendMatch(b []byte, m Match) ([]byte, error) {
	start := len(b)
	b = append(b, 0, 1, 0, 0) // OFPMT_OXM
	b, err := appendOXMs(b, m)
	if err != nil {
		return nil, err
	}
	binary.BigEndian.PutUint16(b[start+2:], uint16(len(b)-start))
	return pad(b, start), nil
}

// splitMatch cuts an ofp_match off the front of b and returns its TLVs.
func splitMatch(b []byte) (oxm, rest []byte, err error) {
	if len(b) < 4 {
		return nil, nil, malformed(BadMatchBadLen, "%d octets left where a match starts", len(b))
	}
	if t := binary.BigEndian.Uint16(b); t != 1 {
		return nil, nil, malformed(BadMatchBadType, "match type %d, not OXM", t)
	}
	n := int(binary.BigEndian.Uint16(b[2:]))
	if n < 4 || padded(n) > len(b) {
		return nil, nil, malformed(BadMatchBadLen, "match of %d octets, %d left", n, len(b))
	}
	return b[4:n:n], b[padded(n):], nil
}

// Check judges a match as a switch does before it installs a flow, OpenFlow
// 1.3.5, 7.2.3.6 to 7.2.3.8. The error is a *ParseError.
func (m Match) Check() error {
	for i, fv := range m {
		f := fv.Field
		w := f.Width()
		if w == 0 {
			return malformed(BadMatchBadField, "field %#x is unknown", uint32(f))
		}
		if len(fv.Value) != w || fv.Mask != nil && len(fv.Mask) != w {
			return malformed(BadMatchBadLen, "%v with a value of %d and a mask of %d octets", f, len(fv.Value), len(fv.Mask))
		}
		for _, other := range m[:i] {
			if other.Field == f {
				return malformed(BadMatchDupField, "%v occurs twice", f)
			}
		}
		if fv.Mask != nil && !f.maskable() {
			return malformed(BadMatchBadMask, "%v cannot have a mask", f)
		}
		for j := range fv.Mask {
			if fv.Value[j]&^fv.Mask[j] != 0 {
				return malformed(BadMatchBadValue, "%v has bits outside its mask", f)
			}
		}
		if !m.hasPrerequisites(f) {
			return malformed(BadMatchBadPrereq, "%v without the fields that it depends on", f)
		}
	}
	return nil
}

// maskable follows OpenFlow 1.3.5, table 12; Open vSwitch allows more.
func (f Field) maskable() bool {
	switch f {
	case FieldInPort, FieldEthType, FieldIPProto, FieldICMPv4Type, FieldICMPv4Code,
		FieldICMPv6Type, FieldICMPv6Code, FieldARPOp, FieldNDOptionType:
		return false
	}
	return true
}

// hasPrerequisites follows OpenFlow 1.3.5, table 12.
func (m Match) hasPrerequisites(f Field) bool {
	switch f {
	case FieldARPOp, FieldARPSPA, FieldARPTPA, FieldARPSHA, FieldARPTHA:
		return m.number(FieldEthType) == EthTypeARP
	case FieldIPv4Src, FieldIPv4Dst:
		return m.number(FieldEthType) == EthTypeIPv4
	case FieldIPv6Src, FieldIPv6Dst:
		return m.number(FieldEthType) == EthTypeIPv6
	case FieldIPProto:
		t := m.number(FieldEthType)
		return t == EthTypeIPv4 || t == EthTypeIPv6
	case FieldTCPSrc, FieldTCPDst, FieldTCPFlags:
		return m.number(FieldIPProto) == ProtoTCP
	case FieldICMPv4Type, FieldICMPv4Code:
		return m.number(FieldIPProto) == ProtoICMP && m.number(FieldEthType) == EthTypeIPv4
	case FieldICMPv6Type, FieldICMPv6Code:
		return m.number(FieldIPProto) == ProtoICMPv6 && m.number(FieldEthType) == EthTypeIPv6
	case FieldNDTarget, FieldNDReserved, FieldNDOptionType:
		t := m.number(FieldICMPv6Type)
		return t == 135 || t == 136
	case FieldNDSLL:
		return m.number(FieldICMPv6Type) == 135
	case FieldNDTLL:
		return m.number(FieldICMPv6Type) == 136
	}
	return true
}

// Get returns the match's value of a field.
func (m Match) Get(f Field) (FieldValue, bool) {
	for _, fv := range m {
		if fv.Field == f {
			return fv, true
		}
	}
	return FieldValue{}, false
}

// number is the value of a field of up to four octets, or -1 where the match
// does not fix it.
func (m Match) number(f Field) int64 {
	fv, ok := m.Get(f)
	if !ok || fv.Mask != nil && !allEqual(fv.Mask, 0xff) || len(fv.Value) > 4 {
		return -1
	}
	var n int64
	for _, b := range fv.Value {
		n = n<<8 | int64(b)
	}
	return n
}
