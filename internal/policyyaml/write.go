package policyyaml

import (
	"bytes"
	"fmt"
	"strconv"

	"go.yaml.in/yaml/v3"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/types/known/durationpb"
)

// Marshal writes a message of the API, a Policy or one resource, as a YAML
// document with the fields in the order of the API. Read of a Policy's document
// gives an equal Policy. The error can only come from a message that has other
// kinds of fields than a Policy.
func Marshal(m proto.Message) ([]byte, error) {
	n, err := node(m.ProtoReflect())
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	enc := yaml.NewEncoder(&b)
	enc.SetIndent(2)
	if err := enc.Encode(n); err != nil {
		return nil, fmt.Errorf("write %s as YAML: %w", m.ProtoReflect().Descriptor().Name(), err)
	}
	if err := enc.Close(); err != nil {
		return nil, fmt.Errorf("write %s as YAML: %w", m.ProtoReflect().Descriptor().Name(), err)
	}
	return b.Bytes(), nil
}

func node(m protoreflect.Message) (*yaml.Node, error) {
	out := &yaml.Node{Kind: yaml.MappingNode}
	fields := m.Descriptor().Fields()
	for i := range fields.Len() {
		f := fields.Get(i)
		if !m.Has(f) {
			continue
		}
		v, err := fieldNode(m.Get(f), f)
		if err != nil {
			return nil, err
		}
		out.Content = append(out.Content, &yaml.Node{Kind: yaml.ScalarNode, Value: f.JSONName()}, v)
	}
	return out, nil
}

func fieldNode(v protoreflect.Value, f protoreflect.FieldDescriptor) (*yaml.Node, error) {
	if !f.IsList() {
		return valueNode(v, f)
	}
	out := &yaml.Node{Kind: yaml.SequenceNode}
	if f.Message() == nil {
		out.Style = yaml.FlowStyle
	}
	for i := range v.List().Len() {
		e, err := valueNode(v.List().Get(i), f)
		if err != nil {
			return nil, err
		}
		out.Content = append(out.Content, e)
	}
	return out, nil
}

func valueNode(v protoreflect.Value, f protoreflect.FieldDescriptor) (*yaml.Node, error) {
	plain := func(s string) (*yaml.Node, error) { return &yaml.Node{Kind: yaml.ScalarNode, Value: s}, nil }
	switch f.Kind() {
	case protoreflect.StringKind:
		n := &yaml.Node{}
		n.SetString(v.String()) // quotes what would be read as another type
		if n.Tag == "!!binary" {
			return nil, fmt.Errorf("write %s as YAML: %q is not UTF-8", f.JSONName(), v.String())
		}
		return n, nil
	case protoreflect.BoolKind:
		return plain(strconv.FormatBool(v.Bool()))
	case protoreflect.Uint32Kind, protoreflect.Uint64Kind:
		return plain(strconv.FormatUint(v.Uint(), 10))
	case protoreflect.EnumKind:
		x := f.Enum().Values().ByNumber(v.Enum())
		if x == nil || x.Number() == 0 {
			return nil, fmt.Errorf("write %s as YAML: the value %d is unknown to this version", f.JSONName(), v.Enum())
		}
		return plain(enumName(f.Enum(), x))
	case protoreflect.MessageKind:
		if d, ok := v.Message().Interface().(*durationpb.Duration); ok {
			return plain(d.AsDuration().String())
		}
		return node(v.Message())
	}
	return nil, fmt.Errorf("write %s as YAML: fields of kind %s have no form", f.JSONName(), f.Kind())
}
