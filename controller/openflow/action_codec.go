package openflow

import "encoding/binary"

// Action types, OpenFlow 1.3.5, 7.2.5, and Open vSwitch's subtypes of the
// Nicira experimenter, ovs-actions(7).
const (
	actionOutput       = 0
	actionGroup        = 22
	actionDecTTL       = 24
	actionSetField     = 25
	actionExperimenter = 0xffff

	niciraRegMove = 6
	niciraCT      = 35

	ctCommit = 1
	ctForce  = 2
	ctLen    = 24 // ct's own octets, before its nested actions

	maxActionDepth = 2 // a ct within an action list; nothing nests deeper
)

// Other is an action outside the model, as octets: what another controller
// installed. It is never encoded by mistake: it encodes to exactly what came.
type Other struct{ Raw []byte }

func (Other) action() {}

// EncodeActions encodes an action list.
func EncodeActions(actions []Action) ([]byte, error) { return appendActions(nil, actions) }

func appendActions(b []byte, actions []Action) ([]byte, error) {
	var err error
	for _, a := range actions {
		if b, err = appendAction(b, a); err != nil {
			return nil, err
		}
	}
	return b, nil
}

func appendAction(b []byte, a Action) ([]byte, error) {
	switch a := a.(type) {
	case Output:
		// max_len says how much goes to the controller; other ports ignore it.
		return appendOutput(b, a.Port, 0xffff), nil
	case Controller:
		return appendOutput(b, PortController, a.MaxLen), nil
	case Group:
		return binary.BigEndian.AppendUint32(append(b, 0, actionGroup, 0, 8), a.ID), nil
	case DecTTL:
		return append(b, 0, actionDecTTL, 0, 8, 0, 0, 0, 0), nil
	case SetField:
		return appendSetField(b, a)
	case Move:
		return appendMove(b, a)
	case CT:
		return appendCT(b, a)
	case Other:
		if len(a.Raw) < 8 || len(a.Raw)%8 != 0 || int(binary.BigEndian.Uint16(a.Raw[2:])) != len(a.Raw) {
			return nil, malformed(BadActionBadLen, "%d octets are not one action", len(a.Raw))
		}
		return append(b, a.Raw...), nil
	}
	return nil, malformed(BadActionBadType, "action %T is not in the model", a)
}

func appendOutput(b []byte, port uint32, maxLen uint16) []byte {
	b = append(b, 0, actionOutput, 0, 16)
	b = binary.BigEndian.AppendUint32(b, port)
	b = binary.BigEndian.AppendUint16(b, maxLen)
	return append(b, 0, 0, 0, 0, 0, 0)
}

func appendSetField(b []byte, a SetField) ([]byte, error) {
	if a.Mask != nil {
		return nil, malformed(BadActionBadSetType, "set_field of %v with a mask, which OpenFlow 1.3 does not have", a.Field)
	}
	start := len(b)
	b = append(b, 0, actionSetField, 0, 0)
	b, err := appendOXM(b, a.FieldValue)
	if err != nil {
		return nil, err
	}
	b = pad(b, start)
	binary.BigEndian.PutUint16(b[start+2:], uint16(len(b)-start))
	return b, nil
}

func appendNicira(b []byte, length int, subtype uint16) []byte {
	b = append(b, 0xff, 0xff)
	b = binary.BigEndian.AppendUint16(b, uint16(length))
	b = binary.BigEndian.AppendUint32(b, experimenterNicira)
	return binary.BigEndian.AppendUint16(b, subtype)
}

func appendMove(b []byte, a Move) ([]byte, error) {
	w := a.Src.Width()
	if w == 0 || w != a.Dst.Width() {
		return nil, malformed(BadActionBadArgument, "move of %v to %v: both must be known and of one width", a.Src, a.Dst)
	}
	b = appendNicira(b, 24, niciraRegMove)
	b = binary.BigEndian.AppendUint16(b, uint16(8*w))
	b = append(b, 0, 0, 0, 0) // from bit 0 to bit 0
	b = binary.BigEndian.AppendUint32(b, a.Src.header())
	return binary.BigEndian.AppendUint32(b, a.Dst.header()), nil
}

func appendCT(b []byte, a CT) ([]byte, error) {
	if len(a.Exec) > 0 && !a.Commit {
		return nil, malformed(BadActionBadArgument, "ct with exec but without commit")
	}
	start := len(b)
	b = appendNicira(b, 0, niciraCT)
	var flags uint16
	if a.Commit {
		flags |= ctCommit
	}
	if a.Force {
		flags |= ctForce
	}
	b = binary.BigEndian.AppendUint16(b, flags)
	b = append(b, 0, 0, 0, 0) // the zone is immediate
	b = binary.BigEndian.AppendUint16(b, a.Zone)
	b = append(b, a.Table, 0, 0, 0, 0, 0) // no ALG
	for _, e := range a.Exec {
		set, ok := e.(SetField)
		if !ok || set.Field != FieldCTMark {
			return nil, malformed(BadActionBadArgument, "ct exec of %T: only set_field of ct_mark may be there", e)
		}
		var err error
		if b, err = appendSetField(b, set); err != nil {
			return nil, err
		}
	}
	binary.BigEndian.PutUint16(b[start+2:], uint16(len(b)-start))
	return b, nil
}

