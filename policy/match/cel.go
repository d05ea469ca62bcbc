package match

import (
	"errors"
	"fmt"
	"strings"
	"sync"

	"cel.dev/cel-go/cel"
	"cel.dev/cel-go/common/types"
	"cel.dev/cel-go/ext"
	"cel.dev/cel-go/interpreter"
)

// Limits of CEL expressions.
const (
	// MaxCEL is how long an expression may be, in octets.
	MaxCEL = 4096
	// MaxCost is what evaluating one may cost, in CEL's units: about one per
	// operation and per ten octets that are searched. Beyond it the expression
	// is false.
	MaxCost = 20_000
)

// Variables are the names that a CEL expression can use: strings, and maps of
// strings to strings whose absent keys are empty; "name in headers" tells
// whether there is one. Header names are in any case. client is the address;
// ip(client) and cidr("10.0.0.0/8").containsIP(client) are at hand, and the
// functions of CEL's strings extension.
var Variables = []string{"method", "host", "path", "query", "client", "headers", "cookies", "params"}

// environment is made once: it is immutable and takes a millisecond.
var environment = sync.OnceValues(func() (*cel.Env, error) {
	options := []cel.EnvOption{ext.Strings(), ext.Network(), cel.ParserRecursionLimit(50), cel.ParserExpressionSizeLimit(MaxCEL)}
	for _, name := range Variables {
		t := cel.StringType
		switch name {
		case "headers", "cookies", "params":
			t = cel.MapType(cel.StringType, cel.StringType)
		}
		options = append(options, cel.Variable(name, t))
	}
	return cel.NewEnv(options...)
})

// compileCEL's errors go on after "the expression".
func compileCEL(text string) (cel.Program, error) {
	if len(text) > MaxCEL {
		return nil, fmt.Errorf("has %d octets; at most %d are allowed", len(text), MaxCEL)
	}
	env, err := environment()
	if err != nil {
		return nil, fmt.Errorf("cannot be compiled: %w", err)
	}
	ast, issues := env.Compile(text)
	if issues != nil && issues.Err() != nil {
		first := issues.Errors()[0]
		what, _, _ := strings.Cut(oneLine(first.Message), " expecting ") // two dozen tokens
		return nil, fmt.Errorf("is wrong at %d:%d: %s", first.Location.Line(), first.Location.Column()+1, what)
	}
	if ast.OutputType() != cel.BoolType {
		return nil, fmt.Errorf("is of type %s; it must be bool", ast.OutputType())
	}
	p, err := env.Program(ast, cel.EvalOptions(cel.OptOptimize), cel.CostLimit(MaxCost))
	if err != nil {
		return nil, fmt.Errorf("is wrong: %s", oneLine(err.Error()))
	}
	return p, nil
}

func oneLine(s string) string {
	s, _, _ = strings.Cut(s, "\n")
	return s
}

var errFalse = errors.New("is false")

// evaluate returns nil if the expression is true.
func evaluate(p cel.Program, r *Request) error {
	v, _, err := p.Eval(activation{r})
	if err != nil {
		return fmt.Errorf("failed: %w", err)
	}
	if v != types.True {
		return errFalse
	}
	return nil
}

// activation gives an expression the request, as far as it asks.
type activation struct{ *Request }

func (a activation) Parent() interpreter.Activation { return nil }

func (a activation) ResolveName(name string) (any, bool) {
	switch name {
	case "method":
		return a.Method, true
	case "host":
		return strings.ToLower(a.Host), true
	case "path":
		return a.Path, true
	case "query":
		return a.Query, true
	case "client":
		if !a.Client.IsValid() {
			return "", true
		}
		return a.Client.Unmap().WithZone("").String(), true
	case "headers":
		return lookup(a.Field), true
	case "cookies":
		return lookup(a.Cookie), true
	case "params":
		return lookup(a.Parameter), true
	}
	return nil, false
}
