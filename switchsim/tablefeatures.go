package switchsim

import (
	"encoding/binary"
	"fmt"
)

// Properties of table features, 7.3.5.5.2.
const (
	propInstructions  = 0
	propNextTables    = 2
	propWriteActions  = 4
	propApplyActions  = 6
	propMatch         = 8
	propWildcards     = 10
	propWriteSetField = 12
	propApplySetField = 14
)

// tableFeatures describes a table. All tables take every match and action that
// the switch knows.
func (s *Switch) tableFeatures(id uint8) []byte {
	e := binary.BigEndian
	b := make([]byte, 64)
	b[2] = id
	copy(b[8:40], fmt.Sprintf("table%d", id))
	e.PutUint64(b[40:], ^uint64(0))
	e.PutUint64(b[48:], ^uint64(0))
	e.PutUint32(b[60:], s.pipe.Capacity())

	var ids []byte
	for _, typ := range []uint16{1, 2, 3, 4, 5} {
		ids = e.AppendUint16(ids, typ)
		ids = e.AppendUint16(ids, 4)
	}
	b = appendProperty(b, propInstructions, ids)
	var next []byte
	for t := int(id) + 1; t < s.cfg.Tables; t++ {
		next = append(next, uint8(t))
	}
	b = appendProperty(b, propNextTables, next)
	var actions []byte
	for _, typ := range []uint16{0, 17, 18, 22, 23, 24, 25} {
		actions = e.AppendUint16(actions, typ)
		actions = e.AppendUint16(actions, 4)
	}
	b = appendProperty(b, propWriteActions, actions)
	b = appendProperty(b, propApplyActions, actions)
	match, settable := s.decoder.Headers()
	var fields, wildcards, sets []byte
	for _, h := range match {
		fields = e.AppendUint32(fields, h)
		if h&0x100 != 0 { // a wildcard has neither value nor mask
			h = h&^0x1ff | h&0xff/2
		}
		wildcards = e.AppendUint32(wildcards, h)
	}
	for _, h := range settable {
		sets = e.AppendUint32(sets, h)
	}
	b = appendProperty(b, propMatch, fields)
	b = appendProperty(b, propWildcards, wildcards)
	b = appendProperty(b, propWriteSetField, sets)
	b = appendProperty(b, propApplySetField, sets)
	e.PutUint16(b, uint16(len(b)))
	return b
}

func appendProperty(b []byte, typ uint16, value []byte) []byte {
	b = binary.BigEndian.AppendUint16(b, typ)
	b = binary.BigEndian.AppendUint16(b, uint16(4+len(value)))
	b = append(b, value...)
	return append(b, make([]byte, (8-(4+len(value))%8)%8)...)
}
