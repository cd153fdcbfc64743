package config

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
)

// Fault is one thing wrong with the configuration. It never holds a secret.
type Fault struct {
	File string `json:"file,omitempty"` // as given to Load; empty for the command line
	Line int    `json:"line,omitempty"` // counted from 1; 0 where there is none
	Key  string `json:"key,omitempty"`  // the full key, upstreams.docs.pool.max_idle, or the flag; empty for the whole file
	Text string `json:"text"`
}

// Error returns the fault in one line, "fluentd-perf.yaml:12: upstreams.docs.url: is missing".
func (f Fault) Error() string {
	s := f.Text
	if f.Key != "" {
		s = f.Key + ": " + s
	}
	switch {
	case f.File != "" && f.Line > 0:
		return fmt.Sprintf("%s:%d: %s", f.File, f.Line, s)
	case f.File != "":
		return f.File + ": " + s
	}
	return s
}

// Faults is the error of Load: everything wrong, in the order of files and lines. errors.As finds a Fault in it.
type Faults []Fault

// Error returns the faults, one a line.
func (f Faults) Error() string { return strings.Join(texts(f, Fault.Error), "\n") }

// Unwrap returns the faults one by one.
func (f Faults) Unwrap() []error {
	errs := make([]error, len(f))
	for i := range f {
		errs[i] = f[i]
	}
	return errs
}

// Warning is something that was left out or is probably not meant, and does not stop the daemon. It never holds a
// secret.
type Warning Fault

// String returns the warning in one line, as a Fault looks.
func (w Warning) String() string { return Fault(w).Error() }

// report collects what is said about all sources.
type report struct {
	files    []string // in the order given
	faults   Faults
	warnings []Warning
}

func (at key) fault(format string, args ...any) {
	at.by.unsound[at.path] = true
	at.by.faults = append(at.by.faults, at.said(format, args...))
}

func (at key) warn(format string, args ...any) {
	at.by.warnings = append(at.by.warnings, Warning(at.said(format, args...)))
}

func (at key) said(format string, args ...any) Fault {
	return Fault{File: at.by.file, Line: at.line, Key: at.path, Text: fmt.Sprintf(format, args...)}
}

// accepts reports whether nothing is wrong, and says what is.
func (at key) accepts(why string) bool {
	if why != "" {
		at.fault("%s", why)
	}
	return why == ""
}

// sorted returns the faults by file and line, the command line last. Those of one line stay in the order found.
func (r *report) sorted() Faults {
	rank := func(f Fault) int { // the files are few
		if i := slices.Index(r.files, f.File); i >= 0 {
			return i
		}
		return len(r.files)
	}
	slices.SortStableFunc(r.faults, func(a, b Fault) int {
		return cmp.Or(rank(a)-rank(b), a.Line-b.Line)
	})
	return r.faults
}
