package npx

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"fluentd-perf/internal/safefile"
)

const (
	maxManifest   = 1 << 20 // bytes of a package.json that is looked into
	maxWorkspaces = 1000    // package.json files of one project
	maxManifests  = 4096    // that are not read again while they do not change
)

// wanted is what is looked for beside the registry: a package, and programs by their names.
type wanted struct {
	name     string
	programs []string
}

// inProject says what in a directory or above may have npx run something else than what its registry has, or "". userConfig is the
// person's own .npmrc, which npx reads in every directory.
func (k *manifests) inProject(dir string, w wanted, userConfig string) (reason string) {
	real, err := filepath.EvalSymlinks(dir) // a process is told no other name of its directory
	if err != nil {
		return fmt.Sprintf("its directory cannot be read: %v", err)
	}
	for at := real; ; at = filepath.Dir(at) {
		if reason := k.inFolder(at, w, userConfig); reason != "" {
			return reason
		}
		if at == filepath.Dir(at) {
			return ""
		}
	}
}

func (k *manifests) inFolder(at string, w wanted, userConfig string) string {
	if rc := filepath.Join(at, ".npmrc"); exists(rc) && !sameFile(rc, userConfig) {
		return fmt.Sprintf("%s may name another registry", rc)
	}
	if reason := inModules(filepath.Join(at, "node_modules"), filepath.Join(at, "node_modules", ".bin"), w); reason != "" {
		return reason
	}
	return k.inManifest(at, w)
}

// inModules looks for what is installed: packages in one directory, programs in another.
func inModules(packages, programs string, w wanted) string {
	for _, program := range w.programs {
		if path := filepath.Join(programs, program); exists(path) {
			return fmt.Sprintf("%s is there", path)
		}
	}
	if path := filepath.Join(packages, w.name); exists(path) {
		return fmt.Sprintf("%s is there", path)
	}
	return ""
}

// manifest is what is read of a package.json. A value of another type is not what npm looks for either.
type manifest struct {
	Name        json.RawMessage `json:"name"`
	Bin         json.RawMessage `json:"bin"`
	Directories json.RawMessage `json:"directories"`
	Workspaces  json.RawMessage `json:"workspaces"`
}

// readManifest reads a folder's package.json; nil where there is none.
func readManifest(folder string) (*manifest, error) {
	path := filepath.Join(folder, "package.json")
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) || errors.Is(err, fs.ErrPermission) { // npx cannot read it either
		return nil, nil
	}
	text, _, err := safefile.Read(path, maxManifest)
	if err != nil {
		return nil, err
	}
	m := new(manifest)
	if err := json.Unmarshal(text, m); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return m, nil
}

// manifests are the package.json files that were read, by their folders. A workspace may have a thousand, and is looked at several times
// for each session: one that has not changed since is not read again. The zero value is ready.
type manifests struct {
	mu sync.Mutex // guards the following
	by map[string]knownManifest
}

type knownManifest struct {
	stamp string // of before it was read
	m     *manifest
}

// read is readManifest.
func (k *manifests) read(folder string) (*manifest, error) {
	at := stamp(filepath.Join(folder, "package.json"))
	k.mu.Lock()
	known, ok := k.by[folder]
	k.mu.Unlock()
	if ok && at != "" && known.stamp == at {
		return known.m, nil
	}
	m, err := readManifest(folder)
	if err != nil || m == nil || at == "" {
		return m, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.by == nil || len(k.by) >= maxManifests {
		k.by = make(map[string]knownManifest)
	}
	k.by[folder] = knownManifest{at, m}
	return m, nil
}

// inManifest looks into a folder's package.json: the package itself may be the one, or one of its workspaces.
func (k *manifests) inManifest(at string, w wanted) string {
	m, err := k.read(at)
	switch {
	case err != nil:
		return err.Error()
	case m == nil:
		return ""
	case m.isWanted(w):
		return fmt.Sprintf("%s is that package, or has that program", filepath.Join(at, "package.json"))
	}
	folders, err := m.workspaces(at)
	if err != nil {
		return err.Error()
	}
	for _, folder := range folders {
		if one, err := k.read(folder); err != nil || one != nil && one.isWanted(w) {
			return fmt.Sprintf("the workspace %s is that package, or has that program", folder)
		}
	}
	return ""
}

// isWanted reports whether a package is the one, or may have one of the programs.
func (m *manifest) isWanted(w wanted) bool {
	var name, one string
	_ = json.Unmarshal(m.Name, &name) // what is no text is no name
	if name == w.name {
		return true
	}
	var directories struct{ Bin json.RawMessage }
	if json.Unmarshal(m.Directories, &directories) == nil && directories.Bin != nil {
		return true // every file there is a program
	}
	var programs map[string]json.RawMessage
	switch {
	case json.Unmarshal(m.Bin, &one) == nil && one != "":
		return slices.Contains(w.programs, unscoped(name))
	case json.Unmarshal(m.Bin, &programs) == nil:
		return slices.ContainsFunc(w.programs, func(program string) bool { return programs[program] != nil })
	}
	return false
}

// workspaces returns the folders of a project's workspaces, those too that a pattern excludes. The error is of what only npm can read.
func (m *manifest) workspaces(at string) (folders []string, err error) {
	var patterns []string
	var inside struct{ Packages []string }
	switch {
	case len(m.Workspaces) == 0 || string(m.Workspaces) == "null" || string(m.Workspaces) == "false":
		return nil, nil
	case json.Unmarshal(m.Workspaces, &patterns) == nil:
	case json.Unmarshal(m.Workspaces, &inside) == nil:
		patterns = inside.Packages
	default:
		return nil, fmt.Errorf("%s has workspaces that cannot be read", filepath.Join(at, "package.json"))
	}
	for _, pattern := range patterns {
		if strings.HasPrefix(pattern, "!") {
			continue
		}
		if strings.Contains(pattern, "**") || strings.ContainsAny(pattern, "{(!\\") {
			return nil, fmt.Errorf("%s has workspaces by the pattern %q, which may be anywhere", filepath.Join(at, "package.json"), pattern)
		}
		found, err := filepath.Glob(filepath.Join(escapeGlob(at), filepath.FromSlash(pattern), "package.json"))
		if err != nil || len(folders)+len(found) > maxWorkspaces {
			return nil, fmt.Errorf("the workspaces of %s cannot all be looked at", filepath.Join(at, "package.json"))
		}
		for _, path := range found {
			folders = append(folders, filepath.Dir(path))
		}
	}
	return folders, nil
}

// escapeGlob returns the pattern that is a path itself.
func escapeGlob(path string) string {
	return strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(path)
}

// exists reports whether something is there, a broken link included.
func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}

// sameFile reports whether two names are one file's.
func sameFile(a, b string) bool {
	if a == b {
		return true
	}
	one, err := os.Stat(a)
	if err != nil {
		return false
	}
	other, err := os.Stat(b)
	return err == nil && os.SameFile(one, other)
}
