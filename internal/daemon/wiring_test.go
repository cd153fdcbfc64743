package daemon

import (
	"go/ast"
	"go/parser"
	"go/token"
	"go/types"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const configPath = "fluentd-perf/internal/config"

// wiring knows the types of internal/config and of this package, as far as they are made of those, and which fields are read here.
type wiring struct {
	t      *testing.T
	files  *token.FileSet
	config *types.Package
	read   map[types.Object]bool
}

// TestEveryKeyIsHandedOn: each field of the configuration is read by what joins the parts. A key whose field nobody reads would be
// accepted and do nothing.
func TestEveryKeyIsHandedOn(t *testing.T) {
	w := &wiring{t: t, files: token.NewFileSet(), read: map[types.Object]bool{}}
	w.config = w.check(configPath, "../config", nil)
	selections := map[*ast.SelectorExpr]*types.Selection{}
	w.check("fluentd-perf/internal/daemon", ".", selections)
	for _, s := range selections {
		if s.Kind() == types.FieldVal {
			w.read[s.Obj()] = true
		}
	}
	unread, all := w.unread(w.config.Scope().Lookup("Config").Type(), "Config")
	if len(unread) > 0 {
		t.Errorf("nobody reads %s", strings.Join(unread, ", "))
	}
	if all < 70 {
		t.Errorf("only %d fields were looked at: the test looks in the wrong place", all)
	}
}

// check finds the types in a package. What it imports of others is unknown to it, which is no error.
func (w *wiring) check(path, dir string, selections map[*ast.SelectorExpr]*types.Selection) *types.Package {
	w.t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		w.t.Fatal(err)
	}
	var files []*ast.File
	for _, name := range names {
		if strings.HasSuffix(name, "_test.go") {
			continue
		}
		file, err := parser.ParseFile(w.files, name, nil, parser.SkipObjectResolution)
		if err != nil {
			w.t.Fatal(err)
		}
		files = append(files, file)
	}
	c := types.Config{Importer: w, Error: func(error) {}}
	checked, _ := c.Check(path, w.files, files, &types.Info{Selections: selections})
	return checked
}

// Import implements types.Importer.
func (w *wiring) Import(of string) (*types.Package, error) {
	if of == configPath {
		return w.config, nil
	}
	empty := types.NewPackage(of, path.Base(of))
	empty.MarkComplete()
	return empty, nil
}

// unread returns the fields below a type that are read nowhere, and how many there are. A struct is read by its fields, a secret by
// itself.
func (w *wiring) unread(of types.Type, name string) (unread []string, all int) {
	fields := of.Underlying().(*types.Struct)
	for f := range fields.Fields() {
		if !f.Exported() {
			continue
		}
		below, n := []string(nil), 1
		if inner := elementOf(f.Type()); w.isOurs(inner) {
			below, n = w.unread(inner, name+"."+f.Name())
		} else if !w.read[f] {
			below = []string{name + "." + f.Name()}
		}
		unread, all = slices.Concat(unread, below), all+n
	}
	return unread, all
}

// isOurs reports whether a type is a struct of the configuration's, with a name or without.
func (w *wiring) isOurs(t types.Type) bool {
	if _, ok := t.(*types.Struct); ok {
		return true
	}
	named, ok := t.(*types.Named)
	if !ok || named.Obj().Pkg() != w.config || named.Obj().Name() == "Secret" {
		return false
	}
	_, ok = named.Underlying().(*types.Struct)
	return ok
}

func elementOf(t types.Type) types.Type {
	switch t := t.(type) {
	case *types.Slice:
		return elementOf(t.Elem())
	case *types.Pointer:
		return elementOf(t.Elem())
	}
	return t
}
