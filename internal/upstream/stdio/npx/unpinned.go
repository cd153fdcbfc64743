package npx

import (
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// uvxValues are the flags of uvx before its program that have a value and say nothing of which package that is.
var uvxValues = []string{
	"--with", "-p", "--python", "--index", "--default-index", "-i", "--index-url", "--extra-index-url", "-f", "--find-links", "--cache-dir",
	"--with-editable", "--with-requirements", "--refresh-package", "-P", "--upgrade-package", "--env-file", "--directory", "--project",
}

// pythonPackage is a package of an index, with extras and what follows the name.
var pythonPackage = regexp.MustCompile(`^([A-Za-z0-9](?:[A-Za-z0-9._-]*[A-Za-z0-9])?(?:\[[A-Za-z0-9._, -]*\])?) *((?:@|[=<>!~]).*)?$`)

// pythonPinned is what follows the name of a package that is one version for ever.
var pythonPinned = regexp.MustCompile(`^(?:@|===?) *[0-9][0-9A-Za-z.!+_-]*$`)

// Unpinned returns the packages of an npx or uvx command that name no exact version, as they are written: another program may run
// tomorrow. What is no plain package of a registry is not judged.
func Unpinned(command []string) []string {
	switch {
	case isNPX(command):
		return unpinnedByNPX(command[1:])
	case len(command) > 0 && filepath.Base(command[0]) == "uvx":
		return unpinnedByUVX(command[1:])
	}
	return nil
}

func unpinnedByNPX(words []string) []string {
	f, err := parseFlags(words)
	if err != nil {
		return nil
	}
	wanted := f.packages
	if len(wanted) == 0 {
		wanted = f.rest[:min(len(f.rest), 1)]
	}
	return slices.DeleteFunc(slices.Clone(wanted), func(word string) bool {
		_, spec, ok := splitPackage(word)
		return !ok || exactVersion.MatchString(spec)
	})
}

func unpinnedByUVX(words []string) []string {
	wanted := ""
	for i := 0; i < len(words) && wanted == ""; i++ {
		key, value, hasValue := strings.Cut(words[i], "=")
		switch {
		case key == "--from" && hasValue:
			wanted = value
		case key == "--from" && i+1 < len(words):
			wanted = words[i+1]
		case !strings.HasPrefix(key, "-"):
			wanted = words[i]
		case slices.Contains(uvxValues, key) && !hasValue:
			i++
		}
	}
	found := pythonPackage.FindStringSubmatch(wanted)
	if found == nil || strings.Contains(found[2], "://") || pythonPinned.MatchString(found[2]) {
		return nil
	}
	return []string{wanted}
}
