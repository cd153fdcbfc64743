package config

import (
	"cmp"
	"reflect"
	"slices"
	"strings"

	"github.com/google/jsonschema-go/jsonschema"
	"go.yaml.in/yaml/v4"
)

// row is one key of the configuration: everything that is known of it, and the only place where it is named.
type row struct {
	name     string // the path below the file's root, or below an upstream
	help     string // what it is for
	into     any    // a pointer to where the value goes; nil for a mapping of other keys
	def      any    // the value where none is given
	what     string // what may stand there, for people
	read     func(at key, n *yaml.Node)
	schema   func(*jsonschema.Schema)
	sample   string // what the example shows where the default is no YAML or says nothing
	optional bool   // left out by default, or where another is there: the example has it as a comment
	column   bool   // the summary of upstreams has a column for it
	off      *bool  // of a mapping: `off` may stand in its place, and sets this
	word     string // of a mapping: a text may stand in its place, and is the value of this key
	silent   func() bool
	refusals []refusal
	checks   []func(check)
}

// newRow makes the row of a key whose value goes into a field.
func newRow[T any](name string, into *T, k kind[T], def T, help string) *row {
	read := func(at key, n *yaml.Node) { k.read(at, n, into) }
	return &row{name: name, help: help, into: into, def: def, what: k.what, read: read, schema: k.schema}
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

// inColumn marks a key of upstreams for which the summary has a column.
func (r *row) inColumn() *row {
	r.column = true
	return r
}

// unshown keeps a key out of the summary while silent returns true: it may be given then, and does nothing yet.
func (r *row) unshown(silent func() bool) *row {
	r.silent = silent
	return r
}

// orOff lets `off` stand in place of a mapping.
func (r *row) orOff(off *bool) *row {
	r.off = off
	return r
}

// orWord lets a text stand in place of a mapping, for one key in it.
func (r *row) orWord(name string) *row {
	r.word = name
	return r
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

// reset puts the default in. A map is always an own one.
func (r *row) reset() {
	switch v := reflect.ValueOf(r.into); {
	case r.into == nil:
	case v.Elem().Kind() == reflect.Map:
		v.Elem().Set(reflect.MakeMap(v.Elem().Type()))
	default:
		v.Elem().Set(reflect.ValueOf(r.def))
	}
}

// text writes the value for people, without secrets; "" where there is nothing to say.
func (r *row) text() string {
	switch {
	case r.column || r.silent != nil && r.silent():
		return ""
	case r.into != nil:
		return textOf(reflect.ValueOf(r.into).Elem().Interface())
	case r.off != nil && *r.off:
		return "off"
	}
	return ""
}

// usual writes the default as YAML.
func (r *row) usual() string {
	empty := map[string]string{"array": "[]", "object": "{}"}[made(r.schema).Type]
	return cmp.Or(strings.TrimPrefix(textOf(r.def), "none"), empty, `""`)
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
		r.reset()
	}
}

// children returns the rows right below a prefix, which is "" or ends with a dot.
func (t table) children(prefix string) (rows table) {
	for _, r := range t {
		if name, ok := strings.CutPrefix(r.name, prefix); ok && !strings.Contains(name, ".") {
			rows = append(rows, r)
		}
	}
	return rows
}

// read reads a mapping of the keys below a prefix.
func (t table) read(at key, n *yaml.Node, prefix string) {
	at.each(n, func(name string, at key, n *yaml.Node) {
		r := t.find(prefix + name)
		switch {
		case r == nil || strings.Contains(name, "."):
			at.fault("is not a known key; %s", suggestion(name, t.names(prefix)))
		case r.into != nil:
			r.read(at, n)
		case r.off != nil && n.Kind == yaml.ScalarNode && shapeOf(n) != isNull && shapeOf(n) != isNumber:
			if *r.off = n.Value == "off" || n.Value == "false"; !*r.off {
				at.fault("must be a mapping or off")
			}
		case r.word != "" && shapeOf(n) == isText:
			at = at.child(lastPart(r.word), at.line)
			at.by.lines[at.path] = at.line
			t.find(r.word).read(at, n)
		default:
			t.read(at, n, r.name+".")
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

// meansNothing reports whether a key is refused, or a mapping that it is in.
func (t table) meansNothing(r *row) bool {
	return slices.ContainsFunc(t, func(o *row) bool {
		within := o == r || strings.HasPrefix(r.name, o.name+".")
		return within && slices.ContainsFunc(o.refusals, func(no refusal) bool { return no.when() })
	})
}

// check says what the keys below base say wrong together, the mappings last, and lets defaults give way to what was set.
func (t table) check(base key) {
	for _, mappings := range []bool{false, true} {
		for _, r := range t {
			if (r.into == nil) == mappings && len(r.refusals)+len(r.checks) > 0 {
				check{base.below(r.name), r, base}.run()
			}
		}
	}
}

// check is one row whose whole table is read, and its key. base is the key that the table stands under.
type check struct {
	key
	*row
	base key
}

// has reports whether another key of the table is given.
func (c check) has(name string) bool { return c.base.below(name).given() }

// comparable reports whether neither the key nor another one has a fault.
func (c check) comparable(name string) bool { return c.sound() && c.base.below(name).sound() }

func (c check) run() {
	for _, no := range c.refusals {
		if c.given() && c.sound() && c.base.below(no.by).sound() && no.when() {
			c.fault("%s", no.why)
		}
	}
	for _, check := range c.checks {
		check(c)
	}
}

// otherwise puts in what a key stands for that is not given, once all others are known.
func otherwise[T any](v *T, of func(check) T) func(check) {
	return func(c check) {
		if !c.given() {
			*v = of(c)
		}
	}
}

// notAbove holds a value to that of another key: a default gives way to it, and a value above it is a fault.
func notAbove[T cmp.Ordered](v *T, name string, upper *T) func(check) {
	return func(c check) { limitTo(c, v, min(*v, *upper), "above", name, upper) }
}

// notBelow is notAbove the other way round.
func notBelow[T cmp.Ordered](v *T, name string, lower *T) func(check) {
	return func(c check) { limitTo(c, v, max(*v, *lower), "less than", name, lower) }
}

func limitTo[T cmp.Ordered](c check, v *T, to T, word, name string, limit *T) {
	switch {
	case !c.given():
		*v = to
	case *v != to && c.comparable(name):
		c.fault("must not be %s %s (%s)", word, lastPart(name), textOf(*limit))
	}
}
