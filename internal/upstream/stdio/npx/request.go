package npx

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
)

// AsWritten is the error of a command that is to be run as it is written.
type AsWritten struct {
	Reason string // a clause; "" where it is no npx command, or npx is switched off for it
}

// Error says why.
func (e *AsWritten) Error() string { return "npx runs as it is written: " + e.Reason }

func asWritten(format string, args ...any) error { return &AsWritten{fmt.Sprintf(format, args...)} }

// request is what an npx command asks for.
type request struct {
	name    string   // of the package, with its scope
	spec    string   // version, range or tag; "" where the command has none
	program string   // what is to be run, with -p; else npx chooses it
	args    []string // of the program
	yes     bool     // -y: npx does not ask before it installs
}

// String returns the package as npm reads it.
func (r request) String() string {
	if r.spec == "" {
		return r.name
	}
	return r.name + "@" + r.spec
}

// pinned reports whether the package is one version for ever.
func (r request) pinned() bool { return exactVersion.MatchString(r.spec) }

// What npm takes for a package of a registry and nothing else (npm-package-arg): no path, file, URL, alias or Git repository.
var (
	packageName  = regexp.MustCompile(`^(?:@[a-z0-9][a-z0-9._-]*/)?[a-z0-9][a-z0-9._-]*$`)
	packageSpec  = regexp.MustCompile(`^[A-Za-z0-9^~<>=|*-][A-Za-z0-9._^~<>=|*+ -]*$`)
	packageFile  = regexp.MustCompile(`(?i)\.(?:tgz|tar\.gz|tar)$`)
	exactVersion = regexp.MustCompile(`^v?[0-9]+\.[0-9]+\.[0-9]+(?:-[0-9A-Za-z.-]+)?(?:\+[0-9A-Za-z.-]+)?$`)
)

// isNPX reports whether a command is npx.
func isNPX(command []string) bool { return len(command) > 0 && filepath.Base(command[0]) == "npx" }

// parse reads a command. The error is an *AsWritten.
func parse(command []string) (request, error) {
	if !isNPX(command) {
		return request{}, &AsWritten{}
	}
	flags, err := parseFlags(command[1:])
	if err != nil {
		return request{}, err
	}
	r, words := request{yes: flags.yes}, flags.rest
	if len(words) == 0 {
		return request{}, asWritten("it names no program")
	}
	wanted := words[0]
	switch len(flags.packages) {
	case 0:
	case 1:
		wanted, r.program = flags.packages[0], words[0]
		if !isFileName(r.program) {
			return request{}, asWritten("%q is no name of a program", r.program)
		}
	default:
		return request{}, asWritten("it names %d packages", len(flags.packages))
	}
	r.args = words[1:]
	var ok bool
	if r.name, r.spec, ok = splitPackage(wanted); !ok {
		return request{}, asWritten("%q is no plain package of a registry", wanted)
	}
	return r, nil
}

// splitPackage takes a package of a registry apart.
func splitPackage(word string) (name, spec string, ok bool) {
	name = word
	if at := strings.LastIndexByte(word, '@'); at > 0 {
		if name, spec = word[:at], word[at+1:]; spec == "" {
			return "", "", false
		}
	}
	ok = packageName.MatchString(name) && !packageFile.MatchString(name) &&
		(spec == "" || packageSpec.MatchString(spec) && !packageFile.MatchString(spec))
	return name, spec, ok
}

// flags are what stands before the first word of a command that is no flag.
type flags struct {
	packages []string // of -p
	yes      bool
	rest     []string
}

// parseFlags reads flags as npx does, where it knows them.
func parseFlags(words []string) (f flags, err error) {
	for len(words) > 0 {
		word := words[0]
		words = words[1:]
		key, value, hasValue := strings.Cut(word, "=")
		switch {
		case word == "--":
			f.rest = words
			return f, nil
		case !strings.HasPrefix(word, "-"):
			f.rest = append([]string{word}, words...)
			return f, nil
		case word == "-y" || word == "--yes":
			f.yes = true
		case key != "-p" && key != "--package":
			return f, asWritten("its flag %s is not known here", key)
		case hasValue:
			f.packages = append(f.packages, value)
		case len(words) > 0:
			f.packages, words = append(f.packages, words[0]), words[1:]
		default:
			return f, asWritten("its flag %s has no value", word)
		}
	}
	return f, nil
}

// isFileName reports whether a name is a file's in a directory, and nothing that leads out of it.
func isFileName(name string) bool {
	return name != "" && name != "." && name != ".." && !strings.ContainsAny(name, "/\\\x00")
}

// unscoped is a package's name without its scope: the program's usual name.
func unscoped(name string) string { return name[strings.LastIndexByte(name, '/')+1:] }
