package login

import (
	"cmp"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"fluentd-perf/internal/upstream/stdio/process"
)

// usualDirectories are where people have programs that are in no PATH but their shell's; ~ is the home directory. What the system
// has is the last.
var usualDirectories = []string{
	"~/.local/bin", "~/bin", "~/.volta/bin", "~/.local/share/mise/shims", "~/.asdf/shims",
	"~/.nvm/versions/node/*/bin", "~/.local/share/fnm/node-versions/*/installation/bin",
	"~/.bun/bin", "~/.deno/bin", "~/.cargo/bin", "~/go/bin",
	"/opt/homebrew/bin", "/home/linuxbrew/.linuxbrew/bin", "/usr/local/bin", "/usr/bin", "/bin",
}

// withDirectories returns an environment with the usual directories that exist behind those of its PATH.
func withDirectories(environ []string) []string {
	directories := filepath.SplitList(process.Lookup(environ, "PATH"))
	home := process.Lookup(environ, "HOME")
	for _, pattern := range usualDirectories {
		if below, ok := strings.CutPrefix(pattern, "~"); ok {
			if !filepath.IsAbs(home) {
				continue
			}
			pattern = home + below
		}
		if directory := newest(pattern); directory != "" && !slices.Contains(directories, directory) {
			directories = append(directories, directory)
		}
	}
	return withVariable(environ, "PATH", strings.Join(directories, string(filepath.ListSeparator)))
}

// newest returns the directory that a pattern finds, that of the highest version where it finds several, "" where it finds none.
func newest(pattern string) string {
	found, _ := filepath.Glob(pattern) // a home directory that is no pattern finds nothing
	found = slices.DeleteFunc(found, func(path string) bool {
		info, err := os.Stat(path)
		return err != nil || !info.IsDir()
	})
	if len(found) == 0 {
		return ""
	}
	return slices.MaxFunc(found, func(a, b string) int { return slices.Compare(numbers(a), numbers(b)) })
}

// numbers returns the numbers in a path: those of versions, where nothing else is different.
func numbers(path string) (all []int) {
	for _, digits := range strings.FieldsFunc(path, func(r rune) bool { return r < '0' || r > '9' }) {
		n, _ := strconv.Atoi(digits)
		all = append(all, n)
	}
	return all
}

// lastingPath returns a PATH that is the same each time. fnm gives each shell a link of its own to a node, which would make every
// start of the daemon one with another environment: where it leads to stands there instead.
func lastingPath(path string) string {
	directories := filepath.SplitList(path)
	for i, directory := range directories {
		if !strings.Contains(directory, "/fnm_multishells/") {
			continue
		}
		if target, err := filepath.EvalSymlinks(directory); err == nil {
			directories[i] = target
		}
	}
	return strings.Join(directories, string(filepath.ListSeparator))
}

// withVariable returns an environment in which a variable has a value, "" for none.
func withVariable(environ []string, name, value string) []string {
	with := slices.DeleteFunc(slices.Clone(environ), func(word string) bool { return strings.HasPrefix(word, name+"=") })
	if value != "" {
		with = append(with, name+"="+value)
	}
	return with
}

// withDefaults returns an environment that has at least these variables, where the account says them.
func withDefaults(environ []string, a account) []string {
	for name, value := range map[string]string{"HOME": a.home, "USER": a.name, "LOGNAME": a.name} {
		environ = withVariable(environ, name, cmp.Or(process.Lookup(environ, name), value))
	}
	return environ
}
