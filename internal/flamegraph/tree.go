package flamegraph

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/google/pprof/profile"
)

// Node is a function called by a certain chain of others.
type Node struct {
	Name     string // with its import path, "all" of the root; only printable runes
	File     string // where it is written; "" where that is not known
	Self     int64  // what the function took itself
	Total    int64  // what it took with all that it called
	Old      int64  // Total in the profile that is compared with; 0 without one
	Children []*Node

	byName map[string]*Node
}

// Profile is a recorded profile, of which one value is looked at.
type Profile struct {
	Root     *Node
	Unit     string        // of the values: nanoseconds, bytes or count
	Started  time.Time     // zero: not known
	Duration time.Duration // over which it was recorded; 0: not known, or it is a state
	Comments []string

	Compared bool  // with an old one
	OldTotal int64 // of that
}

// maxName bounds the name of a function, in runes.
const maxName = 1000

// ErrNoValue is the error of a profile that does not have the value that was asked for: it is of another kind.
var ErrNoValue = errors.New("the profile is of another kind")

// Parse reads a profile in the format of pprof, packed or not. value is which of its sample types counts, as cpu, inuse_space,
// alloc_space, delay or goroutine.
func Parse(data []byte, value string) (*Profile, error) {
	p, err := profile.ParseData(data)
	if err != nil {
		return nil, fmt.Errorf("it is no profile of Go's: %w", err)
	}
	index := slices.IndexFunc(p.SampleType, func(t *profile.ValueType) bool { return t.Type == value })
	if index < 0 {
		return nil, fmt.Errorf("%w: it has no %s", ErrNoValue, value)
	}
	made := &Profile{Root: &Node{Name: "all"}, Unit: p.SampleType[index].Unit, Duration: time.Duration(p.DurationNanos), Comments: p.Comments}
	if p.TimeNanos > 0 {
		made.Started = time.Unix(0, p.TimeNanos)
	}
	for _, s := range p.Sample {
		if n := s.Value[index]; n > 0 { // a difference of two profiles may have less than nothing, which nobody took
			made.Root.add(s, n)
		}
	}
	made.Root.order()
	return made, nil
}

// add adds a sample. Its locations begin with the function that was running, and so do the lines of each location, of which all but the
// last are inlined.
func (n *Node) add(s *profile.Sample, value int64) {
	n.Total += value
	for _, at := range slices.Backward(s.Location) {
		if len(at.Line) == 0 {
			n = n.child(fmt.Sprintf("%#x", at.Address), "")
			n.Total += value
		}
		for _, line := range slices.Backward(at.Line) {
			name, file := "?", ""
			if f := line.Function; f != nil {
				name, file = printable(f.Name), printable(f.Filename)
			}
			n = n.child(name, file)
			n.Total += value
		}
	}
	n.Self += value
}

// child returns the one with a name, made where there is none.
func (n *Node) child(name, file string) *Node {
	if c := n.byName[name]; c != nil {
		return c
	}
	if n.byName == nil {
		n.byName = make(map[string]*Node)
	}
	c := &Node{Name: name, File: file}
	n.byName[name] = c
	n.Children = append(n.Children, c)
	return c
}

// order puts what takes most first.
func (n *Node) order() {
	slices.SortFunc(n.Children, func(a, b *Node) int {
		return cmp.Or(cmp.Compare(b.Total, a.Total), strings.Compare(a.Name, b.Name))
	})
	for _, c := range n.Children {
		c.order()
	}
}

// Compare notes in p what an older profile had. What only that one had is added, and takes nothing.
func (p *Profile) Compare(old *Profile) {
	p.Compared, p.OldTotal = true, old.Root.Total
	p.Root.compare(old.Root)
	p.Root.order()
}

func (n *Node) compare(old *Node) {
	n.Old = old.Total
	for _, c := range old.Children {
		n.child(c.Name, c.File).compare(c)
	}
}

// Share returns which part of all n took, 0 to 1.
func (p *Profile) Share(n int64) float64 { return part(n, p.Root.Total) }

// oldShare is the same in the profile that is compared with.
func (p *Profile) oldShare(n int64) float64 { return part(n, p.OldTotal) }

func part(n, all int64) float64 {
	if all == 0 {
		return 0
	}
	return float64(n) / float64(all)
}

// printable replaces what could be something else than text, and bounds it.
func printable(text string) string {
	runes := 0
	return strings.Map(func(r rune) rune {
		switch runes++; {
		case runes > maxName:
			return -1
		case !unicode.IsPrint(r):
			return '?'
		}
		return r
	}, text)
}
