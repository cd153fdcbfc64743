package npx

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"fluentd-perf/internal/safefile"
)

// maxTree bounds npm's list of what it has installed, bytes.
const maxTree = 64 << 20

// installed is what npm has installed of a package.
type installed struct {
	Version string            `json:"version"`
	Bin     map[string]string `json:"bin"` // files by the names of programs
}

// readTree reads npm's own list of what is in a folder, which has the programs as npm links them.
func readTree(folder, name string) (installed, error) {
	path := filepath.Join(folder, "node_modules", ".package-lock.json")
	text, _, err := safefile.Read(path, maxTree)
	if err != nil {
		return installed{}, err
	}
	var tree struct {
		Packages map[string]json.RawMessage `json:"packages"`
	}
	if err := json.Unmarshal(text, &tree); err != nil {
		return installed{}, fmt.Errorf("%s: %w", path, err)
	}
	var one installed
	if err := json.Unmarshal(tree.Packages["node_modules/"+name], &one); err != nil {
		return installed{}, fmt.Errorf("%s: of %s: %w", path, name, err)
	}
	if !exactVersion.MatchString(one.Version) {
		return installed{}, fmt.Errorf("%s: %s has the version %q", path, name, one.Version)
	}
	return one, nil
}

// choose returns the program that npx runs of a package: the only one, under whichever of its names, else the one named like the
// package.
func choose(bin map[string]string, name string) (string, error) {
	names := slices.Sorted(maps.Keys(bin))
	files := map[string]bool{}
	for _, file := range bin {
		files[filepath.Clean(file)] = true
	}
	usual := unscoped(name)
	switch {
	case len(names) == 0:
		return "", fmt.Errorf("the package %s has no program", name)
	case bin[usual] != "":
		return usual, nil
	case len(files) == 1:
		return names[0], nil
	}
	return "", fmt.Errorf("the package %s has the programs %s and none of its own name: say which by npx -p %s PROGRAM", name, strings.Join(names, ", "), name)
}

// forNode is the first line of a script for the node that PATH leads to.
var forNode = regexp.MustCompile(`^#![ \t]*/[^ \t]*/env[ \t]+node[ \t]*$`)

// commandOf returns how a program of an install is run. The error is an *AsWritten where a shell would be needed for it.
func commandOf(folder, program, node string) ([]string, error) {
	path := filepath.Join(programsOf(folder), program)
	info, err := os.Stat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil, asWritten("the package has no program %s", program)
	case err != nil:
		return nil, err
	case !info.Mode().IsRegular():
		return nil, asWritten("the package's program %s is no file", program)
	}
	line := firstLine(path)
	switch {
	case forNode.MatchString(line):
		return []string{node, path}, nil // by its link, as npx runs it: some programs look at the name
	case strings.HasPrefix(line, "#!"), strings.HasPrefix(line, "\x7fELF"), strings.HasPrefix(line, "\xcf\xfa\xed\xfe"), strings.HasPrefix(line, "\xca\xfe\xba\xbe"):
		return []string{path}, nil
	}
	return nil, asWritten("the package's program %s has no #! line", program)
}

// programsOf is the directory of the programs of an install.
func programsOf(folder string) string { return filepath.Join(folder, "node_modules", ".bin") }

// sizeOf returns the bytes of the files in a folder.
func sizeOf(folder string) (size int64) {
	_ = filepath.WalkDir(folder, func(_ string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return nil // what cannot be read is not counted
		}
		if info, err := entry.Info(); err == nil {
			size += info.Size()
		}
		return nil
	})
	return size
}
