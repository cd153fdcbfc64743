package config

import (
	"cmp"
	"slices"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"
)

// row is one key of the configuration: everything that is known of it, and the only place where it is named.
type row struct {
	name     string // the path below the file's root, or below an upstream
	help     string // what it is for
	value           // nil for a mapping of other keys
	sample   string // what the example shows where the default is no YAML or says nothing
	optional bool   // left out by default, or where another is there: the example has it as a comment
	off      *bool  // of a mapping: `off` may stand in its place, and sets this
	refusals []refusal
	checks   []func(check)
}

// value is what stands under a key.
type value interface {
	read(d *decoder, at key, n *node)
	reset()        // puts the default in
	text() string  // for people, without secrets; "" where there is nothing to say
	usual() string // the default, as YAML
	wants() string // what may stand there, for people
	schema() *jsonschema.Schema
}

// setting is the value of a kind that goes into a field.
type setting[T any] struct {
	kind kind[T]
	into *T
	def  T
}

func (s setting[T]) read(d *decoder, at key, n *node) { s.kind.read(d, at, n, s.into) }
func (s setting[T]) reset()                           { *s.into = s.def }
func (s setting[T]) text() string                     { return textOf(*s.into) }
func (s setting[T]) wants() string                    { return s.kind.what }
func (s setting[T]) schema() *jsonschema.Schema       { return s.kind.schema() }

func (s setting[T]) usual() string {
	text := textOf(s.def)
	if text != "" && text != "none" {
		return text
	}
	return cmp.Or(map[string]string{"array": "[]", "object": "{}"}[s.schema().Type], `""`)
}

// newRow makes the row of a key whose value goes into a field.
func newRow[T any](name string, into *T, k kind[T], def T, help string) *row {
	return &row{name: name, help: help, value: setting[T]{k, into, def}}
}

// section makes the row of a mapping; its keys follow in the table.
func section(name, help string) *row { return &row{name: name, help: help} }

// shows says what the example shows in place of the default.
func (r *row) shows(sample string) *row {
	r.sample = sample
	return r
}

// leftOut marks a key that the example has as a comment.
func (r *row) leftOut() *row {
	r.optional = true
	return r
}

// orOff lets `off` stand in place of a mapping.
func (r *row) orOff(off *bool) *row {
	r.off = off
	return r
}

func (r *row) text() string {
	switch {
	case r.value != nil:
		return r.value.text()
	case r.off != nil && *r.off:
		return "off"
	}
	return ""
}

// refusal says when a key means nothing: it is refused where it is given then, and not shown.
type refusal struct {
	by   string // the key that decides; nothing is said where that has a fault
	when func() bool
	why  string
}

// refused adds conditions under which the key means nothing.
func (r *row) refused(refusals ...refusal) *row {
	r.refusals = append(r.refusals, refusals...)
	return r
}

// checked adds what must hold between the key and others.
func (r *row) checked(checks ...func(check)) *row {
	r.checks = append(r.checks, checks...)
	return r
}

// lastPart returns the key itself of its full path.
func lastPart(name string) string { return name[strings.LastIndexByte(name, '.')+1:] }

// table is rows in the order of the documentation, each mapping before its keys.
type table []*row

func (t table) find(name string) *row {
	if i := slices.IndexFunc(t, func(r *row) bool { return r.name == name }); i >= 0 {
		return t[i]
	}
	return nil
}

func (t table) reset() {
	for _, r := range t {
		if r.value != nil {
			r.reset()
		}
	}
}

// children returns the rows right below a prefix, which is "" or ends with a dot.
func (t table) children(prefix string) (rows []*row) {
	for _, r := range t {
		if name, ok := strings.CutPrefix(r.name, prefix); ok && !strings.Contains(name, ".") {
			rows = append(rows, r)
		}
	}
	return rows
}

// read reads a mapping of the keys below a prefix.
func (t table) read(d *decoder, at key, n *node, prefix string) {
	d.each(at, n, func(name string, at key, n *node) {
		r := t.find(prefix + name)
		switch {
		case r == nil || strings.Contains(name, "."):
			d.fault(at, "is not a known key; %s", suggestion(name, t.names(prefix)))
		case r.value != nil:
			r.read(d, at, n)
		case r.off != nil && (n.kind == kindText || n.kind == kindBoolean):
			if *r.off = n.text == "off" || n.text == "false"; !*r.off {
				d.fault(at, "must be a mapping or off")
			}
		default:
			t.read(d, at, n, r.name+".")
		}
	})
}

// names returns the keys right below a prefix, sorted.
func (t table) names(prefix string) (names []string) {
	for _, r := range t.children(prefix) {
		names = append(names, lastPart(r.name))
	}
	slices.Sort(names)
	return names
}

// check says what the keys say wrong together, the mappings last, and lets defaults give way to what was set.
func (t table) check(d *decoder, base key) {
	for _, mappings := range []bool{false, true} {
		for _, r := range t {
			if c := (check{r, d, base}); (r.value == nil) == mappings {
				c.run()
			}
		}
	}
}

// meansNothing reports whether a key is refused, or a mapping that it is in.
func (t table) meansNothing(r *row) bool {
	return slices.ContainsFunc(t, func(o *row) bool {
		within := o == r || strings.HasPrefix(r.name, o.name+".")
		return within && slices.ContainsFunc(o.refusals, func(no refusal) bool { return no.when() })
	})
}
