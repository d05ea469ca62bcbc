package pipeline

import (
	"maps"

	"github.com/shunt-sdn/shunt/switchsim/packet"
	"github.com/shunt-sdn/shunt/switchsim/wire"
)

// An actionSet is what a packet does when it leaves the last table: at most one
// action of each kind, in the order of 5.10 of the specification.
type actionSet struct {
	pop, push, ttl bool
	sets           map[packet.Field]wire.SetField
	others         []wire.Action // moves and the like, in the order written
	group          *wire.Group
	outputs        *wire.Output
	from           *Flow // the last flow that wrote to it
}

// write returns the set with the actions merged in; the receiver stays as it was.
func (s actionSet) write(actions []wire.Action, f *Flow) actionSet {
	s = s.clone()
	s.from = f
	for _, a := range actions {
		switch a := a.(type) {
		case wire.PopVLAN:
			s.pop = true
		case wire.PushVLAN:
			s.push = true
		case wire.DecTTL:
			s.ttl = true
		case wire.SetField:
			if s.sets == nil {
				s.sets = map[packet.Field]wire.SetField{}
			}
			s.sets[a.Field] = a
		case wire.Group:
			s.group = &a
		case wire.Output:
			s.outputs = &a
		default:
			s.others = append(s.others, a)
		}
	}
	return s
}

func (s actionSet) clone() actionSet {
	s.sets = maps.Clone(s.sets)
	s.others = s.others[:len(s.others):len(s.others)]
	return s
}

// empty reports whether the set drops the packet.
func (s actionSet) empty() bool { return s.outputs == nil && s.group == nil && len(s.others) == 0 }

// ordered returns the actions to run.
func (s actionSet) ordered() []wire.Action {
	var out []wire.Action
	if s.pop {
		out = append(out, wire.PopVLAN{})
	}
	if s.push {
		out = append(out, wire.PushVLAN{})
	}
	if s.ttl {
		out = append(out, wire.DecTTL{})
	}
	out = append(out, s.others...)
	for f := range packet.NumFields {
		if a, ok := s.sets[f]; ok {
			out = append(out, a)
		}
	}
	switch {
	case s.group != nil:
		out = append(out, *s.group)
	case s.outputs != nil:
		out = append(out, *s.outputs)
	}
	return out
}