// ParseActions decodes an action list. Actions outside the model are
// BadActionBadType (or BadExp), as a switch answers them.
func ParseActions(b []byte) ([]Action, error) { return parseActions(b, true, 0) }

func parseActions(b []byte, strict bool, depth int) ([]Action, error) {
	var actions []Action
	for len(b) > 0 {
		if len(b) < 8 {
			return nil, malformed(BadActionBadLen, "%d octets left where an action starts", len(b))
		}
		n := int(binary.BigEndian.Uint16(b[2:]))
		if n < 8 || n%8 != 0 || n > len(b) {
			return nil, malformed(BadActionBadLen, "action of %d octets, %d left", n, len(b))
		}
		a, err := parseAction(b[:n:n], strict, depth)
		if err != nil {
			return nil, err
		}
		actions, b = append(actions, a), b[n:]
	}
	return actions, nil
}

// parseAction decodes one action, whose header is checked.
func parseAction(b []byte, strict bool, depth int) (Action, error) {
	t := binary.BigEndian.Uint16(b)
	switch {
	case t == actionOutput && len(b) == 16:
		port := binary.BigEndian.Uint32(b[4:])
		if port == PortController {
			return Controller{MaxLen: binary.BigEndian.Uint16(b[8:])}, nil
		}
		return Output{Port: port}, nil
	case t == actionGroup && len(b) == 8:
		return Group{ID: binary.BigEndian.Uint32(b[4:])}, nil
	case t == actionDecTTL && len(b) == 8:
		return DecTTL{}, nil
	case t == actionSetField:
		return parseSetField(b, strict)
	case t == actionExperimenter && len(b) >= 16 && binary.BigEndian.Uint32(b[4:]) == experimenterNicira:
		return parseNicira(b, strict, depth)
	case !strict:
		return Other{Raw: b}, nil
	case t == actionOutput || t == actionGroup || t == actionDecTTL:
		return nil, malformed(BadActionBadLen, "action %d of %d octets", t, len(b))
	case t == actionExperimenter:
		return nil, malformed(BadActionBadExp, "action of experimenter %#x", binary.BigEndian.Uint32(b[4:]))
	}
	return nil, malformed(BadActionBadType, "action type %d is not supported", t)
}

func parseSetField(b []byte, strict bool) (Action, error) {
	fv, rest, err := nextOXM(b[4:])
	switch {
	case err != nil && !strict:
		return Other{Raw: b}, nil
	case err != nil:
		return nil, malformed(BadActionBadSetLen, "set_field: %v", err)
	case fv.Field.Width() == 0 || fv.Mask != nil || len(rest) >= 8:
		if strict {
			return nil, malformed(BadActionBadSetType, "set_field of %v is not supported", fv.Field)
		}
		return Other{Raw: b}, nil
	}
	return SetField{fv}, nil
}

func parseNicira(b []byte, strict bool, depth int) (Action, error) {
	subtype := binary.BigEndian.Uint16(b[8:])
	switch {
	case subtype == niciraRegMove && len(b) == 24:
		bits := int(binary.BigEndian.Uint16(b[10:]))
		src, okS := wholeField(binary.BigEndian.Uint32(b[16:]))
		dst, okD := wholeField(binary.BigEndian.Uint32(b[20:]))
		if okS && okD && binary.BigEndian.Uint32(b[12:]) == 0 && bits == 8*src.Width() && bits == 8*dst.Width() {
			return Move{Src: src, Dst: dst}, nil
		}
	case subtype == niciraCT && len(b) >= ctLen:
		if a, ok, err := parseCT(b, strict, depth); err != nil || ok {
			return a, err
		}
	default:
		if strict {
			return nil, malformed(BadActionBadExpType, "Nicira action %d is not supported", subtype)
		}
	}
	if strict {
		return nil, malformed(BadActionBadArgument, "Nicira action %d with arguments that are not supported", subtype)
	}
	return Other{Raw: b}, nil
}

// wholeField reads an OXM header that stands for a field, not a value.
func wholeField(h uint32) (Field, bool) {
	f := Field(h & oxmFieldMask)
	return f, f.Width() != 0 && h == f.header()
}

func parseCT(b []byte, strict bool, depth int) (Action, bool, error) {
	flags := binary.BigEndian.Uint16(b[10:])
	zoneField, alg := binary.BigEndian.Uint32(b[12:]), binary.BigEndian.Uint16(b[22:])
	if flags&^(ctCommit|ctForce) != 0 || zoneField != 0 || alg != 0 || depth >= maxActionDepth {
		return nil, false, nil
	}
	a := CT{
		Zone:   binary.BigEndian.Uint16(b[16:]),
		Commit: flags&ctCommit != 0,
		Force:  flags&ctForce != 0,
		Table:  b[18],
	}
	exec, err := parseActions(b[ctLen:], strict, depth+1)
	if err != nil {
		return nil, false, err
	}
	for _, e := range exec {
		if set, ok := e.(SetField); !ok || set.Field != FieldCTMark {
			return nil, false, nil
		}
	}
	if len(exec) > 0 && !a.Commit {
		return nil, false, nil
	}
	a.Exec = exec
	return a, true, nil
}
