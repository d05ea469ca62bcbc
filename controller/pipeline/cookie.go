package pipeline

import (
	"cmp"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/shunt-sdn/shunt/controller/openflow"
)

// Cookies of Shunt's flows have these upper 16 bits ("SH").
const (
	CookieBase uint64 = 0x5348 << 48
	CookieMask uint64 = 0xffff << 48
)

// A Class is the part of the controller that a flow belongs to.
type Class uint8

// The classes, in bits 44 to 47 of a cookie.
const (
	ClassStatic  Class = 0 // made by Flows
	ClassSession Class = 1 // steering of one session
)

const hashBits = 44

// Cookie returns the cookie of a flow: the class and a hash of everything that
// the flow says. The order of the match's fields does not count; timeouts do
// not either, as no flow has any.
func Cookie(class Class, f openflow.Flow) uint64 {
	b := make([]byte, 0, 256)
	b = append(b, f.Table, f.Goto)
	b = binary.BigEndian.AppendUint16(b, f.Priority)
	b = appendMatch(b, f.Match)
	b = appendActions(b, f.Apply)
	sum := sha256.Sum256(b)
	return CookieBase | uint64(class)<<hashBits | binary.BigEndian.Uint64(sum[:])>>(64-hashBits)
}

// ClassOf returns the class of a cookie, and whether it is one of Shunt's.
func ClassOf(cookie uint64) (Class, bool) {
	return Class(cookie >> hashBits & 0xf), cookie&CookieMask == CookieBase
}

func appendMatch(b []byte, m openflow.Match) []byte {
	m = slices.Clone(m)
	slices.SortFunc(m, func(x, y openflow.FieldValue) int { return cmp.Compare(x.Field, y.Field) })
	b = append(b, uint8(len(m)))
	for _, fv := range m {
		b = appendFieldValue(b, fv)
	}
	return b
}

func appendFieldValue(b []byte, fv openflow.FieldValue) []byte {
	b = binary.BigEndian.AppendUint32(b, uint32(fv.Field))
	b = append(b, uint8(len(fv.Value)))
	b = append(b, fv.Value...)
	b = append(b, uint8(len(fv.Mask)))
	return append(b, fv.Mask...)
}

func appendActions(b []byte, actions []openflow.Action) []byte {
	b = append(b, uint8(len(actions)))
	for _, a := range actions {
		switch a := a.(type) {
		case openflow.Output:
			b = binary.BigEndian.AppendUint32(append(b, 1), a.Port)
		case openflow.Group:
			b = binary.BigEndian.AppendUint32(append(b, 2), a.ID)
		case openflow.SetField:
			b = appendFieldValue(append(b, 3), a.FieldValue)
		case openflow.Move:
			b = binary.BigEndian.AppendUint32(append(b, 4), uint32(a.Src))
			b = binary.BigEndian.AppendUint32(b, uint32(a.Dst))
		case openflow.DecTTL:
			b = append(b, 5)
		case openflow.Controller:
			b = binary.BigEndian.AppendUint16(append(b, 6), a.MaxLen)
		case openflow.CT:
			b = binary.BigEndian.AppendUint16(append(b, 7, bit(a.Commit)|bit(a.Force)<<1, a.Table), a.Zone)
			b = appendActions(b, a.Exec)
		default:
			panic(fmt.Sprintf("pipeline: action of type %T has no place in a cookie", a))
		}
	}
	return b
}

func bit(v bool) uint8 {
	if v {
		return 1
	}
	return 0
}
