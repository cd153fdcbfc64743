// Package header is a list of HTTP header fields as they are on the wire: in their order, with repeats, and with their names
// spelled as they were.
//
// A List is a slice, and its zero value is empty and ready. Names are compared without regard to the case of ASCII letters
// (RFC 9110, section 5.1), and a look-up allocates nothing: heads have a dozen fields, for which walking over them is faster
// than a map. What a field means is left to others, and so is whether it is valid (Valid says that).
//
// Lists that share memory, as slices do, must not be changed: Set, Del and Drop write into it. Clone first.
package header

import (
	"iter"
	"slices"
	"strings"
)

// Field is one field: its name as it was spelled, and its value without the white space around it.
type Field struct{ Name, Value string }

// List is the fields of one head.
type List []Field

// Names are the names of fields.
type Names []string

// Has reports whether a field's name is among them.
func (n Names) Has(name string) bool {
	return slices.ContainsFunc(n, func(known string) bool { return EqualNames(known, name) })
}

// Of returns the fields of a map, in the order of their names.
func Of(fields map[string][]string) List {
	l := make(List, 0, len(fields))
	for name, values := range fields {
		for _, value := range values {
			l.Add(name, value)
		}
	}
	slices.SortStableFunc(l, func(a, b Field) int { return strings.Compare(a.Name, b.Name) })
	return l
}

// Get returns the value of the first field of that name, "" where there is none.
func (l List) Get(name string) string {
	if i := l.index(name); i >= 0 {
		return l[i].Value
	}
	return ""
}

// Find returns the value of the first field of that name, and how many fields of that name there are.
func (l List) Find(name string) (value string, fields int) {
	for i := range l {
		if EqualNames(l[i].Name, name) {
			if fields == 0 {
				value = l[i].Value
			}
			fields++
		}
	}
	return value, fields
}

// Has reports whether there is a field of that name.
func (l List) Has(name string) bool { return l.index(name) >= 0 }

func (l List) index(name string) int {
	for i := range l {
		if EqualNames(l[i].Name, name) {
			return i
		}
	}
	return -1
}

// Values returns the values of all fields of that name, in their order.
func (l List) Values(name string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for i := range l {
			if EqualNames(l[i].Name, name) && !yield(l[i].Value) {
				return
			}
		}
	}
}

// Add appends a field.
func (l *List) Add(name, value string) { *l = append(*l, Field{name, value}) }

// Set replaces the first field of that name and takes the others off, or appends one.
func (l *List) Set(name, value string) {
	i := l.index(name)
	if i < 0 {
		l.Add(name, value)
		return
	}
	(*l)[i] = Field{name, value}
	rest := (*l)[i+1:]
	rest.Del(name)
	*l = (*l)[:i+1+len(rest)]
}

// Del takes off all fields of that name.
func (l *List) Del(name string) {
	l.Drop(func(f Field) bool { return EqualNames(f.Name, name) })
}

// Drop takes off all fields of which drop is true, in one pass.
func (l *List) Drop(drop func(Field) bool) { *l = slices.DeleteFunc(*l, drop) }

// Clone returns a list with memory of its own.
func (l List) Clone() List { return slices.Clone(l) }

// EqualNames reports whether two names are equal but for the case of ASCII letters.
func EqualNames(a, b string) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range len(a) {
		if a[i] != b[i] && lower(a[i]) != lower(b[i]) {
			return false
		}
	}
	return true
}

func lower(c byte) byte {
	if 'A' <= c && c <= 'Z' {
		return c + 'a' - 'A'
	}
	return c
}

// Elements returns the elements of a value that is a list with commas, without white space around them and without empty
// ones (RFC 9110, section 5.6.1).
func Elements(value string) iter.Seq[string] {
	return func(yield func(string) bool) {
		for value != "" {
			var element string
			element, value, _ = strings.Cut(value, ",")
			if element = Trim(element); element != "" && !yield(element) {
				return
			}
		}
	}
}

// Trim returns a value without the blanks and tabs around it: HTTP knows no other white space (RFC 9110, section 5.6.3).
func Trim(s string) string {
	for s != "" && (s[0] == ' ' || s[0] == '\t') {
		s = s[1:]
	}
	for s != "" && (s[len(s)-1] == ' ' || s[len(s)-1] == '\t') {
		s = s[:len(s)-1]
	}
	return s
}
