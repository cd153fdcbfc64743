package config

import (
	"fmt"
	"path/filepath"
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
	return d.expand(at, s, true, d.formYAML)
}

func (d *decoder) formYAML(form string) (string, error) {
	if name, ok := strings.CutPrefix(form, "env:"); ok && isVariable(name) {
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

// expand replaces every `${form}` in s by what value says, and `$$` by `$` where dollars is set. Every fault is said.
func (d *decoder) expand(at key, s string, dollars bool, value func(form string) (string, error)) (string, bool) {
	var out strings.Builder
	good := true
	for {
		i := strings.IndexByte(s, '$')
		if i < 0 {
			return out.String() + s, good
		}
		out.WriteString(s[:i])
		s = s[i+1:]
		switch {
		case dollars && strings.HasPrefix(s, "$"):
			out.WriteByte('$')
			s = s[1:]
		case strings.HasPrefix(s, "{"):
			form, rest, closed := strings.Cut(s[1:], "}")
			if !closed {
				d.fault(at, "has a ${ without a closing brace")
				return "", false
			}
			v, err := value(form)
			if err != nil {
				d.fault(at, "%v", err)
				good = false
			}
			out.WriteString(v)
			s = rest
		default:
			out.WriteByte('$')
		}
	}
}

// isVariable reports whether name can be an environment variable (POSIX: letters, digits and '_', no digit first).
func isVariable(name string) bool {
	for i := range len(name) {
		c := name[i]
		letter := c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || c == '_'
		if !letter && (i == 0 || c < '0' || c > '9') {
			return false
		}
	}
	return name != ""
}

// bareShown is shown without the quotes.
func bareShown(s string) string {
	s = shown(s)
	return s[1 : len(s)-1]
}
