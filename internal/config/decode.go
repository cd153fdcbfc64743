package config

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"unicode/utf8"

	"go.yaml.in/yaml/v4"
)

// decoder reads the values of one file into a configuration. It says every fault it finds and goes on.
type decoder struct {
	*report
	sources Sources
	file    string
	lines   map[string]int  // the line of every key that was given
	unsound map[string]bool // the keys that have a fault
	visits  int             // values looked at, repeated aliases included
}

// anew returns a decoder of the same file that has seen no key yet.
func (d *decoder) anew() *decoder {
	return &decoder{report: d.report, sources: d.sources, file: d.file, lines: map[string]int{}, unsound: map[string]bool{}}
}

// root is the key of the whole file.
func (d *decoder) root(line int) key { return key{by: d, line: line} }

// open reads and parses the file. A file that cannot be used is one fault and nil.
func (d *decoder) open(parse func([]byte) (*yaml.Node, error)) *yaml.Node {
	text, err := d.sources.ReadFile(d.file)
	switch {
	case err != nil:
		d.root(0).fault("cannot be read: %v", bareError(err))
		return nil
	case len(text) > maxFile:
		d.root(0).fault("is larger than %s", formatSize(maxFile))
		return nil
	case !utf8.Valid(text):
		d.root(0).fault("is not UTF-8")
		return nil
	}
	root, err := parse([]byte(strings.TrimPrefix(string(text), "\uFEFF")))
	if bad := new(syntaxError); errors.As(err, &bad) {
		d.root(bad.line).fault("%s", bad.text)
		return nil
	}
	return root
}

// readFile reads a file, of which there may be more than fits, to just above what any file here may have.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxFile+1))
}

// bareError takes the path off an error of the file system: faults name the file themselves.
func bareError(err error) error {
	if at := new(fs.PathError); errors.As(err, &at) {
		return at.Err
	}
	return err
}

// is reports whether n is of one of the shapes, and says so if it is not.
func (at key) is(n *yaml.Node, wanted string, shapes ...shape) bool {
	got := shapeOf(n)
	switch {
	case n.Style&yaml.TaggedStyle != 0:
		at.fault("has a tag, which means nothing here")
	case slices.Contains(shapes, got):
		return true
	case got == isNull:
		at.fault("has no value, must be %s", wanted)
	default:
		at.fault("must be %s, not %s", wanted, got)
	}
	return false
}

// reader reads the value of a key.
type reader = func(name string, at key, n *yaml.Node)

// each calls read for every entry of a mapping. A name given twice counts once.
func (at key) each(n *yaml.Node, read reader) {
	if at.is(n, isMapping, isMapping) {
		at.entries(n, map[string]int{}, false, read)
	}
}

// entries reads a mapping. given are the names that were read and their lines: those of a mapping that is merged give way.
func (at key) entries(n *yaml.Node, given map[string]int, merged bool, read reader) {
	var merges []*yaml.Node
	for name, value := range pairs(n) {
		if !at.by.visit() {
			return
		}
		first, twice := given[name.Value]
		switch under := at.child(name.Value, name.Line); {
		case name.Tag == "!!merge":
			merges = append(merges, value)
		case name.Kind != yaml.ScalarNode || shapeOf(name) == isNull:
			key{at.by, at.path, name.Line}.fault("a key must be plain text")
		case name.Style == 0 && shapeOf(value) == isNull && strings.Contains(name.Value, ":"): // {token:secret}, which nobody is to see
			key{at.by, at.path, name.Line}.fault("a space must stand behind the : of a key")
		case !twice:
			given[name.Value], at.by.lines[under.path] = name.Line, name.Line
			read(name.Value, under, value)
		case !merged:
			under.fault("is given twice, first on line %d", first)
		}
	}
	for _, from := range merges {
		at.merge(from, given, read)
	}
}

// merge reads what `<<` brings and the mapping does not say itself (YAML's merge key type, yaml.org/type/merge.html).
func (at key) merge(from *yaml.Node, given map[string]int, read reader) {
	switch shapeOf(from) {
	case isMapping:
		at.entries(from, given, true, read)
	case isList:
		for _, item := range from.Content {
			if at.by.visit() {
				at.merge(target(item), given, read)
			}
		}
	default:
		key{at.by, at.path, from.Line}.fault("<< must have an alias of a mapping")
	}
}

// items calls read for every item of a list.
func (at key) items(n *yaml.Node, read func(at key, n *yaml.Node)) {
	if !at.is(n, isList, isList) {
		return
	}
	for i, item := range n.Content {
		if !at.by.visit() {
			return
		}
		at := at.item(i, item.Line)
		at.by.lines[at.path] = at.line
		read(at, target(item))
	}
}

// visit counts a value and reports whether it may be read: aliases can repeat a long list often, or stand in themselves.
func (d *decoder) visit() bool {
	if d.visits++; d.visits == maxValues+1 {
		d.root(0).fault("is too long: more than %d values, those that aliases repeat included", maxValues)
	}
	return d.visits <= maxValues
}

// text reads a string in which `${` stands for nothing.
func (at key) text(n *yaml.Node) (string, bool) {
	s, ok := at.rawText(n)
	return s, ok && (!strings.Contains(s, "${") || at.accepts(notExpanded))
}

const notExpanded = "cannot hold ${...}: only " + expandedKeys + " can"

// rawText reads a string. Numbers and words such as true are refused, because YAML may have understood something else
// than was meant.
func (at key) rawText(n *yaml.Node) (string, bool) {
	wanted := isText
	if s := shapeOf(n); s == isNumber || s == isBoolean {
		wanted = "a string (put it in quotes)"
	}
	return n.Value, at.is(n, wanted, isText)
}

// below returns the key of a dotted name, with the line of the nearest key on the way that is in the file.
func (at key) below(names string) key {
	for name := range strings.SplitSeq(names, ".") {
		at = at.named(name)
	}
	return at
}

// named returns the key of a name, with its line if it is in the file.
func (at key) named(name string) key {
	at = at.child(name, at.line)
	if line, ok := at.by.lines[at.path]; ok {
		at.line = line
	}
	return at
}

// given reports whether the key is in the file.
func (at key) given() bool {
	_, ok := at.by.lines[at.path]
	return ok
}

// sound reports whether no fault of the key itself is known, given or not. What is not sound is not compared with
// anything: one slip is one fault.
func (at key) sound() bool { return !at.by.unsound[at.path] }

// suggestion names the known key that was probably meant, or all of them.
func suggestion(name string, known []string) string {
	if name == "mcpServers" {
		return "this is a file of an agent's: name it by --mcp-json"
	}
	for edits := range 1 + min(2, len(name)/3) {
		for _, k := range known {
			if near(name, k, edits) {
				return "did you mean " + k + "?"
			}
		}
	}
	return "known here: " + strings.Join(known, ", ")
}

// near reports whether b can be made of a by so many edits: a letter put in, taken out, replaced or swapped with its
// neighbour.
func near(a, b string, edits int) bool {
	for a != "" && b != "" && a[0] == b[0] {
		a, b = a[1:], b[1:]
	}
	if edits == 0 || a == "" || b == "" {
		return len(a)+len(b) <= edits
	}
	swapped := len(a) > 1 && len(b) > 1 && a[0] == b[1] && a[1] == b[0]
	return near(a[1:], b, edits-1) || near(a, b[1:], edits-1) || near(a[1:], b[1:], edits-1) || swapped && near(a[2:], b[2:], edits-1)
}
