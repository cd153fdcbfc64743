package flamegraph

import (
	"cmp"
	"slices"
	"strings"
)

// Function is what one function took, over all that called it.
type Function struct {
	Name     string `json:"name"`
	Self     int64  `json:"self" jsonschema:"what it took itself"`
	Total    int64  `json:"total" jsonschema:"what it took with all that it called"`
	OldSelf  *int64 `json:"oldSelf,omitempty" jsonschema:"self in the profile that was compared with"`
	OldTotal *int64 `json:"oldTotal,omitempty" jsonschema:"total in the profile that was compared with"`
}

// Functions returns all functions, those first that took most themselves. Where callers is set, what Go's runtime and its locks took
// counts as taken by the function that called them: who waits is never the runtime by itself.
func (p *Profile) Functions(callers bool) []Function {
	c := counter{functions: make(map[string]*Function), onPath: make(map[string]int), callers: callers}
	c.walk(p.Root, "")
	all := make([]Function, 0, len(c.functions))
	for _, f := range c.functions {
		all = append(all, *f)
	}
	slices.SortFunc(all, func(a, b Function) int {
		return cmp.Or(cmp.Compare(b.Self, a.Self), cmp.Compare(b.Total, a.Total), strings.Compare(a.Name, b.Name))
	})
	return all
}

// Add puts the figures of an older profile beside those of functions; what only that one has is appended.
func Add(functions, old []Function) []Function {
	before := make(map[string]Function, len(old))
	for _, f := range old {
		before[f.Name] = f
	}
	for i := range functions {
		f := before[functions[i].Name]
		functions[i].OldSelf, functions[i].OldTotal = &f.Self, &f.Total
		delete(before, f.Name)
	}
	for _, f := range old {
		if _, only := before[f.Name]; only {
			functions = append(functions, Function{Name: f.Name, OldSelf: &f.Self, OldTotal: &f.Total})
		}
	}
	return functions
}

// counter adds up functions over a tree.
type counter struct {
	functions map[string]*Function
	onPath    map[string]int // how often each is above the node that is looked at: what a recursion takes counts once
	callers   bool
}

// walk counts a node. owner is the nearest function above it that is not of the runtime, "" where there is none.
func (c *counter) walk(n *Node, owner string) {
	for _, child := range n.Children {
		f := c.function(child.Name)
		if c.onPath[child.Name] == 0 {
			f.Total += child.Total
		}
		own := child.Name
		if c.callers && owner != "" && waits(own) {
			own = owner
		}
		c.function(own).Self += child.Self
		c.onPath[child.Name]++
		c.walk(child, ownerBelow(owner, child.Name))
		c.onPath[child.Name]--
	}
}

func ownerBelow(owner, name string) string {
	if waits(name) {
		return owner
	}
	return name
}

func (c *counter) function(name string) *Function {
	f := c.functions[name]
	if f == nil {
		f = &Function{Name: name}
		c.functions[name] = f
	}
	return f
}

// waits reports whether a function is of Go's runtime or its locks.
func waits(name string) bool {
	path := importPath(name)
	return path == "sync" || path == "runtime" || strings.HasPrefix(path, "runtime/") || strings.HasPrefix(path, "internal/")
}

// importPath returns the package of a function: all before the first dot behind the last slash that is not a type argument's.
func importPath(name string) string {
	end := len(name)
	if i := strings.IndexAny(name, "[("); i >= 0 {
		end = i
	}
	slash := strings.LastIndexByte(name[:end], '/') + 1
	if dot := strings.IndexByte(name[slash:], '.'); dot >= 0 {
		return name[:slash+dot]
	}
	return ""
}
