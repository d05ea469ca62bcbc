package configdoc

import (
	"fmt"
	"go/ast"
	"strings"
)

// valueOf says what a parse function takes.
func (w *walker) valueOf(p *source, e ast.Expr) string {
	if call, ok := e.(*ast.CallExpr); ok {
		if calledName(call) == "Between" && len(call.Args) == 2 {
			return fmt.Sprintf("a duration, %s to %s", p.show(call.Args[0]), p.show(call.Args[1]))
		}
		e = call.Fun
	}
	name := ""
	switch e := e.(type) {
	case *ast.Ident:
		name = e.Name
	case *ast.SelectorExpr:
		name = e.Sel.Name
	}
	switch name {
	case "Text":
		return "text"
	case "Name":
		return "a name"
	case "Bool":
		return "`true` or `false`"
	case "Path":
		return "an absolute path"
	case "Port":
		return "1 to 65535"
	case "Listen", "parseEndpoint":
		return "host:port, for example `10.99.0.1:6640`"
	}
	q, f := w.resolve(p, e)
	if f == nil {
		return "a value"
	}
	for _, f := range append([]*ast.FuncDecl{f}, q.called(f)...) {
		if text := q.remedy(f); text != "" {
			return text
		}
	}
	return "a value"
}

// remedy is what the errors of a parse function say to write: the first of them.
func (p *source) remedy(f *ast.FuncDecl) (text string) {
	ast.Inspect(f, func(n ast.Node) bool {
		call, ok := n.(*ast.CallExpr)
		if !ok || text != "" || calledName(call) != "Errorf" && calledName(call) != "New" || len(call.Args) == 0 {
			return text == ""
		}
		format, err := literal(call.Args[0])
		if err != nil {
			return true
		}
		_, remedy, found := strings.Cut(format, "; write ")
		if !found {
			return true
		}
		before := strings.Count(strings.ReplaceAll(format[:len(format)-len(remedy)], "%%", ""), "%")
		var values []any
		for _, a := range call.Args[min(1+before, len(call.Args)):] {
			v := p.show(a)
			if v == "" {
				return true // it depends on what was written
			}
			values = append(values, v)
		}
		remedy = strings.NewReplacer("%d", "%v", "%s", "%v", "%q", "%v").Replace(remedy)
		text = fmt.Sprintf(remedy, values...)
		return false
	})
	if example, ok := strings.CutPrefix(text, "for example "); ok {
		return "such as " + example
	}
	return text
}

// called are the functions of the package that f calls.
func (p *source) called(f *ast.FuncDecl) (out []*ast.FuncDecl) {
	ast.Inspect(f, func(n ast.Node) bool {
		if call, ok := n.(*ast.CallExpr); ok {
			if name, ok := call.Fun.(*ast.Ident); ok {
				if g := p.function(name.Name); g != nil && g != f {
					out = append(out, g)
				}
			}
		}
		return true
	})
	return out
}
