package config

import (
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v4"
)

// maxSecret bounds what `${file:}` puts into a value.
const maxSecret = 64 << 10

// The forms that are replaced, and what looks like the beginning of one.
var (
	forms           = regexp.MustCompile(`\$\{[^}]*\}?`)
	formsAndDollars = regexp.MustCompile(`\$\$|` + forms.String())
)

// variable is what can be an environment variable (POSIX).
var variable = regexp.MustCompile(`^[a-zA-Z_][a-zA-Z0-9_]*$`)

// expand reads a string and replaces what in finds in it by what value says of a form, and `$$` by `$`. What is put in is not
// looked at again. Every fault is said: faults name variables and files, never values.
func (at key) expand(n *yaml.Node, in *regexp.Regexp, value func(form string) (string, error)) (string, bool) {
	s, good := at.rawText(n)
	if !good {
		return "", false
	}
	s = in.ReplaceAllStringFunc(s, func(found string) string {
		if found == "$$" {
			return "$"
		}
		form, closed := strings.CutSuffix(found[len("${"):], "}")
		v, err := "", errUnclosed
		if closed {
			v, err = value(form)
		}
		if err != nil {
			at.fault("%v", err)
			good = false
		}
		return v
	})
	return s, good
}

var errUnclosed = errors.New("has a ${ without a closing brace")

// expandYAML reads a string with `${env:NAME}` and `${file:PATH}` replaced and `$$` for a dollar sign. A relative PATH
// starts at the directory of the file.
func (at key) expandYAML(n *yaml.Node) (string, bool) {
	return at.expand(n, formsAndDollars, func(form string) (string, error) {
		what, name, _ := strings.Cut(form, ":")
		switch {
		case what == "env" && variable.MatchString(name):
			v, err := at.by.variable(name)
			if err == nil && v == "" { // an empty secret is an accident
				err = fmt.Errorf("the environment variable %s is empty", name)
			}
			return v, err
		case what == "file" && name != "":
			return at.by.secretFile(name)
		}
		return "", fmt.Errorf("has an unknown form ${%s}; there are ${env:NAME} and ${file:PATH}", bareShown(form))
	})
}

func (d *decoder) variable(name string) (string, error) {
	v, ok := d.sources.Env(name)
	if !ok {
		return "", fmt.Errorf("the environment variable %s is not set", name)
	}
	return v, nil
}

// secretFile returns what a file holds without the newline at its end.
func (d *decoder) secretFile(path string) (string, error) {
	b, err := d.sources.ReadFile(absolute(filepath.Dir(d.file), path))
	s := strings.TrimSuffix(strings.TrimSuffix(string(b), "\n"), "\r")
	switch {
	case err != nil:
		return "", fmt.Errorf("the file %s cannot be read: %w", bareShown(path), bareError(err))
	case len(b) > maxSecret:
		return "", fmt.Errorf("the file %s is larger than %s", bareShown(path), formatSize(maxSecret))
	case s == "":
		return "", fmt.Errorf("the file %s is empty", bareShown(path))
	}
	return s, nil
}

// bareShown is shown without the quotes.
func bareShown(s string) string {
	s = shown(s)
	return s[1 : len(s)-1]
}
