package config

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
)

// maxSecret bounds what `${file:}` puts into a value.
const maxSecret = 64 << 10

// expandYAML reads a string with `${env:NAME}` and `${file:PATH}` replaced and `$$` for a dollar sign. A relative PATH
// starts at the directory of the file. What is put in is not looked at again. Faults name variables and files, never
// values.
func (d *decoder) expandYAML(at key, n *node) (string, bool) {
	s, ok := d.rawText(at, n)
	if !ok {
		return "", false
	}
	return d.expand(at, s, formsAndDollars, d.formYAML)
}

func (d *decoder) formYAML(form string) (string, error) {
	if name, ok := strings.CutPrefix(form, "env:"); ok && variable.MatchString(name) {
		return d.variable(name)
	}
	if path, ok := strings.CutPrefix(form, "file:"); ok && path != "" {
		return d.secretFile(path)
	}
	return "", fmt.Errorf("has an unknown form ${%s}; there are ${env:NAME} and ${file:PATH}", bareShown(form))
}

// variable returns a variable that must be there: an empty secret is an accident.
func (d *decoder) variable(name string) (string, error) {
	v, ok := d.sources.Env(name)
	switch {
	case !ok:
		return "", fmt.Errorf("the environment variable %s is not set", name)
	case v == "":
		return "", fmt.Errorf("the environment variable %s is empty", name)
	}
	return v, nil
}

// secretFile returns what a file holds without the newline at its end.
func (d *decoder) secretFile(path string) (string, error) {
	full := path
	if !filepath.IsAbs(path) {
		full = filepath.Join(filepath.Dir(d.file), path)
	}
	b, err := d.sources.ReadFile(full)
	switch {
	case err != nil:
		return "", fmt.Errorf("the file %s cannot be read: %w", bareShown(path), bareError(err))
	case len(b) > maxSecret:
		return "", fmt.Errorf("the file %s is larger than %s", bareShown(path), formatSize(maxSecret))
	}
	s := strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r")
	if s == "" {
		return "", fmt.Errorf("the file %s is empty", bareShown(path))
	}
	return s, nil
}

// The forms that are replaced, and what looks like the beginning of one.
var (
	forms           = regexp.MustCompile(`\$\{[^}]*\}?`)
	formsAndDollars = regexp.MustCompile(`\$\$|` + forms.String())
)

// expand replaces what in finds in s by what value says of a form, and `$$` by `$`. Every fault is said.
func (d *decoder) expand(at key, s string, in *regexp.Regexp, value func(form string) (string, error)) (string, bool) {
	good := true
	expanded := in.ReplaceAllStringFunc(s, func(found string) string {
		if found == "$$" {
			return "$"
		}
		form, closed := strings.CutSuffix(found[len("${"):], "}")
		v, err := "", errUnclosed
		if closed {
			v, err = value(form)
		}
		if err != nil {
			d.fault(at, "%v", err)
			good = false
		}
		return v
	})
	return expanded, good
}

var errUnclosed = errors.New("has a ${ without a closing brace")

// variable is what can be an environment variable (POSIX).
var variable = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`)

// bareShown is shown without the quotes.
func bareShown(s string) string {
	s = shown(s)
	return s[1 : len(s)-1]
}
