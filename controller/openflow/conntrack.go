package openflow

import (
	"context"
	"encoding/binary"
	"fmt"
)

// flushZone is NXT_CT_FLUSH_ZONE. Source: Open vSwitch, lib/ofp-msgs.h.
const flushZone = 29

// EncodeFlushConntrack makes Open vSwitch's message that forgets the
// connections of a zone.
func EncodeFlushConntrack(xid uint32, zone uint16) Message {
	body := make([]byte, 0, 16)
	body = binary.BigEndian.AppendUint32(body, experimenterNicira)
	body = binary.BigEndian.AppendUint32(body, flushZone)
	body = append(body, make([]byte, 6)...)
	return encodeRaw(TypeExperimenter, xid, binary.BigEndian.AppendUint16(body, zone))
}

// FlushConntrack has the switch forget the tracked connections of a zone, and
// waits until it did. Open vSwitch only: others answer with a *SwitchError.
func (c *Conn) FlushConntrack(ctx context.Context, zone uint16) error {
	return c.do(ctx, &op{raw: []rawRequest{{EncodeFlushConntrack(0, zone), fmt.Sprintf("flush of connection tracking zone %d", zone)}}})
}
