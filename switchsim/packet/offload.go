package packet

import (
	"encoding/binary"
	"errors"
)

// OffloadLen is the size of the header that Linux puts before a frame on a
// packet socket with PACKET_VNET_HDR: struct virtio_net_hdr.
const OffloadLen = 10

const (
	flagNeedsChecksum = 1
	gsoNone           = 0
)

// Offload is what an interface still has to do to a frame: complete its checksum,
// cut it into segments. The zero value is a finished frame.
type Offload struct {
	Flags          uint8
	GSOType        uint8
	HeaderLen      uint16
	GSOSize        uint16
	ChecksumStart  uint16 // of the octets that the checksum covers
	ChecksumOffset uint16 // of the checksum, from ChecksumStart
}

// DecodeOffload reads the header, which is in the machine's byte order.
func DecodeOffload(b []byte) (Offload, error) {
	if len(b) < OffloadLen {
		return Offload{}, errors.New("packet: offload header cut short")
	}
	e := binary.NativeEndian
	return Offload{
		Flags: b[0] & flagNeedsChecksum, GSOType: b[1], HeaderLen: e.Uint16(b[2:]), GSOSize: e.Uint16(b[4:]),
		ChecksumStart: e.Uint16(b[6:]), ChecksumOffset: e.Uint16(b[8:]),
	}, nil
}

// Encode writes the header to b, which has at least OffloadLen octets.
func (o Offload) Encode(b []byte) {
	e := binary.NativeEndian
	b[0], b[1] = o.Flags, o.GSOType
	e.PutUint16(b[2:], o.HeaderLen)
	e.PutUint16(b[4:], o.GSOSize)
	e.PutUint16(b[6:], o.ChecksumStart)
	e.PutUint16(b[8:], o.ChecksumOffset)
}

// Partial reports whether the checksum is left to the interface: the frame's
// field then holds the sum of the pseudo-header only, not complemented.
func (o Offload) Partial() bool { return o.Flags&flagNeedsChecksum != 0 }

// Shifted returns o for a frame that got n octets more (or, n < 0, fewer) before
// its transport header.
func (o Offload) Shifted(n int) Offload {
	if o.Partial() {
		o.ChecksumStart = uint16(int(o.ChecksumStart) + n)
	}
	if o.GSOType != gsoNone {
		o.HeaderLen = uint16(int(o.HeaderLen) + n)
	}
	return o
}

// Complete finishes a partial checksum in the frame, as for a copy that leaves
// by no interface. The frame is not cut into segments.
func (p *Packet) Complete() {
	o := p.Offload
	p.Offload = Offload{}
	if !o.Partial() {
		return
	}
	start, field := int(o.ChecksumStart), int(o.ChecksumStart)+int(o.ChecksumOffset)
	if field+2 > len(p.Data) {
		return
	}
	sum := ^fold(add(0, p.Data[start:]))
	if sum == 0 && p.Key.U8(IPProto) == ProtoUDP {
		sum = 0xffff
	}
	binary.BigEndian.PutUint16(p.Data[field:], sum)
}
