package pipeline

import (
	"github.com/shunt-sdn/shunt/switchsim/packet"
	"github.com/shunt-sdn/shunt/switchsim/wire"
)

// set writes a field, or the bits of it that the action's mask selects.
func set(p *packet.Packet, a wire.SetField) {
	if a.Mask == nil {
		p.Set(a.Field, a.Value)
		return
	}
	var buf [16]byte
	v := buf[:copy(buf[:], p.Key.Get(a.Field))]
	for i := range v {
		v[i] = v[i]&^a.Mask[i] | a.Value[i]&a.Mask[i]
	}
	p.Set(a.Field, v)
}

// move copies bits from one field to another.
func move(p *packet.Packet, a wire.Move) {
	var srcBuf, dstBuf [16]byte
	src := srcBuf[:copy(srcBuf[:], p.Key.Get(a.Src))]
	if a.SrcOffset == 0 && a.DstOffset == 0 && a.Bits == a.Src.Bits() && a.Bits == a.Dst.Bits() {
		p.Set(a.Dst, src)
		return
	}
	dst := dstBuf[:copy(dstBuf[:], p.Key.Get(a.Dst))]
	for i := range a.Bits {
		from, to := a.SrcOffset+i, a.DstOffset+i
		bit := src[len(src)-1-from/8] >> (from % 8) & 1
		octet := &dst[len(dst)-1-to/8]
		*octet = *octet&^(1<<(to%8)) | bit<<(to%8)
	}
	p.Set(a.Dst, dst)
}
