package policyyaml

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/shunt-sdn/shunt/internal/nearest"
)

const durationName = "google.protobuf.Duration"

// scalar reads one value of a field's type.
func (r *reader) scalar(n *yaml.Node, f protoreflect.FieldDescriptor) (v protoreflect.Value, ok bool) {
	name := f.JSONName()
	if !r.kind(n, yaml.ScalarNode, name, typeName(f)) {
		return v, false
	}
	switch f.Kind() {
	case protoreflect.StringKind:
		if n.Tag != "!!str" {
			r.fault(n, "put it in quotes", "%s must be a string, and %s is read as %s", name, n.Value, tagName(n))
			return v, false
		}
		return protoreflect.ValueOfString(n.Value), true
	case protoreflect.BoolKind:
		if n.Tag != "!!bool" {
			r.fault(n, "", "%s must be true or false, not %q", name, n.Value)
			return v, false
		}
		return protoreflect.ValueOfBool(strings.EqualFold(n.Value, "true")), true
	case protoreflect.Uint32Kind, protoreflect.Uint64Kind:
		bits := 32
		if f.Kind() == protoreflect.Uint64Kind {
			bits = 64
		}
		u, err := strconv.ParseUint(n.Value, 10, bits)
		if err != nil || n.Tag != "!!int" {
			r.fault(n, "", "%s must be a whole number from 0 to %d, not %q", name, ^uint64(0)>>(64-bits), n.Value)
			return v, false
		}
		if bits == 32 {
			return protoreflect.ValueOfUint32(uint32(u)), true
		}
		return protoreflect.ValueOfUint64(u), true
	case protoreflect.EnumKind:
		return r.enum(n, f)
	case protoreflect.MessageKind:
		d, err := time.ParseDuration(n.Value)
		if err != nil {
			r.fault(n, `write it with a unit, as "250ms" or "10s"`, "%s %q is not a duration", name, n.Value)
			return v, false
		}
		return protoreflect.ValueOfMessage(durationpb.New(d).ProtoReflect()), true
	}
	r.fault(n, "", "%s cannot be written in YAML", name)
	return v, false
}

func typeName(f protoreflect.FieldDescriptor) string {
	switch f.Kind() {
	case protoreflect.StringKind:
		return "a string"
	case protoreflect.BoolKind:
		return "true or false"
	case protoreflect.EnumKind:
		return "one of " + and(enumNames(f.Enum()))
	case protoreflect.MessageKind:
		return "a duration"
	}
	return "a number"
}

func tagName(n *yaml.Node) string {
	switch n.Tag {
	case "!!int", "!!float":
		return "a number"
	case "!!bool":
		return "true or false"
	case "!!timestamp":
		return "a date"
	}
	return "something else"
}

func (r *reader) enum(n *yaml.Node, f protoreflect.FieldDescriptor) (v protoreflect.Value, ok bool) {
	e, names := f.Enum(), enumNames(f.Enum())
	for i := range e.Values().Len() {
		if x := e.Values().Get(i); x.Number() != 0 && enumName(e, x) == n.Value {
			return protoreflect.ValueOfEnum(x.Number()), true
		}
	}
	remedy := "write " + strings.Replace(and(names), " and ", " or ", 1)
	if near := nearest.Word(n.Value, names); near != "" {
		remedy = fmt.Sprintf("did you mean %q?", near)
	}
	r.fault(n, remedy, "there is no %s %q", f.JSONName(), n.Value)
	return v, false
}

func enumNames(e protoreflect.EnumDescriptor) []string {
	var names []string
	for i := range e.Values().Len() {
		if x := e.Values().Get(i); x.Number() != 0 {
			names = append(names, enumName(e, x))
		}
	}
	return names
}

// enumName is the value's name without the type's: MAGLEV of ALGORITHM_MAGLEV,
// in lower case.
func enumName(e protoreflect.EnumDescriptor, v protoreflect.EnumValueDescriptor) string {
	zero := string(e.Values().ByNumber(0).Name())
	return strings.ToLower(strings.TrimPrefix(string(v.Name()), strings.TrimSuffix(zero, "UNSPECIFIED")))
}
