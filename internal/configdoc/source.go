package configdoc

import (
	"fmt"
	"go/ast"
	"go/constant"
	"go/parser"
	"go/token"
	"os"
	"path"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const module = "github.com/shunt-sdn/shunt/"

// sources are the packages of the tree, parsed when they are needed.
type sources struct {
	root   string
	fset   *token.FileSet
	loaded map[string]*source
}

// source is one package.
type source struct {
	all     *sources
	dir     string
	files   []*ast.File
	imports map[string]string // name → directory, of packages of the module
}

func newSources(root string) *sources {
	return &sources{root: root, fset: token.NewFileSet(), loaded: map[string]*source{}}
}

// load parses the package in a directory below the root.
func (s *sources) load(dir string) (*source, error) {
	if p := s.loaded[dir]; p != nil {
		return p, nil
	}
	entries, err := os.ReadDir(s.under(dir))
	if err != nil {
		return nil, fmt.Errorf("read the code in %s: %w", dir, err)
	}
	p := &source{all: s, dir: dir, imports: map[string]string{}}
	s.loaded[dir] = p
	for _, e := range entries {
		if !strings.HasSuffix(e.Name(), ".go") || strings.HasSuffix(e.Name(), "_test.go") {
			continue
		}
		f, err := parser.ParseFile(s.fset, filepath.Join(s.under(dir), e.Name()), nil, parser.ParseComments)
		if err != nil {
			return nil, fmt.Errorf("read the code in %s: %w", dir, err)
		}
		p.files = append(p.files, f)
		for _, i := range f.Imports {
			at, err := strconv.Unquote(i.Path.Value)
			if err != nil || !strings.HasPrefix(at, module) {
				continue
			}
			name := path.Base(at)
			if i.Name != nil {
				name = i.Name.Name
			}
			p.imports[name] = strings.TrimPrefix(at, module)
		}
	}
	return p, nil
}

// function returns the function or method of that name, nil if there is none.
func (p *source) function(name string) *ast.FuncDecl {
	for _, f := range p.files {
		for _, d := range f.Decls {
			if fn, ok := d.(*ast.FuncDecl); ok && fn.Name.Name == name {
				return fn
			}
		}
	}
	return nil
}

// resolve returns the function that an expression calls if it is one of the
// module. Methods are known by their name only: here, or in yamlconf.
func (w *walker) resolve(p *source, e ast.Expr) (*source, *ast.FuncDecl) {
	switch e := e.(type) {
	case *ast.Ident:
		return p, p.function(e.Name)
	case *ast.CallExpr: // f(…)(node)
		return w.resolve(p, e.Fun)
	case *ast.SelectorExpr:
		if x, ok := e.X.(*ast.Ident); ok && p.imports[x.Name] != "" {
			q, err := w.load(p.imports[x.Name])
			if err != nil {
				return nil, nil
			}
			return q, q.function(e.Sel.Name)
		}
		if f := p.function(e.Sel.Name); f != nil {
			return p, f
		}
		q, err := w.load("internal/yamlconf")
		if err != nil {
			return nil, nil
		}
		if f := q.function(e.Sel.Name); f != nil && strings.HasPrefix(e.Sel.Name, "Read") {
			return q, f
		}
	}
	return nil, nil
}

// typeSpec returns a type's declaration.
func (p *source) typeSpec(name string) (*ast.GenDecl, *ast.TypeSpec) {
	for _, f := range p.files {
		for _, d := range f.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok {
				continue
			}
			for _, s := range g.Specs {
				if t, ok := s.(*ast.TypeSpec); ok && t.Name.Name == name {
					return g, t
				}
			}
		}
	}
	return nil, nil
}

// comment is a type's.
func (p *source) comment(name string) string {
	g, t := p.typeSpec(name)
	if t == nil {
		return ""
	}
	doc := t.Doc
	if doc == nil {
		doc = g.Doc
	}
	text := flat(doc)
	// "Switch is one …" becomes "one …".
	for _, article := range []string{"", "A ", "An "} {
		for _, verb := range []string{" is ", " says ", " are ", " names "} {
			if rest, ok := strings.CutPrefix(text, article+name+verb); ok {
				if verb == " says " {
					rest = "says " + rest
				}
				return rest
			}
		}
	}
	return text
}

