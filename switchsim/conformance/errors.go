package conformance

import (
	"encoding/binary"
	"slices"

	"github.com/shunt-sdn/shunt/controller/openflow"
)

// OpenFlow numbers that the model has no name for.
const (
	badWildcards = openflow.Code(4<<16 | 5)
	multipartReq = 18
)

var (
	ethIPv4  = oxm(5, 0x08, 0x00)
	protoTCP = oxm(10, 6)
	dropAll  = []byte(nil)
)

func output(port uint32) []byte {
	b := []byte{0, 0, 0, 16}
	b = binary.BigEndian.AppendUint32(b, port)
	return append(b, 0xff, 0xff, 0, 0, 0, 0, 0, 0)
}

var errorCases = []behaviour{
	{"unknown and foreign messages", func(e *env) {
		r := e.raw()
		r.wantError(message(99), openflow.BadRequestBadType)
		r.wantError(message(4, 0xde, 0xad, 0xbe, 0xef, 0, 0, 0, 1), openflow.BadRequestBadExp)
		r.wantError(message(multipartReq, 0, 77, 0, 0, 0, 0, 0, 0), openflow.BadRequestBadStat)
	}},
	{"a message of another version is refused, or ends the connection", func(e *env) {
		r := e.raw()
		wrong := flowMod(0, 0, nil, dropAll)
		wrong[0] = 1
		r.write(wrong)
		if m, err := r.in.Next(); err == nil {
			m[0] = openflow.Version // the error may be of the version that the message had
			got, perr := openflow.ParseErrorMessage(m)
			if perr != nil || openflow.MakeCode(got.Type, got.Code) != openflow.BadRequestBadVersion {
				e.Errorf("got %v %v, want %v or the end", got, perr, openflow.BadRequestBadVersion)
			}
		}
		e.wantCookies()
	}},
	{"messages that are too short", func(e *env) {
		r := e.raw()
		for _, typ := range []uint8{9, 13, 14, 15, 24, 28} {
			r.wantError(message(typ), openflow.BadRequestBadLen)
		}
		r.wantError(message(14, make([]byte, 20)...), openflow.BadRequestBadLen)
	}},
	{"wrong matches", func(e *env) {
		r := e.raw()
		for _, c := range []struct {
			what string
			oxm  []byte
			want []openflow.Code
		}{
			{"an unknown field", []byte{0x80, 0, 70 << 1, 1, 0}, []openflow.Code{openflow.BadMatchBadField}},
			{"an unknown class", []byte{0x12, 0x34, 0, 1, 0}, []openflow.Code{openflow.BadMatchBadField}},
			{"a port without protocol", oxm(14, 0, 80), []openflow.Code{openflow.BadMatchBadPrereq}},
			{"a TCP port of a UDP packet", slices.Concat(ethIPv4, oxm(10, 17), oxm(14, 0, 80)), []openflow.Code{openflow.BadMatchBadPrereq}},
			{"an IPv6 address in an IPv4 packet", slices.Concat(ethIPv4, oxm(26, make([]byte, 16)...)), []openflow.Code{openflow.BadMatchBadPrereq}},
			{"a field twice", slices.Concat(ethIPv4, ethIPv4), []openflow.Code{openflow.BadMatchDupField}},
			{"a value outside its mask", slices.Concat(ethIPv4, []byte{0x80, 0, 12<<1 | 1, 8, 10, 0, 0, 1, 255, 255, 255, 0}), []openflow.Code{badWildcards}},
			{"a field with the wrong length", []byte{0x80, 0, 5 << 1, 3, 8, 0, 0}, []openflow.Code{openflow.BadMatchBadLen, openflow.BadMatchBadField}},
			{"a field that is cut off", []byte{0x80, 0, 5 << 1, 2, 8}, []openflow.Code{openflow.BadMatchBadLen}},
			{"a VLAN beyond 12 bits", oxm(6, 0xff, 0xff), []openflow.Code{openflow.BadMatchBadValue}},
			{"a mask on the EtherType", []byte{0x80, 0, 5<<1 | 1, 4, 8, 0, 0xff, 0}, []openflow.Code{openflow.BadMatchBadMask}},
		} {
			e.Log(c.what)
			r.wantError(flowMod(0, 0, c.oxm, dropAll), c.want...)
		}
		nonOXM := flowMod(0, 0, nil, dropAll)
		nonOXM[49] = 0
		r.wantError(nonOXM, openflow.BadMatchBadType, openflow.BadMatchBadLen)
		e.wantCookies()
	}},
	{"wrong actions", func(e *env) {
		r := e.raw()
		for _, c := range []struct {
			what   string
			action []byte
			want   []openflow.Code
		}{
			{"an unknown action", []byte{0, 60, 0, 8, 0, 0, 0, 0}, []openflow.Code{openflow.BadActionBadType}},
			{"an unknown experimenter", []byte{0xff, 0xff, 0, 8, 0xde, 0xad, 0xbe, 0xef}, []openflow.Code{openflow.BadActionBadExp}},
			{"a length that is no multiple of 8", []byte{0, 0, 0, 12, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0}, []openflow.Code{openflow.BadActionBadLen}},
			{"a length of 0", []byte{0, 0, 0, 0, 0, 0, 0, 1}, []openflow.Code{openflow.BadActionBadLen}},
			{"an action that is cut off", []byte{0, 0, 0, 16, 0, 0, 0, 1}, []openflow.Code{openflow.BadActionBadLen}},
			{"output to any port", output(0xffffffff), []openflow.Code{openflow.BadActionBadOutPort}},
			{"output to a port number that is reserved", output(0xffffff42), []openflow.Code{openflow.BadActionBadOutPort}},
			{"a group that does not exist", []byte{0, 22, 0, 8, 0, 0, 0, 9}, []openflow.Code{openflow.BadActionBadOutGroup}},
			{"a TTL of no IP packet", []byte{0, 24, 0, 8, 0, 0, 0, 0}, []openflow.Code{openflow.BadActionInconsistent}},
			{"a field of another protocol", append([]byte{0, 25, 0, 16}, append(oxm(12, 10, 0, 0, 1), 0, 0, 0, 0)...), []openflow.Code{openflow.BadActionInconsistent}},
			{"a field that cannot be set", append([]byte{0, 25, 0, 16}, append(oxm(5, 8, 0), 0, 0, 0, 0, 0, 0)...), []openflow.Code{openflow.BadActionBadSetType, openflow.BadActionBadSetArg}},
		} {
			e.Log(c.what)
			r.wantError(flowMod(0, 0, nil, apply(c.action)), c.want...)
		}
		e.wantCookies()
	}},
	{"wrong instructions", func(e *env) {
		r := e.raw()
		r.wantError(flowMod(0, 0, nil, instruction(60, 0, 0, 0, 0)), openflow.BadInstrUnknown)
		r.wantError(flowMod(0, 0, nil, []byte{0, 4, 0, 4, 0, 0, 0, 0}), openflow.BadInstrBadLen)
		r.wantError(flowMod(0, 0, nil, []byte{0, 4, 0, 32, 0, 0, 0, 0}), openflow.BadInstrBadLen)
		r.wantError(flowMod(5, 0, nil, instruction(1, 5, 0, 0, 0)), openflow.BadInstrBadTableID)
		r.wantError(flowMod(5, 0, nil, instruction(1, 3, 0, 0, 0)), openflow.BadInstrBadTableID)
		e.wantCookies()
	}},
	{"wrong flow mods", func(e *env) {
		r := e.raw()
		r.wantError(flowMod(0, 9, nil, dropAll), openflow.FlowModBadCommand)
		r.wantError(flowMod(0xff, 0, nil, dropAll), openflow.FlowModBadTableID)
		buffered := flowMod(0, 0, nil, apply(output(1)))
		binary.BigEndian.PutUint32(buffered[32:], 7)
		r.wantError(buffered, openflow.BadRequestBufUnknown)
	}},
	{"wrong packet-outs", func(e *env) {
		r := e.raw()
		frame := families[0].toVIP(1, openflow.TCPAck).bytes()
		po := func(buffer, inPort uint32, actions, data []byte) []byte {
			b := binary.BigEndian.AppendUint32(nil, buffer)
			b = binary.BigEndian.AppendUint32(b, inPort)
			b = binary.BigEndian.AppendUint16(b, uint16(len(actions)))
			b = append(b, 0, 0, 0, 0, 0, 0)
			return message(13, append(append(b, actions...), data...)...)
		}
		r.wantError(po(0xffffffff, 0xffffff42, output(2), frame), openflow.BadRequestBadPort)
		r.wantError(po(5, openflow.PortController, output(2), nil), openflow.BadRequestBufUnknown)
		r.wantError(po(0xffffffff, openflow.PortController, []byte{0, 60, 0, 8, 0, 0, 0, 0}, frame), openflow.BadActionBadType)
		r.wantError(po(0xffffffff, openflow.PortController, output(0xffffff42), frame), openflow.BadActionBadOutPort)
		e.collect(port1).nothing(e)
	}},
	{"an error among flow mods concerns that one only", func(e *env) {
		f := families[0]
		good := func(c uint64) openflow.FlowMod {
			return add(openflow.Flow{Priority: uint16(c), Cookie: c, Match: tcpMatch(f)})
		}
		bad := add(openflow.Flow{Priority: 2, Cookie: 2, Match: tcpMatch(f), Apply: []openflow.Action{openflow.Group{ID: 12345}}})
		err := e.conn.Apply(e.ctx(), good(1), bad, good(3))
		if err == nil {
			e.Error("a flow with a group that does not exist was taken")
		}
		e.wantCookies(1, 3)
	}},
	{"the connection survives a hundred bad messages", func(e *env) {
		r := e.raw()
		for i := range 100 {
			r.wantError(message(uint8(100+i)), openflow.BadRequestBadType)
		}
	}},
	{"a peer of another version is told so", func(e *env) {
		r := e.silent()
		const versions = 1<<2 | 1<<3 // 1.1 and 1.2 only
		r.write([]byte{3, 0, 0, 16, 0, 0, 0, 3, 0, 1, 0, 8, 0, 0, 0, versions})
		for {
			m := r.read()
			if m.Type() == openflow.TypeHello {
				continue
			}
			m[0] = openflow.Version // the error may be of the peer's version
			err, perr := openflow.ParseErrorMessage(m)
			if perr != nil || openflow.MakeCode(err.Type, err.Code) != openflow.HelloIncompatible {
				e.Errorf("got %v %v, want %v", err, perr, openflow.HelloIncompatible)
			}
			break
		}
		if _, err := r.in.Next(); err == nil {
			e.Error("the connection is still open")
		}
	}},
}
