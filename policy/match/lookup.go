package match

import (
	"errors"
	"fmt"
	"reflect"

	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/common/types/ref"
	"cel.dev/cel-go/common/types/traits"
)

// lookup is a CEL map of strings whose entries can be looked up, but not
// listed: a request's fields are not copied for an expression.
type lookup func(name string) string

var _ traits.Mapper = lookup(nil)

var errListed = errors.New("headers, cookies and params can be looked up by name only")

func (f lookup) Find(key ref.Val) (ref.Val, bool) {
	name, ok := key.(types.String)
	if !ok {
		return types.MaybeNoSuchOverloadErr(key), false
	}
	return types.String(f(string(name))), true
}

func (f lookup) Get(key ref.Val) ref.Val {
	v, _ := f.Find(key)
	return v
}

func (f lookup) Contains(key ref.Val) ref.Val {
	name, ok := key.(types.String)
	if !ok {
		return types.MaybeNoSuchOverloadErr(key)
	}
	return types.Bool(f(string(name)) != "")
}

func (f lookup) Size() ref.Val             { return types.WrapErr(errListed) }
func (f lookup) Equal(ref.Val) ref.Val     { return types.WrapErr(errListed) }
func (f lookup) Iterator() traits.Iterator { return noIterator{types.MapType} }
func (f lookup) Type() ref.Type            { return types.MapType }
func (f lookup) Value() any                { return f }
func (f lookup) ConvertToNative(t reflect.Type) (any, error) {
	return nil, fmt.Errorf("cannot become a %s: %w", t, errListed)
}

func (f lookup) ConvertToType(t ref.Type) ref.Val {
	switch t {
	case types.MapType:
		return f
	case types.TypeType:
		return types.MapType
	}
	return types.NewErr("type conversion error from map to %s", t)
}

// noIterator makes a comprehension over a lookup fail.
type noIterator struct{ ref.Val }

func (noIterator) HasNext() ref.Val { return types.True }
func (noIterator) Next() ref.Val    { return types.WrapErr(errListed) }
