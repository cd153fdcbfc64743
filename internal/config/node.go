package config

import (
	"regexp"
	"strconv"
	"unicode/utf8"
)

// The bounds of one file. They are far above any real configuration and far below what hurts.
const (
	maxFile   = 1 << 20 // bytes
	maxValues = 100_000 // values and keys, each counted as often as aliases and merges repeat it
	maxDepth  = 64      // of lists and mappings in one another
)

// nodeKind is what a value is. YAML and JSON have the same.
type nodeKind uint8

const (
	kindBroken  nodeKind = iota // not to be used; node.text says why
	kindNull                    // nothing
	kindBoolean                 // true or false
	kindNumber                  // as written
	kindText
	kindList
	kindMapping
)

// What a value is, for faults.
var kindNames = [...]string{
	kindBoolean: "a boolean",
	kindNumber:  "a number",
	kindText:    "a string",
	kindList:    "a list",
	kindMapping: "a mapping",
}

// node is one value of a file. Nodes may be shared (YAML aliases) and never form a cycle.
type node struct {
	kind   nodeKind
	line   int
	text   string  // of a scalar: a string's value, anything else as written
	items  []*node // of a list
	fields []field // of a mapping, in the order of the file; a name may come twice
}

type field struct {
	name    string
	line    int
	value   *node
	unnamed bool // the name is the fault: value is broken and says how
}

// find returns the first value of that name, or nil.
func (n *node) find(name string) *node {
	for i := range n.fields {
		if n.fields[i].name == name {
			return n.fields[i].value
		}
	}
	return nil
}

func broken(line int, why string) *node { return &node{kind: kindBroken, line: line, text: why} }

// key is the full path of a value and where it stands.
type key struct {
	path string
	line int
}

func (k key) child(name string, line int) key {
	name = quoteName(name)
	if k.path != "" {
		name = k.path + "." + name
	}
	return key{name, line}
}

func (k key) item(i, line int) key { return key{k.path + "[" + strconv.Itoa(i) + "]", line} }

// quoteName returns a name as it stands in a path: quoted where it is not plain, and cut where it is too long to read.
func quoteName(name string) string {
	const longest = 64
	if utf8.RuneCountInString(name) > longest {
		name = string([]rune(name)[:longest]) + "…"
	}
	if !plainName.MatchString(name) {
		return strconv.Quote(name)
	}
	return name
}

// plainName is a name that can be told from its surroundings.
var plainName = regexp.MustCompile(`^[a-zA-Z0-9_$/-]+$`)
