package config

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"slices"
	"strings"
	"unicode/utf8"
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

func (d *decoder) fault(at key, format string, args ...any) {
	d.unsound[at.path] = true
	d.report.fault(d.file, at, format, args...)
}

// accepts reports whether nothing is wrong, and says what is.
func (d *decoder) accepts(at key, why string) bool {
	if why != "" {
		d.fault(at, "%s", why)
	}
	return why == ""
}

func (d *decoder) warn(at key, format string, args ...any) {
	d.report.warn(d.file, at, format, args...)
}

// open reads and parses the file. A file that cannot be used is one fault and nil.
func (d *decoder) open(parse func([]byte) (*node, error)) *node {
	text, err := d.sources.ReadFile(d.file)
	switch {
	case err != nil:
		d.fault(key{}, "cannot be read: %v", bareError(err))
		return nil
	case len(text) > maxFile:
		d.fault(key{}, "is larger than %s", formatSize(maxFile))
		return nil
	case !utf8.Valid(text):
		d.fault(key{}, "is not UTF-8")
		return nil
	}
	root, err := parse([]byte(strings.TrimPrefix(string(text), "\uFEFF")))
	if bad := new(syntaxError); errors.As(err, &bad) {
		d.fault(key{line: bad.line}, "%s", bad.text)
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

// is reports whether n is of one of the kinds, and says so if it is not.
func (d *decoder) is(at key, n *node, wanted string, kinds ...nodeKind) bool {
	switch {
	case slices.Contains(kinds, n.kind):
		return true
	case n.kind == kindBroken:
		d.fault(at, "%s", n.text)
	case n.kind == kindNull:
		d.fault(at, "has no value, must be %s", wanted)
	default:
		d.fault(at, "must be %s, not %s", wanted, kindNames[n.kind])
	}
	return false
}

// each calls read for every entry of a mapping. A name given twice counts once.
func (d *decoder) each(at key, n *node, read func(name string, at key, n *node)) {
	if !d.is(at, n, kindNames[kindMapping], kindMapping) {
		return
	}
	first := make(map[string]int, len(n.fields))
	for _, f := range n.fields {
		if d.visit(); d.visits > maxValues {
			return
		}
		if f.unnamed {
			d.fault(key{at.path, f.line}, "%s", f.value.text)
			continue
		}
		at := at.child(f.name, f.line)
		if line, ok := first[f.name]; ok {
			d.fault(at, "is given twice, first on line %d", line)
			continue
		}
		first[f.name] = f.line
		d.lines[at.path] = f.line
		read(f.name, at, f.value)
	}
}

// visit counts a value. Aliases can repeat a long list often, and that is the bound.
func (d *decoder) visit() {
	if d.visits++; d.visits == maxValues+1 {
		d.fault(key{}, "is too long: more than %d values, those that aliases repeat included", maxValues)
	}
}

// items calls read for every item of a list.
func (d *decoder) items(at key, n *node, read func(at key, n *node)) {
	if !d.is(at, n, kindNames[kindList], kindList) {
		return
	}
	for i, item := range n.items {
		if d.visit(); d.visits > maxValues {
			return
		}
		at := at.item(i, item.line)
		d.lines[at.path] = at.line
		read(at, item)
	}
}

// text reads a string in which `${` stands for nothing.
func (d *decoder) text(at key, n *node) (string, bool) {
	s, ok := d.rawText(at, n)
	if ok && strings.Contains(s, "${") {
		d.fault(at, "%s", notExpanded)
		return "", false
	}
	return s, ok
}

const notExpanded = "cannot hold ${...}: only " + expandedKeys + " can"

// rawText reads a string. Numbers and words such as true are refused, because YAML may have understood something else
// than was meant.
func (d *decoder) rawText(at key, n *node) (string, bool) {
	wanted := "a string"
	if n.kind == kindNumber || n.kind == kindBoolean {
		wanted = "a string (put it in quotes)"
	}
	return n.text, d.is(at, n, wanted, kindText)
}

// given reports whether the key is in the file.
func (d *decoder) given(at key, names ...string) bool {
	_, ok := d.lines[within(at, names).path]
	return ok
}

// sound reports whether no fault of the key itself is known, given or not. What is not sound is not compared with
// anything: one slip is one fault.
func (d *decoder) sound(at key, names ...string) bool { return !d.unsound[within(at, names).path] }

// at returns the key of that path below base, with the line of the nearest key on the way that is in the file.
func (d *decoder) at(base key, names ...string) key {
	for i := range names {
		next := within(base, names[i:i+1])
		if line, ok := d.lines[next.path]; ok {
			next.line = line
		}
		base = next
	}
	return base
}

func within(at key, names []string) key {
	for _, name := range names {
		at = at.child(name, at.line)
	}
	return at
}

// suggestion names the known key that was probably meant, or all of them.
func suggestion(name string, known []string) string {
	if name == "mcpServers" {
		return "this is a file of an agent's: name it by --mcp-json"
	}
	best, distance := "", 1+min(2, len(name)/3)
	for _, k := range known {
		if d := editDistance(name, k, distance); d < distance {
			best, distance = k, d
		}
	}
	if best != "" {
		return "did you mean " + best + "?"
	}
	return "known here: " + strings.Join(known, ", ")
}

// editDistance returns how many letters must be put in, taken out, replaced or swapped with a neighbour to make b of a,
// or limit if that is not less.
func editDistance(a, b string, limit int) int {
	if len(a)-len(b) >= limit || len(b)-len(a) >= limit {
		return limit
	}
	before, last := []int(nil), make([]int, len(b)+1)
	for j := range last {
		last[j] = j
	}
	for i := range len(a) {
		row := make([]int, len(b)+1)
		row[0] = i + 1
		for j := range len(b) {
			row[j+1] = min(last[j+1]+1, row[j]+1, last[j]+differ(a[i], b[j]))
			if i > 0 && j > 0 && a[i] == b[j-1] && a[i-1] == b[j] {
				row[j+1] = min(row[j+1], before[j-1]+1)
			}
		}
		before, last = last, row
	}
	return min(last[len(b)], limit)
}

func differ(a, b byte) int {
	if a == b {
		return 0
	}
	return 1
}
