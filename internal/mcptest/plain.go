package mcptest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
)

// PlainBinary returns the test binary for children in which the race detector has nothing to find, servers above all: where the tests are
// built with it, another one that is built without. A program with the race detector takes three times the CPU time to start.
//
// The other one is built once and lies in the git-ignored folder .cache. The working directory must be the package's, as it is at first.
var PlainBinary = sync.OnceValues(func() (string, error) {
	info, ok := debug.ReadBuildInfo()
	if !ok || !slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"}) {
		return os.Executable()
	}
	dir, err := os.Getwd() // of the package
	if err != nil {
		return "", err
	}
	root, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	if err != nil {
		return "", fmt.Errorf("go list -m: %w", err)
	}
	module := strings.TrimSpace(string(root))
	name, err := filepath.Rel(module, dir)
	if err != nil {
		return "", err
	}
	binary := filepath.Join(module, ".cache", "bin", strings.ReplaceAll(name, "/", "-")+".test")
	if out, err := exec.Command("go", "test", "-c", "-o", binary, ".").CombinedOutput(); err != nil {
		return "", fmt.Errorf("go test -c: %w\n%s", err, out)
	}
	return binary, nil
})
