// Package flamegraph draws profiles: a recorded profile of Go's becomes a tree of functions (tree.go), the tree a table of those that
// take most (top.go) and an interactive flame graph (svg.go).
//
// The graph is one SVG file that needs nothing else: its script and its style are in it, and it asks nobody for anything. Each
// frame is a function, as wide as what it and what it calls have taken, below the one that called it. Two profiles can be compared:
// then what takes more than before is red, what takes less is blue.
//
// The package promises that no text of a profile can be anything but text in what it writes, and that what it draws is bounded. It
// does not record and does not write files.
package flamegraph
