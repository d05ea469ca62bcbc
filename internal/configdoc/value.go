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
		return "a name: 1 to 63 letters, digits, `.`, `_` or `-`, a letter or digit first and last"
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
	return q.remedy(f)
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
			values = append(values, p.show(a))
		}
		remedy = strings.NewReplacer("%d", "%v", "%s", "%v", "%q", "%v").Replace(remedy)
		text = fmt.Sprintf(remedy, values...)
		return false
	})
	if text == "" {
		return "a value"
	}
	return text
}
