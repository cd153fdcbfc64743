package config

import (
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
func (f Fault) Error() string { return placed(f.File, f.Line, f.Key, f.Text) }

// Faults is the error of Load: everything wrong, in the order of files and lines. errors.As finds a Fault in it.
type Faults []Fault

// Error returns the faults, one a line.
func (f Faults) Error() string {
	lines := make([]string, len(f))
	for i := range f {
		lines[i] = f[i].Error()
	}
	return strings.Join(lines, "\n")
}

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
func (w Warning) String() string { return placed(w.File, w.Line, w.Key, w.Text) }

func placed(file string, line int, key, text string) string {
	var b strings.Builder
	if file != "" {
		b.WriteString(file)
		if line > 0 {
			fmt.Fprintf(&b, ":%d", line)
		}
		b.WriteString(": ")
	}
	if key != "" {
		b.WriteString(key + ": ")
	}
	b.WriteString(text)
	return b.String()
}

// report collects what is said about all sources.
type report struct {
	files    []string // in the order given
	faults   Faults
	warnings []Warning
}

func (r *report) fault(file string, at key, format string, args ...any) {
	r.faults = append(r.faults, Fault{File: file, Line: at.line, Key: at.path, Text: fmt.Sprintf(format, args...)})
}

func (r *report) warn(file string, at key, format string, args ...any) {
	r.warnings = append(r.warnings, Warning{File: file, Line: at.line, Key: at.path, Text: fmt.Sprintf(format, args...)})
}

// sorted returns the faults by file and line, the command line last. Those of one line stay in the order found.
func (r *report) sorted() Faults {
	slices.SortStableFunc(r.faults, func(a, b Fault) int {
		if byFile := r.rank(a.File) - r.rank(b.File); byFile != 0 {
			return byFile
		}
		return a.Line - b.Line
	})
	return r.faults
}

func (r *report) rank(file string) int {
	if i := slices.Index(r.files, file); i >= 0 {
		return i
	}
	return len(r.files)
}