// field returns what a structure's field for a key holds and its comment.
func (s structure) field(key string) (structure, string) {
	if s.pkg == nil {
		return structure{}, ""
	}
	_, t := s.pkg.typeSpec(s.name)
	if t == nil {
		return structure{pkg: s.pkg}, ""
	}
	fields, ok := t.Type.(*ast.StructType)
	if !ok {
		return structure{pkg: s.pkg}, ""
	}
	for _, f := range fields.Fields.List {
		for _, name := range f.Names {
			if same(key, name.Name) {
				text := flat(f.Doc)
				if text == "" {
					text = flat(f.Comment)
				}
				return s.pkg.inner(f.Type), withoutName(text, name.Name)
			}
		}
	}
	return structure{pkg: s.pkg}, ""
}

// withoutName turns "DPID is the datapath id." into "the datapath id."
func withoutName(text, field string) string {
	for _, verb := range []string{" is ", " are "} {
		if rest, ok := strings.CutPrefix(text, field+verb); ok {
			return rest
		}
	}
	return text
}

// inner is the structure that a field's type leads to.
func (p *source) inner(t ast.Expr) structure {
	switch t := t.(type) {
	case *ast.ArrayType:
		return p.inner(t.Elt)
	case *ast.StarExpr:
		return p.inner(t.X)
	case *ast.MapType:
		return p.inner(t.Value)
	case *ast.Ident:
		return structure{p, t.Name}
	case *ast.SelectorExpr:
		if x, ok := t.X.(*ast.Ident); ok && p.imports[x.Name] != "" {
			if q, err := p.all.load(p.imports[x.Name]); err == nil {
				return structure{q, t.Sel.Name}
			}
		}
	}
	return structure{pkg: p}
}

func flat(g *ast.CommentGroup) string {
	if g == nil {
		return ""
	}
	return strings.TrimSpace(strings.Join(strings.Fields(g.Text()), " "))
}

// standard is the value of the constant DefaultKey, "" without one.
func (p *source) standard(key string) string {
	if p == nil {
		return ""
	}
	for _, f := range p.files {
		for _, d := range f.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.CONST {
				continue
			}
			for _, s := range g.Specs {
				v := s.(*ast.ValueSpec)
				for i, name := range v.Names {
					if rest, ok := strings.CutPrefix(name.Name, "Default"); ok && same(key, rest) && i < len(v.Values) {
						return p.show(v.Values[i])
					}
				}
			}
		}
	}
	return ""
}

var units = map[string]time.Duration{"Nanosecond": 1, "Microsecond": time.Microsecond, "Millisecond": time.Millisecond, "Second": time.Second, "Minute": time.Minute, "Hour": time.Hour}

// show evaluates a constant expression for readers, "" if that is beyond it.
func (p *source) show(e ast.Expr) string {
	v, duration := p.eval(e)
	switch n, exact := constant.Int64Val(constant.ToInt(v)); {
	case v.Kind() == constant.String:
		return constant.StringVal(v)
	case !exact:
		return ""
	case duration:
		return shortDuration(time.Duration(n))
	default:
		return strconv.FormatInt(n, 10)
	}
}

func shortDuration(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

func (p *source) eval(e ast.Expr) (v constant.Value, duration bool) {
	switch e := e.(type) {
	case *ast.ParenExpr:
		return p.eval(e.X)
	case *ast.BasicLit:
		return constant.MakeFromLiteral(e.Value, e.Kind, 0), false
	case *ast.SelectorExpr:
		if u, ok := units[e.Sel.Name]; ok {
			return constant.MakeInt64(int64(u)), true
		}
		if x, ok := e.X.(*ast.Ident); ok && p.imports[x.Name] != "" {
			if q, err := p.all.load(p.imports[x.Name]); err == nil {
				return q.eval(e.Sel)
			}
		}
	case *ast.BinaryExpr:
		x, dx := p.eval(e.X)
		y, dy := p.eval(e.Y)
		if x.Kind() != constant.Int || y.Kind() != constant.Int {
			break
		}
		if e.Op == token.SHL {
			if n, ok := constant.Uint64Val(y); ok && n < 64 {
				return constant.Shift(x, token.SHL, uint(n)), dx
			}
			break
		}
		if e.Op == token.ADD || e.Op == token.SUB || e.Op == token.MUL {
			return constant.BinaryOp(x, e.Op, y), dx || dy
		}
	case *ast.Ident:
		for _, f := range p.files {
			for _, d := range f.Decls {
				g, ok := d.(*ast.GenDecl)
				if !ok || g.Tok != token.CONST {
					continue
				}
				for _, s := range g.Specs {
					v := s.(*ast.ValueSpec)
					for i, name := range v.Names {
						if name.Name == e.Name && i < len(v.Values) {
							return p.eval(v.Values[i])
						}
					}
				}
			}
		}
	}
	return constant.MakeUnknown(), false
}
