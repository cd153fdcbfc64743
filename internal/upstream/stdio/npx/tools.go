package npx

import (
	"debug/elf"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"

	"fluentd-perf/internal/upstream/stdio/process"
)

// tools are the programs of one Node.js, as an entry's environment finds them.
type tools struct{ npx, npm, node string }

// findTools finds the npx of a command, and what lies beside it. The error is an *AsWritten.
func findTools(command, dir string, env []string) (t tools, err error) {
	if t.npx, err = process.LookPath(command, dir, env); err != nil {
		return t, asWritten("%v", err)
	}
	t.npm, t.node = filepath.Join(filepath.Dir(t.npx), "npm"), filepath.Join(filepath.Dir(t.npx), "node")
	for _, path := range []string{t.npm, t.node} {
		if info, err := os.Stat(path); err != nil || info.IsDir() || info.Mode()&0o111 == 0 {
			return t, asWritten("there is no program %s", path)
		}
	}
	if why := notNode(t.node); why != "" {
		return t, asWritten("%s is %s, which may choose another Node.js each time", t.node, why)
	}
	// npx is a script for the first node of PATH, and so are the programs that it runs.
	if first, err := process.LookPath("node", dir, env); err == nil && !sameFile(first, t.node) {
		return t, asWritten("PATH leads to %s, not to the node beside %s", first, t.npx)
	}
	return t, nil
}

// real are the files that the programs are.
func (t tools) real() []string {
	paths := []string{t.npx, t.npm, t.node}
	for i, path := range paths {
		if real, err := filepath.EvalSymlinks(path); err == nil {
			paths[i] = real
		}
	}
	return paths
}

// notNode says what a file is that is called node and is another program: version managers put such ones in its place.
func notNode(path string) string {
	real, err := filepath.EvalSymlinks(path)
	if err != nil {
		return err.Error()
	}
	if base := filepath.Base(real); base != "node" && base != "nodejs" {
		return "a link to " + real
	}
	if strings.HasPrefix(firstLine(real), "#!") {
		return "a script"
	}
	return ""
}

// firstLine returns the first line of a file, up to 256 bytes of it, "" where it cannot be read.
func firstLine(path string) string {
	f, err := os.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	start, err := io.ReadAll(io.LimitReader(f, 256))
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(start), "\n")
	return strings.TrimRight(line, "\r")
}

// libc names the C library that a program needs, "" where that is nothing to choose: what was compiled for one runs with no other.
func libc(path string) string {
	if runtime.GOOS != "linux" {
		return ""
	}
	f, err := elf.Open(path)
	if err != nil {
		return ""
	}
	defer f.Close()
	for _, p := range f.Progs {
		if p.Type != elf.PT_INTERP {
			continue
		}
		if loader, err := io.ReadAll(io.LimitReader(p.Open(), 256)); err == nil && strings.Contains(string(loader), "musl") {
			return "musl"
		}
		return "glibc"
	}
	return "static"
}

// stamp is what changes with a file, "" where there is none.
func stamp(path string) string {
	info, err := os.Stat(path)
	if err != nil {
		return ""
	}
	inode := uint64(0)
	if sys, ok := info.Sys().(*syscall.Stat_t); ok {
		inode = sys.Ino
	}
	return fmt.Sprint(inode, " ", info.Size(), " ", info.ModTime().UnixNano())
}

// readByNPM reports whether npm or its node reads a variable: with another value npx may fetch something else, or from elsewhere.
func readByNPM(name string) bool {
	lower := strings.ToLower(name)
	return strings.HasPrefix(lower, "npm_config_") || strings.HasSuffix(lower, "_proxy") || slices.Contains([]string{
		"home", "prefix", "destdir", "proxy", "node_options", "node_extra_ca_certs", "node_tls_reject_unauthorized", "ssl_cert_file", "ssl_cert_dir",
	}, lower)
}

// changedForNPM returns a variable that npm reads and that is another one for the server than for npm, "" where there is none. named
// are others that npm reads, by its configuration.
func changedForNPM(server, npm, named []string) string {
	given := map[string]string{}
	for _, variable := range npm {
		name, value, _ := strings.Cut(variable, "=")
		given[name] = value
	}
	for _, variable := range server {
		name, value, _ := strings.Cut(variable, "=")
		if was, ok := given[name]; (!ok || was != value) && (readByNPM(name) || slices.Contains(named, name)) {
			return name
		}
	}
	return ""
}

// withPath returns an environment in whose PATH a directory comes first.
func withPath(env []string, directory string) []string {
	changed := make([]string, 0, len(env)+1)
	path := directory
	for _, variable := range env {
		if rest, ok := strings.CutPrefix(variable, "PATH="); ok {
			path = directory + string(filepath.ListSeparator) + rest
			continue
		}
		changed = append(changed, variable)
	}
	return append(changed, "PATH="+path)
}
